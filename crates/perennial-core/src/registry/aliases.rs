//! `aliases.toml`: a flat table of alias = version name.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use crate::atomic::write_atomically;
use crate::bounded_read::read_at_most;
use crate::registry::RegistryError;
use crate::version::version_number;

const ALIASES_FILE: &str = "aliases.toml";
const MAX_ALIASES_BYTES: u64 = 1 << 20;
const MAX_ALIAS_BYTES: usize = 64;

pub(super) fn read(root: &Path) -> Result<BTreeMap<String, String>, RegistryError> {
    let path = root.join(ALIASES_FILE);
    let bytes = match read_at_most(&path, MAX_ALIASES_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(error.into()),
    };
    let broken = |problem: String| RegistryError::Aliases {
        path: path.clone(),
        problem,
    };
    let text = String::from_utf8(bytes).map_err(|_| broken("is not UTF-8 text".to_owned()))?;
    let aliases: BTreeMap<String, String> =
        toml::from_str(&text).map_err(|error| broken(error.message().to_owned()))?;
    for (alias, version) in &aliases {
        check_name(alias).map_err(|error| broken(error.to_string()))?;
        if version_number(version).is_none() {
            return Err(broken(format!(
                "{alias} = {version:?} is not a version name such as v0003"
            )));
        }
    }
    Ok(aliases)
}

pub(super) fn write(root: &Path, aliases: &BTreeMap<String, String>) -> Result<(), RegistryError> {
    let text = toml::to_string(aliases).expect("a map of strings is a TOML table");
    Ok(write_atomically(root.join(ALIASES_FILE), text)?)
}

/// Checks an alias: it appears in paths, URLs and commands, and must not look like a version.
pub(super) fn check_name(alias: &str) -> Result<(), RegistryError> {
    let refused = |problem: &str| {
        Err(RegistryError::AliasName {
            alias: alias.chars().take(MAX_ALIAS_BYTES).collect(),
            problem: problem.to_owned(),
        })
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if !(1..=MAX_ALIAS_BYTES).contains(&alias.len()) || !alias.bytes().all(plain) {
        return refused("use 1 to 64 letters, digits, `-`, `_` and `.`");
    }
    if alias.starts_with(['-', '.']) {
        return refused("start with a letter, a digit or `_`");
    }
    let digits = alias.strip_prefix(['v', 'V']).unwrap_or_default();
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return refused("names such as v0003 belong to versions");
    }
    Ok(())
}
