//! Points as servers send them, and how they are read.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::client::{Client, collection_path};
use super::failure::Failure;
use super::mark::{FIELD, Named, mark};
use super::point_id::PointId;
use crate::engine::segments;
use crate::error::ConnectError;

/// A replica that lags would hide late writes.
const CONSISTENCY: &str = "consistency=majority";

/// A point as it came.
#[derive(Debug, Deserialize)]
pub(super) struct Point {
    pub(super) id: PointId,
    #[serde(default)]
    payload: Option<Named>,
    #[serde(default)]
    vector: Option<Box<RawValue>>,
}

/// A page of a collection.
#[derive(Debug, Deserialize)]
pub(super) struct Page {
    pub(super) points: Vec<Point>,
    #[serde(default)]
    pub(super) next_page_offset: Option<PointId>,
}

/// Everything of a point but its id and the migrated vector.
#[derive(Debug, Default)]
pub(crate) struct Carried {
    /// What the copy is marked with.
    pub(super) mark: String,
    pub(super) payload: Named,
    /// The other vectors, by name.
    pub(super) others: Named,
}

/// What a point has for a vector.
#[derive(Debug, PartialEq)]
pub(super) enum Dense {
    /// Nothing.
    None,
    /// A vector that is none: values that are no numbers.
    Unusable,
    /// Values.
    Values(Vec<f32>),
}

impl Dense {
    fn values(&self) -> Option<&[f32]> {
        match self {
            Self::Values(values) => Some(values),
            Self::None | Self::Unusable => None,
        }
    }

    fn of(raw: &RawValue) -> Self {
        match serde_json::from_str::<Vec<f32>>(raw.get()) {
            Ok(values) if values.iter().all(|value| value.is_finite()) => Self::Values(values),
            _ => Self::Unusable,
        }
    }
}

impl Point {
    /// The mark, where the point is a copy that has one.
    pub(super) fn mark(&self) -> Option<String> {
        let value = self.payload.as_ref()?.get(FIELD)?;
        serde_json::from_str(value.get()).ok()
    }

    /// What lies in the payload at a path; nothing where a name of it is missing, or leads into something without fields.
    pub(super) fn value(&self, path: &str) -> Option<Value> {
        let names = segments(path)?;
        let (first, within) = names.split_first()?;
        let value = self.payload.as_ref()?.get(first)?;
        let mut value: Value = serde_json::from_str(value.get()).ok()?;
        for name in within {
            value = value.as_object_mut()?.remove(name)?;
        }
        Some(value)
    }

    /// The paths of the payload that lead to a text, a number or a truth value.
    pub(super) fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        for (name, value) in self.payload.iter().flatten() {
            if let Ok(value) = serde_json::from_str(value.get()) {
                collect(&quoted(name), &value, &mut paths);
            }
        }
        paths
    }

    /// The vector of a name, which is empty for the one without.
    pub(super) fn dense(self, name: &str) -> Result<Dense, ConnectError> {
        Ok(split(self.vector, name)?.0)
    }

    /// The vector of a name, and everything else.
    pub(super) fn parts(self, name: &str) -> Result<(Dense, Carried), ConnectError> {
        let (dense, others) = split(self.vector, name)?;
        let mut payload = self.payload.unwrap_or_default();
        // A collection that is itself a copy of an earlier migration has marks of that one.
        payload.remove(FIELD);
        let carried = Carried {
            mark: mark(dense.values(), &payload, &others)?,
            payload,
            others,
        };
        Ok((dense, carried))
    }
}

/// A name as a path has it.
fn quoted(name: &str) -> String {
    match name.contains('.') {
        true => format!("\"{name}\""),
        false => name.to_owned(),
    }
}

fn collect(path: &str, value: &Value, paths: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                collect(&format!("{path}.{}", quoted(name)), value, paths);
            }
        }
        Value::Array(_) | Value::Null => {}
        Value::Bool(_) | Value::Number(_) | Value::String(_) => paths.push(path.to_owned()),
    }
}

/// The vector of a name, and the others.
fn split(vector: Option<Box<RawValue>>, name: &str) -> Result<(Dense, Named), ConnectError> {
    let Some(vector) = vector else {
        return Ok((Dense::None, Named::new()));
    };
    if vector.get().starts_with('[') {
        return Ok((Dense::of(&vector), Named::new()));
    }
    let mut named: Named = serde_json::from_str(vector.get())
        .map_err(|error| ConnectError::Value(format!("a vector that is none: {error}")))?;
    let dense = named
        .remove(name)
        .map_or(Dense::None, |vector| Dense::of(&vector));
    Ok((dense, named))
}

/// What is read of points.
#[derive(Debug, Clone)]
pub(super) struct Selection {
    pub(super) payload: Value,
    pub(super) vector: Value,
    /// A condition, or null.
    pub(super) filter: Value,
}

impl Selection {
    /// Everything.
    pub(super) fn all() -> Self {
        Self {
            payload: json!(true),
            vector: json!(true),
            filter: Value::Null,
        }
    }

    /// Ids alone.
    pub(super) fn ids() -> Self {
        Self {
            payload: json!(false),
            vector: json!(false),
            filter: Value::Null,
        }
    }

    /// Ids and marks.
    pub(super) fn marks() -> Self {
        Self {
            payload: json!([FIELD]),
            ..Self::ids()
        }
    }

    /// One vector.
    pub(super) fn vector(self, name: &str) -> Self {
        let vector = match name {
            "" => json!(true),
            name => json!([name]),
        };
        Self { vector, ..self }
    }
}

/// Points from an id on, in the order of their ids; fewer than `at_once` where an answer of so many would be too large, or is not allowed, which is then
/// remembered.
pub(super) fn scroll(
    client: &Client,
    collection: &str,
    selection: &Selection,
    from: Option<&PointId>,
    at_once: &mut usize,
) -> Result<Page, ConnectError> {
    let path = format!(
        "{}/points/scroll?{CONSISTENCY}",
        collection_path(collection)
    );
    loop {
        let mut body = json!({
            "limit": *at_once,
            "with_payload": selection.payload,
            "with_vector": selection.vector,
        });
        if let Some(from) = from {
            body["offset"] = json!(from);
        }
        if !selection.filter.is_null() {
            body["filter"] = selection.filter.clone();
        }
        match client.read(&path, &body) {
            Err(Failure::TooLarge) if *at_once > 1 => *at_once /= 2,
            Err(Failure::Split { most, .. }) if *at_once > 1 && most != Some(0) => {
                *at_once = most.unwrap_or(*at_once / 2).clamp(1, *at_once - 1);
            }
            Err(failure) => return Err(failure.into()),
            Ok(page) => return checked(page, from),
        }
    }
}

/// A page that leads back to where it began would be read for ever.
fn checked(page: Page, from: Option<&PointId>) -> Result<Page, ConnectError> {
    if page.next_page_offset.is_some() && page.next_page_offset.as_ref() == from {
        return Err(ConnectError::Value(
            "a page of points that leads back to itself".to_owned(),
        ));
    }
    Ok(page)
}

/// Points by id; those that are not there are left out.
pub(super) fn retrieve(
    client: &Client,
    collection: &str,
    selection: &Selection,
    ids: &[PointId],
) -> Result<Vec<Point>, ConnectError> {
    let mut points = Vec::with_capacity(ids.len());
    let mut rest = ids;
    while !rest.is_empty() {
        let some = &rest[..rest.len().min(client.named.get())];
        match retrieve_some(client, collection, selection, some) {
            // Reading counts by the number of ids where it is limited by rate.
            Err(Failure::Split { most, error }) => {
                if !client.named.refused(some.len(), most) {
                    return Err(error);
                }
            }
            found => {
                points.extend(found?);
                rest = &rest[some.len()..];
            }
        }
    }
    Ok(points)
}

fn retrieve_some(
    client: &Client,
    collection: &str,
    selection: &Selection,
    ids: &[PointId],
) -> Result<Vec<Point>, Failure> {
    let path = format!("{}/points?{CONSISTENCY}", collection_path(collection));
    let body = json!({
        "ids": ids,
        "with_payload": selection.payload,
        "with_vector": selection.vector,
    });
    match client.read(&path, &body) {
        Err(Failure::TooLarge) if ids.len() > 1 => {
            let (first, second) = ids.split_at(ids.len() / 2);
            let mut points = retrieve_some(client, collection, selection, first)?;
            points.extend(retrieve_some(client, collection, selection, second)?);
            Ok(points)
        }
        result => result,
    }
}

/// Marks of copies by id. A copy without one is the application's own.
pub(super) fn marks(
    client: &Client,
    collection: &str,
    ids: &[PointId],
) -> Result<HashMap<PointId, Option<String>>, ConnectError> {
    let points = retrieve(client, collection, &Selection::marks(), ids)?;
    Ok(points
        .into_iter()
        .map(|point| {
            let mark = point.mark();
            (point.id, mark)
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(json: &str) -> Point {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn vectors_are_found_with_and_without_a_name() {
        let plain = point(r#"{"id": 1, "vector": [1, 0.5], "payload": {"a": 1}}"#);
        let (dense, carried) = plain.parts("").unwrap();
        assert_eq!(dense, Dense::Values(vec![1.0, 0.5]));
        assert!(carried.others.is_empty() && carried.payload.contains_key("a"));
        let text = r#"{"id": "936da01f-9abd-4d9d-80c7-02af85c822a8", "vector": {"text": [1], "words": {"indices": [3], "values": [0.1]}}}"#;
        let (dense, carried) = point(text).parts("text").unwrap();
        assert_eq!(dense, Dense::Values(vec![1.0]));
        assert_eq!(
            carried.others["words"].get(),
            r#"{"indices": [3], "values": [0.1]}"#
        );
        assert_eq!(point(text).dense("image").unwrap(), Dense::None);
        for vector in ["[1, null]", "[[1], [2]]", "[1e60]", r#"["a"]"#] {
            let bad = point(&format!(r#"{{"id": 1, "vector": {vector}}}"#));
            assert_eq!(bad.dense("").unwrap(), Dense::Unusable, "{vector}");
        }
        assert!(point(r#"{"id": 1, "vector": 7}"#).dense("").is_err());
    }

    #[test]
    fn values_are_found_within_fields() {
        let text = r#"{"id": 1, "payload": {"title": "t", "a.b": 2, "metadata": {"category": "shoes", "page": {"n": 3}, "tags": ["x"]}}}"#;
        let point = point(text);
        for (path, wanted) in [
            ("title", Some(json!("t"))),
            ("metadata.category", Some(json!("shoes"))),
            ("metadata.page.n", Some(json!(3))),
            ("metadata.page", Some(json!({"n": 3}))),
            ("\"a.b\"", Some(json!(2))),
            ("a.b", None),
            ("metadata.other", None),
            ("title.category", None),
            ("metadata.tags.x", None),
        ] {
            assert_eq!(point.value(path), wanted, "{path}");
        }
        assert_eq!(
            point.paths(),
            ["\"a.b\"", "metadata.category", "metadata.page.n", "title"]
        );
    }

    #[test]
    fn marks_of_earlier_migrations_are_not_carried_on() {
        let point =
            point(r#"{"id": 1, "vector": [1], "payload": {"perennial_source": "x", "n": 1.10}}"#);
        assert_eq!(point.mark().as_deref(), Some("x"));
        let carried = point.parts("").unwrap().1;
        assert_eq!(carried.payload.len(), 1);
        // Numbers are passed on as they were written.
        assert_eq!(carried.payload["n"].get(), "1.10");
    }
}
