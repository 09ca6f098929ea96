//! The files of saved graphs: their names, and what is known about each.

use std::path::{Path, PathBuf};

use perennial_core::read_at_most;
use serde::{Deserialize, Serialize};

use super::tables::Epoch;
use crate::error::GalleryError;

/// Of the description; 1 was that of graphs of another kind, in files that end with `.usearch`, 2 that of graphs with one checksum for all.
pub(super) const FORMAT: u32 = 3;

/// What is known about a saved graph.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Description {
    pub(super) format: u32,
    pub(super) store: u64,
    /// Of the last rows that there were. Graphs of earlier versions lack it, and galleries without any epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) epoch: Option<Epoch>,
    pub(super) dim: usize,
    pub(super) connectivity: usize,
    /// Live rows of smaller numbers are in the graph.
    pub(super) covered: u64,
    pub(super) rows: usize,
    /// Of the graph's file.
    pub(super) bytes: u64,
    /// Of the head of that file, which has checksums of the rest.
    pub(super) sha256: String,
}

impl Description {
    /// What a file says.
    ///
    /// # Errors
    /// [`GalleryError::File`] with the file.
    pub(super) fn read(path: &Path) -> Result<Self, GalleryError> {
        let text = read_at_most(path, 1 << 16).map_err(|error| GalleryError::file(path, error))?;
        serde_json::from_slice(&text)
            .map_err(|error| GalleryError::file(path, format!("{}: {error}", path.display())))
    }
}

pub(super) struct Files {
    pub(super) graph: PathBuf,
    pub(super) partial: PathBuf,
    pub(super) description: PathBuf,
    /// A graph as earlier versions saved it, which cannot be used any more.
    pub(super) former: PathBuf,
}

impl Files {
    /// Partition 0 has the names without number.
    pub(super) fn of(folder: &Path, partition: u32) -> Self {
        let name = match partition {
            0 => "hnsw".to_owned(),
            _ => format!("hnsw-{partition}"),
        };
        Self {
            graph: folder.join(format!("{name}.graph")),
            partial: folder.join(format!("{name}.graph.partial")),
            description: folder.join(format!("{name}.json")),
            former: folder.join(format!("{name}.usearch")),
        }
    }

    /// Whose file this is by its name, and whether it is one that was saved to its end; `None` for others.
    pub(super) fn partition_of(name: &str) -> Option<(u32, bool)> {
        let (stem, ending) = name.strip_prefix("hnsw")?.split_once('.')?;
        let is_whole = match ending {
            "graph" | "json" => true,
            "graph.partial" => false,
            _ => return None,
        };
        let partition = match stem {
            "" => 0,
            _ => stem.strip_prefix('-')?.parse().ok()?,
        };
        let plain = Self::of(Path::new(""), partition).graph;
        let plain = plain.file_stem()?.to_str()? == format!("hnsw{stem}");
        plain.then_some((partition, is_whole))
    }
}

/// Removes files that are of no use any more.
pub(super) fn remove(files: &[&Path]) {
    for file in files {
        match fs_err::remove_file(file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(%error, "a saved index that is of no use cannot be removed");
            }
            _ => {}
        }
    }
}

/// The epochs that the saved graphs of a folder refer to. A description that cannot be read belongs to a graph that cannot be used.
///
/// # Errors
/// What the system says about the folder.
pub(super) fn epochs(folder: &Path) -> std::io::Result<Vec<Epoch>> {
    let mut epochs = Vec::new();
    for entry in folder.read_dir()? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_str().filter(|name| name.ends_with(".json"));
        if name.and_then(Files::partition_of).is_none() {
            continue;
        }
        match Description::read(&entry.path()) {
            Ok(description) => epochs.extend(description.epoch),
            Err(error) => tracing::debug!(%error, "a saved index refers to no epoch"),
        }
    }
    Ok(epochs)
}
