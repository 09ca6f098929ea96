//! Measures of routes, under the names of the result tables.

use std::collections::BTreeMap;

use perennial_eval::{Averages, Measure, TieRule, WorstPair};
use perennial_upgrade::chain::{ChainMeasure, Mixed};
use perennial_upgrade::{ChainRoute, RouteResult};
use serde::{Deserialize, Serialize};

use super::measured::Measured;

/// A route of a run, as a row of its tables.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteRow {
    /// The route and what its bridges were fitted on, in words.
    pub name: String,
    /// Its measures.
    pub values: BTreeMap<String, f64>,
    /// The pairs with the smallest margins.
    pub worst_pairs: BTreeMap<String, WorstPair>,
}

/// The prefix of a measure's names; none for measures that tables do not show.
fn prefix(measure: Measure, altered: bool) -> Option<&'static str> {
    match (measure, altered) {
        (Measure::NearestClassMean, false) => Some(""),
        (Measure::RecallAt(1), false) => Some("recall@1 "),
        (Measure::MeanAveragePrecision, false) => Some("mAP "),
        (Measure::RecallAt(1), true) => Some("altered recall@1 "),
        (Measure::MeanReciprocalRank(Some(10)), true) => Some("altered mrr@10 "),
        _ => None,
    }
}

/// Adds what only the test of route own measures: pairs decided by single items, half-old galleries, altered copies. Values from the run's
/// report stay.
pub fn own_values(
    measured: &[Measured],
    values: &mut BTreeMap<String, f64>,
    worst_pairs: &mut BTreeMap<String, WorstPair>,
) {
    for one in measured {
        let own = one
            .results
            .iter()
            .filter(|result| result.route == ChainRoute::Own);
        for result in own {
            let (more, worst) = of_result(result, one.test.altered.is_some());
            for (name, value) in more {
                values.entry(name).or_insert(value);
            }
            for (prefix, pair) in worst {
                worst_pairs.entry(prefix).or_insert(pair);
            }
        }
    }
}

/// The other routes. Class-like and item-like measures of a route are one row.
pub fn rows(measured: &[Measured]) -> Vec<RouteRow> {
    let mut rows: Vec<RouteRow> = Vec::new();
    for one in measured {
        let others = one
            .results
            .iter()
            .filter(|result| result.route != ChainRoute::Own);
        for result in others {
            let name = format!("{}, {} images", result.name, one.fit_pairs);
            let (values, worst_pairs) = of_result(result, one.test.altered.is_some());
            match rows.iter_mut().find(|row| row.name == name) {
                Some(row) => {
                    row.values.extend(values);
                    row.worst_pairs.extend(worst_pairs);
                }
                None => rows.push(RouteRow {
                    name,
                    values,
                    worst_pairs,
                }),
            }
        }
    }
    rows
}

fn of_result(
    result: &RouteResult,
    altered: bool,
) -> (BTreeMap<String, f64>, BTreeMap<String, WorstPair>) {
    let mut values = BTreeMap::new();
    let mut worst_pairs = BTreeMap::new();
    for measure in &result.measures {
        let Some(prefix) = prefix(measure.measure, altered) else {
            continue;
        };
        add_measure(&mut values, prefix, measure);
        if let Some(pair) = WorstPair::of(&measure.matrix) {
            worst_pairs.insert(prefix.to_owned(), pair);
        }
    }
    // The older version of the first one is the oldest.
    if let (Some(oldest), false) = (result.mixed.first(), altered) {
        add_half_old(&mut values, oldest);
    }
    (values, worst_pairs)
}

fn add_measure(values: &mut BTreeMap<String, f64>, prefix: &str, measure: &ChainMeasure) {
    let pairs = measure.compatible + measure.undecided + measure.incompatible;
    let last = measure.matrix.last().and_then(|row| row.last());
    let mut add = |name: &str, value: f64| {
        values.insert(format!("{prefix}{name}"), value);
    };
    add("AA", measure.average_accuracy);
    if let Some(&last) = last {
        add("last self-test", last);
    }
    if pairs == 0 {
        return;
    }
    let share = |count: usize| count as f64 / pairs as f64;
    add("AC", measure.average_compatibility);
    let averages = Averages::of(&measure.matrix, TieRule::Strict);
    if let Some(value) = averages.compatible_accuracy() {
        add("ACA", value);
    }
    add("compatible pairs", share(measure.compatible));
    add("undecided pairs", share(measure.undecided));
    add("incompatible pairs", share(measure.incompatible));
    add("mean cross-test", measure.mean_cross_test);
    if let Some(margin) = measure.worst_margin {
        add("worst margin", margin);
    }
}

fn add_half_old(values: &mut BTreeMap<String, f64>, oldest: &Mixed) {
    for (prefix, found) in [
        ("all old ", &oldest.all_old),
        ("half old ", &oldest.all),
        ("all new ", &oldest.all_new),
    ] {
        for (measure, value) in found {
            let name = match measure {
                Measure::RecallAt(1) => "recall@1",
                Measure::MeanAveragePrecision => "mAP",
                _ => continue,
            };
            values.insert(format!("{prefix}{name}"), *value);
        }
    }
    values.insert("half old among first".to_owned(), oldest.old_among_first);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measure(measure: Measure) -> ChainMeasure {
        ChainMeasure {
            measure,
            matrix: vec![vec![0.5], vec![0.25, 0.75], vec![0.625, 0.5, 1.0]],
            average_compatibility: 1.0 / 3.0,
            average_accuracy: 3.625 / 6.0,
            mean_cross_test: 1.375 / 3.0,
            worst_margin: Some(-0.25),
            compatible: 1,
            undecided: 0,
            incompatible: 2,
        }
    }

    fn measured(route: ChainRoute, altered: Option<usize>) -> Measured {
        let measures = match altered {
            None => vec![
                measure(Measure::NearestClassMean),
                measure(Measure::RecallAt(1)),
            ],
            Some(_) => vec![measure(Measure::RecallAt(1))],
        };
        let mixed = Mixed {
            old: "v0001".to_owned(),
            all: vec![(Measure::RecallAt(1), 0.5)],
            all_old: vec![(Measure::RecallAt(1), 0.25)],
            all_new: vec![(Measure::RecallAt(1), 0.75)],
            old_among_first: 0.125,
        };
        Measured {
            test: serde_json::from_value(serde_json::json!({
                "routes": [], "kind": "orthogonal", "weight": 0.5, "altered": altered,
            }))
            .unwrap(),
            fit_pairs: 20,
            results: vec![RouteResult {
                route,
                name: route.to_string(),
                measures,
                mixed: vec![mixed],
                drift: Vec::new(),
                against: None,
            }],
        }
    }

    #[test]
    fn the_report_decides_and_route_own_adds() {
        let mut values = BTreeMap::from([("AC".to_owned(), 0.0)]);
        let mut worst = BTreeMap::new();
        let own = [
            measured(ChainRoute::Own, None),
            measured(ChainRoute::Own, Some(4)),
        ];
        own_values(&own, &mut values, &mut worst);
        assert_eq!(values["AC"], 0.0);
        assert_eq!(values["recall@1 incompatible pairs"], 2.0 / 3.0);
        assert_eq!(values["recall@1 ACA"], 0.625 / 3.0);
        assert_eq!(values["altered recall@1 last self-test"], 1.0);
        assert_eq!(values["half old recall@1"], 0.5);
        assert_eq!(values["half old among first"], 0.125);
        let pair = worst["altered recall@1 "];
        assert_eq!((pair.query, pair.gallery, pair.margin), (2, 1, -0.25));
        assert!(rows(&own).is_empty());
    }

    #[test]
    fn a_route_has_one_row_for_classes_and_items() {
        let found = rows(&[
            measured(ChainRoute::Centred, None),
            measured(ChainRoute::Centred, Some(4)),
        ]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].name, "centred, 20 images");
        assert_eq!(found[0].values["AC"], 1.0 / 3.0);
        assert!(found[0].values.contains_key("altered recall@1 AC"));
        assert_eq!(found[0].worst_pairs.len(), 3);
    }
}
