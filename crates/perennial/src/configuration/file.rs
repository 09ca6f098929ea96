//! The first layer: a configuration file.

use std::path::Path;

use toml::Table;
use toml::de::{DeTable, DeValue};

use crate::suggestion;

/// What was read.
#[derive(Debug)]
pub(super) struct File {
    /// The name of the source, for messages about keys that no later layer has set.
    pub(super) source: String,
    pub(super) text: String,
    pub(super) table: Table,
}

impl File {
    /// The file, with the line of the key or else of the innermost table around it.
    pub(super) fn place(&self, key: &str) -> String {
        let mut key = key;
        loop {
            if let Some(line) = line_of(&self.text, key) {
                return format!("{}, line {line}", self.source);
            }
            match key.rsplit_once('.') {
                Some((outer, _)) => key = outer,
                None => return self.source.clone(),
            }
        }
    }
}

/// The line of a key in a TOML text, from 1.
pub(super) fn line_of(text: &str, key: &str) -> Option<usize> {
    let root = DeTable::parse(text).ok()?;
    let mut parts = key.split('.');
    let (name, mut value) = root.get_ref().get_key_value(parts.next()?)?;
    let mut start = name.span().start;
    for part in parts {
        let found = match value.get_ref() {
            DeValue::Table(table) => {
                let (name, inner) = table.get_key_value(part)?;
                (name.span().start, inner)
            }
            DeValue::Array(items) => {
                let inner = items.get(part.parse::<usize>().ok()?)?;
                (inner.span().start, inner)
            }
            _ => return None,
        };
        (start, value) = found;
    }
    Some(1 + text.get(..start)?.matches('\n').count())
}

/// Words about a file of a similar name beside one that does not exist.
pub(super) fn similar_file(path: &Path) -> String {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let names: Vec<String> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.ends_with(".toml"))
        .collect();
    let wanted = path.file_name().and_then(|name| name.to_str());
    let near = wanted.and_then(|name| suggestion::nearest(name, names.iter().map(String::as_str)));
    near.map_or_else(String::new, |name| {
        format!("; did you mean {}?", folder.join(name).display())
    })
}
