//! A gallery as it is at one generation, and the conditions that its points meet.

use perennial_gallery::Filter;
use serde_json::{Value, json};

use super::head::{Head, Known, State};
use super::order::key;
use super::server::Server;
use crate::pairs::digests;

/// What was written by the last generation that counts, or before, and not superseded by then.
#[derive(Debug)]
pub(super) struct View<'a> {
    pub(super) server: &'a Server,
    pub(super) state: State,
    aborted: Vec<u64>,
}

/// A space with items.
#[derive(Debug, Clone, Copy)]
pub(super) struct Filled<'a> {
    pub(super) name: &'a str,
    pub(super) known: &'a Known,
    suffix: &'a str,
}

impl Filled<'_> {
    /// Its collection.
    pub(super) fn collection(&self, server: &Server) -> String {
        server.of_space(self.suffix)
    }
}

/// The conditions of a request.
#[derive(Debug, Clone, Default)]
pub(super) struct Conditions {
    must: Vec<Value>,
    must_not: Vec<Value>,
}

impl<'a> View<'a> {
    pub(super) fn new(server: &'a Server, head: &Head) -> Self {
        let aborted = head.aborted.iter().map(|aborted| aborted.generation);
        Self {
            server,
            state: head.state.clone(),
            aborted: aborted.collect(),
        }
    }

    /// The spaces with items that a filter allows, in the order of their names.
    pub(super) fn filled(&self, filter: &Filter) -> Vec<Filled<'_>> {
        let names = filter.model_versions.as_ref();
        let named = |name: &String| names.is_none_or(|names| names.contains(name));
        let spaces = self.state.spaces.iter();
        spaces
            .filter(|(name, known)| known.items > 0 && named(name))
            .filter_map(|(name, known)| {
                Some(Filled {
                    name,
                    known,
                    suffix: known.collection.as_deref()?,
                })
            })
            .collect()
    }

    /// That a point counts.
    pub(super) fn visible(&self) -> Conditions {
        let last = json!({"range": {"lte": self.state.generation}});
        let until = |key: &str| json!({"key": key, "range": last["range"]});
        let (mut must_not, superseded) = match self.aborted.is_empty() {
            true => (Vec::new(), until("until")),
            false => {
                let never = |key: &str| json!({"key": key, "match": {"any": self.aborted}});
                (
                    vec![never("from")],
                    json!({"must": [until("until")], "must_not": [never("until")]}),
                )
            }
        };
        must_not.push(superseded);
        Conditions {
            must: vec![until("from")],
            must_not,
        }
    }

    /// That a point counts and may be marked as superseded: it was not, by any generation that may count. A writer that is too late cannot take
    /// the mark of another one away.
    pub(super) fn markable(&self) -> Conditions {
        let mut conditions = self.visible();
        conditions.must.push(match self.aborted.is_empty() {
            true => json!({"is_empty": {"key": "until"}}),
            false => json!({"should": [
                {"is_empty": {"key": "until"}},
                {"key": "until", "match": {"any": self.aborted}},
            ]}),
        });
        conditions
    }
}

impl Conditions {
    pub(super) fn and(mut self, condition: Value) -> Self {
        self.must.push(condition);
        self
    }

    pub(super) fn keys(self, keys: &[String]) -> Self {
        self.and(json!({"key": "key", "match": {"any": keys}}))
    }

    /// Adds those of a filter, but for the spaces.
    pub(super) fn filter(mut self, filter: &Filter) -> Self {
        if let Some(labels) = &filter.labels {
            if let Some(any_of) = &labels.any_of {
                self = self.and(json!({"key": "label", "match": {"any": any_of}}));
            }
            let mut range = json!({});
            if let Some(from) = labels.from {
                range["gte"] = json!(from);
            }
            if let Some(to) = labels.to {
                range["lte"] = json!(to);
            }
            if range != json!({}) {
                self = self.and(json!({"key": "label", "range": range}));
            }
        }
        for digest in filter.payload.as_ref().map(digests).unwrap_or_default() {
            self = self.and(json!({"key": "pairs", "match": {"value": digest}}));
        }
        if let Some(ids) = &filter.ids {
            let keys: Vec<String> = ids.iter().map(key).collect();
            self = self.keys(&keys);
        }
        self
    }

    pub(super) fn json(&self) -> Value {
        json!({"must": self.must, "must_not": self.must_not})
    }
}

#[cfg(test)]
mod tests {
    use perennial_gallery::LabelFilter;

    use super::*;

    #[test]
    fn a_filter_becomes_conditions_on_fields() {
        let filter = Filter {
            model_versions: Some(vec!["v1".to_owned()]),
            labels: Some(LabelFilter {
                any_of: Some(vec![1]),
                from: Some(1),
                to: Some(2),
            }),
            payload: json!({"a": 1}).as_object().cloned(),
            ids: Some(vec![7.into(), "7".into()]),
            everything: false,
        };
        let conditions = Conditions::default().filter(&filter).json();
        let must = conditions["must"].as_array().unwrap();
        assert_eq!(must.len(), 4);
        assert_eq!(must[0], json!({"key": "label", "match": {"any": [1]}}));
        assert_eq!(
            must[1],
            json!({"key": "label", "range": {"gte": 1, "lte": 2}})
        );
        assert_eq!(must[2]["match"]["value"].as_str().unwrap().len(), 32);
        assert_eq!(
            must[3],
            json!({"key": "key", "match": {"any": ["n7", "t7"]}})
        );
    }
}
