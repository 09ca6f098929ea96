//! Payloads as bytes, and a fingerprint that rules most of them out without reading them.

use serde::Serialize;
use serde_json::{Map, Value};

/// The size of a payload as compact JSON, in bytes.
pub(crate) fn json_size(payload: &Map<String, Value>) -> usize {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 = self.0.saturating_add(bytes.len());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    match payload.serialize(&mut serde_json::Serializer::new(&mut count)) {
        Ok(()) => count.0,
        // A map of JSON values always serialises; if one did not, it could not be stored either.
        Err(_) => usize::MAX,
    }
}

/// Whether a payload has at most so many objects and lists inside one another, itself counted.
pub(crate) fn is_within(payload: &Map<String, Value>, depth: usize) -> bool {
    fn value_is_within(value: &Value, depth: usize) -> bool {
        match value {
            Value::Object(object) => is_within(object, depth),
            Value::Array(list) => {
                depth > 0 && list.iter().all(|value| value_is_within(value, depth - 1))
            }
            _ => true,
        }
    }
    depth > 0
        && payload
            .values()
            .all(|value| value_is_within(value, depth - 1))
}

/// Adds a value to a hash: values that are equal are added alike, as both zeros are.
fn add(hash: &mut crc32fast::Hasher, value: &Value) {
    match value {
        Value::Array(list) => {
            hash.update(b"[");
            list.iter().for_each(|value| add(hash, value));
            hash.update(b"]");
        }
        Value::Object(object) => {
            hash.update(b"{");
            for (key, value) in object {
                hash.update(key.as_bytes());
                hash.update(&[0]);
                add(hash, value);
            }
            hash.update(b"}");
        }
        Value::Number(number) if number.is_f64() && number.as_f64() == Some(0.0) => {
            hash.update(b"0.0");
        }
        other => hash.update(other.to_string().as_bytes()),
    }
}

/// One bit of 64 per top-level `key: value`. A payload that has all pairs of a filter has all bits of the filter's
/// fingerprint, so an item without them need not be read from disk.
pub(crate) fn fingerprint(payload: &Map<String, Value>) -> u64 {
    let bit = |(key, value): (&String, &Value)| {
        let mut hash = crc32fast::Hasher::new();
        hash.update(key.as_bytes());
        hash.update(&[0]);
        add(&mut hash, value);
        1u64 << (hash.finalize() >> 26)
    };
    payload.iter().map(bit).fold(0, |bits, bit| bits | bit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn sizes_are_those_of_the_text() {
        for value in [json!({}), json!({"a": [1, "ü\n", null]})] {
            assert_eq!(json_size(&map(value.clone())), value.to_string().len());
        }
    }

    #[test]
    fn a_subset_has_a_subset_of_the_bits() {
        let all = fingerprint(&map(json!({"a": 1, "b": "x", "c": [1, 2]})));
        let some = fingerprint(&map(json!({"c": [1, 2], "a": 1})));
        assert_eq!(all & some, some);
        assert_eq!(fingerprint(&Map::new()), 0);
        let distinct: std::collections::BTreeSet<u64> = (0..200)
            .map(|n| fingerprint(&map(json!({"n": n}))))
            .collect();
        assert!(distinct.len() > 50, "{}", distinct.len());
    }
}
