//! Names of methods that say what sets apart runs of one kind of method.

use std::collections::{BTreeMap, BTreeSet};

/// What a run was made with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunSettings {
    /// The kind of method, such as `hoc`.
    pub kind: String,
    /// The scenario; only runs of one scenario are set apart.
    pub scenario: Option<String>,
    /// All settings but the seed, by their path in the configuration, such as `method.reference`.
    pub settings: BTreeMap<String, String>,
}

/// One name for each run: its kind and, in parentheses, those settings in which runs of the same kind and scenario differ. Runs that differ
/// only in their seed get one name, and others are never taken for seeds of one method.
pub fn method_names(runs: &[RunSettings]) -> Vec<String> {
    runs.iter()
        .map(|run| {
            let same: Vec<&RunSettings> = runs
                .iter()
                .filter(|other| other.kind == run.kind && other.scenario == run.scenario)
                .collect();
            let keys: BTreeSet<&String> = same.iter().flat_map(|run| run.settings.keys()).collect();
            let different = keys.into_iter().filter(|key| {
                let value = run.settings.get(*key);
                same.iter().any(|other| other.settings.get(*key) != value)
            });
            let parts: Vec<String> = different
                .map(|key| {
                    let value = run.settings.get(key).map_or("unset", String::as_str);
                    let key = key.strip_prefix("method.").unwrap_or(key);
                    format!("{key} {value}")
                })
                .collect();
            if parts.is_empty() {
                run.kind.clone()
            } else {
                format!("{} ({})", run.kind, parts.join(", "))
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(kind: &str, scenario: &str, settings: &[(&str, &str)]) -> RunSettings {
        RunSettings {
            kind: kind.to_owned(),
            scenario: Some(scenario.to_owned()),
            settings: settings
                .iter()
                .map(|&(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
        }
    }

    #[test]
    fn only_differences_within_a_kind_and_scenario_are_named() {
        let runs = [
            run(
                "hoc",
                "a",
                &[("method.reference", "initial"), ("training.epochs", "5")],
            ),
            run(
                "hoc",
                "a",
                &[("method.reference", "deployed"), ("training.epochs", "5")],
            ),
            run("er", "a", &[("training.epochs", "7")]),
            run("hoc", "b", &[("training.epochs", "9")]),
            run(
                "er",
                "a",
                &[("training.epochs", "7"), ("memory.images_per_class", "3")],
            ),
        ];
        assert_eq!(
            method_names(&runs),
            [
                "hoc (reference initial)",
                "hoc (reference deployed)",
                "er (memory.images_per_class unset)",
                "hoc",
                "er (memory.images_per_class 3)"
            ]
        );
        assert_eq!(
            method_names(&[runs[2].clone(), runs[2].clone()]),
            ["er", "er"]
        );
    }
}
