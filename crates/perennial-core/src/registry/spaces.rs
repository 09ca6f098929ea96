//! Spaces of encoders that are not in the registry: those of other programs, and the models of APIs.
//!
//! ```text
//! registry/spaces/NAME/space.toml          dimension, metric, modality, producer
//! registry/spaces/NAME/canaries            optional: embeddings of a few fixed inputs, to notice when the producer changes
//! ```

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Registry, RegistryError};
use crate::bounded_read::read_at_most;
use crate::checksum::sha256_hex;
use crate::durable::{sync_folder, write_new};
use crate::file_lock::lock;
use crate::space::{Metric, Modality, SpaceId, SpaceRef};
use crate::version::version_number;

const FOLDER: &str = "spaces";
const SPACE_FILE: &str = "space.toml";
const CANARIES_FILE: &str = "canaries";
const FORMAT_VERSION: u32 = 1;
const MAX_SPACE_BYTES: u64 = 1 << 16;
const MAX_CANARY_BYTES: u64 = 1 << 28;
const MAX_DIM: usize = 1 << 16;
const MAX_PRODUCER_BYTES: usize = 1024;

/// The description of a space: the content of `space.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpaceSpec {
    format_version: u32,
    /// Its name.
    pub name: SpaceId,
    /// The length of its vectors.
    pub dim: usize,
    /// How its vectors are compared.
    pub metric: Metric,
    /// What is embedded.
    pub modality: Modality,
    /// What produces it, in words, such as the name and version of an API's model.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub producer: String,
    /// When it was registered, RFC 3339 in UTC.
    pub created: String,
    /// SHA-256 of the file with the canaries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canaries_sha256: Option<String>,
}

impl SpaceSpec {
    /// A space that is not registered yet.
    pub fn new(
        name: SpaceId,
        dim: usize,
        metric: Metric,
        modality: Modality,
        producer: String,
        created: String,
    ) -> Self {
        Self {
            format_version: FORMAT_VERSION,
            name,
            dim,
            metric,
            modality,
            producer,
            created,
            canaries_sha256: None,
        }
    }

    /// The space, to be compared with what files and bridges refer to.
    pub fn reference(&self) -> SpaceRef {
        SpaceRef {
            dim: self.dim,
            id: Some(self.name.clone()),
            fingerprint: self.canaries_sha256.clone(),
        }
    }

    fn check(&self) -> Result<(), String> {
        let name = self.name.as_str();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if !name.bytes().all(plain) || name.starts_with(['-', '.']) {
            return Err(format!(
                "name {name:?}: use letters, digits, `-`, `_` and `.`, and start with a letter, a digit or `_`"
            ));
        }
        if version_number(name).is_some() {
            return Err(format!(
                "name {name:?}: names such as v0003 belong to model versions, which have spaces of their own"
            ));
        }
        if !(1..=MAX_DIM).contains(&self.dim) {
            return Err(format!("dim {}: use 1 to {MAX_DIM}", self.dim));
        }
        if self.producer.len() > MAX_PRODUCER_BYTES || self.producer.chars().any(char::is_control) {
            return Err(format!(
                "producer: use at most {MAX_PRODUCER_BYTES} bytes without control characters"
            ));
        }
        Ok(())
    }
}

impl Registry {
    /// Registers a space, with the embeddings of its canaries where there are any. A name can be taken once.
    ///
    /// # Errors
    /// [`RegistryError::Space`] for values that cannot be used or a name that is taken; a folder that cannot be written.
    pub fn add_space(
        &self,
        mut spec: SpaceSpec,
        canaries: Option<&[u8]>,
    ) -> Result<SpaceSpec, RegistryError> {
        let folder = self.space_folder(&spec.name);
        let refused = |problem: String| RegistryError::Space {
            path: folder.join(SPACE_FILE),
            problem,
        };
        spec.check().map_err(refused)?;
        spec.canaries_sha256 = canaries.map(sha256_hex);
        let _lock = lock(&self.root.join(super::LOCK_FILE))?;
        if folder.exists() {
            return Err(refused(format!(
                "space {} is registered already; choose another name, since bridges and certificates refer to the one that is there",
                spec.name
            )));
        }
        let parent = self.root.join(FOLDER);
        fs_err::create_dir_all(&parent)?;
        remove_unregistered(&parent);
        let new = tempfile::Builder::new()
            .prefix(super::UNPUBLISHED_PREFIX)
            .tempdir_in(&parent)?;
        let text = toml::to_string(&spec).expect("a space has string keys and no empty values");
        write_new(&new.path().join(SPACE_FILE), text.as_bytes())?;
        if let Some(canaries) = canaries {
            write_new(&new.path().join(CANARIES_FILE), canaries)?;
        }
        sync_folder(new.path())?;
        fs_err::rename(new.path(), &folder)?;
        // The folder has its final name now and must not be cleaned up.
        let _ = new.keep();
        sync_folder(&parent)?;
        Ok(spec)
    }

    /// A registered space.
    ///
    /// # Errors
    /// No such space (the error lists what exists), or a `space.toml` that is broken.
    pub fn space(&self, name: &SpaceId) -> Result<SpaceSpec, RegistryError> {
        let path = self.space_folder(name).join(SPACE_FILE);
        let broken = |problem: String| RegistryError::Space {
            path: path.clone(),
            problem,
        };
        if !path.exists() {
            let known: Vec<String> = self
                .space_names()?
                .iter()
                .map(ToString::to_string)
                .collect();
            let known = match known.is_empty() {
                true => "none is registered".to_owned(),
                false => format!("registered: {}", known.join(", ")),
            };
            return Err(broken(format!(
                "there is no space {name:?}; {known}",
                name = name.as_str()
            )));
        }
        let bytes = read_at_most(&path, MAX_SPACE_BYTES)?;
        let text = String::from_utf8(bytes).map_err(|_| broken("is not UTF-8 text".to_owned()))?;
        let spec: SpaceSpec =
            toml::from_str(&text).map_err(|error| broken(error.message().to_owned()))?;
        if spec.format_version != FORMAT_VERSION {
            return Err(broken(format!(
                "format_version is {}, this program reads {FORMAT_VERSION}; use a newer Perennial",
                spec.format_version
            )));
        }
        spec.check().map_err(broken)?;
        if spec.name != *name {
            return Err(broken(format!(
                "the name is {}, but the folder is {name}",
                spec.name
            )));
        }
        Ok(spec)
    }

    /// The file with the embeddings of a space's canaries, verified against its hash; none where the space has none.
    ///
    /// # Errors
    /// A file that is missing or was changed.
    pub fn canaries(&self, spec: &SpaceSpec) -> Result<Option<Vec<u8>>, RegistryError> {
        let Some(expected) = &spec.canaries_sha256 else {
            return Ok(None);
        };
        let path = self.space_folder(&spec.name).join(CANARIES_FILE);
        let bytes = read_at_most(&path, MAX_CANARY_BYTES)?;
        if sha256_hex(&bytes) != *expected {
            return Err(RegistryError::Space {
                path,
                problem: "was changed since the space was registered; restore it from a copy"
                    .to_owned(),
            });
        }
        Ok(Some(bytes))
    }

    /// The names of all registered spaces, in alphabetical order.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn space_names(&self) -> Result<Vec<SpaceId>, RegistryError> {
        let folder = self.root.join(FOLDER);
        if !folder.is_dir() {
            return Ok(Vec::new());
        }
        let mut names = Vec::new();
        for entry in fs_err::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') || !entry.path().join(SPACE_FILE).is_file() {
                continue;
            }
            names.extend(SpaceId::new(name));
        }
        names.sort_unstable();
        Ok(names)
    }

    fn space_folder(&self, name: &SpaceId) -> PathBuf {
        // A name with a slash is refused before anything is written, and must not lead out of the folder when it is read.
        self.root
            .join(FOLDER)
            .join(name.as_str().replace(['/', '\\'], "_"))
    }
}

/// Removes leftovers of a crash; only called under the lock, when nothing else is being registered. Only what a registration writes is removed: a
/// folder with anything else in it stays.
fn remove_unregistered(parent: &Path) {
    for entry in fs_err::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name
            .to_string_lossy()
            .starts_with(super::UNPUBLISHED_PREFIX)
        {
            for file in [SPACE_FILE, CANARIES_FILE] {
                let _ = fs_err::remove_file(entry.path().join(file));
            }
            let _ = fs_err::remove_dir(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, dim: usize) -> SpaceSpec {
        SpaceSpec::new(
            SpaceId::new(name).unwrap(),
            dim,
            Metric::Cosine,
            Modality::Text,
            "sentence encoder, version 2".to_owned(),
            "2026-11-25T00:00:00Z".to_owned(),
        )
    }

    #[test]
    fn a_space_is_registered_once_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::create(folder.path()).unwrap();
        assert!(registry.space_names().unwrap().is_empty());
        // Of a process that was killed, and of somebody else.
        let abandoned = folder.path().join("spaces/.publish-abandoned");
        let notes = folder.path().join("spaces/.publish-notes");
        for (folder, file) in [(&abandoned, SPACE_FILE), (&notes, "notes.txt")] {
            std::fs::create_dir_all(folder).unwrap();
            std::fs::write(folder.join(file), "x").unwrap();
        }
        let added = registry
            .add_space(spec("minilm", 384), Some(b"canaries"))
            .unwrap();
        assert!(!abandoned.exists() && notes.join("notes.txt").exists());
        assert_eq!(registry.space(&added.name).unwrap(), added);
        assert_eq!(registry.canaries(&added).unwrap().unwrap(), b"canaries");
        assert_eq!(
            registry.space_names().unwrap(),
            std::slice::from_ref(&added.name)
        );
        assert_eq!(added.reference().fingerprint, added.canaries_sha256);
        let again = registry.add_space(spec("minilm", 256), None).unwrap_err();
        assert!(again.to_string().contains("registered already"), "{again}");
        assert_eq!(registry.space(&added.name).unwrap().dim, 384);
    }

    #[test]
    fn unusable_values_write_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::create(folder.path()).unwrap();
        for (name, dim) in [("v0003", 4), ("../x", 4), (".x", 4), ("a b", 4), ("x", 0)] {
            assert!(registry.add_space(spec(name, dim), None).is_err(), "{name}");
        }
        assert!(registry.space_names().unwrap().is_empty());
        let unknown = registry
            .space(&SpaceId::new("../../etc").unwrap())
            .unwrap_err();
        assert!(
            unknown.to_string().contains("none is registered"),
            "{unknown}"
        );
    }

    #[test]
    fn changed_files_are_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::create(folder.path()).unwrap();
        let added = registry.add_space(spec("a", 2), Some(b"one")).unwrap();
        let files = folder.path().join("spaces/a");
        std::fs::write(files.join(CANARIES_FILE), b"two").unwrap();
        assert!(registry.canaries(&added).is_err());
        for text in ["dim = 2", "format_version = 1\nunknown = 2", "\u{0}"] {
            std::fs::write(files.join(SPACE_FILE), text).unwrap();
            let error = registry.space(&added.name).unwrap_err().to_string();
            assert!(error.contains("space.toml"), "{error}");
        }
    }
}
