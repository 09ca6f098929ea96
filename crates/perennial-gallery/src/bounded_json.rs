//! JSON from outside that becomes much larger in memory than it is as text: counted while it is read, not afterwards.
//!
//! `[1,1,1]` takes two bytes of text for each value and 32 bytes of memory, so a limit on the text alone bounds little.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::limits::MAX_PAYLOAD_BYTES;

/// Reads a list of at most `MOST` entries; the next one is an error before it is read.
///
/// # Errors
/// Too many entries, or one that is wrong.
pub fn at_most<'de, const MOST: usize, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct List<T, const MOST: usize>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for List<T, MOST> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {MOST} entries")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Vec<T>, A::Error> {
            let mut list = Vec::new();
            while let Some(entry) = entries.next_element()? {
                if list.len() == MOST {
                    return Err(A::Error::custom(format!("has more than {MOST} entries")));
                }
                list.push(entry);
            }
            Ok(list)
        }
    }

    deserializer.deserialize_seq(List::<T, MOST>(PhantomData))
}

/// The same for a list that may be absent, which with `#[serde(default)]` is `None`. `null` is an error, as for any list.
///
/// # Errors
/// Those of [`at_most`].
pub fn some_at_most<'de, const MOST: usize, D, T>(
    deserializer: D,
) -> Result<Option<Vec<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    at_most::<MOST, D, T>(deserializer).map(Some)
}

/// Reads a payload that may be absent, which with `#[serde(default)]` is `None`. `null` is an error.
///
/// # Errors
/// Those of [`payload`].
pub fn some_payload<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Map<String, Value>>, D::Error> {
    payload(deserializer).map(Some)
}

/// Reads a payload, or a filter's part of one, of at most [`MAX_PAYLOAD_BYTES`].
///
/// # Errors
/// No object, or one that is certainly larger; the exact size is checked with the item.
pub fn payload<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Map<String, Value>, D::Error> {
    let left = Cell::new(MAX_PAYLOAD_BYTES);
    deserializer.deserialize_map(Object(Budget(&left)))
}

/// Bytes of JSON text that may still come. Every value takes at least one.
#[derive(Clone, Copy)]
struct Budget<'a>(&'a Cell<usize>);

impl Budget<'_> {
    fn take<E: Error>(self, bytes: usize) -> Result<(), E> {
        let left = self.0.get().checked_sub(bytes).ok_or_else(|| {
            E::custom(format!(
                "has more than {MAX_PAYLOAD_BYTES} bytes of JSON, the most that a payload may have"
            ))
        })?;
        self.0.set(left);
        Ok(())
    }
}

struct Object<'a>(Budget<'a>);

impl<'de> Visitor<'de> for Object<'_> {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            self.0.take(key.len())?;
            let value = entries.next_value_seed(self.0)?;
            object.insert(key, value);
        }
        Ok(object)
    }
}

impl<'de> DeserializeSeed<'de> for Budget<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Budget<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        self.take(1)?;
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        self.take(1)?;
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        self.take(1)?;
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        self.take(1)?;
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        self.take(value.len().max(1))?;
        Ok(Value::String(value.to_owned()))
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        self.take(1)?;
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        self.take(1)?;
        let mut list = Vec::new();
        while let Some(entry) = entries.next_element_seed(self)? {
            list.push(entry);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Value, A::Error> {
        self.take(1)?;
        Object(self).visit_map(entries).map(Value::Object)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;
    use crate::item::ItemId;

    #[derive(Debug, Deserialize)]
    struct Probe {
        #[serde(default, deserialize_with = "payload")]
        payload: Map<String, Value>,
        #[serde(default, deserialize_with = "at_most::<3, _, _>")]
        ids: Vec<ItemId>,
    }

    fn read(text: &str) -> Result<Probe, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn what_fits_is_read_as_it_is() {
        let payload = json!({"a": [1, -2, 2.5, true, null, "ü\n"], "b": {"c": {}}, "": []});
        let probe = read(&json!({"payload": payload, "ids": [1, "1"]}).to_string()).unwrap();
        assert_eq!(Value::Object(probe.payload), payload);
        assert_eq!(probe.ids, [ItemId::from(1), ItemId::from("1")]);
    }

    #[test]
    fn what_is_too_large_is_refused_while_it_is_read() {
        // What follows the limit is never looked at, broken or not.
        for value in [
            format!("[{}x", "1,".repeat(MAX_PAYLOAD_BYTES + 1)),
            format!("[{}x", "[],".repeat(MAX_PAYLOAD_BYTES + 1)),
            format!("[{}x", "{},".repeat(MAX_PAYLOAD_BYTES + 1)),
            format!("[{}x", "\"\",".repeat(MAX_PAYLOAD_BYTES + 1)),
            format!("[\"{}\",x", "a".repeat(MAX_PAYLOAD_BYTES)),
        ] {
            let error = read(&format!("{{\"payload\":{{\"a\":{value}")).unwrap_err();
            assert!(error.contains("more than 16384 bytes"), "{error}");
        }
        assert!(
            read("{\"ids\":[1,2,3,4,x")
                .unwrap_err()
                .contains("more than 3")
        );
        let deep = format!("{{\"payload\":{{\"a\":{}", "[".repeat(10_000));
        assert!(read(&deep).unwrap_err().contains("recursion"));
        assert!(read("{\"payload\":[]}").is_err() && read("{\"ids\":1}").is_err());
    }

    #[test]
    fn an_id_is_a_number_or_a_text_and_nothing_is_kept_of_anything_else() {
        for text in ["-1", "1.0", "null", "true", "[1]", "{\"a\":1}", "1e30"] {
            let error = serde_json::from_str::<ItemId>(text).unwrap_err();
            assert!(error.to_string().contains("a number or a text"), "{error}");
        }
        assert_eq!(
            serde_json::from_str::<ItemId>(&u64::MAX.to_string()).unwrap(),
            ItemId::Number(u64::MAX)
        );
    }
}
