//! Drift of the embedding services behind versions: their canaries are embedded again from time to time. If the embeddings move, the model behind
//! such a service is no longer the one that the version, its bridges and its certificates are about.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use perennial_core::{Endpoint, Registry};
use perennial_upgrade::{LoadedModel, compare_canaries};

use crate::durations::{seconds, until_next_canaries};
use crate::telemetry::Telemetry;

/// What was found last, by version.
#[derive(Default)]
pub(crate) struct EndpointDrift(Mutex<BTreeMap<String, Watched>>);

struct Watched {
    next: Instant,
    /// What is wrong, if anything.
    problem: Option<String>,
}

impl EndpointDrift {
    /// What is wrong with the versions in use, in words that any client may read.
    pub(crate) fn problems(&self) -> Vec<String> {
        let watched = self.watched();
        let problems = watched.values();
        problems.filter_map(|one| one.problem.clone()).collect()
    }

    /// Embeds the canaries of those versions whose turn it is; blocks for their requests. `in_use` has all versions that embed at this moment. One
    /// that was loaded a moment ago was compared then, so its first turn comes later.
    pub(crate) fn look(
        &self,
        in_use: Vec<Arc<LoadedModel>>,
        registry: &Registry,
        telemetry: &Telemetry,
    ) {
        let models: BTreeMap<String, Arc<LoadedModel>> = in_use
            .into_iter()
            .filter(|model| endpoint(model).is_some())
            .map(|model| (model.name().to_owned(), model))
            .collect();
        for (version, model) in self.due(&models, telemetry) {
            let Checked { embedded, problem } = check(&version, &model, registry, telemetry);
            if let Some(watched) = self.watched().get_mut(&version) {
                watched.problem = problem;
                watched.next = next(&model, embedded);
            }
        }
    }

    /// Begins to watch what is new, forgets what is not in use any more, and gives those whose turn it is.
    fn due(
        &self,
        models: &BTreeMap<String, Arc<LoadedModel>>,
        telemetry: &Telemetry,
    ) -> Vec<(String, Arc<LoadedModel>)> {
        let mut watched = self.watched();
        watched.retain(|version, _| {
            let stays = models.contains_key(version);
            if !stays {
                telemetry.endpoint_canaries(version, f64::NAN, false);
            }
            stays
        });
        let now = Instant::now();
        let mut due = Vec::new();
        for (version, model) in models {
            match watched.get(version) {
                Some(known) if known.next <= now => due.push((version.clone(), Arc::clone(model))),
                Some(_) => {}
                None => {
                    telemetry.endpoint_canaries(version, f64::NAN, false);
                    let new = Watched {
                        next: next(model, true),
                        problem: None,
                    };
                    watched.insert(version.clone(), new);
                }
            }
        }
        due
    }

    fn watched(&self) -> MutexGuard<'_, BTreeMap<String, Watched>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn endpoint(model: &LoadedModel) -> Option<&Endpoint> {
    model.version.outside()?.endpoint.as_deref()
}

fn next(model: &LoadedModel, embedded: bool) -> Instant {
    let every = endpoint(model).map_or(0.0, |endpoint| endpoint.canary_seconds);
    Instant::now() + until_next_canaries(seconds(every), embedded)
}

/// What came of embedding canaries again.
struct Checked {
    embedded: bool,
    /// What is wrong, if anything.
    problem: Option<String>,
}

fn check(
    version: &str,
    model: &LoadedModel,
    registry: &Registry,
    telemetry: &Telemetry,
) -> Checked {
    match compare_canaries(registry, model) {
        Ok(state) => {
            let drifted = state.problem.is_some();
            telemetry.endpoint_canaries(version, state.distance, drifted);
            let problem = state.problem.map(|problem| {
                tracing::error!(
                    version,
                    problem,
                    "the embedding service behind a version has changed: its embeddings are of another space now; import it as a new version and certify routes from it"
                );
                format!(
                    "version {version}: the model of its embedding service has changed, canaries moved by {:.3}",
                    state.distance
                )
            });
            Checked {
                embedded: true,
                problem,
            }
        }
        Err(problem) => {
            tracing::warn!(version, problem, "the canaries could not be embedded");
            // `/readyz` shows this to everybody, so the service's own words stay in the log.
            let problem =
                format!("version {version}: its canaries could not be embedded; the log says why");
            Checked {
                embedded: false,
                problem: Some(problem),
            }
        }
    }
}
