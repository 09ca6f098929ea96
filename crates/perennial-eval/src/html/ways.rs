//! The ways to upgrade, ranked, with their qualities and costs, and quality against the share that is embedded again.

use maud::{Markup, html};
use perennial_core::Interval;

use super::curve::{Chart, Line, value_range};
use super::numbers::{Duration, Plain, Signed, plain};
use super::page;

/// The ways to upgrade.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Advice {
    /// The recommendation in one sentence; the page's headline.
    pub sentence: String,
    /// The ways, best first.
    pub ways: Vec<Way>,
    /// Position of the recommended way, counted from 0.
    pub recommended: Option<usize>,
    /// The money's unit, such as `EUR`.
    pub currency: String,
    /// Quality against the share of the items that is embedded again.
    pub shares: Option<ShareCurve>,
}

/// One way to upgrade.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Way {
    /// The way, such as `dual queries, w = 0.5`.
    pub name: String,
    /// What it needs or rests on, such as `the old encoder keeps running`.
    pub note: Option<String>,
    /// Its quality in each measure.
    pub quality: Vec<WayQuality>,
    /// Share of the queries that doing nothing answers and this way does not.
    pub negative_flips: Option<f64>,
    /// What it costs once.
    pub once: Cost,
    /// What a million queries cost more than today.
    pub per_million_queries: Cost,
}

/// The quality of a way in one measure.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WayQuality {
    /// Name of the measure, such as `mrr@10`.
    pub measure: String,
    /// The figure.
    pub value: f64,
    /// What it is above doing nothing, where the two were compared.
    pub margin: Option<f64>,
    /// Interval of the margin.
    pub interval: Option<Interval>,
}

/// Time and money, as far as known.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cost {
    /// Seconds of computing.
    pub seconds: Option<f64>,
    /// Money in the advice's currency.
    pub money: Option<f64>,
}

/// Quality against the share of the items that is embedded again.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ShareCurve {
    /// Name of the measure.
    pub measure: String,
    /// One line for each order of re-embedding.
    pub lines: Vec<ShareLine>,
    /// Qualities that do not depend on the share, with their names, such as that of dual queries.
    pub levels: Vec<(String, f64)>,
}

/// One line of a [`ShareCurve`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ShareLine {
    /// The order, such as `most asked first`.
    pub name: String,
    /// Share and quality, by ascending share.
    pub points: Vec<(f64, f64)>,
}

pub(super) fn section(advice: &Advice, percent: &str) -> Markup {
    html! {
        @if !advice.ways.is_empty() { (table(advice, percent)) }
        @if let Some(curve) = &advice.shares { (shares(curve)) }
    }
}

fn table(advice: &Advice, percent: &str) -> Markup {
    let mut names: Vec<&str> = Vec::new();
    for quality in advice.ways.iter().flat_map(|way| &way.quality) {
        if !names.contains(&quality.measure.as_str()) {
            names.push(&quality.measure);
        }
    }
    let table = html! {
        table.cards.ways {
            thead {
                tr {
                    th.n scope="col" { "Rank" }
                    th scope="col" { "Way" }
                    @for name in &names { th.n scope="col" { (name) } }
                    th.n scope="col" { "Flips lost" }
                    th.n scope="col" { "Cost once" }
                    th.n scope="col" { "Per million queries" }
                }
            }
            tbody {
                @for (index, way) in advice.ways.iter().enumerate() {
                    (row(way, index, advice, &names))
                }
            }
        }
    };
    let content = html! {
        p {
            "Best first. Below each figure: what it is above doing nothing, and the " (percent) " interval of that difference."
        }
        (page::scroll("Ways to upgrade", table))
    };
    page::section("ways", "Ways to upgrade", content)
}

fn row(way: &Way, index: usize, advice: &Advice, names: &[&str]) -> Markup {
    let recommended = advice.recommended == Some(index);
    html! {
        tr.recommended[recommended] {
            td.n data-label="Rank" { (index + 1) }
            th scope="row" data-label="Way" data-rank=(index + 1) {
                b { (way.name) }
                @if recommended { " " span.badge { b aria-hidden="true" { "\u{2713}" } " recommended" } }
                @if let Some(note) = &way.note { small.below { (note) } }
            }
            @for name in names {
                td.n data-label=(name) { (figure(way.quality.iter().find(|quality| quality.measure == *name))) }
            }
            td.n data-label="Flips lost" { (plain(way.negative_flips)) }
            td.n data-label="Cost once" { (cost(way.once, &advice.currency)) }
            td.n data-label="Per million queries" { (cost(way.per_million_queries, &advice.currency)) }
        }
    }
}

fn figure(quality: Option<&WayQuality>) -> Markup {
    let Some(quality) = quality else {
        return html! { "n/a" };
    };
    let side = match quality.interval {
        Some(bounds) if bounds.low > 0.0 => "up",
        Some(bounds) if bounds.high < 0.0 => "down",
        _ => "level",
    };
    html! {
        b { (Plain(quality.value, 4)) }
        @if let Some(margin) = quality.margin { small class={ "below " (side) } { (Signed(margin, 4)) } }
        @if let Some(bounds) = quality.interval {
            small.below { "[" (Signed(bounds.low, 4)) ", " (Signed(bounds.high, 4)) "]" }
        }
    }
}

fn cost(cost: Cost, currency: &str) -> Markup {
    html! {
        @match cost.seconds { Some(seconds) => (Duration(seconds)), None => "n/a" }
        @if let Some(money) = cost.money { small.below { (Plain(money, 2)) " " (currency) } }
    }
}

fn shares(curve: &ShareCurve) -> Markup {
    let ordered = curve.lines.iter().map(|line| Line {
        name: line.name.clone(),
        points: line
            .points
            .iter()
            .map(|&(share, quality)| {
                let told = format!(
                    "{}: {} of the items, {}",
                    line.name,
                    Plain(share, 2),
                    Plain(quality, 4)
                );
                (share, quality, told)
            })
            .collect(),
        dotted: true,
    });
    let levels = curve.levels.iter().map(|(name, quality)| Line {
        name: name.clone(),
        points: [0.0, 1.0]
            .map(|share| (share, *quality, String::new()))
            .into(),
        dotted: false,
    });
    let lines: Vec<Line> = ordered.chain(levels).collect();
    if lines.iter().all(|line| line.points.is_empty()) {
        return html! {};
    }
    let chart = Chart {
        described: format!(
            "{} against the share of the items that is embedded again.",
            curve.measure
        ),
        range: (0.0, 1.0),
        headings: [0.0, 0.25, 0.5, 0.75, 1.0]
            .map(|share| (share, share.to_string()))
            .into(),
        values: value_range(
            lines
                .iter()
                .flat_map(|line| &line.points)
                .map(|point| point.1),
        ),
        lines,
    };
    let content = html! {
        p { (curve.measure) " against the share of the items that is embedded again." }
        (chart.figure())
        (figures(curve))
    };
    page::section("shares", "Embedding a share again", content)
}

/// The points of the lines as numbers.
fn figures(curve: &ShareCurve) -> Markup {
    let table = html! {
        table.scores {
            thead { tr { th scope="col" { "Order" } th.n scope="col" { "Share" } th.n scope="col" { (curve.measure) } } }
            tbody {
                @for line in &curve.lines {
                    @for (share, quality) in &line.points {
                        tr { th scope="row" { (line.name) } td.n { (Plain(*share, 2)) } td.n { (Plain(*quality, 4)) } }
                    }
                }
                @for (name, quality) in &curve.levels {
                    tr { th scope="row" { (name) } td.n { "any" } td.n { (Plain(*quality, 4)) } }
                }
            }
        }
    };
    html! { details { summary { "The figures" } (page::scroll("Quality by share", table)) } }
}
