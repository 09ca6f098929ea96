//! A run's folder: `experiment.toml`, the resolved configuration, beside what the run writes.

use std::path::{Path, PathBuf};

use perennial_core::Registry;

use crate::exit_status::usage;
use crate::suggestion;

const CONFIGURATION_FILE: &str = "experiment.toml";
const CHECKPOINT_FOLDER: &str = "checkpoint";
/// Held by the process that works on the run.
const LOCK_FILE: &str = ".lock";

/// The folder of one run.
#[derive(Clone, Debug)]
pub struct RunFolder(PathBuf);

impl RunFolder {
    /// Begins a run in a folder that holds none, and writes its configuration there.
    pub fn begin(path: PathBuf, configuration: &str) -> anyhow::Result<Self> {
        let folder = Self(path);
        if folder.has_begun() {
            return Err(usage(format!(
                "{} already holds a run; continue it with --resume, or give the new one another --name",
                folder.path().display()
            )));
        }
        fs_err::create_dir_all(folder.path())?;
        folder.write_configuration(configuration)?;
        Ok(folder)
    }

    pub fn write_configuration(&self, configuration: &str) -> anyhow::Result<()> {
        Ok(perennial_core::write_atomically(
            self.configuration_path(),
            configuration,
        )?)
    }

    /// The folder of a run that exists, by path or by its name below `runs`.
    pub fn find(run: &Path, runs: &Path) -> anyhow::Result<Self> {
        let candidates = [run.to_owned(), runs.join(run)];
        let found = candidates
            .into_iter()
            .map(Self)
            .find(|folder| folder.configuration_path().is_file());
        found.ok_or_else(|| {
            let names = run_names(runs);
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let wanted = run.file_name().unwrap_or_default().to_string_lossy();
            usage(format!(
                "{} is no run: it holds no {CONFIGURATION_FILE}; in {}, {}",
                run.display(),
                runs.display(),
                suggestion::describe(&wanted, &names)
            ))
        })
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The resolved configuration of the run.
    pub fn configuration_path(&self) -> PathBuf {
        self.0.join(CONFIGURATION_FILE)
    }

    /// Whether there is anything to resume or to lose.
    pub fn has_begun(&self) -> bool {
        self.0.join(CHECKPOINT_FOLDER).exists()
    }

    /// Takes back what [`begin`](Self::begin) wrote, and an empty registry, when the run failed before its first
    /// checkpoint.
    pub fn abandon_unless_begun(&self, registry: &Registry) {
        if self.has_begun() {
            return;
        }
        // Failures here must not hide the one that led here. Folders go only if nothing else is in them.
        for path in [self.configuration_path(), self.0.join(LOCK_FILE)] {
            let _ = std::fs::remove_file(path);
        }
        for folder in [
            Some(self.path()),
            self.path().parent(),
            Some(registry.root()),
        ] {
            let _ = folder.map(std::fs::remove_dir);
        }
    }
}

fn run_names(runs: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(runs).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter(|entry| entry.path().join(CONFIGURATION_FILE).is_file())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}
