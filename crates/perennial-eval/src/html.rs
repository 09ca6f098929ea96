//! Pages: the compatibility report of a chain of versions ([`render`]) and the certificate or advice for one upgrade
//! ([`certificate_page`]). Each is one self-contained file: no script, no network, light and dark, printable.

pub mod certificate_page;
mod curve;
mod embedding_map;
mod flips;
mod heat_map;
mod histogram;
mod interval_plot;
mod measures;
mod numbers;
mod outcome;
mod page;
mod pairs;
mod sources;
mod ways;

use maud::{Markup, html};
use perennial_core::FileKind;

use crate::{Compatibility, Provenance, VerdictCounts};
use numbers::{Grouped, plain, signed};

/// What the pages look like from outside.
pub const FILE_KIND: FileKind = FileKind {
    name: "a compatibility report",
    recognise: |head| {
        let text = String::from_utf8_lossy(head);
        text.contains("content=\"perennial\"") || text.contains("<title>Compatibility report")
    },
};

/// The page for a report, with what is known about its run. Every name in it is escaped.
pub fn render(report: &Compatibility, provenance: &Provenance) -> String {
    let counts = VerdictCounts::of(report.pairs());
    let content = html! {
        (header(report, counts, provenance))
        @if let Some(sentence) = report.missing_sentence() { p { (sentence) } }
        (metrics(report, counts))
        @if report.versions().len() > 1 {
            (heat_map::section(report, &provenance.replacements))
            (curve::section(report))
            (pairs::section(report))
        }
        (retrieval(report))
        (method(report))
    };
    page::page(
        &format!("Compatibility report: {}", counts.sentence()),
        content,
    )
}

fn header(report: &Compatibility, counts: VerdictCounts, provenance: &Provenance) -> Markup {
    let versions = report.versions();
    let range = match versions {
        [only] => only.clone(),
        [first, .., last] => format!("{first} to {last}"),
        [] => String::new(),
    };
    let lead = html! {
        p.lead {
            "Each newer model version answered the queries from galleries that older versions had embedded. A pair of versions is "
            b { "compatible" } " when the newer one answers more queries right there than the older one did, and "
            b { "incompatible" } " when it answers fewer. It is " b { "undecided" }
            " when the 95\u{a0}% interval of the difference includes 0."
        }
    };
    let counted = |count: usize, name: &str| html! { (Grouped(count)) " " span { (name) } };
    let mut facts: Vec<(&str, Markup)> = provenance
        .facts()
        .into_iter()
        .map(|(name, value)| (name, html! { (value) }))
        .collect();
    facts.extend([
        ("Versions", counted(versions.len(), &range)),
        (
            "Queries",
            counted(report.queries().count, &report.queries().name),
        ),
        (
            "Gallery",
            counted(report.gallery().count, &report.gallery().name),
        ),
    ]);
    page::header(
        "Perennial compatibility report",
        &counts.sentence(),
        lead,
        &facts,
    )
}

fn metrics(report: &Compatibility, counts: VerdictCounts) -> Markup {
    let metrics = report.metrics();
    let rule = format!(
        "share of all pairs with {}, undecided ones included",
        report.tie_rule().formula()
    );
    let rows = [
        (
            "AC",
            "Average compatibility",
            plain(metrics.average_compatibility),
            rule.as_str(),
        ),
        (
            "AA",
            "Average accuracy",
            plain(Some(metrics.average_accuracy)),
            "mean over self-tests and cross-tests",
        ),
        (
            "ACA",
            "Average compatible accuracy",
            plain(metrics.average_compatible_accuracy),
            "sum of the cross-tests that AC counts, over the number of pairs",
        ),
        (
            "BC",
            "Backward compatibility",
            signed(metrics.backward_compatibility),
            "mean difference between the newest version on every old gallery and the old self-tests",
        ),
        (
            "FC",
            "Forward compatibility",
            signed(metrics.forward_compatibility),
            "mean difference between each version on its predecessor's gallery and its own self-test",
        ),
        (
            "",
            "Compatible pairs",
            counts.compatible.to_string(),
            "no part of the 95 % interval of the margin lies below 0",
        ),
        (
            "",
            "Undecided pairs",
            counts.undecided.to_string(),
            "the interval includes 0",
        ),
        (
            "",
            "Incompatible pairs",
            counts.incompatible.to_string(),
            "the interval lies below 0",
        ),
    ];
    let table = html! {
        table.metrics {
            thead {
                tr { th scope="col" { "Metric" } th.n scope="col" { "Value" } th scope="col" { "Meaning" } }
            }
            tbody {
                @for (short, name, value, meaning) in rows {
                    tr {
                        th scope="row" { (name) @if !short.is_empty() { " " abbr { (short) } } }
                        td.n.strong { (value) }
                        td { (meaning) }
                    }
                }
            }
        }
    };
    let content = html! {
        (page::scroll("Metrics", table))
        p.note { "All figures are fractions; signed figures are differences of fractions." }
    };
    page::section("metrics", "Metrics", content)
}

fn retrieval(report: &Compatibility) -> Markup {
    let content = html! {
        (scores(report, "Self-tests: each version on its own gallery", |t, k| t == k))
        @if report.versions().len() > 1 {
            details {
                summary { "Cross-tests: each version on the galleries of older versions" }
                (scores(report, "Cross-tests", |t, k| t != k))
            }
        }
    };
    page::section("retrieval", "Retrieval", content)
}

fn scores(report: &Compatibility, caption: &str, shown: impl Fn(usize, usize) -> bool) -> Markup {
    let versions = report.versions();
    let table = html! {
        table.scores {
            caption { (caption) }
            thead {
                tr {
                    th scope="col" { "Query version" }
                    th scope="col" { "Gallery version" }
                    th.n scope="col" { "Class mean top-1" }
                    @for rank in [1, 5, 10] { th.n scope="col" { "CMC" wbr; "@" (rank) } }
                    th.n scope="col" { "mAP" }
                }
            }
            tbody {
                @for (t, row) in report.retrieval().iter().enumerate() {
                    @for (k, scores) in row.iter().enumerate().filter(|&(k, _)| shown(t, k)) {
                        tr {
                            th scope="row" { (versions[t]) }
                            td { (versions[k]) }
                            @for score in [scores.ncm_top1, scores.cmc1, scores.cmc5, scores.cmc10, scores.map] {
                                td.n { (format_args!("{score:.4}")) }
                            }
                        }
                    }
                }
            }
        }
    };
    page::scroll(caption, table)
}

fn method(report: &Compatibility) -> Markup {
    let bootstrap = report.bootstrap();
    html! {
        footer {
            h2 { "How to read this" }
            ul {
                li {
                    b { "Accuracy" } " is nearest-class-mean top-1: a query is right when the mean embedding of its own class in the \
                    gallery is more similar to it (cosine) than that of any other class."
                }
                li {
                    "A " b { "self-test" } " embeds queries and gallery with one version, a " b { "cross-test" }
                    " embeds the queries with a newer version than the gallery."
                }
                li {
                    "The " b { "margin" } " of a pair is its cross-test minus the old self-test. Its 95 % interval is a paired-bootstrap \
                    percentile interval (" (Grouped(bootstrap.resamples)) " resamples of the queries, seed " (bootstrap.seed)
                    "). Intervals are computed pair by pair, without a correction for the number of pairs."
                }
                li {
                    "The intervals describe the choice of queries. They do not describe how much a training with another seed would \
                    differ."
                }
                @for (name, set) in [("Queries", report.queries()), ("Gallery", report.gallery())] {
                    li { (name) ": " (set.name) ", SHA-256 " code { (set.sha256) } }
                }
            }
        }
    }
}
