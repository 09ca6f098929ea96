//! The record of a measured run: its settings, and all that tables show of it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::Context;
use perennial_core::{Interval, read_at_most};
use perennial_eval::method_table::{evaluation_of, intervals_of, measures_of, worst_pairs_of};
use perennial_eval::{Compatibility, WorstPair};
use perennial_train::config::{Recipe, TrainingConfig};
use perennial_train::{EpochRecord, ExperimentConfig, PretrainConfig};
use serde::{Deserialize, Serialize};
use serde_json::ser::{PrettyFormatter, Serializer};
use toml::Table;

use super::difference;
use super::drift::{self, Drift};
use super::measured::Measured;
use super::plan::{Plan, RouteTest, Run};
use super::route_measures::{RouteRow, own_values, rows};
use crate::commands::compare::run_argument;
use crate::commands::evaluate::without_embedding::WithoutEmbedding;
use crate::commands::evaluate::{REPORT_FILE, routes};
use crate::configuration::to_toml;
use crate::exit_status::usage;
use crate::machine::Program;
use crate::run_record::RunRecord;

/// Raised with every change that an earlier program cannot read.
const SCHEMA_VERSION: u32 = 2;
/// Largest record that is read; a few tens of kilobytes are usual.
const MAX_BYTES: u64 = 16 << 20;

/// A record.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    schema_version: u32,
    /// The run's name.
    run: String,
    /// The run's settings.
    configuration: Table,
    /// The settings of the pre-trainings that it started from, by the names of their models.
    pretrained: BTreeMap<String, Table>,
    /// The method's name.
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
    /// The versions that have no embedding of some images.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without_embedding: Vec<WithoutEmbedding>,
    /// Measures by name, as in [`perennial_eval::method_table`].
    pub values: BTreeMap<String, f64>,
    /// Their 95 % intervals over the queries.
    pub intervals: BTreeMap<String, Interval>,
    /// The pairs with the smallest margins.
    pub worst_pairs: BTreeMap<String, WorstPair>,
    /// The tests whose results these are.
    tests: Vec<RouteTest>,
    /// The routes other than the method's own.
    pub routes: Vec<RouteRow>,
    /// What is left of routes after several upgrades.
    pub drift: Vec<Drift>,
}

/// What a file says that cannot be used.
enum Fault {
    /// It cannot be true, or is of another program or run.
    Damaged(String),
    /// The settings differ in this key.
    Changed(String),
}

impl Record {
    /// Reads the record of a run from a file; `None` where it is not there, or where the description now asks for other tests.
    ///
    /// # Errors
    /// Names the file: it is damaged, of another run, or of a run with other settings.
    pub fn read(path: &Path, run: &Run, plan: &Plan) -> anyhow::Result<Option<Self>> {
        if !path.exists() {
            return Ok(None);
        }
        let bytes = read_at_most(path, MAX_BYTES)?;
        let again = "remove it, and the benchmark measures the run again";
        let damaged = |problem: &str| format!("{} is damaged: {problem}; {again}", path.display());
        // The version first: of another one, any key may be missing.
        let version: Version = serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is damaged; {again}", path.display()))?;
        if version.schema_version != SCHEMA_VERSION {
            anyhow::bail!(
                "{}: key `schema_version` is {}, this program reads {SCHEMA_VERSION}; {again}",
                path.display(),
                version.schema_version
            );
        }
        let record: Self = serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is damaged; {again}", path.display()))?;
        match record.fault(run, plan)? {
            Some(Fault::Damaged(problem)) => anyhow::bail!(damaged(&problem)),
            Some(Fault::Changed(difference)) => Err(usage(format!(
                "{} is the record of a run with other settings ({difference}); move it away, or change the name of the scenario or the method",
                path.display()
            ))),
            None => Ok((record.tests == run.tests).then_some(record)),
        }
    }

    fn fault(&self, run: &Run, plan: &Plan) -> anyhow::Result<Option<Fault>> {
        if self.run != run.work.config.name {
            let problem = format!("key `run`: it is of the run {}", self.run);
            return Ok(Some(Fault::Damaged(problem)));
        }
        if let Some(problem) = self.contradiction() {
            return Ok(Some(Fault::Damaged(problem)));
        }
        let unread = |key: &str, error: toml::de::Error| {
            let error = error.message();
            Ok(Some(Fault::Damaged(format!("key `{key}`: {error}"))))
        };
        // Read as configurations, so that keys which did not exist then have their defaults.
        match self.configuration.clone().try_into::<ExperimentConfig>() {
            Err(error) => return unread("configuration", error),
            Ok(mut then) => {
                let mut now = run.work.config.clone();
                now.training = without_idle_share(now.training);
                // Before there were recipes, keys that were left out had the published values.
                then.recipe = then
                    .recipe
                    .or(now.recipe.filter(|&now| now == Recipe::Parity));
                then.training = without_idle_share(then.training);
                if let Some(found) = difference::of(&then, &now)? {
                    return Ok(Some(Fault::Changed(found)));
                }
            }
        }
        for &need in &run.needs {
            let mut now = plan.pretrainings[need].config.clone();
            now.training = without_idle_share(now.training);
            let alias = now.alias();
            let Some(then) = self.pretrained.get(alias) else {
                let problem = format!("key `pretrained`: {alias} is missing");
                return Ok(Some(Fault::Damaged(problem)));
            };
            match then.clone().try_into::<PretrainConfig>() {
                Err(error) => return unread(&format!("pretrained.{alias}"), error),
                Ok(mut then) => {
                    then.training = without_idle_share(then.training);
                    if let Some(found) = difference::of(&then, &now)? {
                        let found = format!("model {alias}, {found}");
                        return Ok(Some(Fault::Changed(found)));
                    }
                }
            }
        }
        Ok(None)
    }

    /// What cannot be true of a measurement.
    fn contradiction(&self) -> Option<String> {
        let seconds = [Some(self.training_seconds), self.evaluation_seconds];
        let mut seconds = seconds.into_iter().flatten();
        if seconds.any(|value| value.is_nan() || value < 0.0) {
            return Some("a time is not a number of seconds".to_owned());
        }
        let fraction = |value: f64| (-1.0..=1.0).contains(&value);
        let of_routes = self.routes.iter().map(|row| &row.values);
        for values in std::iter::once(&self.values).chain(of_routes) {
            if let Some((name, value)) = values.iter().find(|(_, value)| !fraction(**value)) {
                return Some(format!("`values.{name}` is {value}, which is no fraction"));
            }
        }
        let interval = |bounds: &Interval| {
            fraction(bounds.low) && fraction(bounds.high) && bounds.low <= bounds.high
        };
        let wrong = self.intervals.iter().find(|(_, bounds)| !interval(bounds));
        wrong.map(|(name, _)| format!("`intervals.{name}` is no interval of fractions"))
    }

    /// Collects what training and measurement left in the run's folder.
    pub fn collect(
        run: &Run,
        plan: &Plan,
        evaluation_seconds: Option<f64>,
    ) -> anyhow::Result<Self> {
        let folder = &run.work.folder;
        let report = Compatibility::read(&folder.join(REPORT_FILE))?;
        let trained = RunRecord::read(folder)?;
        let configuration: Table = to_toml(&run.work.config)?.parse()?;
        let mut pretrained = BTreeMap::new();
        for &need in &run.needs {
            let config = &plan.pretrainings[need].config;
            pretrained.insert(config.alias().to_owned(), to_toml(config)?.parse()?);
        }
        let peaks = trained.iter().flat_map(|record| &record.executions);
        let peak_memory_bytes = peaks.filter_map(|one| one.peak_memory_bytes).max();
        let mut without_embedding = of_report(&report);
        let mut measured = Vec::with_capacity(run.tests.len());
        for test in &run.tests {
            let found = routes::Document::read(&test.folder(folder).join(routes::FILE))?;
            for one in &found.without_embedding {
                add_fit(&mut without_embedding, one);
            }
            measured.push(Measured {
                test: test.clone(),
                fit_pairs: found.fit_pairs,
                results: found.routes,
            });
        }
        let mut values = measures_of(&report)?;
        let mut worst_pairs = worst_pairs_of(&report);
        own_values(&measured, &mut values, &mut worst_pairs);
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
            without_embedding,
            intervals: intervals_of(&report),
            values,
            worst_pairs,
            tests: run.tests.clone(),
            routes: rows(&measured),
            drift: drift::of(&measured),
            configuration,
            pretrained,
        })
    }

    /// Writes the record in one step: a line for each value, so that version control shows what changed, without the indentation, which would
    /// double its size.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let mut text = Vec::new();
        let lines = PrettyFormatter::with_indent(b"");
        self.serialize(&mut Serializer::with_formatter(&mut text, lines))?;
        text.push(b'\n');
        Ok(perennial_core::write_atomically(path, text)?)
    }
}

/// The versions that a report counts some images of as without an embedding.
fn of_report(report: &Compatibility) -> Vec<WithoutEmbedding> {
    let versions = report.versions().iter().zip(report.missing());
    let counted = versions.map(|(version, missing)| WithoutEmbedding {
        version: version.clone(),
        queries: missing.queries,
        gallery: missing.gallery,
        fit: 0,
    });
    counted
        .filter(|one| one.queries + one.gallery > 0)
        .collect()
}

/// Adds the images to fit on that a test of routes left out: those of the test that left out most.
fn add_fit(all: &mut Vec<WithoutEmbedding>, found: &WithoutEmbedding) {
    match all.iter_mut().find(|one| one.version == found.version) {
        Some(one) => one.fit = one.fit.max(found.fit),
        None => all.push(found.clone()),
    }
}

/// The part of a record that every program can read.
#[derive(Deserialize)]
struct Version {
    schema_version: u32,
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

/// Without a `start_share` of 0, which some records and some descriptions state and which is the same as none.
fn without_idle_share(mut training: TrainingConfig) -> TrainingConfig {
    training.start_share = training.start_share.filter(|&share| share > 0.0);
    training
}
