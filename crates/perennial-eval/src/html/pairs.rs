//! Every pair with its margin and interval.

use std::fmt::{self, Write};

use super::{Escaped, Signed};
use crate::{Compatibility, PairComparison, Verdict};

/// Pairs shown before the rest folds away.
const SHOWN: usize = 30;
const PLOT_WIDTH: f64 = 164.0;
/// The height of a row, so that the zero lines join.
const PLOT_HEIGHT: f64 = 36.0;

pub(super) fn write_section(out: &mut String, report: &Compatibility) -> fmt::Result {
    let pairs = report.weakest_pairs();
    let scale = Scale::new(&pairs);
    let undecided = pairs
        .iter()
        .filter(|pair| pair.verdict == Verdict::Undecided)
        .count();
    writeln!(
        out,
        "<section aria-labelledby=\"pairs\">\n<h2 id=\"pairs\">Pairs, smallest margin first</h2>\n<p>{}</p>",
        match undecided {
            0 => "Every pair is decided: no interval includes 0.".to_owned(),
            1 => "One pair is undecided: its interval includes 0, so other queries of the same kind could turn the sign of its margin.".to_owned(),
            count => format!(
                "{count} pairs are undecided: their intervals include 0, so other queries of the same kind could turn the sign of the margin."
            ),
        }
    )?;
    let (first, rest) = pairs.split_at(pairs.len().min(SHOWN));
    write_table(out, first, scale, "Pairs with the smallest margins")?;
    if !rest.is_empty() {
        writeln!(
            out,
            "<details>\n<summary>The other {} pairs</summary>",
            rest.len()
        )?;
        write_table(out, rest, scale, "The other pairs")?;
        out.push_str("</details>\n");
    }
    out.push_str("</section>\n");
    Ok(())
}

fn write_table(
    out: &mut String,
    pairs: &[&PairComparison],
    scale: Scale,
    label: &str,
) -> fmt::Result {
    writeln!(
        out,
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{label}\">\n<table class=\"pairs\">\n<thead><tr>\
         <th scope=\"col\">Query version</th><th scope=\"col\">Gallery version</th><th scope=\"col\" class=\"n\">Cross-test</th>\
         <th scope=\"col\" class=\"n\">Old self-test</th><th scope=\"col\" class=\"n\">Margin</th>\
         <th scope=\"col\" class=\"n\">95 % interval</th><th scope=\"col\" class=\"plot\">{}</th><th scope=\"col\">Verdict</th></tr></thead>\n<tbody>",
        scale.axis()
    )?;
    for pair in pairs {
        let decision = pair.verdict;
        let (class, sign) = match decision {
            Verdict::Compatible => ("good", "\u{2713}"),
            Verdict::Undecided => ("open", "?"),
            Verdict::Incompatible => ("bad", "!"),
        };
        // The labels head the figures on a narrow screen, where a pair is a card instead of a row.
        write!(
            out,
            "<tr class=\"{class}\"><th scope=\"row\" data-label=\"Query version\">{}</th><td data-label=\"Gallery version\">{}</td>\
             <td class=\"n\" data-label=\"Cross-test\">{:.4}</td><td class=\"n\" data-label=\"Old self-test\">{:.4}</td>\
             <td class=\"n strong\" data-label=\"Margin\">{}</td><td class=\"n\" data-label=\"95 % interval\">[{}, {}]</td><td class=\"plot\">",
            Escaped(&pair.query_version),
            Escaped(&pair.gallery_version),
            pair.cross,
            pair.self_old,
            Signed(pair.margin, 4),
            Signed(pair.interval.low, 4),
            Signed(pair.interval.high, 4),
        )?;
        scale.write_plot(out, pair)?;
        writeln!(
            out,
            "</td><td data-label=\"Verdict\"><span class=\"badge\"><b aria-hidden=\"true\">{sign}</b> {}</span></td></tr>",
            decision
        )?;
    }
    out.push_str("</tbody>\n</table>\n</div>\n");
    Ok(())
}

/// The common horizontal scale of all intervals; it always holds zero.
#[derive(Clone, Copy)]
struct Scale {
    low: f64,
    high: f64,
}

impl Scale {
    fn new(pairs: &[&PairComparison]) -> Self {
        let mut scale = Self {
            low: 0.0,
            high: 0.0,
        };
        for pair in pairs {
            scale.low = scale.low.min(pair.interval.low).min(pair.margin);
            scale.high = scale.high.max(pair.interval.high).max(pair.margin);
        }
        if scale.high - scale.low < 1e-6 {
            return Self {
                low: -0.01,
                high: 0.01,
            };
        }
        scale
    }

    fn x(self, value: f64) -> f64 {
        const INSET: f64 = 6.0;
        INSET + (PLOT_WIDTH - 2.0 * INSET) * (value - self.low) / (self.high - self.low)
    }

    /// The heading of the column: where zero is.
    fn axis(self) -> String {
        format!(
            "<svg width=\"{PLOT_WIDTH}\" height=\"20\" role=\"img\" aria-label=\"Margin and interval, plotted\">\
             <text x=\"{:.1}\" y=\"14\">0</text></svg>",
            self.x(0.0)
        )
    }

    fn write_plot(self, out: &mut String, pair: &PairComparison) -> fmt::Result {
        let middle = PLOT_HEIGHT / 2.0;
        write!(
            out,
            "<svg width=\"{PLOT_WIDTH}\" height=\"{PLOT_HEIGHT}\" aria-hidden=\"true\">\
             <line class=\"zero-line\" x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"0\" y2=\"{PLOT_HEIGHT}\"/>\
             <line class=\"interval\" x1=\"{1:.1}\" x2=\"{2:.1}\" y1=\"{middle}\" y2=\"{middle}\"/>\
             <circle cx=\"{3:.1}\" cy=\"{middle}\" r=\"4\"/></svg>",
            self.x(0.0),
            self.x(pair.interval.low),
            self.x(pair.interval.high),
            self.x(pair.margin),
        )
    }
}
