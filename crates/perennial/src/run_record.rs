//! `run.json`: program, machine, duration and resulting versions of a run.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use perennial_data::ImageSet;
use serde::{Deserialize, Serialize};

use crate::machine::{Machine, Program, peak_memory_bytes};

const FILE: &str = "run.json";
const SCHEMA_VERSION: u32 = 1;
const MAX_BYTES: u64 = 16 << 20;

/// The content of `run.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunRecord {
    schema_version: u32,
    /// The command that resumes it: `train` or `pretrain`.
    pub command: String,
    pub name: String,
    pub seed: u64,
    pub status: Status,
    /// The training images; absent in records of earlier programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<DataRecord>,
    /// Finished tasks, in order.
    pub tasks: Vec<TaskRecord>,
    /// One entry for each start of the program on this run.
    pub executions: Vec<Execution>,
}

/// The images that a run trains on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataRecord {
    /// The set and the selection from it.
    pub set: String,
    /// Images of the selection.
    pub images: usize,
    pub sha256: String,
    /// Completeness of their source files.
    #[serde(flatten)]
    pub files: FilesRecord,
}

/// A set's files compared with the published ones; empty for unpublished sets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FilesRecord {
    /// Images in all of the set's files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images_in_files: Option<usize>,
    /// Images as published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub official_images: Option<usize>,
    /// Whether the files hold fewer images than were published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partial: Option<bool>,
    /// Published files that are not there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing_files: Vec<String>,
}

impl FilesRecord {
    pub fn of(set: &ImageSet) -> Self {
        set.completeness()
            .map_or_else(Self::default, |completeness| Self {
                images_in_files: Some(completeness.images),
                official_images: Some(completeness.official_images),
                partial: Some(completeness.is_partial()),
                missing_files: completeness.missing.clone(),
            })
    }
}

/// Status of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// In progress, or killed before the status could be updated.
    Running,
    Finished,
    /// Stopped by Ctrl-C; it can be resumed.
    Interrupted,
    Failed,
}

/// A finished task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskRecord {
    /// Number of the task, from 0.
    pub task: usize,
    /// The version it started from; absent for random weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    /// Whether that start replaced the deployed model.
    pub replacement: bool,
    /// The version that it produced.
    pub version: String,
}

/// One start of the program.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Execution {
    pub resumed: bool,
    /// RFC 3339, UTC.
    pub started: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    /// From start to end, in seconds.
    pub seconds: f64,
    pub status: Status,
    /// The device requested and the device used.
    pub device: [String; 2],
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_memory_bytes: Option<u64>,
    pub program: Program,
    pub machine: Machine,
}

impl RunRecord {
    /// The record of a new run.
    pub fn new(command: &str, name: &str, seed: u64) -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            command: command.to_owned(),
            name: name.to_owned(),
            seed,
            status: Status::Running,
            data: None,
            tasks: Vec::new(),
            executions: Vec::new(),
        }
    }

    /// The file in a run's folder.
    pub fn path_in(folder: &Path) -> PathBuf {
        folder.join(FILE)
    }

    /// Reads a run's record; `None` where there is none.
    pub fn read(folder: &Path) -> anyhow::Result<Option<Self>> {
        let path = Self::path_in(folder);
        if !path.exists() {
            return Ok(None);
        }
        let bytes = perennial_core::read_at_most(&path, MAX_BYTES)?;
        let record: Self = serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is damaged", path.display()))?;
        anyhow::ensure!(
            record.schema_version == SCHEMA_VERSION,
            "{}: schema_version is {}, this program reads {SCHEMA_VERSION}",
            path.display(),
            record.schema_version
        );
        Ok(Some(record))
    }

    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        Ok(perennial_core::write_atomically(
            Self::path_in(folder),
            text,
        )?)
    }

    /// Notes that the program starts to work on the run.
    pub fn start(&mut self, resumed: bool, device: [String; 2]) -> Stopwatch {
        self.status = Status::Running;
        self.executions.push(Execution {
            resumed,
            started: perennial_train::now(),
            ended: None,
            seconds: 0.0,
            status: Status::Running,
            device,
            peak_memory_bytes: None,
            program: Program::this(),
            machine: Machine::this(),
        });
        Stopwatch(Instant::now())
    }

    /// Notes a finished task, replacing the entry of an earlier execution that was killed.
    pub fn finish_task(&mut self, record: TaskRecord) {
        self.tasks.retain(|earlier| earlier.task < record.task);
        self.tasks.push(record);
    }

    /// Notes how the execution ended.
    pub fn stop(&mut self, status: Status, stopwatch: &Stopwatch) {
        self.status = status;
        if let Some(execution) = self.executions.last_mut() {
            execution.ended = Some(perennial_train::now());
            execution.seconds = stopwatch.0.elapsed().as_secs_f64();
            execution.status = status;
            execution.peak_memory_bytes = peak_memory_bytes();
        }
    }

    /// Names of the versions, in task order.
    pub fn versions(&self) -> Vec<String> {
        self.tasks.iter().map(|task| task.version.clone()).collect()
    }
}

/// When an execution began.
#[derive(Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Time since then, in seconds.
    pub fn seconds(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(task: usize, version: &str) -> TaskRecord {
        TaskRecord {
            task,
            start: None,
            replacement: false,
            version: version.to_owned(),
        }
    }

    #[test]
    fn a_record_survives_the_file_and_a_task_done_twice() {
        let folder = tempfile::tempdir().unwrap();
        assert!(RunRecord::read(folder.path()).unwrap().is_none());
        let mut record = RunRecord::new("train", "toy", 3);
        let stopwatch = record.start(false, ["auto".to_owned(), "cpu".to_owned()]);
        for (number, version) in [(0, "v0001"), (1, "v0002"), (1, "v0003")] {
            record.finish_task(task(number, version));
        }
        record.stop(Status::Finished, &stopwatch);
        record.write(folder.path()).unwrap();
        let read = RunRecord::read(folder.path()).unwrap().unwrap();
        assert_eq!(read.versions(), ["v0001", "v0003"]);
        assert_eq!((read.seed, read.status), (3, Status::Finished));
        assert!(read.executions[0].ended.is_some());
    }

    #[test]
    fn a_damaged_record_is_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(RunRecord::path_in(folder.path()), "{").unwrap();
        let error = RunRecord::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("run.json is damaged"), "{error}");
    }
}
