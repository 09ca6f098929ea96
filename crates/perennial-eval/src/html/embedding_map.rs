//! Both spaces as clouds of points.

use std::collections::BTreeMap;
use std::fmt::Write;

use maud::{Markup, html};

use super::numbers::{At, Grouped, Plain};
use super::page;

/// Both spaces as pictures in two dimensions; [`crate::pca::Plane`] makes the places.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EmbeddingMaps {
    /// Names of the groups that have colours: classes or spaces.
    pub groups: Vec<String>,
    /// The maps, such as before and after bridging.
    pub maps: Vec<EmbeddingMap>,
}

/// One map.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EmbeddingMap {
    /// Its name, such as `before bridging`.
    pub name: String,
    /// Share of the variance that the two dimensions hold, where known.
    pub explained: Option<f64>,
    /// The points.
    pub points: Vec<MapPoint>,
}

/// One embedding on a map.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MapPoint {
    /// First coordinate.
    pub x: f64,
    /// Second coordinate.
    pub y: f64,
    /// Position of its group in [`EmbeddingMaps::groups`]; another number is drawn grey.
    pub group: usize,
    /// Whether the new encoder made it: a cross instead of a dot.
    pub newer: bool,
}

const WIDTH: f64 = 340.0;
const HEIGHT: f64 = 280.0;
const INSET: f64 = 10.0;
/// Colours of groups in the style sheet, `c0` to `c7`; further groups are grey.
const COLOURS: usize = 8;
/// Points drawn on one map.
const SHOWN: usize = 2_000;

pub(super) fn section(maps: &EmbeddingMaps) -> Markup {
    if maps.maps.iter().all(|map| map.points.is_empty()) {
        return html! {};
    }
    let any = |newer: bool| {
        let points = maps.maps.iter().flat_map(|map| &map.points);
        points.into_iter().any(|point| point.newer == newer)
    };
    let content = html! {
        p {
            "The embeddings in the two directions in which they differ most (principal components). What lies together here need not lie \
            together in all dimensions."
        }
        div.pictures {
            @for map in maps.maps.iter().filter(|map| !map.points.is_empty()) { (figure(map, maps.groups.len())) }
        }
        div.legend {
            @if any(false) { span.key { svg.sign viewBox="0 0 12 12" aria-hidden="true" { path.dot d="M6 6h0" {} } "old encoder" } }
            @if any(true) { span.key { svg.sign viewBox="0 0 12 12" aria-hidden="true" { path.cross d="M3.5 3.5l5 5m0-5l-5 5" {} } "new encoder" } }
            @for (index, name) in maps.groups.iter().enumerate().take(COLOURS) {
                span class={ "key c" (index) } { i.swatch {} (name) }
            }
            @if maps.groups.len() > COLOURS { span.key { i.swatch {} (maps.groups.len() - COLOURS) " others" } }
        }
    };
    page::section("map", "Embedding map", content)
}

fn figure(map: &EmbeddingMap, groups: usize) -> Markup {
    let every = map.points.len().div_ceil(SHOWN).max(1);
    let points: Vec<&MapPoint> = map
        .points
        .iter()
        .step_by(every)
        .filter(|point| point.x.is_finite() && point.y.is_finite())
        .collect();
    // One path for each colour and sign keeps the page small.
    let mut paths: BTreeMap<(usize, bool), String> = BTreeMap::new();
    let place = placing(&points);
    for point in &points {
        let colour = if point.group < groups.min(COLOURS) {
            point.group
        } else {
            COLOURS
        };
        let path = paths.entry((colour, point.newer)).or_default();
        let (x, y) = place(point);
        let written = if point.newer {
            write!(path, "M{} {}l5 5m0-5l-5 5", At(x - 2.5), At(y - 2.5))
        } else {
            write!(path, "M{} {}h0", At(x), At(y))
        };
        written.expect("writing to a string cannot fail");
    }
    html! {
        figure {
            figcaption {
                b { (map.name) }
                @if let Some(share) = map.explained { " " (Plain(share, 3)) " of the variance" }
            }
            svg.cloud viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label={ (map.name) ": " (points.len()) " embeddings" } {
                @for ((colour, newer), path) in &paths {
                    path class={ (if *newer { "cross" } else { "dot" }) " c" (colour) } d=(path) {}
                }
            }
            @if every > 1 { p.note { (Grouped(points.len())) " of " (Grouped(map.points.len())) " embeddings" } }
        }
    }
}

/// Where a point is drawn: the same scale in both directions, all of them inside.
fn placing(points: &[&MapPoint]) -> impl Fn(&MapPoint) -> (f64, f64) {
    let bounds = |coordinate: fn(&MapPoint) -> f64| {
        points
            .iter()
            .map(|point| coordinate(point))
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
                (low.min(value), high.max(value))
            })
    };
    let (left, right) = bounds(|point| point.x);
    let (low, high) = bounds(|point| point.y);
    // Halved before the subtraction, so that no finite number overflows.
    let scale = f64::min(
        (WIDTH / 2.0 - INSET) / (right / 2.0 - left / 2.0).max(f64::MIN_POSITIVE),
        (HEIGHT / 2.0 - INSET) / (high / 2.0 - low / 2.0).max(f64::MIN_POSITIVE),
    );
    let (middle, centre) = (right / 2.0 + left / 2.0, high / 2.0 + low / 2.0);
    let along = move |value: f64, middle: f64| {
        let place = (value - middle) * scale;
        if place.is_finite() { place } else { 0.0 }
    };
    move |point| {
        (
            WIDTH / 2.0 + along(point.x, middle),
            HEIGHT / 2.0 - along(point.y, centre),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(x: f64, y: f64) -> MapPoint {
        MapPoint {
            x,
            y,
            group: 0,
            newer: false,
        }
    }

    #[test]
    fn points_lie_inside() {
        for points in [
            vec![point(0.0, 0.0)],
            vec![point(-1.0, 5.0), point(3.0, 5.5), point(0.0, -7.0)],
            vec![point(f64::MAX, 0.0), point(f64::MIN, 1.0)],
            vec![point(1e-300, 0.0), point(0.0, 1e-310)],
        ] {
            let points: Vec<&MapPoint> = points.iter().collect();
            let place = placing(&points);
            for point in &points {
                let (x, y) = place(point);
                assert!(
                    (0.0..=WIDTH).contains(&x) && (0.0..=HEIGHT).contains(&y),
                    "{x} {y}"
                );
            }
        }
    }

    #[test]
    fn many_points_are_thinned_out_and_it_is_said() {
        let map = EmbeddingMap {
            name: "x".to_owned(),
            explained: None,
            points: (0..5_000)
                .map(|at| point(f64::from(at), f64::NAN))
                .collect(),
        };
        let text = figure(&map, 1).into_string();
        assert!(
            text.contains("0 of 5\u{202f}000 embeddings") && !text.contains("NaN"),
            "{text}"
        );
    }
}
