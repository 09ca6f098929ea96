//! Who answers a request for embeddings: a model version of this service, an upstream, or both together.
//!
//! Without `answer_in`, a model's name means the encoder of that name, and an answer is in its space. With `answer_in`, every answer is in
//! that one space, whatever model is asked for: documents are embedded by the space's own encoder, queries by the best certified route from
//! the new encoder, as far as the encoders of the route embed inputs of their kind. An index that other programs keep in that space then gains from the new encoder without being written to.

mod absence;
mod choice;
mod choosing;
mod embedding;
mod kinds;
mod names;

use std::collections::BTreeMap;
use std::sync::Arc;

use perennial_core::{Registry, SpaceId};
use perennial_encode::InputType;
use perennial_upgrade::{Certification, Certified, CertifiedWay, LoadedModel, NotCertified};

use self::absence::Absence;
pub(crate) use self::choice::{Choice, Encoder};
pub(crate) use self::kinds::Kinds;
use crate::config::{AnswerUncertified, LIVE, ServeConfig};
use crate::error::ServeError;
use crate::gallery::Gallery;
use crate::inference::Inference;
use crate::telemetry::Telemetry;
use crate::upstream::Upstream;
use crate::versions::Versions;

/// The settings of answering, carried out, and what answers come from.
pub(crate) struct Answering {
    registry: Arc<Registry>,
    versions: Arc<Versions>,
    inference: Arc<Inference>,
    gallery: Arc<Gallery>,
    /// By the names of their tables.
    upstreams: BTreeMap<String, Arc<Upstream>>,
    /// The one space of all answers, where there is one.
    target: Option<Target>,
    default_input_type: InputType,
}

/// The one space of all answers.
struct Target {
    space: SpaceId,
    dim: usize,
    /// Its own encoder.
    old: Encoder,
    absence: Arc<Absence>,
    new: New,
    uncertified: Option<AnswerUncertified>,
}

/// The encoder that answers queries.
enum New {
    /// The version that is live at the moment.
    Live,
    Upstream(Arc<Upstream>),
}

impl Answering {
    /// Prepares upstreams and loads the old encoder. Must run inside a tokio runtime; blocks.
    ///
    /// # Errors
    /// [`ServeError`]: a setting that cannot work, a space that is not registered, an old encoder that does not load, a space that no route is
    /// certified into.
    pub(crate) fn start(
        config: &ServeConfig,
        registry: &Arc<Registry>,
        versions: &Arc<Versions>,
        inference: &Arc<Inference>,
        gallery: &Arc<Gallery>,
        telemetry: &Arc<Telemetry>,
    ) -> Result<Self, ServeError> {
        let mut upstreams = BTreeMap::new();
        for (name, settings) in &config.upstream {
            let upstream = Upstream::new(name, settings, registry, Arc::clone(telemetry))?;
            upstreams.insert(name.clone(), Arc::new(upstream));
        }
        let target = match &config.answer_in {
            Some(space) => {
                let absence = Arc::new(Absence::new(Arc::clone(telemetry)));
                Some(target(
                    config, space, registry, inference, &upstreams, absence,
                )?)
            }
            None => None,
        };
        let answering = Self {
            registry: Arc::clone(registry),
            versions: Arc::clone(versions),
            inference: Arc::clone(inference),
            gallery: Arc::clone(gallery),
            upstreams,
            target,
            default_input_type: config.default_input_type,
        };
        if let Some(target) = &answering.target {
            target.check(inference, &gallery.certification)?;
        }
        for upstream in answering.upstreams.values() {
            upstream.watch();
        }
        Ok(answering)
    }

    /// Whether requests can be answered without a live version.
    pub(crate) fn needs_no_live_version(&self) -> bool {
        match &self.target {
            Some(target) => matches!(target.new, New::Upstream(_)),
            None => !self.upstreams.is_empty(),
        }
    }

    /// Why queries cannot be answered at the moment, if so; may look at files.
    ///
    /// # Errors
    /// The problem, as a text.
    pub(crate) fn readiness(&self) -> Result<(), String> {
        let Some(target) = &self.target else {
            return Ok(());
        };
        let certification = &self.gallery.certification;
        match target.new_encoder(&self.inference) {
            None => Err("no model version is live".to_owned()),
            Some(new) => match target.route(new.space(), new.dim(), certification, None) {
                Ok(_) => Ok(()),
                Err(refused) => Err(format!(
                    "queries cannot be answered in {}: {refused}",
                    target.space
                )),
            },
        }
    }

    /// The old encoder of the one space of all answers, where it is a version in this process.
    pub(crate) fn old_in_memory(&self) -> Option<&Arc<LoadedModel>> {
        match &self.target.as_ref()?.old {
            Encoder::Own(model) => Some(model),
            Encoder::Upstream(_) => None,
        }
    }

    /// What an operator should know although requests are answered.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let upstreams = self.upstreams.values();
        let failing = self
            .target
            .iter()
            .filter(|target| target.absence.is_failing());
        let failing = failing.map(|target| {
            format!(
                "the encoder of {} fails: queries are answered without it where a certified route allows it, and documents are not embedded",
                target.space
            )
        });
        upstreams
            .filter_map(|upstream| upstream.canary_problem())
            .chain(failing)
            .collect()
    }

    /// Whether queries could still be answered if this version were live.
    ///
    /// # Errors
    /// The pair without a certified route.
    pub(crate) fn allows_live(&self, model: &LoadedModel) -> Result<(), NotCertified> {
        match &self.target {
            Some(target) if matches!(target.new, New::Live) => {
                let dim = model.version.dim;
                let certification = &self.gallery.certification;
                target
                    .route(model.name(), dim, certification, None)
                    .map(drop)
            }
            _ => Ok(()),
        }
    }
}

/// The old encoder and the new one, as the settings name them.
fn target(
    config: &ServeConfig,
    space: &SpaceId,
    registry: &Registry,
    inference: &Inference,
    upstreams: &BTreeMap<String, Arc<Upstream>>,
    absence: Arc<Absence>,
) -> Result<Target, ServeError> {
    let wrong = |key: &'static str, problem: String| ServeError::Config {
        key: key.into(),
        problem,
    };
    let of_space = |upstream: &&Arc<Upstream>| upstream.spec().name == *space;
    let old = match upstreams.values().find(of_space) {
        Some(upstream) => Encoder::Upstream(Arc::clone(upstream)),
        None => Encoder::Own(old_version(space, registry, inference)?),
    };
    let new = match config.answer_from.as_deref() {
        None | Some(LIVE) => New::Live,
        Some(name) => {
            let found = upstreams.values().find(|upstream| upstream.is_called(name));
            let upstream = found.ok_or_else(|| {
                wrong(
                    "answer_from",
                    format!(
                        "{name:?} is neither `live` nor an upstream; add a table [upstream.NAME]"
                    ),
                )
            })?;
            New::Upstream(Arc::clone(upstream))
        }
    };
    Ok(Target {
        space: space.clone(),
        dim: old.dim(),
        old,
        absence,
        new,
        uncertified: config.answer_uncertified,
    })
}

/// The version whose space is named, in memory.
fn old_version(
    space: &SpaceId,
    registry: &Registry,
    inference: &Inference,
) -> Result<Arc<LoadedModel>, ServeError> {
    let wrong = |problem: String| ServeError::Config {
        key: "answer_in".into(),
        problem,
    };
    let name = space.as_str();
    if let Ok(spec) = registry.space(space) {
        return Err(wrong(format!(
            "{} is the space of an outside encoder, which must be reachable: add a table [upstream.NAME] with space = {name:?}",
            spec.name
        )));
    }
    let version = registry.get(name).map_err(|error| {
        wrong(format!(
            "{error}; name a model version or a registered space"
        ))
    })?;
    if version.name != name {
        return Err(wrong(format!(
            "{name:?} is an alias, which may move, and the index would not move with it; name {}",
            version.name
        )));
    }
    if let Some(live) = inference.live.current().filter(|live| live.name() == name) {
        return Ok(live);
    }
    let needed = [name.to_owned()].into_iter().collect();
    inference
        .encoders
        .keep(&needed, true, registry, &*inference.loader);
    inference.encoders.get(name).ok_or_else(|| {
        let problem = inference.encoders.problem(name).unwrap_or_default();
        ServeError::NotYet {
            key: "answer_in".into(),
            problem: format!("the encoder of {name} cannot be used: {problem}"),
        }
    })
}

impl Target {
    /// Refuses to start where queries could not be answered.
    fn check(
        &self,
        inference: &Inference,
        certification: &Certification,
    ) -> Result<(), ServeError> {
        let Some(new) = self.new_encoder(inference) else {
            // As everywhere in a service without a live version: it starts, and requests are refused until there is one.
            return Ok(());
        };
        match self.route(new.space(), new.dim(), certification, None) {
            Ok(Some(certified)) => {
                tracing::info!(
                    space = %self.space,
                    from = new.space(),
                    route = %certified.way.route(),
                    basis = certified.basis,
                    undecided = certified.undecided,
                    "queries are answered by a certified route"
                );
                Ok(())
            }
            Ok(None) => {
                tracing::warn!(
                    space = %self.space,
                    from = new.space(),
                    "no route is certified: queries are answered by the old encoder alone (answer_uncertified)"
                );
                Ok(())
            }
            Err(refused) => {
                let remedy = match &refused.remedy {
                    Some(remedy) => format!("measure it: {remedy}"),
                    None => {
                        "certify a route (`perennial certify --record --route dual ...`)".to_owned()
                    }
                };
                Err(ServeError::NotYet {
                    key: "answer_in".into(),
                    problem: format!(
                        "{refused}; {remedy}; or set answer_uncertified = \"old\" (--answer-uncertified old) to answer queries with the old encoder alone until then"
                    ),
                })
            }
        }
    }

    fn new_encoder(&self, inference: &Inference) -> Option<Encoder> {
        match &self.new {
            New::Live => inference.live.current().map(Encoder::Own),
            New::Upstream(upstream) => Some(Encoder::Upstream(Arc::clone(upstream))),
        }
    }

    /// The best certified route of queries, of those whose encoders embed inputs of these kinds; nothing where they are answered by the old encoder
    /// because none is certified.
    fn route(
        &self,
        from: &str,
        dim: usize,
        certification: &Certification,
        kinds: Option<Kinds>,
    ) -> Result<Option<Certified>, NotCertified> {
        let embedded = |way: &CertifiedWay| match (way, kinds) {
            (CertifiedWay::Dual { .. }, Some(kinds)) => self.old.embeds(kinds),
            // The stored vectors are in an index that is not asked to map them.
            (CertifiedWay::Mapped(_), _) => false,
            _ => true,
        };
        let to = self.space.as_str();
        let refused = match certification.ways(from, to) {
            Ok(ways) => {
                let mut leading = ways
                    .into_iter()
                    .filter(|certified| certified.way.leads(dim, self.dim))
                    .filter(|certified| embedded(&certified.way));
                match leading.next() {
                    Some(certified) => return Ok(Some(certified)),
                    None => NotCertified {
                        query_version: from.to_owned(),
                        gallery_version: to.to_owned(),
                        reason: match kinds.filter(|kinds| !self.old.embeds(*kinds)) {
                            Some(kinds) => format!(
                                "no certified route leads from its {dim} dimensions to {} for {}, which {to} itself does not embed",
                                self.dim,
                                kinds.words()
                            ),
                            None => format!(
                                "no certified route leads from its {dim} dimensions to {}",
                                self.dim
                            ),
                        },
                        remedy: None,
                    },
                }
            }
            Err(refused) => refused,
        };
        match self.uncertified {
            Some(AnswerUncertified::Old) => Ok(None),
            None => Err(refused),
        }
    }
}
