//! The registry: a folder of immutable model versions and the aliases that point to them.
//!
//! ```text
//! registry/
//!   aliases.toml                live = "v0003"
//!   numbers.toml                highest = 3: the highest number ever given
//!   v0003/model.toml            see ModelVersion
//!   v0003/weights.safetensors
//!   v0004/model.onnx            of an encoder of another program: the files that its model.toml lists
//!   spaces/NAME/space.toml      a space of an outside encoder: see SpaceSpec
//!   bridges/b0001/              a map from one space to another
//!   slots.toml                  who places classes at which vertices of a simplex: see Slot
//! ```

mod aliases;
mod errors;
mod numbers;
mod outside;
mod records;
mod slots;
mod spaces;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

pub use errors::RegistryError;
pub use slots::{Slot, SlotPlace, SlotRequest};
pub use spaces::SpaceSpec;

use crate::bounded_read::read_at_most;
use crate::checksum::sha256_hex;
use crate::compatibility::{self, CompatibilityRecords};
use crate::durable::{sync_folder, write_new};
use crate::file_lock::lock;
use crate::version::{ModelVersion, VersionDraft, VersionError, version_name, version_number};
use crate::working_folder::WorkingFolder;

const MODEL_FILE: &str = "model.toml";
const WEIGHTS_FILE: &str = "weights.safetensors";
const LOCK_FILE: &str = ".lock";
/// Prefix of the folders of versions that are being published.
const UNPUBLISHED_PREFIX: &str = ".publish-";
/// Prefix of the folders of versions that are being tried.
const TRIAL_PREFIX: &str = ".trial-";

/// The largest `model.toml` that is read.
const MAX_MODEL_BYTES: u64 = 1 << 20;
const MAX_WEIGHTS_BYTES: u64 = 1 << 36;

/// A folder of model versions. Versions never change once published; only aliases move.
///
/// Any number of threads and processes may use one registry: writers take turns through a lock file, and readers see
/// a version either whole or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registry {
    root: PathBuf,
}

impl Registry {
    /// Opens an existing registry. Reading needs no write access to the folder.
    ///
    /// # Errors
    /// The folder does not exist.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, RegistryError> {
        let root = root.into();
        if !root.is_dir() {
            return Err(RegistryError::NoFolder { path: root });
        }
        Ok(Self { root })
    }

    /// Opens a registry, after creating its folder where it does not exist.
    ///
    /// # Errors
    /// The folder cannot be created.
    pub fn create(root: impl Into<PathBuf>) -> Result<Self, RegistryError> {
        let root = root.into();
        fs_err::create_dir_all(&root)?;
        Self::open(root)
    }

    /// The registry's folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Publishes a version under the next number, which no version ever had, and returns it with its name and the hash of its weights.
    ///
    /// `weights` is the content of `weights.safetensors`. The version appears in one step, after everything has
    /// reached the disk; a crash leaves nothing but a hidden folder, which the next call removes.
    ///
    /// # Errors
    /// A draft that contradicts itself, weights that are empty, a folder that cannot be written.
    pub fn publish(
        &self,
        draft: VersionDraft,
        weights: &[u8],
    ) -> Result<ModelVersion, RegistryError> {
        draft.validate().map_err(RegistryError::Draft)?;
        let refused = |key: &'static str, problem: &str| {
            Err(RegistryError::Draft(VersionError::Value {
                key,
                problem: problem.to_owned(),
            }))
        };
        if weights.is_empty() {
            return refused("weights", "are empty");
        }
        if draft.encoder.outside().is_some() {
            let problem = "an encoder of another program has files of its own, not one of weights";
            return refused("encoder", problem);
        }
        self.publish_folder(draft, sha256_hex(weights), weights.len() as u64, |folder| {
            Ok(write_new(&folder.join(WEIGHTS_FILE), weights)?)
        })
    }

    /// A folder for a version that is tried before it is published: beside the versions, where there is room, and not listed among them. It is removed
    /// with the value; those that killed processes left are removed first.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn trial_folder(&self) -> Result<WorkingFolder, RegistryError> {
        Ok(WorkingFolder::create(&self.root, TRIAL_PREFIX)?)
    }

    /// Removes the trial folders whose processes were killed, and says how many there were.
    pub fn remove_abandoned_trials(&self) -> usize {
        WorkingFolder::remove_abandoned(&self.root, TRIAL_PREFIX)
    }

    /// Publishes a version whose files `write` puts beside its `model.toml`.
    fn publish_folder(
        &self,
        draft: VersionDraft,
        weights_sha256: String,
        weights_bytes: u64,
        write: impl FnOnce(&Path) -> Result<(), RegistryError>,
    ) -> Result<ModelVersion, RegistryError> {
        let _lock = lock(&self.root.join(LOCK_FILE))?;
        self.remove_unpublished();
        let number = self.next_number()?;
        let version = draft.into_version(version_name(number), weights_sha256, weights_bytes);

        let folder = tempfile::Builder::new()
            .prefix(UNPUBLISHED_PREFIX)
            .tempdir_in(&self.root)?;
        // First, because it lists the files that have to be removed after a crash.
        write_new(
            &folder.path().join(MODEL_FILE),
            version.to_toml().as_bytes(),
        )?;
        write(folder.path())?;
        sync_folder(folder.path())?;
        // Before the version appears: a number may be lost to a crash, but is never given twice.
        numbers::write(&self.root, number)?;
        // A rename never replaces a folder that holds files, so a version of another writer cannot be overwritten.
        fs_err::rename(folder.path(), self.folder(&version.name))?;
        // The folder has its final name now and must not be cleaned up.
        let _ = folder.keep();
        sync_folder(&self.root)?;
        Ok(version)
    }

    /// The version of a name (`v0003`) or of the alias that points to it.
    ///
    /// # Errors
    /// An unknown name (the error lists what exists), or a `model.toml` that is broken or belongs to another version.
    pub fn get(&self, name_or_alias: &str) -> Result<ModelVersion, RegistryError> {
        let name = self.resolve(name_or_alias)?;
        let path = self.folder(&name).join(MODEL_FILE);
        let broken = |problem| RegistryError::Model {
            path: path.clone(),
            problem,
        };
        let bytes = read_at_most(&path, MAX_MODEL_BYTES)?;
        let text = String::from_utf8(bytes).map_err(|_| {
            broken(VersionError::Syntax {
                line: 1,
                problem: "is not UTF-8 text".to_owned(),
            })
        })?;
        let version = ModelVersion::from_toml(&text).map_err(broken)?;
        if version.name != name {
            return Err(broken(VersionError::Value {
                key: "name",
                problem: format!("is {}, but the folder is {name}", version.name),
            }));
        }
        Ok(version)
    }

    /// All versions, oldest first.
    ///
    /// # Errors
    /// The folder cannot be read, or a `model.toml` is broken; the error names it.
    pub fn list(&self) -> Result<Vec<ModelVersion>, RegistryError> {
        self.names()?.iter().map(|name| self.get(name)).collect()
    }

    /// The names of all versions, oldest first, without reading them.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn names(&self) -> Result<Vec<String>, RegistryError> {
        let mut numbers = self.numbers()?;
        numbers.retain(|&number| self.exists(&version_name(number)));
        numbers.sort_unstable();
        Ok(numbers.into_iter().map(version_name).collect())
    }

    /// The file with a version's weights. Read it through [`load_weights`](Self::load_weights), which verifies it.
    pub fn weights_path(&self, version: &ModelVersion) -> PathBuf {
        self.folder(&version.name).join(WEIGHTS_FILE)
    }

    /// The content of a version's `weights.safetensors`, verified against its size and SHA-256.
    ///
    /// # Errors
    /// A file that is missing, or that is not the one that was published; a version with an encoder of another program, which has no such file.
    pub fn load_weights(&self, version: &ModelVersion) -> Result<Vec<u8>, RegistryError> {
        if version.outside().is_some() {
            return Err(RegistryError::OtherKind {
                version: version.name.clone(),
                problem: "it has the encoder of another program, not a network trained here",
            });
        }
        let path = self.weights_path(version);
        let actual = fs_err::metadata(&path)?.len();
        if actual != version.weights_bytes {
            return Err(RegistryError::WeightsSize {
                path,
                expected: version.weights_bytes,
                actual,
            });
        }
        let weights = read_at_most(&path, MAX_WEIGHTS_BYTES)?;
        let actual = sha256_hex(&weights);
        if actual != version.weights_sha256 {
            return Err(RegistryError::WeightsHash {
                path,
                expected: version.weights_sha256.clone(),
                actual,
            });
        }
        Ok(weights)
    }

    /// All aliases and the versions that they point to.
    ///
    /// # Errors
    /// An `aliases.toml` that cannot be read or holds anything but aliases.
    pub fn aliases(&self) -> Result<BTreeMap<String, String>, RegistryError> {
        aliases::read(&self.root)
    }

    /// Whether an alias may have this name, to be checked before long work.
    ///
    /// # Errors
    /// [`RegistryError::AliasName`] says what is wrong with it.
    pub fn check_alias(alias: &str) -> Result<(), RegistryError> {
        aliases::check_name(alias)
    }

    /// Points an alias at a version (a name or another alias), in one step: a reader sees the old target or the new
    /// one. Returns the version's name.
    ///
    /// # Errors
    /// A version that does not exist, an alias that is not a plain name, a folder that cannot be written.
    pub fn set_alias(&self, alias: &str, version: &str) -> Result<String, RegistryError> {
        let mut names = self.set_aliases(&[(alias, version)])?;
        Ok(names.pop().unwrap_or_default())
    }

    /// As [`set_alias`](Self::set_alias), for several aliases in one step: a reader sees all old targets or all new ones.
    ///
    /// # Errors
    /// Those of [`set_alias`](Self::set_alias); no alias has moved then.
    pub fn set_aliases(&self, moves: &[(&str, &str)]) -> Result<Vec<String>, RegistryError> {
        for (alias, _) in moves {
            aliases::check_name(alias)?;
        }
        let _lock = lock(&self.root.join(LOCK_FILE))?;
        let mut aliases = self.aliases()?;
        let mut names = Vec::with_capacity(moves.len());
        for (alias, version) in moves {
            let name = self.resolve(version)?;
            aliases.insert((*alias).to_owned(), name.clone());
            names.push(name);
        }
        aliases::write(&self.root, &aliases)?;
        Ok(names)
    }

    /// The version name behind a name or an alias.
    ///
    /// # Errors
    /// Neither a version nor an alias has this name (the error lists what exists and the nearest match), or the alias
    /// points to a version that is gone.
    pub fn resolve(&self, name_or_alias: &str) -> Result<String, RegistryError> {
        if version_number(name_or_alias).is_some() && self.exists(name_or_alias) {
            return Ok(name_or_alias.to_owned());
        }
        let aliases = self.aliases()?;
        match aliases.get(name_or_alias) {
            Some(version) if self.exists(version) => Ok(version.clone()),
            Some(version) => Err(RegistryError::DanglingAlias {
                alias: name_or_alias.to_owned(),
                version: version.clone(),
                registry: self.root.clone(),
            }),
            None => Err(RegistryError::Unknown {
                name: name_or_alias.to_owned(),
                registry: self.root.clone(),
                versions: self.names()?,
                aliases,
            }),
        }
    }

    /// Whether a name belongs to a version that was published here once and has been deleted since.
    ///
    /// # Errors
    /// A `numbers.toml` that cannot be read.
    pub fn is_deleted(&self, name: &str) -> Result<bool, RegistryError> {
        let Some(number) = version_number(name) else {
            return Ok(false);
        };
        let given = numbers::read(&self.root)?.unwrap_or(0);
        Ok((1..=given).contains(&number) && !self.folder(name).exists())
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn exists(&self, name: &str) -> bool {
        self.folder(name).join(MODEL_FILE).is_file()
    }

    /// The numbers of everything that looks like a version, whole or not.
    fn numbers(&self) -> Result<Vec<u64>, RegistryError> {
        let mut numbers = Vec::new();
        for entry in fs_err::read_dir(&self.root)? {
            numbers.extend(entry?.file_name().to_str().and_then(version_number));
        }
        Ok(numbers)
    }

    fn next_number(&self) -> Result<u64, RegistryError> {
        // A number stays taken when its folder is deleted: stored embeddings and certificates carry the name, and it must not
        // come to mean another model. Registries of programs before 0.2 have no numbers.toml, only what names the version.
        let mut taken = self.numbers()?;
        taken.extend(numbers::read(&self.root)?);
        taken.extend(
            self.aliases()?
                .values()
                .filter_map(|name| version_number(name)),
        );
        let records = self.root.join(compatibility::FILE);
        if let Ok(records) = CompatibilityRecords::read(&records) {
            let names = records
                .records
                .iter()
                .flat_map(|record| [&record.query_version, &record.gallery_version]);
            taken.extend(names.filter_map(|name| version_number(name)));
        }
        let highest = taken.into_iter().max().unwrap_or(0);
        highest.checked_add(1).ok_or_else(|| {
            io::Error::other(format!(
                "{}: no version number is left",
                self.root.display()
            ))
            .into()
        })
    }

    /// Removes leftovers of a crash; only called under the lock, when no other publication is running.
    fn remove_unpublished(&self) {
        let Ok(entries) = fs_err::read_dir(&self.root) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if name
                .to_str()
                .is_some_and(|name| name.starts_with(UNPUBLISHED_PREFIX))
            {
                // Left-overs cost space but do no harm, so a failure here must not stop a publication. Only what a
                // publication writes is removed: a folder with anything else in it stays.
                let listed = read_at_most(entry.path().join(MODEL_FILE), MAX_MODEL_BYTES).ok();
                let listed = listed.and_then(|bytes| String::from_utf8(bytes).ok());
                let listed = listed.and_then(|text| ModelVersion::from_toml(&text).ok());
                let files = listed.as_ref().and_then(ModelVersion::outside);
                let files = files.map_or(&[][..], |outside| &outside.files);
                for file in files {
                    let _ = fs_err::remove_file(entry.path().join(&file.name));
                }
                for file in [MODEL_FILE, WEIGHTS_FILE] {
                    let _ = fs_err::remove_file(entry.path().join(file));
                }
                let _ = fs_err::remove_dir(entry.path());
            }
        }
    }
}

#[cfg(test)]
mod tests;
