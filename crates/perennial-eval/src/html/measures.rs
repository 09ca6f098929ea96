//! The measures of a certificate: what was, what is by each route, and what would be if everything were embedded again.

use maud::{Markup, html};
use perennial_core::Interval;

use super::interval_plot::Scale;
use super::numbers::{Plain, Signed, plain};
use super::outcome::{Outcome, Task};
use super::page;

/// One measure of one route.
#[derive(Debug, Clone, PartialEq)]
pub struct MeasureRow {
    /// Name of the measure, such as `recall@10`. Rows of one measure stand together.
    pub measure: String,
    /// The task that the measure belongs to.
    pub task: Task,
    /// The route, such as `dual, w = 0.5`.
    pub route: String,
    /// Old queries on the old gallery.
    pub old_self: f64,
    /// New queries by this route on the old gallery.
    pub cross: f64,
    /// New queries on the gallery embedded again, where that was measured.
    pub new_self: Option<f64>,
    /// Cross-test minus old self-test.
    pub margin: f64,
    /// Its interval, where one was drawn.
    pub interval: Option<Interval>,
    /// Share of the queries that were wrong before and are right by this route; none for measures that are not right or wrong.
    pub positive_flips: Option<f64>,
    /// Share of the queries that were right before and are wrong by this route.
    pub negative_flips: Option<f64>,
    /// (cross - old self) / (new self - old self); none where the new self-test is unknown or no better.
    pub upgrade_recovery: Option<f64>,
    /// What the interval decides.
    pub outcome: Outcome,
}

pub(super) fn section(rows: &[MeasureRow], percent: &str) -> Markup {
    if rows.is_empty() {
        return html! {};
    }
    let scale = Scale::of(rows.iter().map(|row| (row.margin, row.interval)));
    let heading = format!("Margin, {percent} interval");
    let table = html! {
        table.cards.measures {
            thead {
                tr {
                    th scope="col" { "Measure" }
                    th scope="col" { "Route" }
                    th.n scope="col" { "Old self-test" }
                    th.n scope="col" { "Cross-test" }
                    th.n scope="col" { "New self-test" }
                    th.n scope="col" { (heading) }
                    th.plot scope="col" { (scale.axis()) }
                    th.n scope="col" { "Flips gained, lost" }
                    th.n scope="col" { "Upgrade recovery" }
                    th scope="col" { "Verdict" }
                }
            }
            tbody {
                @for (index, row) in rows.iter().enumerate() {
                    @let again = index > 0 && rows[index - 1].measure == row.measure;
                    (line(row, again, &heading, scale))
                }
            }
        }
    };
    page::section("measures", "Measures", page::scroll("Measures", table))
}

/// `again` is a further route of the measure above.
fn line(row: &MeasureRow, again: bool, heading: &str, scale: Scale) -> Markup {
    html! {
        tr.(row.outcome.class()).again[again] {
            th scope="row" data-label="Measure" { (row.measure) " " small { (row.task.name()) } }
            td data-label="Route" { (row.route) }
            td.n data-label="Old self-test" { (Plain(row.old_self, 4)) }
            td.n data-label="Cross-test" { (Plain(row.cross, 4)) }
            td.n data-label="New self-test" { (plain(row.new_self)) }
            td.n data-label=(heading) {
                b { (Signed(row.margin, 4)) }
                small.below {
                    @match row.interval {
                        Some(bounds) => { "[" (Signed(bounds.low, 4)) ", " (Signed(bounds.high, 4)) "]" }
                        None => "no interval"
                    }
                }
            }
            td.plot { (scale.plot(row.margin, row.interval)) }
            td.n data-label="Flips gained, lost" {
                @match (row.positive_flips, row.negative_flips) {
                    (None, None) => "n/a",
                    (gained, lost) => { (plain(gained)) ", " (plain(lost)) }
                }
            }
            td.n data-label="Upgrade recovery" { (row.upgrade_recovery.map_or("n/a".to_owned(), |value| Plain(value, 3).to_string())) }
            td data-label="Verdict" { (row.outcome.badge()) }
        }
    }
}
