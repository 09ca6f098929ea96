//! Routes as tables for a terminal.

use std::fmt::Write;

use perennial_eval::{ConfidenceInterval, Measure};
use perennial_upgrade::RouteResult;

use crate::commands::evaluate::without_embedding::WithoutEmbedding;

/// The confidence of the intervals that are shown; the file has others too.
const CONFIDENCE: f64 = 0.95;

/// All tables. `pairs` is the number of images that bridges were fitted on.
pub fn render(
    results: &[RouteResult],
    pairs: usize,
    without_embedding: &[WithoutEmbedding],
) -> String {
    let names = results.iter().map(|result| result.name.len());
    let width = names.max().unwrap_or(0).max(5);
    let mut text = String::new();
    all_pairs(&mut text, results, width);
    let _ = writeln!(
        text,
        "\nAC: share of pairs above the old self-test (the better of raw and centred). Bridges were fitted on {pairs} images."
    );
    for one in without_embedding {
        let _ = writeln!(text, "{one}.");
    }
    if results
        .iter()
        .flat_map(|result| &result.drift)
        .any(|one| one.hops > 1)
    {
        drift(&mut text, results, width);
        differences(&mut text, results, width);
    }
    let _ = writeln!(
        text,
        "\nHalf of the items embedded by the older version, half by the newest (before / half / all embedded again):"
    );
    mixed(&mut text, results, width);
    text
}

fn all_pairs(text: &mut String, results: &[RouteResult], width: usize) {
    let _ = writeln!(
        text,
        "{:width$}  {:<9}  {:>6}  {:>7}  {:>7}  {:>7}  better / undecided / worse",
        "route", "measure", "AC", "AA", "cross", "worst"
    );
    for result in results {
        for measure in &result.measures {
            let worst = measure.worst_margin;
            let worst = worst.map_or("-".to_owned(), |margin| format!("{margin:+.4}"));
            let _ = writeln!(
                text,
                "{:width$}  {:<9}  {:>6.3}  {:>7.4}  {:>7.4}  {worst:>7}  {} / {} / {}",
                result.name,
                measure.measure.to_string(),
                measure.average_compatibility,
                measure.average_accuracy,
                measure.mean_cross_test,
                measure.compatible,
                measure.undecided,
                measure.incompatible
            );
        }
    }
}

fn drift(text: &mut String, results: &[RouteResult], width: usize) {
    let _ = writeln!(
        text,
        "\nBy the number of upgrades between the gallery's version and the query's: margin over the old self-test, and recovery, the share of \
         what embedding everything again gains (95 % intervals):\n\
         {:width$}  {:<9}  {:>8}  {:>5}  {:>7}  {:<26}  recovery",
        "route", "measure", "upgrades", "pairs", "cross", "margin"
    );
    for result in results {
        for one in &result.drift {
            let recovery = one.recovery.as_ref().map_or("-".to_owned(), |recovery| {
                let intervals = recovery.intervals.as_deref().unwrap_or_default();
                match usual(intervals) {
                    Some([low, high]) => format!("{:.2} [{low:.2}, {high:.2}]", recovery.value),
                    None => format!("{:.2}", recovery.value),
                }
            });
            let _ = writeln!(
                text,
                "{:width$}  {:<9}  {:>8}  {:>5}  {:>7.4}  {:<26}  {recovery}",
                result.name,
                one.measure.to_string(),
                one.hops,
                one.pairs,
                one.cross_test,
                signed(one.margin, &one.intervals),
            );
        }
    }
}

fn differences(text: &mut String, results: &[RouteResult], width: usize) {
    for result in results {
        let Some(against) = &result.against else {
            continue;
        };
        let _ = writeln!(
            text,
            "\n{} less {}, by the number of upgrades:",
            result.name, against.other
        );
        for one in &against.hops {
            let _ = writeln!(
                text,
                "{:width$}  {:<9}  {:>8}  {}",
                "",
                one.measure.to_string(),
                one.hops,
                signed(one.difference, &one.intervals)
            );
        }
    }
}

fn mixed(text: &mut String, results: &[RouteResult], width: usize) {
    for result in results {
        for mixed in &result.mixed {
            let _ = write!(text, "{:width$}  {}", result.name, mixed.old);
            for (measure, value) in &mixed.all {
                let of = |values: &[(Measure, f64)]| {
                    values
                        .iter()
                        .find(|(other, _)| other == measure)
                        .map_or(0.0, |(_, value)| *value)
                };
                let _ = write!(
                    text,
                    "  {measure} {:.3} / {value:.3} / {:.3}",
                    of(&mixed.all_old),
                    of(&mixed.all_new)
                );
            }
            let _ = writeln!(
                text,
                "  old among the first 24: {:.2}",
                mixed.old_among_first
            );
        }
    }
}

fn signed(value: f64, intervals: &[ConfidenceInterval]) -> String {
    match usual(intervals) {
        Some([low, high]) => format!("{value:+.4} [{low:+.4}, {high:+.4}]"),
        None => format!("{value:+.4}"),
    }
}

fn usual(intervals: &[ConfidenceInterval]) -> Option<[f64; 2]> {
    let found = intervals.iter().find(|one| one.confidence == CONFIDENCE);
    found.map(|one| [one.bounds.low, one.bounds.high])
}
