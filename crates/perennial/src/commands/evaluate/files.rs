//! `perennial evaluate` of embeddings files of any program.

use std::path::{Path, PathBuf};

use perennial_core::{Embeddings, sha256_hex};
use perennial_eval::{Compatibility, ProbeSet};

use crate::exit_status::usage;
use crate::interrupt::Interrupt;
use crate::measurement::{Directions, Judgement, Tests};
use crate::terminal::Terminal;

/// Embeddings of any program, to be measured instead of a run.
#[derive(Debug, clap::Args)]
pub struct FileArguments {
    /// Measure embeddings from any program instead of a run: a folder with the subfolders `queries` and `gallery`, each with
    /// one .safetensors file per version; sorted by file name, the oldest version comes first
    #[arg(long, value_name = "DIR")]
    embeddings: Option<PathBuf>,
    /// Files of query embeddings, .safetensors as `perennial embed` writes them, one per version, oldest version first
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "gallery_embeddings")]
    query_embeddings: Vec<PathBuf>,
    /// Files of gallery embeddings of the same versions, in the same order
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "query_embeddings")]
    gallery_embeddings: Vec<PathBuf>,
}

/// Measures embeddings from files.
pub fn measure_files(
    arguments: &FileArguments,
    judgement: Judgement,
    terminal: &Terminal,
    interrupt: Interrupt,
) -> anyhow::Result<Compatibility> {
    let (query_paths, gallery_paths) = match &arguments.embeddings {
        Some(folder) => (
            files_in(&folder.join("queries"))?,
            files_in(&folder.join("gallery"))?,
        ),
        None => (
            arguments.query_embeddings.clone(),
            arguments.gallery_embeddings.clone(),
        ),
    };
    if query_paths.len() != gallery_paths.len() {
        return Err(usage(format!(
            "{} files of query embeddings and {} of gallery embeddings; give one of each for every version",
            query_paths.len(),
            gallery_paths.len()
        )));
    }
    let queries = read_all(&query_paths)?;
    let galleries = read_all(&gallery_paths)?;
    for (index, (query, gallery)) in queries.iter().zip(&galleries).enumerate() {
        if query.model_version() != gallery.model_version() {
            return Err(usage(format!(
                "{} is of model version {}, {} of {}; give both sides in the same order",
                query_paths[index].display(),
                query.model_version(),
                gallery_paths[index].display(),
                gallery.model_version()
            )));
        }
    }
    let probes = [
        probe_set("queries", &queries, &query_paths)?,
        probe_set("gallery", &galleries, &gallery_paths)?,
    ];
    let names: Vec<String> = queries
        .iter()
        .map(|set| set.model_version().to_owned())
        .collect();
    let tests = Tests::run(
        |index| Ok(queries[index].clone()),
        &galleries,
        Directions::Forward,
        terminal,
        interrupt,
    )?;
    tests.report(&names, [&probes[0], &probes[1]], judgement)
}

fn files_in(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs_err::read_dir(folder).map_err(|error| usage(error.to_string()))?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "safetensors")
        {
            paths.push(path);
        }
    }
    if paths.is_empty() {
        return Err(usage(format!(
            "{} holds no .safetensors files",
            folder.display()
        )));
    }
    paths.sort();
    Ok(paths)
}

fn read_all(paths: &[PathBuf]) -> anyhow::Result<Vec<Embeddings>> {
    let read = |path: &PathBuf| {
        if !path.exists() {
            return Err(usage(format!("{} does not exist", path.display())));
        }
        Ok(perennial_formats::read_embeddings(path)?)
    };
    paths.iter().map(read).collect()
}

/// Describes the queries or the gallery, after checking that ids and labels are the same in every file.
fn probe_set(name: &str, versions: &[Embeddings], paths: &[PathBuf]) -> anyhow::Result<ProbeSet> {
    let [first, rest @ ..] = versions else {
        return Err(usage(format!("there are no {name} embeddings")));
    };
    for (other, path) in rest.iter().zip(&paths[1..]) {
        if other.ids() != first.ids() || other.labels() != first.labels() {
            return Err(usage(format!(
                "{} and {} differ in ids or labels; every version must embed the same {name} in the same order",
                paths[0].display(),
                path.display()
            )));
        }
    }
    let mut content = Vec::with_capacity(first.len() * 12);
    content.extend(first.ids().iter().flat_map(|id| id.to_le_bytes()));
    let labels = first.labels().unwrap_or_default();
    content.extend(labels.iter().flat_map(|label| label.to_le_bytes()));
    Ok(ProbeSet {
        name: format!("{name} from files"),
        argument: None,
        count: first.len(),
        sha256: sha256_hex(&content),
    })
}
