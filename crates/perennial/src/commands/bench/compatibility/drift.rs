//! What is left after several upgrades: margin, recovery and differences of routes by the number of upgrades in between.

use std::collections::BTreeSet;

use perennial_eval::text_table::{TextTable, markdown as md};
use perennial_eval::{ConfidenceInterval, Measure};
use perennial_upgrade::RouteResult;
use perennial_upgrade::chain::{HopDrift, RouteDifference};
use serde::{Deserialize, Serialize};

use super::measured::Measured;
use super::plan::Run;

/// The confidence of the intervals that are kept; a measurement has others too.
const CONFIDENCE: f64 = 0.95;
/// Numbers of upgrades that are kept; of more, some between the first and the last are left out.
const MOST_COLUMNS: usize = 8;

/// What one test of routes through bridges found.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drift {
    /// Whether altered copies looked for their originals.
    altered: bool,
    /// How many images bridges were fitted on.
    fit_pairs: usize,
    routes: Vec<RouteDrift>,
}

/// A route.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RouteDrift {
    /// In words.
    name: String,
    /// By measure and number of upgrades.
    hops: Vec<HopDrift>,
    /// Its cross-tests less those of another route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    against: Option<RouteDifference>,
}

/// What tables show of tests: those of routes through bridges, for chains of more than two versions.
pub fn of(measured: &[Measured]) -> Vec<Drift> {
    let of_test = |measured: &Measured| {
        let routes: Vec<&RouteResult> = measured
            .results
            .iter()
            .filter(|result| measured.test.fit_set.is_some() && !result.drift.is_empty())
            .collect();
        let hops = columns(&routes);
        (hops.len() > 1).then(|| Drift {
            altered: measured.test.altered.is_some(),
            fit_pairs: measured.fit_pairs,
            routes: routes.iter().map(|route| kept(route, &hops)).collect(),
        })
    };
    measured.iter().filter_map(of_test).collect()
}

/// Some numbers of upgrades, and the usual intervals alone.
fn kept(route: &RouteResult, hops: &[usize]) -> RouteDrift {
    let usual = |intervals: &mut Vec<ConfidenceInterval>| {
        intervals.retain(|one| one.confidence == CONFIDENCE);
    };
    let mut found = RouteDrift {
        name: route.name.clone(),
        hops: route.drift.clone(),
        against: route.against.clone(),
    };
    found.hops.retain(|one| hops.contains(&one.hops));
    for one in &mut found.hops {
        usual(&mut one.intervals);
        if let Some(intervals) = one.recovery.as_mut().and_then(|all| all.intervals.as_mut()) {
            usual(intervals);
        }
    }
    if let Some(against) = &mut found.against {
        against.hops.retain(|one| hops.contains(&one.hops));
        for one in &mut against.hops {
            usual(&mut one.intervals);
        }
    }
    found
}

/// The tables of a run, one block for each test.
pub fn markdown(run: &Run, tests: &[Drift]) -> String {
    let mut text = String::new();
    for test in tests {
        let routes = &test.routes[..];
        let found = routes.iter().flat_map(|route| &route.hops);
        let hops: BTreeSet<usize> = found.map(|one| one.hops).collect();
        let hops: Vec<usize> = hops.into_iter().collect();
        let what = match test.altered {
            true => "Altered copies",
            false => "Class-like retrieval",
        };
        text.push_str(&format!(
            "\n**{what} by the number of upgrades in between**: {}, seed {}, bridges fitted on {} images\n",
            md::escape(&run.title),
            run.seed,
            test.fit_pairs
        ));
        let margin = |one: &HopDrift| signed(one.margin, &one.intervals);
        let tables = [
            (
                "Margin over the old self-test:",
                by_hops(routes, &hops, margin),
            ),
            (
                "Recovery, the share of what embedding everything again gains:",
                by_hops(routes, &hops, recovery),
            ),
            (
                "Cross-test less that of the other route:",
                differences(routes, &hops),
            ),
        ];
        for (title, table) in tables.into_iter().filter(|(_, table)| !table.is_empty()) {
            text.push_str(&format!("\n{title}\n\n{}", md::render(&table)));
        }
    }
    text
}

/// The numbers of upgrades to keep.
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

fn by_hops(routes: &[RouteDrift], hops: &[usize], cell: impl Fn(&HopDrift) -> String) -> TextTable {
    let mut table = TextTable::new().text("route").text("measure");
    for hop in hops {
        table = table.numbers(hop.to_string());
    }
    for route in routes {
        for measure in measures(route) {
            let of = |hop: usize| {
                let found = route.hops.iter();
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

fn differences(routes: &[RouteDrift], hops: &[usize]) -> TextTable {
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
fn measures(route: &RouteDrift) -> Vec<Measure> {
    let mut measures = Vec::new();
    for one in &route.hops {
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
                    "margin": 0.25, "intervals": [
                        { "confidence": 0.95, "low": 0.125, "high": 0.375 },
                        { "confidence": 0.99, "low": 0.0, "high": 0.5 },
                    ],
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
        let hops = columns(&[&found]);
        let routes = [kept(&found, &hops)];
        let table = by_hops(&routes, &hops, |one| signed(one.margin, &one.intervals));
        let text = md::render(&table);
        let row = text.lines().last().unwrap();
        assert_eq!(row.matches("+0.250 [+0.125, +0.375]").count(), 2, "{text}");
        assert!(differences(&routes, &[1]).is_empty());
        assert_eq!(recovery(&routes[0].hops[0]), "-");
    }

    #[test]
    fn long_chains_keep_some_numbers_of_upgrades_with_the_usual_intervals() {
        let found = result(30);
        let shown = columns(&[&found]);
        assert_eq!(shown.len(), MOST_COLUMNS);
        assert_eq!((shown[0], shown[MOST_COLUMNS - 1]), (1, 30));
        assert!(shown.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(columns(&[]).is_empty());
        let kept = kept(&found, &shown);
        assert!(kept.hops.iter().map(|one| one.hops).eq(shown));
        let of_all = kept.hops.iter().map(|one| &one.intervals);
        assert!(
            of_all
                .clone()
                .all(|all| all.len() == 1 && all[0].confidence == CONFIDENCE)
        );
        assert_eq!(of_all.count(), MOST_COLUMNS);
    }
}
