//! The record of a measured run, `benchmark.json` in its folder: all that tables show of it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::Context;
use perennial_core::{Interval, read_at_most};
use perennial_eval::method_table::{evaluation_of, intervals_of, measures_of, worst_pairs_of};
use perennial_eval::{Compatibility, WorstPair};
use perennial_train::EpochRecord;
use serde::{Deserialize, Serialize};

use super::measured::Measured;
use super::plan::Run;
use super::route_measures::{RouteRow, own_values, rows};
use crate::commands::compare::run_argument;
use crate::commands::evaluate::{REPORT_FILE, routes};
use crate::configuration::to_toml;
use crate::machine::Program;
use crate::run_record::RunRecord;

const FILE: &str = "benchmark.json";
const SCHEMA_VERSION: u32 = 1;
/// Largest record that is read; one of 31 versions and six routes has a few megabytes.
const MAX_BYTES: u64 = 256 << 20;

/// The content of `benchmark.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    schema_version: u32,
    /// The run's name.
    run: String,
    /// The method's name and its kind in the configuration.
    method: String,
    /// The kind, which published figures are found by.
    pub kind: String,
    /// The seed.
    seed: u64,
    /// The scenario that published figures are found by.
    pub scenario: String,
    /// The evaluation set, in words.
    pub evaluation: String,
    /// Time of the epochs, in seconds.
    pub training_seconds: f64,
    /// Time of embedding and of all tests, in seconds; none where an earlier call had done a part of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluation_seconds: Option<f64>,
    /// The most memory that a training process held, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_memory_bytes: Option<u64>,
    program: Program,
    /// Measures by name, as in [`perennial_eval::method_table`].
    pub values: BTreeMap<String, f64>,
    /// Their 95 % intervals over the queries.
    pub intervals: BTreeMap<String, Interval>,
    /// The pairs with the smallest margins.
    pub worst_pairs: BTreeMap<String, WorstPair>,
    /// The routes.
    pub routes: Vec<Measured>,
}

impl Record {
    /// Where a run's record is.
    pub fn path_in(folder: &Path) -> PathBuf {
        folder.join(FILE)
    }

    /// Reads the record of a run; `None` where it is not there yet, or where the description now asks for other tests.
    ///
    /// # Errors
    /// Names the file: it is damaged, or of another run.
    pub fn read(run: &Run) -> anyhow::Result<Option<Self>> {
        let path = Self::path_in(&run.work.folder);
        if !path.exists() {
            return Ok(None);
        }
        let bytes = read_at_most(&path, MAX_BYTES)?;
        let again = "remove it, and the benchmark measures the run again";
        let record: Self = serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is damaged; {again}", path.display()))?;
        let problem = if record.schema_version != SCHEMA_VERSION {
            let found = record.schema_version;
            Some(format!(
                "key `schema_version` is {found}, this program reads {SCHEMA_VERSION}"
            ))
        } else if record.run != run.work.config.name {
            Some(format!("key `run`: it is of the run {}", record.run))
        } else {
            record.contradiction()
        };
        if let Some(problem) = problem {
            anyhow::bail!("{} is damaged: {problem}; {again}", path.display());
        }
        let tests = record.routes.iter().map(|measured| &measured.test);
        Ok(tests.eq(&run.tests).then_some(record))
    }

    /// What cannot be true of a measurement.
    fn contradiction(&self) -> Option<String> {
        let seconds = [Some(self.training_seconds), self.evaluation_seconds];
        let mut seconds = seconds.into_iter().flatten();
        if seconds.any(|value| value.is_nan() || value < 0.0) {
            return Some("a time is not a number of seconds".to_owned());
        }
        let fraction = |value: f64| (-1.0..=1.0).contains(&value);
        let value = self.values.iter().find(|(_, value)| !fraction(**value));
        if let Some((name, value)) = value {
            return Some(format!("`values.{name}` is {value}, which is no fraction"));
        }
        let interval = |bounds: &Interval| {
            fraction(bounds.low) && fraction(bounds.high) && bounds.low <= bounds.high
        };
        let wrong = self.intervals.iter().find(|(_, bounds)| !interval(bounds));
        wrong.map(|(name, _)| format!("`intervals.{name}` is no interval of fractions"))
    }

    /// Collects what training and measurement left in the run's folder.
    pub fn collect(run: &Run, evaluation_seconds: Option<f64>) -> anyhow::Result<Self> {
        let folder = &run.work.folder;
        let report = Compatibility::read(&folder.join(REPORT_FILE))?;
        let trained = RunRecord::read(folder)?;
        let configuration = to_toml(&run.work.config)?.parse()?;
        let peaks = trained.iter().flat_map(|record| &record.executions);
        let peak_memory_bytes = peaks.filter_map(|one| one.peak_memory_bytes).max();
        let mut routes = Vec::with_capacity(run.tests.len());
        for test in &run.tests {
            let found = routes::Document::read(&test.folder(folder).join(routes::FILE))?;
            routes.push(Measured {
                test: test.clone(),
                fit_pairs: found.fit_pairs,
                results: found.routes,
            });
        }
        let mut values = measures_of(&report)?;
        let mut worst_pairs = worst_pairs_of(&report);
        own_values(&routes, &mut values, &mut worst_pairs);
        Ok(Self {
            schema_version: SCHEMA_VERSION,
            run: run.work.config.name.clone(),
            method: run.method.clone(),
            kind: run.work.config.method.name().to_owned(),
            seed: run.seed,
            scenario: run_argument::scenario(&report, Some(&configuration), trained.as_ref()),
            evaluation: evaluation_of(&report),
            training_seconds: training_seconds(folder)?,
            evaluation_seconds,
            peak_memory_bytes,
            program: Program::this(),
            intervals: intervals_of(&report),
            values,
            worst_pairs,
            routes,
        })
    }

    /// Writes the record in one step.
    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        Ok(perennial_core::write_atomically(
            Self::path_in(folder),
            text,
        )?)
    }

    /// The routes other than own, each with its measures.
    pub fn route_rows(&self) -> Vec<RouteRow> {
        rows(&self.routes)
    }
}

/// The time that a run's epochs took so far, in seconds. A resumed run has no epoch twice.
pub fn training_seconds(folder: &Path) -> anyhow::Result<f64> {
    let path = folder.join("metrics.jsonl");
    if !path.exists() {
        return Ok(0.0);
    }
    let mut sum = 0.0;
    for line in BufReader::new(fs_err::File::open(path)?).lines() {
        // The last line may be under way.
        if let Ok(record) = serde_json::from_str::<EpochRecord>(&line?) {
            sum += record.seconds;
        }
    }
    Ok(sum)
}
