//! Whether requests should be sent to a service.

use std::sync::Arc;

use crate::answering::Answering;
use crate::endpoint_drift::EndpointDrift;
use crate::gallery::Gallery;
use crate::inference::Inference;
use crate::lifecycle::Lifecycle;
use crate::planning::Planning;

/// What readiness depends on.
pub(crate) struct Readiness {
    pub(crate) lifecycle: Arc<Lifecycle>,
    pub(crate) gallery: Arc<Gallery>,
    pub(crate) inference: Arc<Inference>,
    pub(crate) answering: Arc<Answering>,
    pub(crate) planning: Arc<Planning>,
    pub(crate) drift: Arc<EndpointDrift>,
}

impl Readiness {
    /// Whether requests should be sent here: a version is live, it reaches something of what is stored, and the service is not stopping. What is
    /// missing comes back as a text; what is limited in a service that is ready, as lines. Blocks.
    pub(crate) fn check(&self) -> Result<Vec<String>, String> {
        if self.lifecycle.is_draining() {
            return Err("the service is stopping".to_owned());
        }
        if self.gallery.is_out_of_reach() {
            return Err("the gallery's database cannot be reached".to_owned());
        }
        if self.gallery.store.health().is_err() {
            return Err(
                "the gallery cannot be written, or its database cannot be opened again after a failure; the log says why"
                    .to_owned(),
            );
        }
        self.answering.readiness()?;
        let drifted = self.drift.problems();
        let warnings = self.answering.warnings().into_iter().chain(drifted);
        if self.inference.live.current().is_none() {
            if self.answering.needs_no_live_version() {
                return Ok(warnings.collect());
            }
            return Err("no model version is live".to_owned());
        }
        let plan = self.planning.live_plan();
        if let (Some(refused), []) = (plan.refused.first(), &*plan.parts) {
            return Err(format!(
                "searches of everything stored are refused: {refused}"
            ));
        }
        let left = plan.not_searched.iter().map(|left| {
            let (items, space, reason) = (left.items, &left.space, &left.reason);
            format!("{items} items of {space} are not searched: {reason}")
        });
        let fallbacks = plan.parts.iter().filter_map(|part| {
            let spaces: Vec<&str> = part.spaces.iter().map(|space| space.as_str()).collect();
            let (spaces, route) = (spaces.join(", "), part.way.route());
            let fallback = part.fallback.as_ref()?;
            Some(format!(
                "items of {spaces} are searched by route {route} for want of a better one: {fallback}"
            ))
        });
        Ok(warnings.chain(left).chain(fallbacks).collect())
    }
}
