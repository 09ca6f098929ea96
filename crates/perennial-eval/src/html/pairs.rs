//! Every pair with its margin and interval.

use maud::{Markup, html};

use super::interval_plot::{Scale, appearance};
use super::numbers::Signed;
use super::page;
use crate::{Compatibility, PairComparison, Verdict};

/// Pairs shown before the rest folds away.
const SHOWN: usize = 30;

pub(super) fn section(report: &Compatibility) -> Markup {
    let pairs = report.weakest_pairs();
    let scale = Scale::of(pairs.iter().map(|pair| (pair.margin, Some(pair.interval))));
    let undecided = pairs
        .iter()
        .filter(|pair| pair.verdict == Verdict::Undecided)
        .count();
    let (first, rest) = pairs.split_at(pairs.len().min(SHOWN));
    let content = html! {
        p {
            @match undecided {
                0 => { "Every pair is decided: no interval includes 0." }
                1 => {
                    "One pair is undecided: its interval includes 0, so other queries of the same kind could turn the sign of its margin."
                }
                count => {
                    (count)
                    " pairs are undecided: their intervals include 0, so other queries of the same kind could turn the sign of the margin."
                }
            }
        }
        (table(first, scale, "Pairs with the smallest margins"))
        @if !rest.is_empty() {
            details {
                summary { "The other " (rest.len()) " pairs" }
                (table(rest, scale, "The other pairs"))
            }
        }
    };
    page::section("pairs", "Pairs, smallest margin first", content)
}

fn table(pairs: &[&PairComparison], scale: Scale, label: &str) -> Markup {
    let table = html! {
        table.cards {
            thead {
                tr {
                    th scope="col" { "Query version" }
                    th scope="col" { "Gallery version" }
                    th.n scope="col" { "Cross-test" }
                    th.n scope="col" { "Old self-test" }
                    th.n scope="col" { "Margin" }
                    th.n scope="col" { "95 % interval" }
                    th.plot scope="col" { (scale.axis()) }
                    th scope="col" { "Verdict" }
                }
            }
            tbody { @for pair in pairs { (row(pair, scale)) } }
        }
    };
    page::scroll(label, table)
}

/// The labels head the figures on a narrow screen, where a pair is a card instead of a row.
fn row(pair: &PairComparison, scale: Scale) -> Markup {
    let (class, sign) = appearance(pair.verdict);
    html! {
        tr class=(class) {
            th scope="row" data-label="Query version" { (pair.query_version) }
            td data-label="Gallery version" { (pair.gallery_version) }
            td.n data-label="Cross-test" { (format_args!("{:.4}", pair.cross)) }
            td.n data-label="Old self-test" { (format_args!("{:.4}", pair.self_old)) }
            td.n.strong data-label="Margin" { (Signed(pair.margin, 4)) }
            td.n data-label="95 % interval" {
                "[" (Signed(pair.interval.low, 4)) ", " (Signed(pair.interval.high, 4)) "]"
            }
            td.plot { (scale.plot(pair.margin, Some(pair.interval))) }
            td data-label="Verdict" { span.badge { b aria-hidden="true" { (sign) } " " (pair.verdict) } }
        }
    }
}
