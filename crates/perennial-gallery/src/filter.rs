//! Which items an operation concerns.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::bounded_json::{self, at_most};
use crate::error::GalleryError;
use crate::item::{ItemId, MAX_BATCH, MAX_PAYLOAD_BYTES};

/// Conditions that an item must meet, all of them; a condition that is empty holds for every item.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Filter {
    /// The model version is one of these.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "at_most::<MAX_BATCH, _, _>"
    )]
    pub model_versions: Vec<String>,
    /// The label meets these conditions. An item without label never does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<LabelFilter>,
    /// The payload has these keys at its top level with exactly these values. `1` and `1.0` are different values.
    #[serde(
        skip_serializing_if = "Map::is_empty",
        deserialize_with = "bounded_json::payload"
    )]
    pub payload: Map<String, Value>,
    /// The id is one of these.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "at_most::<MAX_BATCH, _, _>"
    )]
    pub ids: Vec<ItemId>,
    /// States that a filter without any condition is meant: without it, `delete_where` refuses to delete everything. Not part
    /// of the JSON form, so that a client cannot empty a gallery by an omission.
    #[serde(skip)]
    pub everything: bool,
}

/// Conditions on the label, all of which must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LabelFilter {
    /// The label is one of these; empty for any.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "at_most::<MAX_BATCH, _, _>"
    )]
    pub any_of: Vec<u32>,
    /// The smallest label that passes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<u32>,
    /// The largest label that passes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<u32>,
}

impl Filter {
    /// A filter that every item passes, said explicitly.
    pub fn everything() -> Self {
        Self {
            everything: true,
            ..Self::default()
        }
    }

    /// Whether no condition is set.
    pub fn is_empty(&self) -> bool {
        self.model_versions.is_empty()
            && self.labels.is_none()
            && self.payload.is_empty()
            && self.ids.is_empty()
    }

    /// Whether an item with these properties passes.
    pub fn matches(
        &self,
        id: &ItemId,
        model_version: &str,
        label: Option<u32>,
        payload: &Map<String, Value>,
    ) -> bool {
        (self.model_versions.is_empty() || self.model_versions.iter().any(|v| v == model_version))
            && self.labels.as_ref().is_none_or(|l| l.matches(label))
            && (self.ids.is_empty() || self.ids.contains(id))
            && self.matches_payload(payload)
    }

    /// Whether the condition on the payload holds.
    pub(crate) fn matches_payload(&self, payload: &Map<String, Value>) -> bool {
        self.payload
            .iter()
            .all(|(key, value)| payload.get(key) == Some(value))
    }

    /// Says whether the filter is small enough to be worked on.
    ///
    /// # Errors
    /// [`GalleryError::InvalidFilter`] for a list of more than [`MAX_BATCH`] entries or a payload larger than an item's.
    pub fn check(&self) -> Result<(), GalleryError> {
        let labels = self.labels.as_ref().map_or(0, |labels| labels.any_of.len());
        for (field, length) in [
            ("model_versions", self.model_versions.len()),
            ("labels.any_of", labels),
            ("ids", self.ids.len()),
        ] {
            if length > MAX_BATCH {
                return Err(GalleryError::InvalidFilter {
                    field,
                    problem: format!("has {length} entries; the limit is {MAX_BATCH}"),
                });
            }
        }
        let bytes = crate::payload::json_size(&self.payload);
        if bytes > MAX_PAYLOAD_BYTES {
            return Err(GalleryError::InvalidFilter {
                field: "payload",
                problem: format!("has {bytes} bytes as JSON; the limit is {MAX_PAYLOAD_BYTES}"),
            });
        }
        Ok(())
    }
}

impl LabelFilter {
    /// Whether a label passes.
    pub fn matches(&self, label: Option<u32>) -> bool {
        label.is_some_and(|label| {
            (self.any_of.is_empty() || self.any_of.contains(&label))
                && self.from.is_none_or(|from| label >= from)
                && self.to.is_none_or(|to| label <= to)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn payload(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn every_condition_must_hold() {
        let filter: Filter = serde_json::from_value(json!({
            "model_versions": ["v0001"], "labels": {"any_of": [1, 5], "from": 2}, "payload": {"side": "left"}, "ids": [7, "a"],
        }))
        .unwrap();
        let (id, left) = (ItemId::from(7), payload(json!({"side": "left", "n": 1})));
        assert!(filter.matches(&id, "v0001", Some(5), &left));
        assert!(!filter.matches(&ItemId::from("7"), "v0001", Some(5), &left));
        assert!(!filter.matches(&id, "v0002", Some(5), &left));
        assert!(!filter.matches(&id, "v0001", Some(1), &left));
        assert!(!filter.matches(&id, "v0001", None, &left));
        assert!(!filter.matches(&id, "v0001", Some(5), &payload(json!({"side": "right"}))));
    }

    #[test]
    fn nothing_set_passes_everything_but_is_empty() {
        let filter = Filter::default();
        assert!(filter.is_empty() && filter.matches(&ItemId::from(1), "v", None, &Map::new()));
        assert!(Filter::everything().is_empty() && Filter::everything().everything);
    }

    #[test]
    fn a_client_cannot_say_everything() {
        assert!(serde_json::from_value::<Filter>(json!({"everything": true})).is_err());
        assert!(serde_json::from_value::<Filter>(json!({"label": 3})).is_err());
    }

    #[test]
    fn oversized_filters_are_refused() {
        let many = Filter {
            ids: (0..=MAX_BATCH as u64).map(ItemId::Number).collect(),
            ..Filter::default()
        };
        assert!(many.check().unwrap_err().to_string().contains("ids"));
        let large = Filter {
            payload: payload(json!({"text": "x".repeat(MAX_PAYLOAD_BYTES)})),
            ..Filter::default()
        };
        assert!(large.check().unwrap_err().to_string().contains("payload"));
    }
}
