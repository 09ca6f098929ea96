//! The names by which clients ask for models.

use std::collections::BTreeMap;
use std::sync::Arc;

use perennial_encode::InputType;
use serde_json::json;

use super::{Answering, Encoder};
use crate::config::LIVE;
use crate::error::{ApiError, Code};
use crate::input_type::of_model;

/// What is repeated of a name that a client sent.
const MAX_SHOWN: usize = 100;

/// One model that answers.
pub(crate) struct Named {
    /// The name of its upstream; none for a model version.
    pub(crate) upstream: Option<String>,
    /// When it was registered, RFC 3339 in UTC.
    pub(crate) created: String,
}

impl Answering {
    /// All names that are answered, without the endings that tell queries and documents apart.
    pub(crate) fn names(&self) -> BTreeMap<String, Named> {
        let mut names = BTreeMap::new();
        let mut own = vec![];
        if let Some(live) = self.inference.live.current() {
            names.insert(LIVE.to_owned(), of_version(&live.version.created));
            own.push(live);
        }
        if let Some(target) = &self.target
            && let Encoder::Own(old) = &target.old
        {
            own.push(Arc::clone(old));
        }
        // Kept for dual queries, and so they answer by their names as well.
        own.extend(self.inference.encoders.all().into_values());
        // Those that cannot be read are no names that anybody asks for.
        let aliases = self.registry.aliases().unwrap_or_default();
        for model in own {
            let of_model = aliases
                .iter()
                .filter(|(_, version)| *version == model.name());
            for name in of_model
                .map(|(alias, _)| alias.as_str())
                .chain([model.name()])
            {
                names.insert(name.to_owned(), of_version(&model.version.created));
            }
        }
        for upstream in self.upstreams.values() {
            let spec = upstream.spec();
            for name in [spec.name.as_str(), upstream.name(), upstream.model()] {
                let named = Named {
                    upstream: Some(upstream.name().to_owned()),
                    created: spec.created.clone(),
                };
                names.insert(name.to_owned(), named);
            }
        }
        names
    }

    /// A model's name, and the type that its ending tells. A name that is answered as it is has no ending.
    pub(super) fn without_suffix<'a>(
        &self,
        model: Option<&'a str>,
    ) -> (Option<&'a str>, Option<InputType>) {
        let Some(model) = model else {
            return (None, None);
        };
        if self.is_known(model) {
            return (Some(model), None);
        }
        match of_model(model) {
            Some((name, input_type)) => (Some(name), Some(input_type)),
            None => (Some(model), None),
        }
    }

    /// Whether a name is answered.
    pub(super) fn is_known(&self, model: &str) -> bool {
        self.encoder(Some(model)).is_ok() || self.names().contains_key(model)
    }

    /// The encoder of a name, or the default one.
    ///
    /// # Errors
    /// 404 for a name that is not answered, 503 where there is no encoder at all.
    pub(super) fn encoder(&self, model: Option<&str>) -> Result<Encoder, ApiError> {
        let live = self.inference.live.current();
        let Some(model) = model else {
            // One upstream alone can be meant where there is no version.
            let mut upstreams = self.upstreams.values();
            return match (live, upstreams.next(), upstreams.next()) {
                (Some(live), _, _) => Ok(Encoder::Own(live)),
                (None, Some(only), None) => Ok(Encoder::Upstream(Arc::clone(only))),
                _ => self.inference.snapshot().map(Encoder::Own),
            };
        };
        let mut upstreams = self.upstreams.values();
        if let Some(upstream) = upstreams.find(|upstream| upstream.is_called(model)) {
            return Ok(Encoder::Upstream(Arc::clone(upstream)));
        }
        if model == LIVE {
            return self.inference.snapshot().map(Encoder::Own);
        }
        let version = self.versions.get(model).map_err(|_| self.unknown(model))?;
        if let Some(live) = live.filter(|live| live.name() == version.name) {
            return Ok(Encoder::Own(live));
        }
        match self.inference.encoders.get(&version.name) {
            Some(kept) => Ok(Encoder::Own(kept)),
            None => Err(self.unknown(model)),
        }
    }

    /// 404 that lists what is answered.
    pub(super) fn unknown(&self, model: &str) -> ApiError {
        let known: Vec<String> = self.names().into_keys().collect();
        let known = match known.is_empty() {
            true => "no model is live, and there is no upstream".to_owned(),
            false => format!("models that answer are {}", known.join(", ")),
        };
        let shown: String = model.chars().take(MAX_SHOWN).collect();
        let text = format!("no model {shown:?} answers here; {known}");
        ApiError::new(Code::ModelNotFound, text).with_details(json!({ "param": "model" }))
    }
}

fn of_version(created: &str) -> Named {
    Named {
        upstream: None,
        created: created.to_owned(),
    }
}
