//! Embeddings on the command line: a file in any of the formats, or `VERSION@SET:SPLIT`, a set of images that a registered version embeds.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context;
use perennial_core::{ItemId, SpaceId, SpaceRef};
use perennial_formats::Label;
use perennial_upgrade::{Rows, Source};

use crate::arguments::GlobalArguments;
use crate::embedding_cache::EmbeddingCache;
use crate::exit_status::usage;
use crate::interrupt::Interrupt;
use crate::measurement::Measurement;
use crate::pictures::Pictures;
use crate::probe::Probe;
use crate::set_argument::SetArgument;
use crate::terminal::Terminal;

/// Where embeddings of registered versions are kept, below the folder of runs.
const CACHE_FOLDER: &str = "embeddings";

/// Embeddings named on the command line.
#[derive(Clone, Debug, PartialEq)]
pub enum VectorArgument {
    File(PathBuf),
    Version { version: String, set: SetArgument },
}

impl FromStr for VectorArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // A file with an @ in its name stays reachable.
        if let Some((version, set)) = text.split_once('@')
            && !Path::new(text).exists()
            && !version.is_empty()
            && !version.contains(['/', '.'])
        {
            return Ok(Self::Version {
                version: version.to_owned(),
                set: set.parse()?,
            });
        }
        if text.is_empty() {
            return Err("name a file, or VERSION@SET:SPLIT".to_owned());
        }
        Ok(Self::File(text.into()))
    }
}

impl fmt::Display for VectorArgument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Version { version, set } => write!(f, "{version}@{set}"),
        }
    }
}

/// Embeddings with everything that a command needs to know of them.
pub struct Vectors {
    /// As the user named them.
    pub name: String,
    /// Raw or unit vectors.
    pub rows: Rows,
    pub ids: Option<Vec<ItemId>>,
    pub labels: Option<Vec<Label>>,
    /// Of the inputs, where they were asked for and are at hand.
    pub pictures: Option<Pictures>,
    /// For documents.
    pub source: Source,
}

impl Vectors {
    /// Takes labels from a file, if one is named.
    pub fn read_labels(&mut self, file: Option<&Path>) -> anyhow::Result<()> {
        let Some(file) = file else {
            return Ok(());
        };
        let labels = perennial_formats::read_labels(file)?;
        if labels.len() != self.rows.len() {
            return Err(usage(format!(
                "{} has {} labels, but {} has {} rows",
                file.display(),
                labels.len(),
                self.name,
                self.rows.len()
            )));
        }
        self.labels = Some(labels);
        Ok(())
    }
}

/// Reads and computes embeddings.
pub struct VectorLoader<'a> {
    pub global: &'a GlobalArguments,
    pub terminal: &'a Terminal,
    pub interrupt: Interrupt,
    /// Whether pictures of the inputs are wanted, which take memory.
    pub pictures: bool,
}

impl VectorLoader<'_> {
    /// Reads a file, or embeds a set. The option of this name, if it is given, names the space where the file does not.
    pub fn load(
        &self,
        argument: &VectorArgument,
        space: (&str, Option<&SpaceId>),
    ) -> anyhow::Result<Vectors> {
        let vectors = match argument {
            VectorArgument::File(path) => self.read(path)?,
            VectorArgument::Version { version, set } => self.embed(version, set)?,
        };
        self.of_space(vectors, &argument.to_string(), space)
    }

    /// Embeddings from elsewhere with what is known of their space; `argument` is what messages call them.
    pub fn of_space(
        &self,
        mut vectors: Vectors,
        argument: &str,
        (option, space): (&str, Option<&SpaceId>),
    ) -> anyhow::Result<Vectors> {
        if vectors.rows.is_empty() {
            return Err(usage(format!("{argument}: holds no embeddings")));
        }
        if let Some(space) = space {
            let known = &mut vectors.rows.space;
            match &known.id {
                Some(own) if own != space => {
                    return Err(usage(format!(
                        "{argument}: its embeddings are of space {own}, not {space} ({option})"
                    )));
                }
                _ => known.id = Some(space.clone()),
            }
        }
        self.identify(argument, (option, space), &mut vectors.rows.space)?;
        Ok(vectors)
    }

    /// Completes a space that has only a name by what the registry has under this name, if it has it: certificates count for galleries only
    /// with the fingerprints of both spaces. Names of versions and spaces are given once.
    fn identify(
        &self,
        argument: &str,
        (option, given): (&str, Option<&SpaceId>),
        known: &mut SpaceRef,
    ) -> anyhow::Result<()> {
        let (Some(id), None) = (&known.id, &known.fingerprint) else {
            return Ok(());
        };
        let Ok(registry) = self.global.open_registry() else {
            return Ok(());
        };
        let version = registry.get(id.as_str()).ok();
        let registered = match version.filter(|version| version.name == id.as_str()) {
            Some(version) => version.space(),
            None => match registry.space(id) {
                Ok(spec) => spec.reference(),
                Err(_) => return Ok(()),
            },
        };
        if registered.dim != known.dim {
            let remedy = match given {
                Some(_) => format!("name the space that they are of with {option}"),
                None => "the file names this space; write it anew with the name of the space that they are of".to_owned(),
            };
            return Err(usage(format!(
                "{argument}: its embeddings have {} dimensions, but {id} in the registry has {}; {remedy}",
                known.dim, registered.dim
            )));
        }
        *known = registered;
        Ok(())
    }

    fn embed(&self, version: &str, set: &SetArgument) -> anyhow::Result<Vectors> {
        let registry = self.global.open_registry()?;
        let version = registry.get(version)?;
        let probe = Probe::load_for(&set.0, &self.global.data, std::slice::from_ref(&version))?;
        let measurement = Measurement {
            registry: &registry,
            global: self.global,
            cache: EmbeddingCache::new(self.global.runs.join(CACHE_FOLDER)),
            terminal: self.terminal,
            interrupt: self.interrupt,
        };
        let embeddings = measurement.complete_embeddings(&version, &probe)?;
        let labels = embeddings.labels().map(|labels| {
            labels
                .iter()
                .map(|&label| Label::Number(label.into()))
                .collect()
        });
        Ok(Vectors {
            name: format!("{}@{set}", version.name),
            rows: Rows::embedded(&embeddings, version.space()),
            ids: Some(
                embeddings
                    .ids()
                    .iter()
                    .map(|&id| ItemId::from(id))
                    .collect(),
            ),
            labels,
            source: Source {
                name: format!("{}@{}", version.name, probe.description.name),
                sha256: probe.description.sha256,
                rows: embeddings.len() as u64,
            },
            pictures: self.pictures.then_some(Pictures::Images(probe.set)),
        })
    }

    fn read(&self, path: &Path) -> anyhow::Result<Vectors> {
        let set = perennial_formats::read(path)?;
        set.check_directions()
            .with_context(|| path.display().to_string())?;
        let source = file_source(path, set.len())?;
        let payloads = set.payload().filter(|_| self.pictures);
        Ok(Vectors {
            name: path.display().to_string(),
            rows: Rows::of(&set),
            ids: set.ids().map(<[ItemId]>::to_vec),
            labels: set.labels().map(<[Label]>::to_vec),
            pictures: payloads.and_then(|payloads| Pictures::of_payloads(path, payloads)),
            source,
        })
    }
}

/// A file's name, hash and number of rows.
pub fn file_source(path: &Path, rows: usize) -> anyhow::Result<Source> {
    let mut file = fs_err::File::open(path)?;
    Ok(Source {
        name: path.file_name().map_or_else(
            || path.display().to_string(),
            |name| name.to_string_lossy().into_owned(),
        ),
        sha256: perennial_core::checksum::sha256_of(&mut file)?,
        rows: rows as u64,
    })
}

/// For each row of `one`, the row of `other` that is the same input: by id where both have ids, else by position.
pub fn align(one: &Vectors, other: &Vectors) -> anyhow::Result<Vec<usize>> {
    let (one_rows, other_rows) = (one.rows.len(), other.rows.len());
    if let (Some(ids), Some(other_ids)) = (&one.ids, &other.ids) {
        let places = positions(other, other_ids)?;
        positions(one, ids)?;
        let found: Vec<usize> = ids
            .iter()
            .filter_map(|id| places.get(id).copied())
            .collect();
        if found.len() == one_rows && other_rows == one_rows {
            return Ok(found);
        }
        return Err(usage(format!(
            "{} has {one_rows} ids and {} has {other_rows}, of which {} are in both; both must hold the same inputs",
            one.name,
            other.name,
            found.len()
        )));
    }
    if one_rows != other_rows {
        return Err(usage(format!(
            "{} has {one_rows} rows and {} has {other_rows}; without ids in both, row by row must be the same input",
            one.name, other.name
        )));
    }
    Ok((0..one_rows).collect())
}

/// The row of each id.
pub fn positions<'a>(
    vectors: &Vectors,
    ids: &'a [ItemId],
) -> anyhow::Result<std::collections::HashMap<&'a ItemId, usize>> {
    let mut places = std::collections::HashMap::with_capacity(ids.len());
    for (row, id) in ids.iter().enumerate() {
        if let Some(first) = places.insert(id, row) {
            return Err(usage(format!(
                "{}: id {id} stands in rows {first} and {row}; ids must be unique",
                vectors.name
            )));
        }
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_files_are_told_apart() {
        let version = |text: &str| matches!(text.parse(), Ok(VectorArgument::Version { .. }));
        assert!(version("v0003@cifar10:test"));
        assert!(version("live@folder:photos"));
        for file in ["a.npy", "dir/v1@x.npy", "./v1@x"] {
            assert!(!version(file), "{file}");
        }
        let argument: VectorArgument = "v0003@cifar10:test".parse().unwrap();
        assert_eq!(argument.to_string(), "v0003@cifar10:test");
        assert!("".parse::<VectorArgument>().is_err());
    }
}
