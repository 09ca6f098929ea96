//! Accuracies and margins as two heat maps on one grid.

use std::fmt::{self, Write};

use super::{Escaped, Signed, shortened};
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

pub(super) fn write_section(
    out: &mut String,
    report: &Compatibility,
    replacements: &[usize],
) -> fmt::Result {
    out.push_str(
        "<section aria-labelledby=\"matrix\">\n<h2 id=\"matrix\">Compatibility matrix</h2>\n\
         <p>Rows: the version that embeds the queries. Columns: the version that embedded the gallery. \
         Diagonal: self-tests.",
    );
    if !replacements.is_empty() {
        out.push_str(" Thick lines: a replacement of the model; every cell left of one and below it crosses it.");
    }
    out.push_str("</p>\n<div class=\"maps\">\n");
    write_accuracy(out, report, replacements)?;
    write_margins(out, report, replacements)?;
    out.push_str("</div>\n</section>\n");
    Ok(())
}

fn write_accuracy(out: &mut String, report: &Compatibility, replacements: &[usize]) -> fmt::Result {
    let grid = Grid::new(report);
    let cells = || report.matrix().rows().iter().flatten().copied();
    let (low, high) = rounded_range(cells());
    grid.open(
        out,
        "accuracy",
        "Accuracy",
        "nearest-class-mean top-1, fraction",
    )?;
    for (t, row) in report.matrix().rows().iter().enumerate() {
        for (k, &value) in row.iter().enumerate() {
            let step = ((value - low) / (high - low) * ACCURACY_STEPS as f64) as usize;
            let decision = (t != k).then(|| report.decision(t, k));
            let incompatible = decision == Some(Verdict::Incompatible);
            grid.cell(
                out,
                t,
                k,
                &Cell {
                    class: format!(
                        "a{}{}",
                        step.min(ACCURACY_STEPS - 1),
                        if t == k { " diagonal" } else { "" }
                    ),
                    text: grid.fraction(value),
                    hint: match decision {
                        Some(decision) => format!("{value:.4}, {}", decision),
                        None => format!("{value:.4}, self-test"),
                    },
                    outlined: incompatible,
                    undecided: decision == Some(Verdict::Undecided),
                },
            )?;
        }
    }
    grid.mark_replacements(out, replacements)?;
    out.push_str("</svg></div>\n");
    write_legend(
        out,
        (0..ACCURACY_STEPS).map(|step| format!("a{step}")),
        &format!("{low:.2}"),
        &format!("{high:.2}"),
    )?;
    out.push_str(
        "<span class=\"key\"><i class=\"outline\"></i>incompatible</span>\
         <span class=\"key\"><i class=\"dots\"></i>undecided</span></div>\n</figure>\n",
    );
    Ok(())
}

fn write_margins(out: &mut String, report: &Compatibility, replacements: &[usize]) -> fmt::Result {
    let grid = Grid::new(report);
    let largest = report
        .pairs()
        .iter()
        .map(|pair| pair.margin.abs())
        .fold(0.01, f64::max);
    grid.open(
        out,
        "margin",
        "Margin",
        "cross-test minus old self-test, difference of fractions",
    )?;
    for task in 0..report.versions().len() {
        grid.blank(out, task)?;
    }
    let cells = report.matrix().cross_tests().map(|(t, k, ..)| (t, k));
    for ((t, k), pair) in cells.zip(report.pairs()) {
        let size = (pair.margin.abs() / largest * MARGIN_STEPS as f64).ceil() as usize;
        let class = match size.min(MARGIN_STEPS) {
            0 => "zero".to_owned(),
            size => format!("{}{size}", if pair.margin < 0.0 { 'n' } else { 'p' }),
        };
        let decision = pair.verdict;
        grid.cell(
            out,
            t,
            k,
            &Cell {
                class,
                text: grid.margin(pair.margin),
                hint: format!(
                    "{} [{}, {}], {}",
                    Signed(pair.margin, 4),
                    Signed(pair.interval.low, 4),
                    Signed(pair.interval.high, 4),
                    decision,
                ),
                outlined: decision == Verdict::Incompatible,
                undecided: decision == Verdict::Undecided,
            },
        )?;
    }
    grid.mark_replacements(out, replacements)?;
    out.push_str("</svg></div>\n");
    let steps = (1..=MARGIN_STEPS)
        .rev()
        .map(|step| format!("n{step}"))
        .chain(["zero".to_owned()]);
    let steps = steps.chain((1..=MARGIN_STEPS).map(|step| format!("p{step}")));
    write_legend(
        out,
        steps,
        &Signed(-largest, 2).to_string(),
        &Signed(largest, 2).to_string(),
    )?;
    out.push_str(
        "<span class=\"key\"><i class=\"outline\"></i>incompatible</span>\
         <span class=\"key\"><i class=\"dots\"></i>undecided: the interval includes 0</span></div>\n</figure>\n",
    );
    Ok(())
}

/// Opens the legend; the caller adds its own keys and closes it.
fn write_legend(
    out: &mut String,
    steps: impl Iterator<Item = String>,
    low: &str,
    high: &str,
) -> fmt::Result {
    write!(out, "<div class=\"legend\"><span class=\"ramp\">{low} ")?;
    for step in steps {
        write!(out, "<i class=\"{step}\"></i>")?;
    }
    write!(out, " {high}</span>")
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

    fn open(&self, out: &mut String, id: &str, title: &str, unit: &str) -> fmt::Result {
        let versions = self.report.versions();
        let width = self.left + versions.len() * self.width + self.overhang;
        let height = self.top + versions.len() * self.height + 4;
        write!(
            out,
            "<figure>\n<figcaption><b id=\"map-{id}\">{title}</b> {unit}</figcaption>\n\
             <div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-labelledby=\"map-{id}\">\
             <svg class=\"map{}\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" role=\"img\" \
             aria-labelledby=\"map-{id}\">\n",
            match versions.len() {
                _ if self.dense => " dense",
                // Shrunk on a phone, so that its figures are larger there.
                6.. => " many",
                _ => "",
            }
        )?;
        for (index, name) in versions.iter().enumerate() {
            let short = shortened(name, 14);
            let (label, full) = (Escaped(&short), Escaped(name));
            let row = self.top + index * self.height + self.height / 2;
            let column = self.left + index * self.width + self.width / 2;
            let turn = if self.slanted {
                format!(
                    " class=\"start\" transform=\"rotate(-45 {column} {0})\" y=\"{0}\"",
                    self.top - 6
                )
            } else {
                format!(" y=\"{}\"", self.top - 8)
            };
            writeln!(
                out,
                "<text class=\"end\" x=\"{}\" y=\"{row}\" dy=\".35em\">{label}<title>{full}</title></text>\
                 <text x=\"{column}\"{turn}>{label}<title>{full}</title></text>",
                self.left - 8
            )?;
        }
        Ok(())
    }

    fn cell(&self, out: &mut String, t: usize, k: usize, cell: &Cell) -> fmt::Result {
        let (x, y) = (self.left + k * self.width, self.top + t * self.height);
        let (width, height) = (self.width - GAP, self.height - GAP);
        let inset = match (cell.outlined, self.dense) {
            (false, _) => 0,
            (true, true) => INSET - 1,
            (true, false) => INSET,
        };
        let versions = self.report.versions();
        write!(
            out,
            "<g class=\"{}\"><title>queries {}, gallery {}: {}</title>\
             <rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"{}\"/>\
             <text x=\"{}\" y=\"{}\" dy=\".35em\">{}{}</text>",
            cell.class,
            Escaped(&versions[t]),
            Escaped(&versions[k]),
            cell.hint,
            x + inset,
            y + inset,
            width - 2 * inset,
            height - 2 * inset,
            if cell.outlined { 1 } else { 3 },
            x + width / 2,
            y + height / 2,
            cell.text,
            if cell.outlined && !self.dense {
                "!"
            } else {
                ""
            },
        )?;
        if cell.outlined {
            write!(
                out,
                "<rect class=\"outline\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"3\"/>",
                x + 1,
                y + 1,
                width - 2,
                height - 2
            )?;
        }
        if cell.undecided {
            write!(
                out,
                "<line x1=\"{}\" x2=\"{}\" y1=\"{2}\" y2=\"{2}\"/>",
                x + width / 4,
                x + width - width / 4,
                y + height / 2 + if self.dense { 6 } else { 9 },
            )?;
        }
        out.push_str("</g>\n");
        Ok(())
    }

    /// A line before every version that descends from a replacement: from the left edge to the diagonal, then down.
    fn mark_replacements(&self, out: &mut String, replacements: &[usize]) -> fmt::Result {
        let versions = self.report.versions().len();
        for &at in replacements.iter().filter(|&&at| 0 < at && at < versions) {
            let half = GAP.div_ceil(2);
            let (x, y) = (
                self.left + at * self.width - half,
                self.top + at * self.height - half,
            );
            writeln!(
                out,
                "<path class=\"replacement\" d=\"M{} {y}H{x}V{}\"><title>replacement before {}</title></path>",
                self.left,
                self.top + versions * self.height,
                Escaped(&self.report.versions()[at])
            )?;
        }
        Ok(())
    }

    /// The diagonal of the margins, where there is nothing to compare.
    fn blank(&self, out: &mut String, task: usize) -> fmt::Result {
        writeln!(
            out,
            "<rect class=\"blank\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"3\"/>",
            self.left + task * self.width,
            self.top + task * self.height,
            self.width - GAP,
            self.height - GAP
        )
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
