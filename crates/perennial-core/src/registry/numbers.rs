//! `numbers.toml`: the highest version number that was ever given.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::atomic::write_atomically;
use crate::bounded_read::read_at_most;
use crate::registry::RegistryError;

const NUMBERS_FILE: &str = "numbers.toml";
const MAX_NUMBERS_BYTES: u64 = 1 << 12;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Numbers {
    highest: u64,
}

/// The highest number ever given; none before the first version.
pub(super) fn read(root: &Path) -> Result<Option<u64>, RegistryError> {
    let path = root.join(NUMBERS_FILE);
    let bytes = match read_at_most(&path, MAX_NUMBERS_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let broken = |problem: String| RegistryError::Numbers {
        path: path.clone(),
        problem,
    };
    let text = String::from_utf8(bytes).map_err(|_| broken("is not UTF-8 text".to_owned()))?;
    let numbers: Numbers =
        toml::from_str(&text).map_err(|error| broken(error.message().to_owned()))?;
    Ok(Some(numbers.highest))
}

pub(super) fn write(root: &Path, highest: u64) -> Result<(), RegistryError> {
    let text = format!(
        "# The highest version number ever given. A number is never given twice.\nhighest = {highest}\n"
    );
    Ok(write_atomically(root.join(NUMBERS_FILE), text)?)
}
