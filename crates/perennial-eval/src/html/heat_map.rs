//! Accuracies and margins as two heat maps on one grid.

use maud::{Markup, html};

use super::numbers::{Signed, shortened};
use super::page;
use crate::{Compatibility, Verdict};

/// Colour steps of accuracies, `a0` to `a8`.
const ACCURACY_STEPS: usize = 9;
/// Colour steps of margins to either side of zero.
const MARGIN_STEPS: usize = 4;
/// Space between cells.
const GAP: usize = 3;
/// Space that an outlined cell leaves for its outline, so that the two stand apart whatever their colours.
const INSET: usize = 4;
/// Versions up to which a cell has room for three decimals.
const DENSE: usize = 20;

pub(super) fn section(report: &Compatibility, replacements: &[usize]) -> Markup {
    let content = html! {
        p {
            "Rows: the version that embeds the queries. Columns: the version that embedded the gallery. Diagonal: self-tests."
            @if !replacements.is_empty() {
                " Thick lines: a replacement of the model; every cell left of one and below it crosses it."
            }
        }
        div.maps {
            (accuracy(report, replacements))
            (margins(report, replacements))
        }
    };
    page::section("matrix", "Compatibility matrix", content)
}

fn accuracy(report: &Compatibility, replacements: &[usize]) -> Markup {
    let grid = Grid::new(report);
    let rows = report.matrix().rows();
    let (low, high) = rounded_range(rows.iter().flatten().copied());
    let cell = |t: usize, k: usize, value: f64| {
        let step = ((value - low) / (high - low) * ACCURACY_STEPS as f64) as usize;
        let decision = (t != k).then(|| report.decision(t, k));
        Cell {
            class: format!(
                "a{}{}",
                step.min(ACCURACY_STEPS - 1),
                if t == k { " diagonal" } else { "" }
            ),
            text: grid.fraction(value),
            hint: match decision {
                Some(decision) => format!("{value:.4}, {decision}"),
                None => format!("{value:.4}, self-test"),
            },
            outlined: decision == Some(Verdict::Incompatible),
            undecided: decision == Some(Verdict::Undecided),
        }
    };
    let cells = html! {
        @for (t, row) in rows.iter().enumerate() {
            @for (k, &value) in row.iter().enumerate() { (grid.cell(t, k, &cell(t, k, value))) }
        }
        (grid.replacements(replacements))
    };
    html! {
        figure {
            (grid.figure("accuracy", "Accuracy", "nearest-class-mean top-1, fraction", cells))
            div.legend {
                (ramp((0..ACCURACY_STEPS).map(|step| format!("a{step}")), &format!("{low:.2}"), &format!("{high:.2}")))
                span.key { i.outline {} "incompatible" }
                span.key { i.dots {} "undecided" }
            }
        }
    }
}

fn margins(report: &Compatibility, replacements: &[usize]) -> Markup {
    let grid = Grid::new(report);
    let largest = report
        .pairs()
        .iter()
        .map(|pair| pair.margin.abs())
        .fold(0.01, f64::max);
    let class = |margin: f64| {
        let size = (margin.abs() / largest * MARGIN_STEPS as f64).ceil() as usize;
        match size.min(MARGIN_STEPS) {
            0 => "zero".to_owned(),
            size => format!("{}{size}", if margin < 0.0 { 'n' } else { 'p' }),
        }
    };
    let places = report.matrix().cross_tests().map(|(t, k, ..)| (t, k));
    let cells = places.zip(report.pairs()).map(|((t, k), pair)| {
        let (margin, interval) = (pair.margin, pair.interval);
        let cell = Cell {
            class: class(margin),
            text: grid.margin(margin),
            hint: format!(
                "{} [{}, {}], {}",
                Signed(margin, 4),
                Signed(interval.low, 4),
                Signed(interval.high, 4),
                pair.verdict,
            ),
            outlined: pair.verdict == Verdict::Incompatible,
            undecided: pair.verdict == Verdict::Undecided,
        };
        grid.cell(t, k, &cell)
    });
    let drawn = html! {
        @for task in 0..report.versions().len() { (grid.blank(task)) }
        @for cell in cells { (cell) }
        (grid.replacements(replacements))
    };
    let steps = (1..=MARGIN_STEPS)
        .rev()
        .map(|step| format!("n{step}"))
        .chain(["zero".to_owned()])
        .chain((1..=MARGIN_STEPS).map(|step| format!("p{step}")));
    html! {
        figure {
            (grid.figure("margin", "Margin", "cross-test minus old self-test, difference of fractions", drawn))
            div.legend {
                (ramp(steps, &Signed(-largest, 2).to_string(), &Signed(largest, 2).to_string()))
                span.key { i.outline {} "incompatible" }
                span.key { i.dots {} "undecided: the interval includes 0" }
            }
        }
    }
}

/// The colours of a map from low to high.
fn ramp(steps: impl Iterator<Item = String>, low: &str, high: &str) -> Markup {
    html! { span.ramp { (low) " " @for step in steps { i class=(step) {} } " " (high) } }
}

/// The range of the values, widened to steps of 0.05 and to at least 0.1, so that equal matrices do not look dramatic.
fn rounded_range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    let low = ((low * 20.0).floor() / 20.0).min(0.9);
    (low, ((high * 20.0).ceil() / 20.0).max(low + 0.1))
}

struct Cell {
    class: String,
    text: String,
    hint: String,
    outlined: bool,
    undecided: bool,
}

/// Positions and labels of a lower triangle of cells, in CSS pixels.
struct Grid<'a> {
    report: &'a Compatibility,
    width: usize,
    height: usize,
    left: usize,
    top: usize,
    overhang: usize,
    slanted: bool,
    dense: bool,
}

impl<'a> Grid<'a> {
    fn new(report: &'a Compatibility) -> Self {
        let tasks = report.versions().len();
        let longest = report
            .versions()
            .iter()
            .map(|name| name.chars().count())
            .max()
            .unwrap_or(0)
            .min(14);
        let left = longest * 7 + 12;
        // Up to nine versions both maps fit side by side; beyond that each takes the whole width.
        let room: usize = if tasks <= 9 { 500 } else { 1070 };
        let width = room.saturating_sub(left) / tasks;
        let width = width.clamp(if tasks <= DENSE { 48 } else { 32 }, 66);
        let slanted = longest * 7 + 8 > width;
        Self {
            report,
            width,
            height: width * 5 / 8 + 2,
            left,
            top: if slanted { longest * 5 + 18 } else { 24 },
            // Slanted headings lean out to the right of the last column.
            overhang: if slanted {
                (longest * 5 + 8).saturating_sub(width / 2)
            } else {
                4
            },
            slanted,
            dense: tasks > DENSE,
        }
    }

    fn fraction(&self, value: f64) -> String {
        if self.dense {
            format!("{value:.2}").trim_start_matches('0').to_owned()
        } else {
            format!("{value:.3}")
        }
    }

    fn margin(&self, value: f64) -> String {
        if self.dense {
            Signed(value, 2).to_string().replacen("0.", ".", 1)
        } else {
            Signed(value, 3).to_string()
        }
    }

    /// A map's caption and its drawing with the names of the versions around the cells.
    fn figure(&self, id: &str, title: &str, unit: &str, cells: Markup) -> Markup {
        let versions = self.report.versions();
        let width = self.left + versions.len() * self.width + self.overhang;
        let height = self.top + versions.len() * self.height + 4;
        let class = match versions.len() {
            _ if self.dense => "map dense",
            // Shrunk on a phone, so that its figures are larger there.
            6.. => "map many",
            _ => "map",
        };
        let id = format!("map-{id}");
        html! {
            figcaption { b id=(id) { (title) } " " (unit) }
            div.scroll tabindex="0" role="region" aria-labelledby=(id) {
                svg class=(class) width=(width) height=(height) viewBox={ "0 0 " (width) " " (height) } role="img" aria-labelledby=(id) {
                    @for (index, name) in versions.iter().enumerate() { (self.heading(index, name)) }
                    (cells)
                }
            }
        }
    }

    /// A version's name before its row and above its column.
    fn heading(&self, index: usize, name: &str) -> Markup {
        let label = html! { (shortened(name, 14)) title { (name) } };
        let row = self.top + index * self.height + self.height / 2;
        let column = self.left + index * self.width + self.width / 2;
        let above = self.top - if self.slanted { 6 } else { 8 };
        let turn = self
            .slanted
            .then(|| format!("rotate(-45 {column} {above})"));
        html! {
            text.end x=(self.left - 8) y=(row) dy=".35em" { (label) }
            text.start[self.slanted] x=(column) y=(above) transform=[turn] { (label) }
        }
    }

    fn cell(&self, t: usize, k: usize, cell: &Cell) -> Markup {
        let (x, y) = (self.left + k * self.width, self.top + t * self.height);
        let (width, height) = (self.width - GAP, self.height - GAP);
        let inset = match (cell.outlined, self.dense) {
            (false, _) => 0,
            (true, true) => INSET - 1,
            (true, false) => INSET,
        };
        let corner = if cell.outlined { 1 } else { 3 };
        let below = y + height / 2 + if self.dense { 6 } else { 9 };
        let versions = self.report.versions();
        html! {
            g class=(cell.class) {
                title { "queries " (versions[t]) ", gallery " (versions[k]) ": " (cell.hint) }
                rect x=(x + inset) y=(y + inset) width=(width - 2 * inset) height=(height - 2 * inset) rx=(corner) {}
                text x=(x + width / 2) y=(y + height / 2) dy=".35em" {
                    (cell.text) @if cell.outlined && !self.dense { "!" }
                }
                @if cell.outlined {
                    rect.outline x=(x + 1) y=(y + 1) width=(width - 2) height=(height - 2) rx="3" {}
                }
                @if cell.undecided {
                    line x1=(x + width / 4) x2=(x + width - width / 4) y1=(below) y2=(below) {}
                }
            }
        }
    }

    /// A line before every version that descends from a replacement: from the left edge to the diagonal, then down.
    fn replacements(&self, replacements: &[usize]) -> Markup {
        let versions = self.report.versions();
        let half = GAP.div_ceil(2);
        let bottom = self.top + versions.len() * self.height;
        html! {
            @for &at in replacements.iter().filter(|&&at| 0 < at && at < versions.len()) {
                @let (x, y) = (self.left + at * self.width - half, self.top + at * self.height - half);
                path.replacement d={ "M" (self.left) " " (y) "H" (x) "V" (bottom) } {
                    title { "replacement before " (versions[at]) }
                }
            }
        }
    }

    /// The diagonal of the margins, where there is nothing to compare.
    fn blank(&self, task: usize) -> Markup {
        let (x, y) = (self.left + task * self.width, self.top + task * self.height);
        html! {
            rect.blank x=(x) y=(y) width=(self.width - GAP) height=(self.height - GAP) rx="3" {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_the_values_and_have_a_width() {
        for values in [
            vec![0.0],
            vec![1.0],
            vec![0.58892, 0.77164],
            vec![0.0, 1.0],
            vec![0.95, 0.951],
        ] {
            let (low, high) = rounded_range(values.iter().copied());
            assert!(
                high - low > 0.0999 && low >= 0.0 && high <= 1.0 + 1e-9,
                "{values:?}: {low} {high}"
            );
            assert!(
                values.iter().all(|value| (low..=high).contains(value)),
                "{values:?}: {low} {high}"
            );
        }
    }
}
