//! Searches of an index by itself, compared: whether its answers after a change are no worse than those before it.
//!
//! A certificate ranks a whole gallery in memory. An index that others own answers with the first hits only, by its own approximate search, so its
//! measures are those that first hits tell: recall@k, mrr@10, and the mean average precision of the first hits. There are no class means.

use perennial_bridge::Index;
use perennial_eval::{CannotTell, Outcomes, Relevance, Requirements, cannot_tell};
use serde::Serialize;

use crate::evaluation_data::Task;
use crate::finding::Finding;
use crate::measured::{Bounds, Demands, MeasureError, Measured, judge};

/// What a search answered to one query.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ranked {
    /// Whether each hit is right, best first.
    pub right: Vec<bool>,
    /// How many right items the index holds.
    pub relevant: u64,
}

/// Two searches of an index by the same queries, compared.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RankedComparison {
    /// What follows.
    pub finding: Finding,
    /// Why it is not compatible.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// Every measure of the search after the change, against the one before it.
    pub measures: Vec<Measured>,
    /// The same for each group of queries.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<RankedGroup>,
}

/// The measures of some of the queries.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RankedGroup {
    /// What the queries have in common.
    pub name: String,
    /// How many there are.
    pub queries: u64,
    /// Their measures. Groups decide nothing: of many groups some are worse by chance.
    pub measures: Vec<Measured>,
}

/// Compares the answers after a change with those before it, of the same queries in the same order, `depth` hits each.
///
/// `groups`, where there are any, holds a name for each query; `classes` is the number of classes in the index.
///
/// Average precision: the sum of the precisions at the ranks of right hits among the first `depth`, divided by the number of right items or by
/// `depth`, whichever is less.
///
/// # Errors
/// Answers to different numbers of queries.
pub fn compare_ranked(
    task: Task,
    [before, after]: [&[Ranked]; 2],
    depth: usize,
    classes: Option<usize>,
    groups: Option<&[String]>,
    demands: &Demands,
) -> Result<RankedComparison, MeasureError> {
    let outcomes = |ranked: &[Ranked]| outcomes(ranked, depth);
    let (old, new) = (outcomes(before), outcomes(after));
    let bounds = Bounds::of_outcomes(task, old.clone());
    let measures = bounds.compare(&new, Index::Raw, demands)?;
    let (mut finding, mut reasons) = judge(&measures, demands);
    let lacking = lacking(before, classes)?;
    if !lacking.is_empty() {
        finding = Finding::CannotTell;
        reasons = lacking.iter().map(ToString::to_string).collect();
    }
    let mut names: Vec<&String> = groups.unwrap_or_default().iter().collect();
    names.sort_unstable();
    names.dedup();
    let mut compared = Vec::with_capacity(names.len());
    for name in names {
        let of_group = groups.unwrap_or_default().iter().enumerate();
        let queries: Vec<usize> = of_group
            .filter(|(_, group)| *group == name)
            .map(|(query, _)| query)
            .collect();
        let bounds = Bounds::of_outcomes(task, old.select(&queries));
        compared.push(RankedGroup {
            name: name.clone(),
            queries: queries.len() as u64,
            measures: bounds.compare(&new.select(&queries), Index::Raw, demands)?,
        });
    }
    Ok(RankedComparison {
        finding,
        reasons,
        measures,
        groups: compared,
    })
}

/// What the queries lack to tell anything.
fn lacking(ranked: &[Ranked], classes: Option<usize>) -> Result<Vec<CannotTell>, MeasureError> {
    let requirements = Requirements::default();
    // A gallery of one item, which is right for the queries that have something to find.
    let found = |query: &Ranked| match query.relevant {
        0 => Vec::new(),
        _ => vec![0],
    };
    let relevant: Vec<Vec<u32>> = ranked.iter().map(found).collect();
    let relevance = Relevance::Items(&relevant);
    let mut lacking = cannot_tell(&relevance, 1, None, &requirements)
        .map_err(perennial_eval::OutcomesError::from)?;
    if let Some(found) = classes.filter(|&classes| classes < requirements.classes) {
        lacking.push(CannotTell::TooFewClasses {
            found,
            needed: requirements.classes,
        });
    }
    Ok(lacking)
}

/// The outcomes that first hits tell.
fn outcomes(ranked: &[Ranked], depth: usize) -> Outcomes {
    let first = |query: &Ranked| {
        let place = query.right.iter().take(depth).position(|&right| right);
        place.map_or(0, |place| place as u32 + 1)
    };
    let precision = |query: &Ranked| {
        let (mut sum, mut found) = (0.0, 0u64);
        for (rank, &right) in (1u32..).zip(query.right.iter().take(depth)) {
            if right {
                found += 1;
                sum += found as f64 / f64::from(rank);
            }
        }
        // A count that is older than the hits may be smaller than what was found.
        let most = query.relevant.max(found).min(depth as u64).max(1);
        (sum / most as f64) as f32
    };
    Outcomes {
        nearest_class_correct: None,
        first_match: ranked.iter().map(first).collect(),
        average_precision: ranked.iter().map(precision).collect(),
        queries_without_relevant: ranked.iter().filter(|query| query.relevant == 0).count(),
    }
}

#[cfg(test)]
mod tests {
    use perennial_eval::Measure;

    use super::*;

    fn ranked(right: &[u8], relevant: u64) -> Ranked {
        Ranked {
            right: right.iter().map(|&one| one == 1).collect(),
            relevant,
        }
    }

    fn mean(compared: &[Measured], measure: Measure) -> [f64; 2] {
        let one = compared
            .iter()
            .find(|one| one.comparison.measure == measure);
        let one = &one.unwrap().comparison;
        [one.old, one.new]
    }

    #[test]
    fn first_hits_are_scored_as_the_definitions_say() {
        let found = outcomes(
            &[
                ranked(&[0, 1, 1], 2),
                ranked(&[1, 0, 0], 9),
                ranked(&[0, 0, 0], 1),
                ranked(&[0, 0, 0, 1], 1),
                ranked(&[], 0),
            ],
            3,
        );
        assert_eq!(found.first_match, [2, 1, 0, 0, 0]);
        let two = (1.0 / 2.0 + 2.0 / 3.0) / 2.0;
        assert_eq!(
            found.average_precision,
            [two as f32, (1.0 / 3.0) as f32, 0.0, 0.0, 0.0]
        );
        assert_eq!(found.queries_without_relevant, 1);
    }

    #[test]
    fn better_answers_are_compatible_and_worse_ones_are_not() {
        let good: Vec<Ranked> = (0..200).map(|_| ranked(&[1, 1], 2)).collect();
        let bad: Vec<Ranked> = (0..200)
            .map(|query| ranked(&[u8::from(query % 2 == 0), 0], 2))
            .collect();
        let groups: Vec<String> = (0..200).map(|query| format!("g{}", query % 2)).collect();
        let compare = |before: &[Ranked], after: &[Ranked]| {
            let demands = Demands::new(1);
            compare_ranked(
                Task::ClassLike,
                [before, after],
                10,
                Some(3),
                Some(&groups),
                &demands,
            )
            .unwrap()
        };
        let better = compare(&bad, &good);
        assert_eq!(better.finding, Finding::Compatible, "{better:?}");
        assert_eq!(mean(&better.measures, Measure::RecallAt(1)), [0.5, 1.0]);
        let of_group = |group: usize| mean(&better.groups[group].measures, Measure::RecallAt(1));
        assert_eq!((of_group(0), of_group(1)), ([1.0, 1.0], [0.0, 1.0]));
        assert_eq!(better.groups[0].queries, 100);
        assert_eq!(compare(&good, &bad).finding, Finding::Incompatible);
    }

    #[test]
    fn what_cannot_be_told_is_not_certified() {
        let compare = |ranked: &[Ranked], classes| {
            let demands = Demands::new(1);
            compare_ranked(
                Task::ClassLike,
                [ranked, ranked],
                10,
                classes,
                None,
                &demands,
            )
            .unwrap()
        };
        let some: Vec<Ranked> = (0..200).map(|_| ranked(&[1], 1)).collect();
        assert_eq!(compare(&some, Some(2)).finding, Finding::Compatible);
        assert_eq!(compare(&some, Some(1)).finding, Finding::CannotTell);
        assert_eq!(compare(&some[..20], Some(2)).finding, Finding::CannotTell);
        let nothing: Vec<Ranked> = (0..200).map(|_| ranked(&[0], 0)).collect();
        let found = compare(&nothing, Some(2));
        assert_eq!(found.finding, Finding::CannotTell);
        assert!(found.reasons[0].contains("nothing to find"), "{found:?}");
    }
}
