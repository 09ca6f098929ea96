//! Scores of matches and non-matches as histograms.

use maud::{Markup, html};

use super::numbers::{At, Grouped, Plain};
use super::page;

/// Scores of matches and of non-matches in equal steps from `low` to `high`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ScoreHistogram {
    /// Whose scores they are, such as `before: old queries`.
    pub name: String,
    /// Where the first step begins.
    pub low: f64,
    /// Where the last step ends.
    pub high: f64,
    /// How many scores of queries with right items each step holds.
    pub matches: Vec<usize>,
    /// The same for wrong items. As many steps.
    pub non_matches: Vec<usize>,
}

const WIDTH: f64 = 340.0;
const HEIGHT: f64 = 190.0;
const LEFT: f64 = 8.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 24.0;

impl ScoreHistogram {
    /// Counts scores in `bins` equal steps from `low` to `high`. Scores outside count in the nearest step; what is not a number
    /// is passed over.
    pub fn count(
        name: impl Into<String>,
        (low, high): (f64, f64),
        bins: usize,
        matches: &[f32],
        non_matches: &[f32],
    ) -> Self {
        let counted = |scores: &[f32]| {
            let mut counts = vec![0; bins];
            for score in scores.iter().filter(|score| !score.is_nan()) {
                let step = (f64::from(*score) - low) / (high - low) * bins as f64;
                // Casts end at the bounds of the type.
                let step = (step as usize).min(bins.saturating_sub(1));
                if let Some(count) = counts.get_mut(step) {
                    *count += 1;
                }
            }
            counts
        };
        Self {
            name: name.into(),
            low,
            high,
            matches: counted(matches),
            non_matches: counted(non_matches),
        }
    }
}

pub(super) fn section(histograms: &[ScoreHistogram]) -> Markup {
    let Some(scale) = Scale::of(histograms) else {
        return html! {};
    };
    let content = html! {
        p {
            "How similar queries are to their right items and to wrong ones. Each of the two is drawn as shares of its own scores; \
            the less they overlap, the better they are told apart."
        }
        div.pictures {
            @for histogram in histograms {
                figure {
                    figcaption { b { (histogram.name) } }
                    (drawing(histogram, scale))
                }
            }
        }
        div.legend {
            span.key.s0 { i.area {} "matches" }
            span.key.s1 { i.area {} "non-matches" }
        }
    };
    page::section("scores", "Score distributions", content)
}

/// The common scale of all histograms.
#[derive(Clone, Copy)]
struct Scale {
    low: f64,
    high: f64,
    /// The largest share for each unit of the score.
    densest: f64,
}

impl Scale {
    /// None where there is nothing to draw.
    fn of(histograms: &[ScoreHistogram]) -> Option<Self> {
        let usable = || histograms.iter().filter(|histogram| usable(histogram));
        let low = usable().map(|histogram| histogram.low).reduce(f64::min)?;
        let high = usable().map(|histogram| histogram.high).reduce(f64::max)?;
        let densest = usable()
            .flat_map(|histogram| {
                let both = [&histogram.matches, &histogram.non_matches];
                both.map(|counts| densities(histogram, counts).into_iter().fold(0.0, f64::max))
            })
            .fold(0.0, f64::max);
        (densest > 0.0).then_some(Self { low, high, densest })
    }

    fn x(self, score: f64) -> f64 {
        LEFT + (WIDTH - 2.0 * LEFT) * (score - self.low) / (self.high - self.low)
    }

    fn y(self, density: f64) -> f64 {
        TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - density / self.densest)
    }
}

fn usable(histogram: &ScoreHistogram) -> bool {
    let width = histogram.high - histogram.low;
    width.is_finite() && width > 1e-9
}

/// Shares of the counts for each unit of the score.
fn densities(histogram: &ScoreHistogram, counts: &[usize]) -> Vec<f64> {
    let total = total(counts).max(1) as f64;
    let step = (histogram.high - histogram.low) / counts.len().max(1) as f64;
    counts
        .iter()
        .map(|&count| count as f64 / total / step)
        .collect()
}

fn total(counts: &[usize]) -> usize {
    counts
        .iter()
        .fold(0, |total: usize, &count| total.saturating_add(count))
}

fn drawing(histogram: &ScoreHistogram, scale: Scale) -> Markup {
    let (matches, others) = (total(&histogram.matches), total(&histogram.non_matches));
    let counted = format!(
        "{} matches, {} non-matches",
        Grouped(matches),
        Grouped(others)
    );
    if !usable(histogram) {
        return html! { p.note { "No scores." } };
    }
    let middle = scale.low + (scale.high - scale.low) / 2.0;
    let ticks = [
        (scale.low, "start"),
        (middle, "middle"),
        (scale.high, "end"),
    ];
    html! {
        svg.histogram viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label={ (histogram.name) ": " (counted) } {
            path.s1 d=(outline(histogram, &histogram.non_matches, scale)) {}
            path.s0 d=(outline(histogram, &histogram.matches, scale)) {}
            line.grid x1=(LEFT) x2=(WIDTH - LEFT) y1=(HEIGHT - BOTTOM) y2=(HEIGHT - BOTTOM) {}
            @for (score, side) in ticks {
                text class=(side) x=(At(scale.x(score))) y=(HEIGHT - 8.0) { (Plain(score, 2)) }
            }
        }
        p.note { (counted) }
    }
}

/// The upper edge of the steps, closed along the axis.
fn outline(histogram: &ScoreHistogram, counts: &[usize], scale: Scale) -> String {
    let step = (histogram.high - histogram.low) / counts.len().max(1) as f64;
    let mut path = format!("M{} {}", At(scale.x(histogram.low)), At(scale.y(0.0)));
    for (index, density) in densities(histogram, counts).into_iter().enumerate() {
        let right = histogram.low + step * (index + 1) as f64;
        path += &format!("V{}H{}", At(scale.y(density)), At(scale.x(right)));
    }
    path + &format!("V{}Z", At(scale.y(0.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_score_counts_once() {
        let histogram = ScoreHistogram::count(
            "x",
            (-1.0, 1.0),
            4,
            &[-2.0, -0.9, 0.0, 0.99, 1.0, f32::INFINITY, f32::NAN],
            &[],
        );
        assert_eq!(histogram.matches, [2, 0, 1, 3]);
        assert_eq!(histogram.non_matches, [0; 4]);
        assert!(
            ScoreHistogram::count("x", (0.0, 1.0), 0, &[0.5], &[])
                .matches
                .is_empty()
        );
    }

    #[test]
    fn nothing_to_draw_is_left_out() {
        let empty = ScoreHistogram::count("x", (0.0, 1.0), 4, &[], &[]);
        let backwards = ScoreHistogram::count("x", (1.0, 0.0), 4, &[0.5], &[0.1]);
        assert!(section(&[]).into_string().is_empty());
        assert!(section(&[empty, backwards]).into_string().is_empty());
    }

    #[test]
    fn the_largest_share_reaches_the_top() {
        let histogram = ScoreHistogram::count("x", (0.0, 1.0), 2, &[0.1, 0.2, 0.9], &[0.1, 0.9]);
        let scale = Scale::of(std::slice::from_ref(&histogram)).unwrap();
        let path = outline(&histogram, &histogram.matches, scale);
        assert_eq!(path, "M8.0 166.0V8.0H170.0V87.0H332.0V166.0Z");
    }
}
