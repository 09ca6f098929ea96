//! A run's folder: the resolved configuration and the files that the run writes.
//!
//! The configuration that the user wrote may lie here too, as `experiment.toml`. It is not changed, and the resolved one goes
//! to `experiment.resolved.toml`. Files that the run has not made are never removed or overwritten.

use std::path::{Path, PathBuf};

use perennial_core::output::{OutputError, check_folder, make_folders};
use perennial_core::{Registry, holds, write_atomically};

use crate::exit_status::usage;
use crate::suggestion;

const CONFIGURATION_FILE: &str = "experiment.toml";
/// Where the resolved configuration goes if the user's own has the name above.
const RESOLVED_FILE: &str = "experiment.resolved.toml";
/// The first line of that file; it marks the file as written by this program.
const RESOLVED_MARK: &str = "# Written by perennial: the settings that this run uses. experiment.toml beside it stays as it is.\n";
const CHECKPOINT_FOLDER: &str = "checkpoint";
/// Other files and folders of a run or its evaluation.
const RESULTS: [&str; 5] = [
    "run.json",
    "metrics.jsonl",
    "embeddings",
    "compatibility.json",
    "report.html",
];
/// Held by the process that works on the run.
const LOCK_FILE: &str = ".lock";

/// The folder of one run.
#[derive(Clone, Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// Paths that [`begin`](Self::begin) created, outermost first; removed if the run fails before its first checkpoint.
    made: Vec<PathBuf>,
}

impl RunFolder {
    /// Makes the folder for a new run, and refuses one that holds a run or that cannot be written. Nothing is written yet.
    pub fn begin(path: PathBuf) -> anyhow::Result<Self> {
        let folder = Self::at(path);
        if folder.has_begun() {
            return Err(usage(format!(
                "{} already holds a run; resume it with --resume, or pass another --name for a new run",
                folder.path.display()
            )));
        }
        if let Some(result) = RESULTS.iter().find(|name| exists(&folder.path.join(name))) {
            return Err(usage(format!(
                "{} already holds {result}, which a new run would overwrite; pass another --name, or move that file away",
                folder.path.display()
            )));
        }
        folder.check_resolved()?;
        check_folder(&folder.path)?;
        let mut made = make_folders(&folder.path)?;
        let lock = folder.path.join(LOCK_FILE);
        if !exists(&lock) {
            made.push(lock);
        }
        Ok(Self { made, ..folder })
    }

    /// Writes the resolved configuration, unless the folder holds it already. Only for the process that holds the folder.
    pub fn write_configuration(&self, configuration: &str) -> anyhow::Result<()> {
        let (own, resolved) = (self.path.join(CONFIGURATION_FILE), self.resolved_path());
        if !exists(&resolved) {
            if !exists(&own) {
                return Ok(write_atomically(own, configuration)?);
            }
            if holds(&own, configuration.as_bytes()).is_ok_and(|same| same) {
                return Ok(());
            }
        }
        self.check_resolved()?;
        Ok(write_atomically(
            resolved,
            format!("{RESOLVED_MARK}{configuration}"),
        )?)
    }

    /// Refuses a file of the user's under the name that only the program should use.
    fn check_resolved(&self) -> Result<(), OutputError> {
        let path = self.resolved_path();
        let ours =
            std::fs::read(&path).is_ok_and(|text| text.starts_with(RESOLVED_MARK.as_bytes()));
        if ours || !exists(&path) {
            return Ok(());
        }
        Err(OutputError::NotOurs {
            path,
            expected: "a configuration that a run has written",
        })
    }

    /// The folder of a run that exists, by path or by its name below `runs`.
    pub fn find(run: &Path, runs: &Path) -> anyhow::Result<Self> {
        let candidates = [run.to_owned(), runs.join(run)];
        let found = candidates
            .into_iter()
            .map(Self::at)
            .find(|folder| folder.configuration_path().is_file());
        found.ok_or_else(|| {
            let names = run_names(runs);
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let wanted = run.file_name().unwrap_or_default().to_string_lossy();
            usage(format!(
                "{} is not a run: it has no {CONFIGURATION_FILE}; in {}, {}",
                run.display(),
                runs.display(),
                suggestion::describe(&wanted, &names)
            ))
        })
    }

    /// The folder of the run of a configuration, which may have been cut off before it wrote that configuration down.
    pub fn of_name(name: &str, runs: &Path) -> anyhow::Result<Self> {
        let folder = Self::at(runs.join(name));
        if folder.has_begun() {
            return Ok(folder);
        }
        Self::find(&runs.join(name), runs)
    }

    /// The folder at a path, whatever is there.
    pub fn at(path: PathBuf) -> Self {
        Self {
            path,
            made: Vec::new(),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The configuration that the run uses.
    pub fn configuration_path(&self) -> PathBuf {
        let resolved = self.resolved_path();
        if resolved.is_file() {
            resolved
        } else {
            self.path.join(CONFIGURATION_FILE)
        }
    }

    fn resolved_path(&self) -> PathBuf {
        self.path.join(RESOLVED_FILE)
    }

    /// The file that a process which works on the run holds locked.
    pub fn lock_path(&self) -> PathBuf {
        self.path.join(LOCK_FILE)
    }

    /// Whether there is anything to resume or to lose.
    pub fn has_begun(&self) -> bool {
        self.path.join(CHECKPOINT_FOLDER).exists()
    }

    /// Takes back the folders that [`begin`](Self::begin) and `registry` made, when the run failed before its first
    /// checkpoint.
    pub fn abandon_unless_begun(&self, registry: &NewRegistry) {
        if self.has_begun() {
            return;
        }
        // Failures here must not hide the original error. Only empty folders are removed.
        for path in self.made.iter().chain(&registry.made).rev() {
            let _ = if path.ends_with(LOCK_FILE) {
                std::fs::remove_file(path)
            } else {
                std::fs::remove_dir(path)
            };
        }
    }
}

/// A registry, and which of its folders are new.
#[derive(Debug)]
pub struct NewRegistry {
    pub registry: Registry,
    made: Vec<PathBuf>,
}

impl NewRegistry {
    /// Makes the registry's folder where it is missing, and refuses one that cannot be written.
    pub fn create(root: &Path) -> anyhow::Result<Self> {
        check_folder(root)?;
        let made = make_folders(root)?;
        Ok(Self {
            registry: Registry::create(root)?,
            made,
        })
    }
}

/// Whether there is anything of this name, a dangling link included.
fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(root: &tempfile::TempDir) -> PathBuf {
        root.path().join("runs/toy")
    }

    #[test]
    fn the_configuration_of_a_new_run_has_the_plain_name() {
        let root = tempfile::tempdir().unwrap();
        let run = RunFolder::begin(folder(&root)).unwrap();
        run.write_configuration("name = \"toy\"\n").unwrap();
        assert_eq!(
            run.configuration_path(),
            folder(&root).join(CONFIGURATION_FILE)
        );
        run.write_configuration("name = \"toy\"\n").unwrap();
        assert!(!folder(&root).join(RESOLVED_FILE).exists());
    }

    #[test]
    fn a_configuration_of_the_users_stays_as_it_is() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder(&root)).unwrap();
        let own = folder(&root).join(CONFIGURATION_FILE);
        std::fs::write(&own, "name='toy' # mine").unwrap();
        let run = RunFolder::begin(folder(&root)).unwrap();
        for text in ["name = \"toy\"\n", "name = \"toy\"\nseed = 2\n"] {
            run.write_configuration(text).unwrap();
            let found = std::fs::read_to_string(run.configuration_path()).unwrap();
            assert!(found.ends_with(text) && found.starts_with(RESOLVED_MARK));
        }
        assert_eq!(std::fs::read_to_string(own).unwrap(), "name='toy' # mine");
    }

    #[test]
    fn whatever_a_run_would_write_over_refuses_it() {
        for name in RESULTS
            .into_iter()
            .chain([RESOLVED_FILE, CHECKPOINT_FOLDER])
        {
            let root = tempfile::tempdir().unwrap();
            std::fs::create_dir_all(folder(&root)).unwrap();
            let path = folder(&root).join(name);
            std::fs::write(&path, "mine").unwrap();
            let error = RunFolder::begin(folder(&root)).unwrap_err().to_string();
            assert!(error.contains("runs/toy"), "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
        }
    }

    #[test]
    fn only_what_was_made_is_taken_back() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        let abandon = || {
            let registry = NewRegistry::create(&path("models/registry")).unwrap();
            let run = RunFolder::begin(folder(&root)).unwrap();
            std::fs::write(run.path().join(LOCK_FILE), "").unwrap();
            run.abandon_unless_begun(&registry);
        };
        abandon();
        assert!(!path("runs").exists() && !path("models").exists());

        std::fs::create_dir_all(folder(&root)).unwrap();
        std::fs::create_dir_all(path("models/registry")).unwrap();
        std::fs::write(folder(&root).join(LOCK_FILE), "mine").unwrap();
        std::fs::write(folder(&root).join("notes"), "mine").unwrap();
        abandon();
        assert!(path("models/registry").exists());
        assert!(folder(&root).join(LOCK_FILE).exists() && folder(&root).join("notes").exists());
    }

    #[test]
    fn a_path_without_room_for_a_folder_is_refused() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("runs"), "no folder").unwrap();
        let error = RunFolder::begin(folder(&root)).unwrap_err().to_string();
        assert!(error.contains("runs on the way is not a folder"), "{error}");
    }
}
