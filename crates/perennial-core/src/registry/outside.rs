//! Versions with encoders of other programs: their files, copied in and verified.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use super::Registry;
use super::errors::RegistryError;
use crate::checksum::sha256_of;
use crate::outside_encoder::EncoderFile;
use crate::version::{ModelVersion, VersionDraft, VersionEncoder, VersionError};

impl Registry {
    /// Publishes a version with an encoder of another program: copies its files, each under the name given with it, and writes their sizes
    /// and hashes into the `files` of its `[encoder]` table, whatever the draft says there.
    ///
    /// As in [`publish`](Self::publish), the version appears in one step, after everything has reached the disk.
    ///
    /// # Errors
    /// A draft that contradicts itself or has a network of our own, a file that cannot be read or changes meanwhile, a folder that cannot be
    /// written.
    pub fn publish_files(
        &self,
        mut draft: VersionDraft,
        files: &[(String, PathBuf)],
    ) -> Result<ModelVersion, RegistryError> {
        let VersionEncoder::Outside(outside) = &mut draft.encoder else {
            return Err(RegistryError::Draft(VersionError::Value {
                key: "encoder",
                problem: "a network trained here has weights, no files".to_owned(),
            }));
        };
        let listed = files.iter().map(|(name, source)| describe(name, source));
        outside.files = listed.collect::<Result<_, RegistryError>>()?;
        let (sha256, bytes) = (outside.files_sha256(), outside.files_bytes());
        let listed = outside.files.clone();
        draft.validate().map_err(RegistryError::Draft)?;
        self.publish_folder(draft, sha256, bytes, |folder| {
            for (file, (_, source)) in listed.iter().zip(files) {
                copy(source, &folder.join(&file.name), file)?;
            }
            Ok(())
        })
    }

    /// Where a version's file of this name lies, one that its `model.toml` lists.
    pub fn file_path(&self, version: &ModelVersion, name: &str) -> PathBuf {
        self.folder(&version.name).join(name)
    }

    /// The folder with the files of a version's outside encoder, after they were compared with `model.toml`: all sizes first, then the hashes.
    ///
    /// # Errors
    /// A file that is missing, or that is not the one that was published; a version with a network of our own.
    pub fn verified_folder(&self, version: &ModelVersion) -> Result<PathBuf, RegistryError> {
        let Some(outside) = version.outside() else {
            return Err(RegistryError::OtherKind {
                version: version.name.clone(),
                problem: "it has a network trained here, not the encoder of another program",
            });
        };
        let folder = self.folder(&version.name);
        for file in &outside.files {
            let path = folder.join(&file.name);
            let actual = fs_err::metadata(&path)?.len();
            check_size(path, file, actual)?;
        }
        for file in &outside.files {
            let path = folder.join(&file.name);
            let mut open = fs_err::File::open(&path)?;
            // No longer than listed, should the file grow meanwhile.
            let actual = sha256_of(&mut (&mut open).take(file.bytes))?;
            check_hash(path, file, actual)?;
        }
        Ok(folder)
    }

    /// Compares the files of a version, whatever its kind, with the sizes and hashes in its `model.toml`.
    ///
    /// # Errors
    /// A file that is missing, or that is not the one that was published.
    pub fn verify(&self, version: &ModelVersion) -> Result<(), RegistryError> {
        match version.outside() {
            Some(_) => self.verified_folder(version).map(drop),
            None => self.load_weights(version).map(drop),
        }
    }
}

fn describe(name: &str, source: &Path) -> Result<EncoderFile, RegistryError> {
    let mut file = fs_err::File::open(source)?;
    let bytes = file.metadata()?.len();
    Ok(EncoderFile {
        name: name.to_owned(),
        sha256: sha256_of(&mut file)?,
        bytes,
    })
}

/// Copies a file and flushes it. What arrives must be what was described.
fn copy(source: &Path, target: &Path, file: &EncoderFile) -> Result<(), RegistryError> {
    let mut from = fs_err::File::open(source)?.take(file.bytes + 1);
    let mut to = fs_err::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(target)?;
    let copied = std::io::copy(&mut from, &mut to)?;
    to.flush()?;
    to.sync_all()?;
    check_size(source.to_owned(), file, copied)?;
    let actual = sha256_of(&mut fs_err::File::open(target)?)?;
    check_hash(source.to_owned(), file, actual)
}

fn check_size(path: PathBuf, file: &EncoderFile, actual: u64) -> Result<(), RegistryError> {
    if actual == file.bytes {
        return Ok(());
    }
    Err(RegistryError::WeightsSize {
        path,
        expected: file.bytes,
        actual,
    })
}

fn check_hash(path: PathBuf, file: &EncoderFile, actual: String) -> Result<(), RegistryError> {
    if actual == file.sha256 {
        return Ok(());
    }
    Err(RegistryError::WeightsHash {
        path,
        expected: file.sha256.clone(),
        actual,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../../testdata/outside.toml");

    fn sources(folder: &Path) -> Vec<(String, PathBuf)> {
        let files = [
            ("image.onnx", "abc"),
            ("text.onnx", "abcde"),
            ("tokenizer.json", "abcd"),
        ];
        files
            .iter()
            .enumerate()
            .map(|(number, (name, content))| {
                let path = folder.join(format!("source-{number}"));
                std::fs::write(&path, content).unwrap();
                ((*name).to_owned(), path)
            })
            .collect()
    }

    #[test]
    fn files_are_copied_listed_and_verified() {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::create(folder.path().join("registry")).unwrap();
        let golden = ModelVersion::from_toml(EXAMPLE).unwrap();
        let mut draft = golden.draft();
        if let VersionEncoder::Outside(outside) = &mut draft.encoder {
            outside.files.clear();
        }
        let version = registry
            .publish_files(draft, &sources(folder.path()))
            .unwrap();
        assert_eq!(version.name, "v0001");
        assert_eq!(version.weights_sha256, golden.weights_sha256);
        assert_eq!(version.encoder, golden.encoder);
        assert_eq!(registry.get("v0001").unwrap(), version);
        let place = registry.verified_folder(&version).unwrap();
        assert_eq!(std::fs::read(place.join("text.onnx")).unwrap(), b"abcde");
        registry.verify(&version).unwrap();
        assert!(registry.load_weights(&version).is_err());

        std::fs::write(place.join("text.onnx"), "abcdX").unwrap();
        let error = registry.verify(&version).unwrap_err();
        assert!(
            matches!(error, RegistryError::WeightsHash { .. }),
            "{error}"
        );
        std::fs::write(place.join("text.onnx"), "abcdefg").unwrap();
        let error = registry.verify(&version).unwrap_err();
        assert!(
            matches!(error, RegistryError::WeightsSize { .. }),
            "{error}"
        );
        std::fs::remove_file(place.join("text.onnx")).unwrap();
        assert!(registry.verify(&version).is_err());
    }

    #[test]
    fn drafts_that_do_not_fit_publish_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::create(folder.path().join("registry")).unwrap();
        let draft = ModelVersion::from_toml(EXAMPLE).unwrap().draft();
        let mut files = sources(folder.path());
        assert!(registry.publish(draft.clone(), b"weights").is_err());
        files[1].0 = "../text.onnx".to_owned();
        assert!(registry.publish_files(draft.clone(), &files).is_err());
        files.remove(1);
        let error = registry.publish_files(draft, &files).unwrap_err();
        assert!(error.to_string().contains("encoder.text.graph"), "{error}");
        let network = include_str!("../../testdata/model.toml");
        let network = ModelVersion::from_toml(network).unwrap().draft();
        assert!(registry.publish_files(network, &files).is_err());
        assert!(registry.names().unwrap().is_empty());
    }

    #[test]
    fn what_a_crash_leaves_behind_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::create(folder.path().join("registry")).unwrap();
        let left = registry.root().join(".publish-crashed");
        std::fs::create_dir(&left).unwrap();
        std::fs::write(left.join("model.toml"), EXAMPLE).unwrap();
        std::fs::write(left.join("image.onnx"), "ab").unwrap();
        let draft = ModelVersion::from_toml(EXAMPLE).unwrap().draft();
        registry
            .publish_files(draft, &sources(folder.path()))
            .unwrap();
        assert!(!left.exists());
    }
}
