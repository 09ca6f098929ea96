//! Small configuration files of model hubs.

use std::path::{Path, PathBuf};

use perennial_core::read_at_most;
use serde_json::{Map, Value};

use super::error::ImportError;

/// The largest configuration file that is read.
const MAX_BYTES: u64 = 4 << 20;

/// An object in a JSON file.
pub(super) struct Config {
    path: PathBuf,
    values: Map<String, Value>,
}

impl Config {
    /// Reads a file that must hold an object.
    pub(super) fn read(path: &Path) -> Result<Self, ImportError> {
        match Self::value(path)? {
            Value::Object(values) => Ok(Self {
                path: path.to_owned(),
                values,
            }),
            _ => Err(ImportError::Key {
                path: path.to_owned(),
                key: "the whole file".to_owned(),
                problem: "must be an object".to_owned(),
            }),
        }
    }

    /// Reads a file that may hold anything.
    pub(super) fn value(path: &Path) -> Result<Value, ImportError> {
        let content = read_at_most(path, MAX_BYTES).map_err(|source| ImportError::Read {
            path: path.to_owned(),
            source,
        })?;
        serde_json::from_slice(&content).map_err(|source| ImportError::Json {
            path: path.to_owned(),
            source,
        })
    }

    /// An error at a key.
    pub(super) fn error(&self, key: &str, problem: impl Into<String>) -> ImportError {
        ImportError::Key {
            path: self.path.clone(),
            key: key.to_owned(),
            problem: problem.into(),
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key).filter(|value| !value.is_null())
    }

    /// Whether a key is `true`; absent is `false`.
    pub(super) fn flag(&self, key: &str) -> Result<bool, ImportError> {
        match self.get(key) {
            None => Ok(false),
            Some(value) => value
                .as_bool()
                .ok_or_else(|| self.error(key, "must be true or false")),
        }
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<&str>, ImportError> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => value
                .as_str()
                .map(Some)
                .ok_or_else(|| self.error(key, "must be a text")),
        }
    }

    /// The keys with such a beginning that are `true`.
    pub(super) fn flags_beginning(&self, beginning: &str) -> Result<Vec<String>, ImportError> {
        let mut keys = Vec::new();
        for key in self.values.keys().filter(|key| key.starts_with(beginning)) {
            if self.flag(key)? {
                keys.push(key.clone());
            }
        }
        Ok(keys)
    }
}
