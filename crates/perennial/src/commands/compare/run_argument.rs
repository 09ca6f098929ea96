//! What `perennial compare` reads: a run's measurement with the settings that it was made with, or a certificate.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use perennial_core::read_at_most;
use perennial_eval::method_table::{
    RunSettings, evaluation_of, intervals_of, measures_of, worst_pairs_of,
};
use perennial_eval::{Compatibility, Entry, published};
use perennial_upgrade::Certificate;
use toml::{Table, Value};

use crate::exit_status::usage;
use crate::run_folder::RunFolder;
use crate::run_record::RunRecord;

const REPORT_FILE: &str = "compatibility.json";
/// Largest configuration that is read.
const MAX_CONFIGURATION_BYTES: u64 = 16 << 20;
/// Of a file that may be a certificate, this much says whether it is one.
const MAX_CERTIFICATE_BYTES: u64 = 16 << 20;

/// Keys of a configuration that say nothing about the method: the run's name and seed, and the evaluation, which the report has.
const NO_SETTINGS: [&str; 3] = ["name", "seed", "evaluation"];

/// One argument of the command, read.
pub enum Argument {
    /// A measured run.
    Run(Box<Run>),
    /// A certificate.
    Certificate {
        /// The name that the user gave, or the argument.
        name: String,
        /// Its content.
        certificate: Box<Certificate>,
    },
}

/// A measured run.
pub struct Run {
    source: String,
    report: Compatibility,
    seed: Option<u64>,
    /// The kind of method, the scenario and the settings that may set it apart.
    pub settings: RunSettings,
    values: BTreeMap<String, f64>,
    /// Whether the kind is the configured one, for which there may be published figures.
    configured: bool,
}

impl Argument {
    /// Reads `[NAME=]PATH`, where a path may be a name below `runs`.
    pub fn read(argument: &str, runs: &Path) -> anyhow::Result<Self> {
        let (label, path) = split_label(argument, runs);
        let found = candidates(path, runs)
            .into_iter()
            .find(|path| path.exists());
        let name = label.unwrap_or(path);
        let Some(found) = found else {
            // The error names runs that exist.
            RunFolder::find(Path::new(path), runs)?;
            return Err(usage(format!("{path} does not exist")));
        };
        if found.is_file() {
            return if is_certificate(&found)? {
                Ok(Self::Certificate {
                    name: name.to_owned(),
                    certificate: Box::new(Certificate::read(&found)?),
                })
            } else {
                let report = Compatibility::read(&found)?;
                let folder = found.parent().unwrap_or(Path::new("."));
                Run::new(path, label, folder, report).map(|run| Self::Run(Box::new(run)))
            };
        }
        let report = found.join(REPORT_FILE);
        if !report.is_file() {
            // Whatever is no run is refused here.
            let folder = RunFolder::find(Path::new(path), runs)?;
            return Err(usage(format!(
                "{} has no {REPORT_FILE}; measure the run first: perennial evaluate {path}",
                folder.path().display()
            )));
        }
        let report = Compatibility::read(&report)?;
        Run::new(path, label, &found, report).map(|run| Self::Run(Box::new(run)))
    }
}

/// The paths that a name can stand for.
fn candidates(path: &str, runs: &Path) -> [PathBuf; 2] {
    [PathBuf::from(path), runs.join(path)]
}

/// `NAME=PATH` in its parts. An equals sign in the path of something that exists separates nothing.
fn split_label<'a>(argument: &'a str, runs: &Path) -> (Option<&'a str>, &'a str) {
    if candidates(argument, runs).iter().any(|path| path.exists()) {
        return (None, argument);
    }
    match argument.split_once('=') {
        Some((label, path)) if !label.trim().is_empty() && !path.is_empty() => {
            (Some(label.trim()), path)
        }
        _ => (None, argument),
    }
}

/// Whether a file is a certificate, damaged or not; everything else must be a report.
fn is_certificate(path: &Path) -> anyhow::Result<bool> {
    if fs_err::metadata(path)?.len() > MAX_CERTIFICATE_BYTES {
        return Ok(false);
    }
    let bytes = read_at_most(path, MAX_CERTIFICATE_BYTES)?;
    Ok(String::from_utf8_lossy(&bytes).contains("\"perennial-certificate\""))
}

impl Run {
    fn new(
        argument: &str,
        label: Option<&str>,
        folder: &Path,
        report: Compatibility,
    ) -> anyhow::Result<Self> {
        // A report that was written elsewhere with `evaluate --out` lies beside no configuration.
        let configuration = match RunFolder::find(folder, Path::new("")) {
            Ok(run) => Some(read_configuration(&run.configuration_path())?),
            Err(_) => None,
        };
        let record = RunRecord::read(folder)?;
        let kind = configuration.as_ref().and_then(method_kind);
        let scenario = scenario(&report, configuration.as_ref(), record.as_ref());
        let configured = label.is_none() && kind.is_some();
        let settings = match (label, &configuration) {
            (None, Some(table)) => flatten(table),
            // The user's name decides what belongs together.
            _ => BTreeMap::new(),
        };
        let folder_name = || {
            folder
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
        };
        let kind = label
            .map(str::to_owned)
            .or_else(|| kind.map(str::to_owned))
            .or_else(folder_name)
            .unwrap_or_else(|| argument.to_owned());
        let values = measures_of(&report).with_context(|| argument.to_owned())?;
        Ok(Self {
            source: argument.to_owned(),
            seed: record
                .as_ref()
                .map(|record| record.seed)
                .or_else(|| configured_seed(configuration.as_ref()?)),
            settings: RunSettings {
                kind,
                scenario: Some(scenario),
                settings,
            },
            report,
            values,
            configured,
        })
    }

    /// The run as an entry of the table, under the method's name.
    pub fn into_entry(self, method: String) -> Entry {
        Entry {
            source: self.source,
            method,
            kind: self.configured.then_some(self.settings.kind),
            scenario: self.settings.scenario,
            evaluation: Some(evaluation_of(&self.report)),
            seed: self.seed,
            values: self.values,
            intervals: intervals_of(&self.report),
            worst_pairs: worst_pairs_of(&self.report),
        }
    }
}

fn read_configuration(path: &Path) -> anyhow::Result<Table> {
    let bytes = read_at_most(path, MAX_CONFIGURATION_BYTES)?;
    let damaged = || format!("{} is damaged", path.display());
    let text = String::from_utf8(bytes).with_context(damaged)?;
    text.parse().with_context(damaged)
}

fn method_kind(configuration: &Table) -> Option<&str> {
    configuration.get("method")?.get("kind")?.as_str()
}

fn configured_seed(configuration: &Table) -> Option<u64> {
    configuration.get("seed")?.as_integer()?.try_into().ok()
}

/// The published scenario that the run belongs to, or its training set, tasks and replacements in words.
pub fn scenario(
    report: &Compatibility,
    configuration: Option<&Table>,
    record: Option<&RunRecord>,
) -> String {
    let versions = report.versions();
    let tasks = versions.len();
    let set = configuration.and_then(|table| table.get("data")?.get("set")?.as_str());
    let pretrained = configuration.is_some_and(|table| table.contains_key("initial_model"));
    let (Some(set), Some(record)) = (set, record) else {
        return match tasks {
            1 => "1 version".to_owned(),
            _ => format!("{tasks} versions"),
        };
    };
    // A report of an unfinished run has fewer tasks than its configuration.
    let replaced = record.tasks.iter().filter(|task| task.replacement);
    let replacements = replaced
        .filter(|task| versions.contains(&task.version))
        .count();
    let evaluation = [
        report.queries().name.as_str(),
        report.gallery().name.as_str(),
    ];
    let counted = |count: usize, what: &str| match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    };
    published::scenario(set, evaluation, tasks, replacements, pretrained).map_or_else(
        || {
            format!(
                "{set}, {}, {}",
                counted(tasks, "task"),
                counted(replacements, "replacement")
            )
        },
        str::to_owned,
    )
}

/// The settings of a configuration by their paths, such as `method.reference` and `replacements.0.model`.
fn flatten(configuration: &Table) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    for (key, value) in configuration {
        if !NO_SETTINGS.contains(&key.as_str()) {
            add(key, value, &mut settings);
        }
    }
    settings
}

fn add(path: &str, value: &Value, settings: &mut BTreeMap<String, String>) {
    match value {
        Value::Table(table) => {
            for (key, value) in table {
                add(&format!("{path}.{key}"), value, settings);
            }
        }
        Value::Array(values) if values.iter().any(Value::is_table) => {
            for (index, value) in values.iter().enumerate() {
                add(&format!("{path}.{index}"), value, settings);
            }
        }
        Value::String(text) => {
            settings.insert(path.to_owned(), text.clone());
        }
        other => {
            settings.insert(path.to_owned(), other.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_have_paths_and_leave_out_name_seed_and_evaluation() {
        let table: Table = "name = 'a'\nseed = 3\n[method]\nkind = 'hoc'\nlambda = 0.5\n[preprocessing]\nmean = [0.5, 0.25]\n\
                            [[replacements]]\nmodel = 'm'\n[evaluation.queries]\nset = 'x'\n"
            .parse()
            .unwrap();
        let expected = [
            ("method.kind", "hoc"),
            ("method.lambda", "0.5"),
            ("preprocessing.mean", "[0.5, 0.25]"),
            ("replacements.0.model", "m"),
        ];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(flatten(&table), BTreeMap::from(expected));
        assert_eq!(method_kind(&table), Some("hoc"));
        assert_eq!(configured_seed(&table), Some(3));
    }

    #[test]
    fn a_label_is_split_from_what_does_not_exist_as_a_whole() {
        let runs = tempfile::tempdir().unwrap();
        std::fs::create_dir(runs.path().join("a=b")).unwrap();
        let split = |argument| split_label(argument, runs.path());
        assert_eq!(split("a=b"), (None, "a=b"));
        assert_eq!(split("er + dual=c"), (Some("er + dual"), "c"));
        assert_eq!(split("x=a=b"), (Some("x"), "a=b"));
        assert_eq!(split("=c"), (None, "=c"));
        assert_eq!(split("c"), (None, "c"));
    }
}
