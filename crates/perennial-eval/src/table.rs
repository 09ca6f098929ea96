//! The compatibility matrix in a terminal.

use std::fmt::{self, Write};

use crate::{
    Compatibility, CompatibilityMatrix, Metrics, Provenance, TieRule, Verdict, VerdictCounts,
};

/// Pairs listed below the matrix.
const WEAKEST_SHOWN: usize = 5;

const BOLD: &str = "\u{1b}[1m";
const DIM: &str = "\u{1b}[2m";
const RED: &str = "\u{1b}[1;31m";
const RESET: &str = "\u{1b}[0m";

/// The whole report as text: where it comes from, matrix, metrics and the pairs with the smallest margins.
///
/// Rows are query models, columns gallery models; lines set the models since a replacement apart. Incompatible cells carry a
/// `!` and, with `color`, are red; undecided ones carry a `?`; self-tests are bold with `color`. The text ends with a line break.
pub fn render(report: &Compatibility, provenance: &Provenance, color: bool) -> String {
    let mut out = String::new();
    let style = Style { color };
    write_report(&mut out, report, provenance, style).expect("writing to a string cannot fail");
    out
}

/// The matrix of a report alone, marked as [`render`] does.
pub fn render_marked_matrix(report: &Compatibility, replacements: &[usize], color: bool) -> String {
    let mut out = String::new();
    let style = Style { color };
    let marks = Marks::Decided(report);
    write_matrix(
        &mut out,
        report.matrix(),
        marks,
        report.versions(),
        replacements,
        style,
    )
    .and_then(|()| write_key(&mut out, report))
    .expect("writing to a string cannot fail");
    out
}

/// A matrix and its metrics as text, for matrices that come without a report. `names` label the models; models beyond them
/// are numbered from 1. Without the outcomes of single queries there are no intervals: a `!` marks every cross-test that
/// `tie_rule` does not count.
pub fn render_matrix(
    matrix: &CompatibilityMatrix,
    metrics: &Metrics,
    tie_rule: TieRule,
    names: &[String],
    color: bool,
) -> String {
    let mut out = String::new();
    let style = Style { color };
    write_matrix(&mut out, matrix, Marks::Rule(tie_rule), names, &[], style)
        .and_then(|()| write_metrics(&mut out, metrics))
        .and_then(|()| write_rule_count(&mut out, metrics, tie_rule))
        .expect("writing to a string cannot fail");
    out
}

/// What marks the cells.
#[derive(Clone, Copy)]
enum Marks<'a> {
    /// The intervals of a report.
    Decided(&'a Compatibility),
    /// The sign of the margin.
    Rule(TieRule),
}

impl Marks<'_> {
    fn decision(self, t: usize, k: usize, rows: &[Vec<f64>]) -> Verdict {
        match self {
            Self::Decided(report) => report.decision(t, k),
            Self::Rule(rule) if rule.is_compatible(rows[t][k], rows[k][k]) => Verdict::Compatible,
            Self::Rule(_) => Verdict::Incompatible,
        }
    }
}

fn sign(decision: Verdict) -> char {
    match decision {
        Verdict::Compatible => ' ',
        Verdict::Undecided => '?',
        Verdict::Incompatible => '!',
    }
}

#[derive(Clone, Copy)]
struct Style {
    color: bool,
}

impl Style {
    fn paint(self, code: &str, text: &str) -> String {
        if self.color {
            format!("{code}{text}{RESET}")
        } else {
            text.to_owned()
        }
    }
}

fn write_report(
    out: &mut String,
    report: &Compatibility,
    provenance: &Provenance,
    style: Style,
) -> fmt::Result {
    let (queries, gallery) = (report.queries(), report.gallery());
    let facts = provenance.facts();
    if !facts.is_empty() {
        let facts: Vec<String> = facts
            .iter()
            .map(|(name, value)| format!("{} {value}", name.to_lowercase()))
            .collect();
        writeln!(out, "{}", facts.join(", "))?;
    }
    writeln!(
        out,
        "{}.\n\nnearest-class-mean top-1, {} queries ({}) on a gallery of {} ({})\n",
        VerdictCounts::of(report.pairs()).sentence(),
        queries.count,
        queries.name,
        gallery.count,
        gallery.name
    )?;
    write_matrix(
        out,
        report.matrix(),
        Marks::Decided(report),
        report.versions(),
        &provenance.replacements,
        style,
    )?;
    write_key(out, report)?;
    write_metrics(out, report.metrics())?;
    if report.metrics().average_compatibility.is_some() {
        writeln!(
            out,
            "AC and ACA count undecided pairs too: they go by the sign of the margin ({}).",
            report.tie_rule().formula()
        )?;
    }
    if let Some(sentence) = report.missing_sentence() {
        writeln!(out, "{sentence}")?;
    }
    write_weakest(out, report, style)
}

/// What the marks mean, where there are any.
fn write_key(out: &mut String, report: &Compatibility) -> fmt::Result {
    let counts = VerdictCounts::of(report.pairs());
    let mut lines = Vec::new();
    if counts.incompatible > 0 {
        lines.push("! incompatible: the 95 % interval of the margin lies below 0");
    }
    if counts.undecided > 0 {
        lines.push("? undecided: the 95 % interval of the margin includes 0");
    }
    if !lines.is_empty() {
        writeln!(out, "\n{}", lines.join("\n"))?;
    }
    Ok(())
}

fn write_matrix(
    out: &mut String,
    matrix: &CompatibilityMatrix,
    marks: Marks<'_>,
    names: &[String],
    replacements: &[usize],
    style: Style,
) -> fmt::Result {
    let numbers: Vec<String> = (1..=matrix.tasks())
        .map(|number| number.to_string())
        .collect();
    let name = |index: usize| {
        names
            .get(index)
            .map_or(numbers[index].as_str(), String::as_str)
    };
    let corner = "query \\ gallery";
    let names_width = (0..matrix.tasks())
        .map(|index| width(name(index)))
        .max()
        .unwrap_or(0);
    let rows_width = names_width.max(width(corner));
    // Long names would push the columns apart, so those are numbered instead.
    let numbered = names_width > 10;
    let columns_width = if numbered { 7 } else { names_width.max(6) + 1 };

    write!(out, "{}", style.paint(DIM, &pad(corner, rows_width, false)))?;
    for (index, number) in numbers.iter().enumerate() {
        let heading = if numbered {
            number.as_str()
        } else {
            name(index)
        };
        write!(
            out,
            " {}",
            style.paint(DIM, &pad(heading, columns_width - 1, true))
        )?;
        out.push(' ');
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    for (t, row) in matrix.rows().iter().enumerate() {
        if t > 0 && replacements.contains(&t) {
            let line = "-".repeat(rows_width + 1 + t * (columns_width + 1));
            writeln!(out, "{}", style.paint(DIM, &format!("{line} replacement")))?;
        }
        write!(out, "{}", pad(name(t), rows_width, false))?;
        for (k, &cell) in row.iter().enumerate() {
            let value = pad(&format!("{cell:.4}"), columns_width - 1, true);
            let before = if k > 0 && replacements.contains(&k) {
                style.paint(DIM, "|")
            } else {
                " ".to_owned()
            };
            if t == k {
                write!(out, "{before}{}", style.paint(BOLD, &value))?;
                continue;
            }
            match marks.decision(t, k, matrix.rows()) {
                Verdict::Incompatible => {
                    write!(out, "{before}{}", style.paint(RED, &format!("{value}!")))?;
                }
                other => write!(out, "{before}{value}{}", sign(other))?,
            }
        }
        if numbered {
            write!(out, "  {}", style.paint(DIM, &format!("({})", t + 1)))?;
        }
        out.push('\n');
    }
    Ok(())
}

fn write_metrics(out: &mut String, metrics: &Metrics) -> fmt::Result {
    let plain = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.4}"));
    let signed = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:+.4}"));
    writeln!(out)?;
    for (value, meaning) in [
        (
            plain(metrics.average_compatibility),
            "AC   average compatibility",
        ),
        (
            plain(Some(metrics.average_accuracy)),
            "AA   average accuracy",
        ),
        (
            plain(metrics.average_compatible_accuracy),
            "ACA  average compatible accuracy",
        ),
        (
            signed(metrics.backward_compatibility),
            "BC   backward compatibility",
        ),
        (
            signed(metrics.forward_compatibility),
            "FC   forward compatibility",
        ),
    ] {
        writeln!(out, "{meaning:<33}{value:>8}")?;
    }
    Ok(())
}

fn write_rule_count(out: &mut String, metrics: &Metrics, tie_rule: TieRule) -> fmt::Result {
    let pairs = metrics.tasks * metrics.tasks.saturating_sub(1) / 2;
    let incompatible = metrics.incompatible_pairs_count;
    writeln!(
        out,
        "!    incompatible pairs         {incompatible:>9} of {pairs} (compatible: {})",
        tie_rule.formula()
    )
}

fn write_weakest(out: &mut String, report: &Compatibility, style: Style) -> fmt::Result {
    let pairs = report.weakest_pairs();
    if pairs.is_empty() {
        return Ok(());
    }
    let shown = &pairs[..pairs.len().min(WEAKEST_SHOWN)];
    writeln!(
        out,
        "\nsmallest margins (cross-test - old self-test, 95 % paired-bootstrap interval)"
    )?;
    let longest = |name: fn(&crate::PairComparison) -> &str| {
        shown
            .iter()
            .map(|pair| width(name(pair)))
            .max()
            .unwrap_or(0)
    };
    let query_width = longest(|pair| &pair.query_version);
    let gallery_width = longest(|pair| &pair.gallery_version);
    for pair in shown {
        let margin = format!("{:+.4}", pair.margin);
        let decision = pair.verdict;
        writeln!(
            out,
            "  {} on {}  {:.4} - {:.4} = {} [{:+.4}, {:+.4}]{}",
            pad(&pair.query_version, query_width, false),
            pad(&pair.gallery_version, gallery_width, false),
            pair.cross,
            pair.self_old,
            match decision {
                Verdict::Incompatible => style.paint(RED, &format!("{margin}!")),
                other => format!("{margin}{}", sign(other)),
            },
            pair.interval.low,
            pair.interval.high,
            match decision {
                Verdict::Compatible => "",
                Verdict::Undecided => "  undecided",
                Verdict::Incompatible => "  incompatible",
            },
        )?;
    }
    Ok(())
}

/// Characters, which is what columns are for the names in use.
fn width(text: &str) -> usize {
    text.chars().count()
}

fn pad(text: &str, columns: usize, right: bool) -> String {
    if right {
        format!("{text:>columns$}")
    } else {
        format!("{text:<columns$}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics;

    fn text(rows: Vec<Vec<f64>>, names: &[&str]) -> String {
        let matrix = CompatibilityMatrix::new(rows).unwrap();
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let found = metrics(&matrix, TieRule::Strict);
        render_matrix(&matrix, &found, TieRule::Strict, &names, false)
    }

    #[test]
    fn models_without_a_name_are_numbered() {
        let found = text(vec![vec![0.6], vec![0.5, 0.7]], &[]);
        let lines: Vec<&str> = found.lines().collect();
        assert_eq!(lines[0], "query \\ gallery      1       2");
        assert_eq!(lines[1], "1               0.6000");
        assert_eq!(lines[2], "2               0.5000! 0.7000");
        assert!(found.contains("AC   average compatibility         0.0000\n"));
        assert!(found.contains("!    incompatible pairs                 1 of 1 (compatible: cross-test > old self-test)"));
    }

    #[test]
    fn long_names_head_rows_only() {
        let found = text(
            vec![vec![0.6], vec![0.65, 0.7]],
            &["a-rather-long-name", "b"],
        );
        let lines: Vec<&str> = found.lines().collect();
        assert_eq!(lines[0], "query \\ gallery         1       2");
        assert_eq!(lines[1], "a-rather-long-name 0.6000  (1)");
        assert_eq!(lines[2], "b                  0.6500  0.7000  (2)");
    }

    #[test]
    fn one_model_has_no_comparisons() {
        let found = text(vec![vec![0.25]], &["v0001"]);
        assert!(
            found.contains("AC   average compatibility              -\n"),
            "{found}"
        );
        assert!(found.contains("0 of 0"), "{found}");
    }
}
