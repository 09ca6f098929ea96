//! Payloads in filters: a digest of each pair, so that a condition is a comparison of digests, exactly as `Filter` says.
//!
//! JSON in the database would not do: in PostgreSQL `1` and `1.0` are equal, `1e16` is written as an integer, and the character zero is refused; Qdrant
//! compares texts, whole numbers and truth values alone.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// The digests of the pairs of a payload: 128 bits of SHA-256 each, as 32 digits. Pairs that `Filter` takes for equal have equal digests, and others
/// have different ones.
pub(crate) fn digests(payload: &Map<String, Value>) -> Vec<String> {
    let digest = |(key, value): (&String, &Value)| {
        let mut digest = Sha256::new();
        put(key.as_bytes(), &mut digest);
        put_value(value, &mut digest);
        let mut text = String::with_capacity(32);
        for byte in &digest.finalize()[..16] {
            // Writing to a text does not fail.
            let _ = write!(text, "{byte:02x}");
        }
        text
    };
    payload.iter().map(digest).collect()
}

/// The digests as a text that casts to `uuid[]`.
#[cfg(feature = "pgvector")]
pub(crate) fn pairs(payload: &Map<String, Value>) -> String {
    format!("{{{}}}", digests(payload).join(","))
}

/// Where a key lies in the random order of samples: the first bytes of its SHA-256.
#[cfg(feature = "pgvector")]
pub(crate) fn place(key: &[u8]) -> i64 {
    let digest = Sha256::digest(key);
    let first = digest.first_chunk().expect("a digest has 32 bytes");
    i64::from_be_bytes(*first)
}

fn put(bytes: &[u8], digest: &mut Sha256) {
    digest.update((bytes.len() as u64).to_le_bytes());
    digest.update(bytes);
}

/// Every kind has a letter, and whatever has a length states it, so that no two values look alike.
fn put_value(value: &Value, digest: &mut Sha256) {
    match value {
        Value::Null => digest.update(b"n"),
        Value::Bool(true) => digest.update(b"t"),
        Value::Bool(false) => digest.update(b"f"),
        Value::Number(number) => {
            if let Some(number) = number.as_u64() {
                digest.update(b"u");
                digest.update(number.to_le_bytes());
            } else if let Some(number) = number.as_i64() {
                digest.update(b"i");
                digest.update(number.to_le_bytes());
            } else {
                // 0.0 and -0.0 are equal.
                let number = number.as_f64().unwrap_or(f64::NAN) + 0.0;
                digest.update(b"d");
                digest.update(number.to_bits().to_le_bytes());
            }
        }
        Value::String(text) => {
            digest.update(b"s");
            put(text.as_bytes(), digest);
        }
        Value::Array(values) => {
            digest.update(b"a");
            digest.update((values.len() as u64).to_le_bytes());
            values.iter().for_each(|value| put_value(value, digest));
        }
        Value::Object(pairs) => {
            digest.update(b"o");
            digest.update((pairs.len() as u64).to_le_bytes());
            let sorted: BTreeMap<&String, &Value> = pairs.iter().collect();
            for (key, value) in sorted {
                put(key.as_bytes(), digest);
                put_value(value, digest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(value: &Value) -> String {
        digests(json!({ "key": value }).as_object().unwrap()).join(",")
    }

    #[test]
    fn digests_are_equal_where_values_are() {
        let values = [
            json!(null),
            json!(false),
            json!(0),
            json!(0.0),
            json!(-1),
            json!(-1.0),
            json!(1e16),
            json!(10_000_000_000_000_000u64),
            json!(""),
            json!("\0"),
            json!("0"),
            json!([]),
            json!([[]]),
            json!(["a", "b"]),
            json!(["ab"]),
            json!({}),
            json!({"a": 1, "b": 2}),
            json!({"a": 1, "b": 2.0}),
            json!([{"a": 1}, {"b": 2}]),
        ];
        for (at, value) in values.iter().enumerate() {
            for (other_at, other) in values.iter().enumerate() {
                assert_eq!(of(value) == of(other), at == other_at, "{value} {other}");
            }
        }
        assert_eq!(of(&json!(-0.0)), of(&json!(0.0)));
        let other_order: Value = serde_json::from_str(r#"{"b": 2, "a": 1}"#).unwrap();
        assert_eq!(of(&other_order), of(&json!({"a": 1, "b": 2})));
        // A pair's key counts, and where it ends.
        let keys = ["a", "as"].map(|key| digests(&Map::from_iter([(key.to_owned(), json!("x"))])));
        assert_ne!(keys[0], keys[1]);
    }

    #[test]
    fn they_are_stable() {
        // Tables hold them, so they never change.
        let payload = json!({"side": "left", "n": 1});
        assert_eq!(
            digests(payload.as_object().unwrap()),
            [
                "4c221a310414d13758eeb4dfac24b1ae",
                "f363252a36a372e71c2a23cd7021ddf9"
            ]
        );
        assert!(digests(&Map::new()).is_empty());
        #[cfg(feature = "pgvector")]
        assert_eq!(place(b"\x01a"), -2_079_169_177_619_666_219);
    }
}
