//! Keys that are wrong, told by their names.

use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;
use toml::{Table, Value};

use crate::suggestion;

/// A key that is wrong, and a sentence about it.
#[derive(Debug, PartialEq)]
pub(super) struct Fault {
    pub(super) key: String,
    pub(super) problem: String,
}

/// The configuration that a table holds.
pub(super) fn read<T: DeserializeOwned>(table: &Table) -> Result<T, Fault> {
    serde_path_to_error::deserialize(Value::Table(table.clone())).map_err(|error| {
        let (key, problem) = explain(&dotted(error.path()), error.inner().message());
        Fault { key, problem }
    })
}

fn dotted(path: &serde_path_to_error::Path) -> String {
    let parts = path.iter().filter_map(|segment| match segment {
        Segment::Seq { index } => Some(index.to_string()),
        Segment::Map { key } => Some(key.clone()),
        Segment::Enum { .. } | Segment::Unknown => None,
    });
    parts.collect::<Vec<_>>().join(".")
}

/// Turns a deserialisation error into the key that is wrong and a sentence about it.
fn explain(path: &str, message: &str) -> (String, String) {
    let message = message.lines().collect::<Vec<_>>().join(" ");
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    if let (true, [unknown, known @ ..]) = (message.starts_with("unknown field"), &quoted[..]) {
        let key = join_once(path, unknown);
        let hint = if known.is_empty() {
            "its table takes no such keys".to_owned()
        } else {
            suggestion::describe(unknown, known)
        };
        return (key.clone(), format!("unknown key `{key}`; {hint}"));
    }
    if let (true, [missing, ..]) = (message.starts_with("missing field"), &quoted[..]) {
        let key = join_once(path, missing);
        return (key.clone(), format!("key `{key}` is missing"));
    }
    if let (true, [unknown, known @ ..]) = (message.starts_with("unknown variant"), &quoted[..]) {
        let problem = format!(
            "key `{path}` cannot be `{unknown}`; {}",
            suggestion::describe(unknown, known)
        );
        return (path.to_owned(), problem);
    }
    let mut plain = message.clone();
    for (of_rust, of_people) in [
        ("usize", "a whole number of at least 0"),
        ("u64", "a whole number of at least 0"),
        ("u32", "a whole number of at least 0"),
        ("f64", "a number"),
        ("f32", "a number"),
    ] {
        plain = plain.replace(
            &format!("expected {of_rust}"),
            &format!("expected {of_people}"),
        );
    }
    let subject = if path.is_empty() {
        plain
    } else {
        format!("key `{path}`: {plain}")
    };
    (path.to_owned(), subject)
}

/// Some errors already end in the key, others stop at its table.
fn join_once(path: &str, key: &str) -> String {
    let last = path.rsplit('.').next().unwrap_or_default();
    if last == key {
        path.to_owned()
    } else if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}
