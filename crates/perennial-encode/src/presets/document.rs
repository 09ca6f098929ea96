//! An object of a JSON file whose values are asked for by key and type. Errors name the key.

use serde_json::{Map, Value};

use super::error::PresetError;

/// An object of a JSON file.
pub(super) struct Document<'a> {
    file: &'a str,
    /// The keys that lead to it, each with a point behind it.
    path: String,
    values: &'a Map<String, Value>,
}

impl<'a> Document<'a> {
    /// The whole file, if it is an object.
    pub fn top(file: &'a str, value: &'a Value) -> Option<Self> {
        let values = value.as_object()?;
        Some(Self {
            file,
            path: String::new(),
            values,
        })
    }

    /// Whether the key has a value.
    pub fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// All keys.
    pub fn keys(&self) -> impl Iterator<Item = &'a str> {
        self.values.keys().map(String::as_str)
    }

    /// An error at a key.
    pub fn error(&self, key: &str, problem: impl Into<String>) -> PresetError {
        PresetError::Key {
            file: self.file.to_owned(),
            key: format!("{}{key}", self.path),
            problem: problem.into(),
        }
    }

    /// The error for a key without a value.
    pub fn missing(&self, key: &str) -> PresetError {
        self.error(key, "is missing")
    }

    /// An object inside of this one.
    pub fn inner(&self, key: &str) -> Result<Option<Self>, PresetError> {
        self.typed(key, "an object", |value| {
            Some(Self {
                file: self.file,
                path: format!("{}{key}.", self.path),
                values: value.as_object()?,
            })
        })
    }

    /// `true` or `false`.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, PresetError> {
        self.typed(key, "true or false", Value::as_bool)
    }

    /// A text.
    pub fn text(&self, key: &str) -> Result<Option<&'a str>, PresetError> {
        self.typed(key, "a text", Value::as_str)
    }

    /// A number.
    pub fn number(&self, key: &str) -> Result<Option<f64>, PresetError> {
        self.typed(key, "a number", Value::as_f64)
    }

    /// A number of pixels, or a code.
    pub fn whole(&self, key: &str) -> Result<Option<usize>, PresetError> {
        self.typed(key, "a whole number of at least 0", whole)
    }

    /// A list of whole numbers.
    pub fn wholes(&self, key: &str) -> Result<Option<Vec<usize>>, PresetError> {
        self.typed(key, "a list of whole numbers", |value| {
            value.as_array()?.iter().map(whole).collect()
        })
    }

    /// A list of numbers.
    pub fn numbers(&self, key: &str) -> Result<Option<Vec<f32>>, PresetError> {
        self.typed(key, "a list of numbers", |value| {
            let numbers = value.as_array()?.iter();
            numbers
                .map(|number| Some(number.as_f64()? as f32))
                .collect()
        })
    }

    /// Whether the key's value is an object.
    pub fn is_object(&self, key: &str) -> bool {
        self.get(key).is_some_and(Value::is_object)
    }

    fn get(&self, key: &str) -> Option<&'a Value> {
        self.values.get(key).filter(|value| !value.is_null())
    }

    fn typed<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, PresetError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        match read(value) {
            Some(value) => Ok(Some(value)),
            None => Err(self.error(key, format!("must be {expected}"))),
        }
    }
}

fn whole(value: &Value) -> Option<usize> {
    usize::try_from(value.as_u64()?).ok()
}
