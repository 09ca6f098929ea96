//! What each group of queries finds by the merge that was chosen, for the certificate.

use perennial_bridge::Index;
use perennial_eval::Requirements;

use super::halves::MAX_TUNING_QUERIES;
use super::handicap::{group_of, measured_before};
use super::merging::Chosen;
use super::order::evenly_drawn;
use super::sides::parts;
use crate::answer_group::{AnswerGroup, Answers};
use crate::evaluation_data::EvaluationData;
use crate::measured::{Bounds, Demands, MeasureError};
use crate::route::Search;

/// Shares of the gallery embedded again that figures are given for.
const SHARES: [f64; 3] = [0.25, 0.5, 0.75];

/// For each task, groups of the queries that did not choose the merge; empty where it is not `grouped`.
pub(super) fn group_figures(
    data: &EvaluationData,
    judging: &[usize],
    search: &Search<'_>,
    chosen: &Chosen,
    grouped: &[bool],
    demands: &Demands,
) -> Result<Vec<Vec<AnswerGroup>>, MeasureError> {
    let mut groups = vec![Vec::new(); grouped.len()];
    if !grouped.contains(&true) {
        return Ok(groups);
    }
    // As many as choose are enough.
    let count = judging.len().min(MAX_TUNING_QUERIES);
    let judging: Vec<usize> = (0..count)
        .map(|at| judging[at * judging.len() / count])
        .collect();
    let judging = data.with_queries(&judging);
    let drawn = evenly_drawn(data.old_gallery.len(), demands.bootstrap.seed);
    let tasks = measured_before(&judging, search)?;
    let tasks = tasks.iter().zip(&mut groups).zip(grouped);
    for ((task, groups), _) in tasks.filter(|(_, grouped)| **grouped) {
        for share in SHARES {
            let Some(split) = parts(&drawn, share) else {
                continue;
            };
            let found = task.sides.merged(chosen, split)?;
            for (part, answers) in [(0, Answers::Old), (1, Answers::New)] {
                let queries = group_of(&found.answered_by, part);
                if queries.len() < Requirements::default().queries {
                    continue;
                }
                let bounds =
                    Bounds::of_outcomes(task.sides.truth.task(), task.before.select(&queries));
                let found = found.all.select(&queries);
                let mut measures = bounds.compare(&found, Index::Raw, demands)?;
                measures.retain(|one| one.decides);
                for one in &mut measures {
                    one.decides = false;
                }
                groups.push(AnswerGroup {
                    share,
                    answers,
                    queries: queries.len() as u64,
                    measures,
                });
            }
        }
    }
    Ok(groups)
}
