//! The mark of a copy: what its point was when the copy was made.

use std::collections::BTreeMap;

use perennial_core::checksum::short_hash;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::error::ConnectError;

/// The field of the payload that holds the mark.
pub(super) const FIELD: &str = "perennial_source";

/// JSON by name, as it came.
pub(super) type Named = BTreeMap<String, Box<RawValue>>;

/// The mark: a hash of the migrated vector and one of the rest, 64 bits each, as `1f…-7c…`. A point without the vector has `none` in its place.
///
/// It is there to notice changes, not to keep anybody from making two points that look the same.
///
/// # Errors
/// JSON that is nested too deeply.
pub(super) fn mark(
    vector: Option<&[f32]>,
    payload: &Named,
    others: &Named,
) -> Result<String, ConnectError> {
    let of_vector = of_vector(vector);
    let mut rest = Vec::new();
    for part in [payload, others] {
        for (name, value) in part {
            text(name, &mut rest);
            let value: Value = serde_json::from_str(value.get()).map_err(|error| {
                ConnectError::Value(format!("a payload that cannot be read: {error}"))
            })?;
            canonical(&value, &mut rest);
        }
        rest.push(b';');
    }
    Ok(format!("{of_vector}-{:016x}", short_hash(&rest)))
}

/// The part of a mark that stands for the vector.
fn of_vector(vector: Option<&[f32]>) -> String {
    match vector {
        Some(vector) => {
            let values = vector.iter();
            let bytes: Vec<u8> = values.flat_map(|value| value.to_le_bytes()).collect();
            format!("{:016x}", short_hash(&bytes))
        }
        None => "none".to_owned(),
    }
}

/// Whether a mark is of this vector, whatever else its point had.
pub(super) fn is_of(mark: &str, vector: &[f32]) -> bool {
    mark.split_once('-')
        .is_some_and(|(part, _)| part == of_vector(Some(vector)))
}

/// Whether two marks are of the same vector.
pub(super) fn same_vector(a: &str, b: &str) -> bool {
    let vector = |mark: &str| mark.split_once('-').map(|(vector, _)| vector.to_owned());
    vector(a) == vector(b)
}

/// JSON with the keys of objects in order: servers may write them in any.
fn canonical(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Object(object) => {
            let mut entries: Vec<(&String, &Value)> = object.iter().collect();
            entries.sort_unstable_by_key(|&(key, _)| key);
            out.push(b'{');
            for (key, value) in entries {
                text(key, out);
                canonical(value, out);
            }
            out.push(b'}');
        }
        Value::Array(values) => {
            out.push(b'[');
            for value in values {
                canonical(value, out);
                out.push(b',');
            }
            out.push(b']');
        }
        other => out.extend_from_slice(other.to_string().as_bytes()),
    }
}

fn text(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(Value::from(text).to_string().as_bytes());
    out.push(b':');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(json: &str) -> Named {
        serde_json::from_str(json).unwrap()
    }

    fn of(vector: &[f32], payload: &str, others: &str) -> String {
        mark(Some(vector), &named(payload), &named(others)).unwrap()
    }

    #[test]
    fn a_mark_changes_with_everything_but_the_order_of_keys() {
        let base = of(&[1.0, 2.0], r#"{"a": {"x": 1, "y": [1, 2]}, "b": 2}"#, "{}");
        let same = of(&[1.0, 2.0], r#"{"b":2,"a":{"y":[1,2],"x":1}}"#, "{}");
        assert_eq!(base, same);
        for (vector, payload, others) in [
            ([1.0, 2.5], r#"{"a": {"x": 1, "y": [1, 2]}, "b": 2}"#, "{}"),
            ([1.0, 2.0], r#"{"a": {"x": 1, "y": [2, 1]}, "b": 2}"#, "{}"),
            ([1.0, 2.0], r#"{"a": {"x": 1, "y": [1, 2], "b": 2}}"#, "{}"),
            ([1.0, 2.0], r#"{"a": {"x": 1, "y": [1, 2]}}"#, r#"{"b": 2}"#),
        ] {
            let other = of(&vector, payload, others);
            assert_ne!(other, base, "{payload}");
            assert_eq!(same_vector(&other, &base), vector == [1.0, 2.0]);
            assert_eq!(is_of(&other, &[1.0, 2.0]), vector == [1.0, 2.0]);
        }
        let none = mark(None, &named("{}"), &named("{}")).unwrap();
        assert!(none.starts_with("none-") && !same_vector(&none, &base));
        assert!(!is_of(&none, &[1.0, 2.0]));
    }
}
