//! Embeddings on disk, so that no version embeds the same evaluation set twice.
//!
//! A file's name ends in a hash of everything that the embeddings depend on: the weights, the images and labels, and the
//! preprocessing. A changed set or version therefore has another file name, and stale files need not be deleted.

use std::path::{Path, PathBuf};

use perennial_core::{Embeddings, ModelVersion, Output, sha256_hex};
use perennial_formats::{read_embeddings_with_missing, write_embeddings};

use crate::probe::Probe;

/// Hexadecimal digits of the hash in a file's name.
const HASH_DIGITS: usize = 16;

/// A folder of cached embeddings.
#[derive(Clone, Debug)]
pub struct EmbeddingCache(PathBuf);

impl EmbeddingCache {
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self(folder.into())
    }

    /// The embeddings of an earlier pass; `None` where there are none that can be used.
    pub fn get(&self, version: &ModelVersion, probe: &Probe) -> Option<Embeddings> {
        let path = self.path(version, probe);
        if !path.exists() {
            return None;
        }
        match read_embeddings_with_missing(&path) {
            Ok(found) if fits(&found, version, probe) => Some(found),
            Ok(_) => {
                tracing::warn!(
                    "{} does not match its file name; embedding again",
                    path.display()
                );
                None
            }
            Err(error) => {
                tracing::warn!("{error}; embedding again");
                None
            }
        }
    }

    pub fn put(
        &self,
        version: &ModelVersion,
        probe: &Probe,
        embeddings: &Embeddings,
    ) -> anyhow::Result<()> {
        fs_err::create_dir_all(&self.0)?;
        let output = Output::prepare(self.path(version, probe))?;
        Ok(write_embeddings(embeddings, output)?)
    }

    fn path(&self, version: &ModelVersion, probe: &Probe) -> PathBuf {
        let part = file_name_part(&probe.description.name);
        let hash = content_hash(version, &probe.description.sha256);
        self.0
            .join(format!("{}-{part}-{hash}.safetensors", version.name))
    }
}

fn fits(found: &Embeddings, version: &ModelVersion, probe: &Probe) -> bool {
    found.model_version() == version.name
        && found.dim() == version.dim
        && found.labels() == Some(probe.set.labels())
}

fn content_hash(version: &ModelVersion, set_sha256: &str) -> String {
    let mut key = format!("{} {set_sha256}", version.weights_sha256);
    match version.network().map(|network| &network.preprocessing) {
        Some(preprocessing) => {
            for value in preprocessing.mean.iter().chain(&preprocessing.std) {
                key.push_str(&format!(" {:08x}", value.to_bits()));
            }
            let network = version.network();
            let layer = network.is_none_or(|it| it.architecture.embedding.is_layer());
            if !layer {
                // The weights are those of a version that embeds by its layer.
                key.push_str(" features");
            }
        }
        None => key.push_str(&version.space().fingerprint.unwrap_or_default()),
    }
    let mut hash = sha256_hex(key.as_bytes());
    hash.truncate(HASH_DIGITS);
    hash
}

/// A set's name as part of a file name: the last folder of a path is enough, the hash tells sets apart.
fn file_name_part(name: &str) -> String {
    let short = name.strip_prefix("folder:").map_or(name, |path| {
        Path::new(path)
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or("folder")
    });
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || c == '.' {
            c
        } else {
            '-'
        }
    };
    short.chars().take(40).map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_set_name_makes_a_file_name() {
        assert_eq!(file_name_part("cifar10/test"), "cifar10-test");
        assert_eq!(file_name_part("folder:/home/me/my images"), "my-images");
        assert_eq!(file_name_part("folder:.."), "folder");
    }
}
