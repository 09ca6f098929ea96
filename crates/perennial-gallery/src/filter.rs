//! Filters: which items an operation applies to.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::bounded_json::{self, some_at_most};
use crate::error::GalleryError;
use crate::item::ItemId;
use crate::limits::{MAX_BATCH, MAX_PAYLOAD_BYTES};

/// Conditions that an item must meet, all of them.
///
/// A condition that is absent (`None`) holds for every item. A condition that is there but empty (`[]` or `{}`) holds for
/// none: a list that a program computed and that came out empty selects nothing, wherever the filter is used.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields, default)]
pub struct Filter {
    /// The model version is one of these.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "some_at_most::<MAX_BATCH, _, _>"
    )]
    pub model_versions: Option<Vec<String>>,
    /// The label meets these conditions. An item without label never does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<LabelFilter>,
    /// The payload has these keys at its top level with exactly these values. `1` and `1.0` are different values.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "bounded_json::some_payload"
    )]
    pub payload: Option<Map<String, Value>>,
    /// The id is one of these.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "some_at_most::<MAX_BATCH, _, _>"
    )]
    pub ids: Option<Vec<ItemId>>,
    /// States that a filter without any condition is meant: without it, `delete_where` refuses to delete everything. Not part
    /// of the JSON form, so that a client cannot empty a gallery by an omission.
    #[serde(skip)]
    pub everything: bool,
}

impl Serialize for Filter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

/// Takes an object only. A derived reader takes `[]` as well, as a filter without conditions, which selects everything.
impl<'de> Deserialize<'de> for Filter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Filter;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with the conditions of a filter")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Filter, A::Error> {
                Filter::deserialize(MapAccessDeserializer::new(map))
            }
        }

        deserializer.deserialize_map(Object)
    }
}

/// Conditions on the label, all of which must hold. Without any of them, no label passes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LabelFilter {
    /// The label is one of these.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "some_at_most::<MAX_BATCH, _, _>"
    )]
    pub any_of: Option<Vec<u32>>,
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

    /// Whether no condition is set, so that every item passes.
    pub fn is_empty(&self) -> bool {
        self.model_versions.is_none()
            && self.labels.is_none()
            && self.payload.is_none()
            && self.ids.is_none()
    }

    /// Whether a condition is there but empty, so that no item passes.
    pub fn matches_nothing(&self) -> bool {
        self.model_versions.as_ref().is_some_and(Vec::is_empty)
            || self
                .labels
                .as_ref()
                .is_some_and(LabelFilter::matches_nothing)
            || self.payload.as_ref().is_some_and(Map::is_empty)
            || self.ids.as_ref().is_some_and(Vec::is_empty)
    }

    /// Whether an item with these properties passes.
    pub fn matches(
        &self,
        id: &ItemId,
        model_version: &str,
        label: Option<u32>,
        payload: &Map<String, Value>,
    ) -> bool {
        self.model_versions
            .as_ref()
            .is_none_or(|versions| versions.iter().any(|version| version == model_version))
            && self.labels.as_ref().is_none_or(|l| l.matches(label))
            && self.ids.as_ref().is_none_or(|ids| ids.contains(id))
            && self.matches_payload(payload)
    }

    /// Whether the condition on the payload holds.
    pub(crate) fn matches_payload(&self, payload: &Map<String, Value>) -> bool {
        self.payload.as_ref().is_none_or(|pairs| {
            !pairs.is_empty()
                && pairs
                    .iter()
                    .all(|(key, value)| payload.get(key) == Some(value))
        })
    }

    /// Says whether the filter is small enough to be worked on.
    ///
    /// # Errors
    /// [`GalleryError::InvalidFilter`] for a list of more than [`MAX_BATCH`] entries or a payload larger than an item's.
    pub fn check(&self) -> Result<(), GalleryError> {
        let labels = self.labels.as_ref();
        for (field, length) in [
            ("model_versions", self.model_versions.as_ref().map(Vec::len)),
            (
                "labels.any_of",
                labels.and_then(|labels| Some(labels.any_of.as_ref()?.len())),
            ),
            ("ids", self.ids.as_ref().map(Vec::len)),
        ] {
            if let Some(length) = length.filter(|&length| length > MAX_BATCH) {
                return Err(GalleryError::InvalidFilter {
                    field,
                    problem: format!("has {length} entries; the limit is {MAX_BATCH}"),
                });
            }
        }
        let bytes = self.payload.as_ref().map_or(0, crate::payload::json_size);
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
    /// One of these labels.
    pub fn any_of(labels: impl IntoIterator<Item = u32>) -> Self {
        Self {
            any_of: Some(labels.into_iter().collect()),
            ..Self::default()
        }
    }

    /// Whether no label passes, because there is no condition or an empty list.
    pub fn matches_nothing(&self) -> bool {
        match &self.any_of {
            Some(labels) => labels.is_empty(),
            None => self.from.is_none() && self.to.is_none(),
        }
    }

    /// Whether a label passes.
    pub fn matches(&self, label: Option<u32>) -> bool {
        !self.matches_nothing()
            && label.is_some_and(|label| {
                self.any_of
                    .as_ref()
                    .is_none_or(|labels| labels.contains(&label))
                    && self.from.is_none_or(|from| label >= from)
                    && self.to.is_none_or(|to| label <= to)
            })
    }
}

/// Conditions on the label, for comparisons with many labels: a list of thousands costs each one a search in it.
#[derive(Debug)]
pub(crate) struct Labels {
    /// Ascending.
    any_of: Option<Vec<u32>>,
    from: u32,
    to: u32,
}

impl Labels {
    pub(crate) fn of(filter: &LabelFilter) -> Self {
        // Without any condition no label passes.
        let none = filter.matches_nothing().then(Vec::new);
        let mut any_of = none.or_else(|| filter.any_of.clone());
        if let Some(labels) = &mut any_of {
            labels.sort_unstable();
            labels.dedup();
        }
        Self {
            any_of,
            from: filter.from.unwrap_or(0),
            to: filter.to.unwrap_or(u32::MAX),
        }
    }

    /// Whether a label passes.
    pub(crate) fn contain(&self, label: Option<u32>) -> bool {
        label.is_some_and(|label| {
            (self.from..=self.to).contains(&label)
                && self
                    .any_of
                    .as_ref()
                    .is_none_or(|labels| labels.binary_search(&label).is_ok())
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
    fn a_condition_that_is_there_but_empty_passes_nothing() {
        let (id, item) = (
            ItemId::from(7),
            payload(json!({"side": "left", "none": []})),
        );
        for (text, passes) in [
            (json!({"ids": []}), false),
            (json!({"model_versions": []}), false),
            (json!({"labels": {"any_of": []}}), false),
            (json!({"labels": {}}), false),
            (json!({"payload": {}}), false),
            (json!({"payload": {"side": []}}), false),
            (json!({"ids": [7], "labels": {"any_of": []}}), false),
            (json!({"labels": {"any_of": [], "from": 0}}), false),
            (
                json!({"model_versions": [], "payload": {"side": "left"}}),
                false,
            ),
            (json!({}), true),
            (json!({"labels": null}), true),
            (json!({"labels": {"from": 0}}), true),
            (json!({"payload": {"none": []}}), true),
        ] {
            let filter: Filter = serde_json::from_value(text.clone()).unwrap();
            assert_eq!(
                filter.matches(&id, "v0001", Some(3), &item),
                passes,
                "{text}"
            );
            let empty = filter.matches_nothing();
            assert!(!(empty && passes), "{text}");
            // Absent and empty stay apart on the way through JSON.
            let again = serde_json::to_value(&filter).unwrap();
            assert_eq!(serde_json::from_value::<Filter>(again).unwrap(), filter);
        }
        for text in [
            json!({"ids": null}),
            json!({"model_versions": null}),
            json!({"payload": null}),
        ] {
            assert!(serde_json::from_value::<Filter>(text).is_err());
        }
    }

    #[test]
    fn labels_compare_as_their_filter_does() {
        for text in [
            json!({}),
            json!({"any_of": []}),
            json!({"any_of": [7, 2, 7, 9]}),
            json!({"any_of": [7, 2, 9], "from": 3}),
            json!({"any_of": [7], "to": 6}),
            json!({"from": 3, "to": 8}),
            json!({"from": 8, "to": 3}),
            json!({"to": 0}),
        ] {
            let filter: LabelFilter = serde_json::from_value(text.clone()).unwrap();
            let labels = Labels::of(&filter);
            for label in (0..12).map(Some).chain([None, Some(u32::MAX)]) {
                assert_eq!(
                    labels.contain(label),
                    filter.matches(label),
                    "{text} {label:?}"
                );
            }
        }
    }

    #[test]
    fn a_client_cannot_say_everything() {
        assert!(serde_json::from_value::<Filter>(json!({"everything": true})).is_err());
        assert!(serde_json::from_value::<Filter>(json!({"label": 3})).is_err());
    }

    #[test]
    fn oversized_filters_are_refused() {
        let many = Filter {
            ids: Some((0..=MAX_BATCH as u64).map(ItemId::Number).collect()),
            ..Filter::default()
        };
        assert!(many.check().unwrap_err().to_string().contains("ids"));
        let large = Filter {
            payload: Some(payload(json!({"text": "x".repeat(MAX_PAYLOAD_BYTES)}))),
            ..Filter::default()
        };
        assert!(large.check().unwrap_err().to_string().contains("payload"));
    }
}
