//! What is left after several upgrades: margin, recovery and differences of routes by the number of upgrades in between.

use perennial_eval::text_table::{TextTable, markdown as md};
use perennial_eval::{ConfidenceInterval, Measure};
use perennial_upgrade::RouteResult;
use perennial_upgrade::chain::HopDrift;

use super::measured::Measured;
use super::plan::Run;
use super::record::Record;

/// The confidence of the intervals that are shown; the record has others too.
const CONFIDENCE: f64 = 0.95;
/// Numbers of upgrades that are shown; of more, some between the first and the last are left out.
const MOST_COLUMNS: usize = 8;

/// The tables of a run, one block for each test of routes through bridges; empty without such a test or for two versions.
pub fn markdown(run: &Run, record: &Record) -> String {
    let mut text = String::new();
    for measured in &record.routes {
        let routes: Vec<&RouteResult> = measured
            .results
            .iter()
            .filter(|result| measured.test.fit_set.is_some() && !result.drift.is_empty())
            .collect();
        let hops = columns(&routes);
        if hops.len() < 2 {
            continue;
        }
        text.push_str(&format!(
            "\n**{} by the number of upgrades in between**: {}, seed {}, bridges fitted on {} images\n",
            what(measured),
            md::escape(&run.title),
            run.seed,
            measured.fit_pairs
        ));
        let margin = |one: &HopDrift| signed(one.margin, &one.intervals);
        let tables = [
            (
                "Margin over the old self-test:",
                by_hops(&routes, &hops, margin),
            ),
            (
                "Recovery, the share of what embedding everything again gains:",
                by_hops(&routes, &hops, recovery),
            ),
            (
                "Cross-test less that of the other route:",
                differences(&routes, &hops),
            ),
        ];
        for (title, table) in tables.into_iter().filter(|(_, table)| !table.is_empty()) {
            text.push_str(&format!("\n{title}\n\n{}", md::render(&table)));
        }
    }
    text
}

fn what(measured: &Measured) -> &'static str {
    match measured.test.altered {
        Some(_) => "Altered copies",
        None => "Class-like retrieval",
    }
}

/// The numbers of upgrades to show.
fn columns(routes: &[&RouteResult]) -> Vec<usize> {
    let most = routes
        .iter()
        .flat_map(|route| &route.drift)
        .map(|one| one.hops)
        .max()
        .unwrap_or(0);
    if most <= MOST_COLUMNS {
        return (1..=most).collect();
    }
    // Evenly, the first and the last included.
    let gaps = MOST_COLUMNS - 1;
    (0..MOST_COLUMNS)
        .map(|column| 1 + (column * (most - 1) + gaps / 2) / gaps)
        .collect()
}

fn by_hops(
    routes: &[&RouteResult],
    hops: &[usize],
    cell: impl Fn(&HopDrift) -> String,
) -> TextTable {
    let mut table = TextTable::new().text("route").text("measure");
    for hop in hops {
        table = table.numbers(hop.to_string());
    }
    for route in routes {
        for measure in measures(route) {
            let of = |hop: usize| {
                let found = route.drift.iter();
                found
                    .filter(|one| one.measure == measure)
                    .find(|one| one.hops == hop)
            };
            let mut cells = vec![route.name.clone(), measure.to_string()];
            cells.extend(
                hops.iter()
                    .map(|&hop| of(hop).map_or("-".to_owned(), &cell)),
            );
            table.push(cells);
        }
    }
    table
}

fn differences(routes: &[&RouteResult], hops: &[usize]) -> TextTable {
    let mut table = TextTable::new().text("route").text("less").text("measure");
    for hop in hops {
        table = table.numbers(hop.to_string());
    }
    for route in routes {
        let Some(against) = &route.against else {
            continue;
        };
        for measure in measures(route) {
            let of = |hop: usize| {
                let found = against.hops.iter();
                found
                    .filter(|one| one.measure == measure)
                    .find(|one| one.hops == hop)
            };
            let mut cells = vec![
                route.name.clone(),
                against.other.clone(),
                measure.to_string(),
            ];
            cells.extend(hops.iter().map(|&hop| {
                of(hop).map_or("-".to_owned(), |one| signed(one.difference, &one.intervals))
            }));
            table.push(cells);
        }
    }
    table
}

/// In the order in which they were measured.
fn measures(route: &RouteResult) -> Vec<Measure> {
    let mut measures = Vec::new();
    for one in &route.drift {
        if !measures.contains(&one.measure) {
            measures.push(one.measure);
        }
    }
    measures
}

fn recovery(one: &HopDrift) -> String {
    let Some(found) = &one.recovery else {
        return "-".to_owned();
    };
    match usual(found.intervals.as_deref().unwrap_or_default()) {
        Some([low, high]) => format!("{:.2} [{low:.2}, {high:.2}]", found.value),
        None => format!("{:.2}", found.value),
    }
}

fn signed(value: f64, intervals: &[ConfidenceInterval]) -> String {
    match usual(intervals) {
        Some([low, high]) => format!("{value:+.3} [{low:+.3}, {high:+.3}]"),
        None => format!("{value:+.3}"),
    }
}

fn usual(intervals: &[ConfidenceInterval]) -> Option<[f64; 2]> {
    let found = intervals.iter().find(|one| one.confidence == CONFIDENCE);
    found.map(|one| [one.bounds.low, one.bounds.high])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(most: usize) -> RouteResult {
        let drift: Vec<serde_json::Value> = (1..=most)
            .map(|hops| {
                serde_json::json!({
                    "measure": "recall@1", "hops": hops, "pairs": 1, "old_self_test": 0.5, "cross_test": 0.75, "new_self_test": 1.0,
                    "margin": 0.25, "intervals": [{ "confidence": 0.95, "low": 0.125, "high": 0.375 }],
                })
            })
            .collect();
        serde_json::from_value(serde_json::json!({
            "route": { "kind": "centred" }, "name": "centred", "measures": [], "mixed": [], "drift": drift,
        }))
        .unwrap()
    }

    #[test]
    fn margins_stand_in_columns_of_upgrades() {
        let found = result(2);
        let routes = [&found];
        let table = by_hops(&routes, &columns(&routes), |one| {
            signed(one.margin, &one.intervals)
        });
        let text = md::render(&table);
        let row = text.lines().last().unwrap();
        assert_eq!(row.matches("+0.250 [+0.125, +0.375]").count(), 2, "{text}");
        assert!(differences(&routes, &[1]).is_empty());
        assert_eq!(recovery(&found.drift[0]), "-");
    }

    #[test]
    fn long_chains_show_some_numbers_of_upgrades() {
        let found = result(30);
        let shown = columns(&[&found]);
        assert_eq!(shown.len(), MOST_COLUMNS);
        assert_eq!((shown[0], shown[MOST_COLUMNS - 1]), (1, 30));
        assert!(shown.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(columns(&[]).is_empty());
    }
}
