//! The similarity from which on hits of each part are accepted.

use perennial_upgrade::{PlannedPart, SearchPlan};

use crate::error::ApiError;

/// The threshold of every part for a rate of false accepts.
pub(super) fn thresholds(plan: &SearchPlan, rate: f64) -> Result<Vec<Option<f32>>, ApiError> {
    if !(rate > 0.0 && rate < 1.0) {
        return Err(ApiError::unprocessable(format!(
            "max_false_accept_rate: got {rate}, must be above 0 and below 1"
        )));
    }
    let of_part = |part: &PlannedPart| part.thresholds.as_ref().and_then(|known| known.at(rate));
    let thresholds: Vec<Option<f32>> = plan.parts.iter().map(of_part).collect();
    let unknown = plan.parts.iter().zip(&thresholds);
    let unknown: Vec<String> = unknown
        .filter(|(_, threshold)| threshold.is_none())
        .map(|(part, _)| without_threshold(part))
        .collect();
    if unknown.is_empty() {
        return Ok(thresholds);
    }
    Err(ApiError::unprocessable(format!(
        "max_false_accept_rate: no threshold is known that keeps a rate of {rate} for {}. Certify these pairs with an evaluation set that has \
         labels or judgements (`perennial certify`; a rate r needs at least 10/r pairs that do not belong together), ask for a larger rate, or leave \
         these items out with filter.model_versions",
        unknown.join(" and ")
    )))
}

fn without_threshold(part: &PlannedPart) -> String {
    let spaces: Vec<&str> = part.spaces.iter().map(|space| space.as_str()).collect();
    let known = part.thresholds.iter().flat_map(|known| &known.rates);
    let known: Vec<String> = known.map(|one| one.false_accept_rate.to_string()).collect();
    let known = match known.is_empty() {
        true => "none is measured".to_owned(),
        false => format!("measured are {}", known.join(", ")),
    };
    let route = part.way.route();
    format!("{} by route {route} ({known})", spaces.join(", "))
}
