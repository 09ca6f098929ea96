//! Provenance of a report: the run and versions that it was made from.

use perennial_core::{ModelVersion, Registry, Role};
use perennial_eval::Provenance;

use crate::run_record::RunRecord;

/// Describes a measurement that was made now. `record` is that of the run, where the versions come from one; `versions` are
/// in the order of the report.
pub fn of_versions(record: Option<&RunRecord>, versions: &[ModelVersion]) -> Provenance {
    let mut methods: Vec<&str> = Vec::new();
    for version in versions {
        if !methods.contains(&version.method.as_str()) {
            methods.push(&version.method);
        }
    }
    let replacements = versions
        .iter()
        .enumerate()
        .filter(|(_, version)| version.role == Role::Replacement);
    Provenance {
        run: record.map(|record| record.name.clone()),
        method: (!methods.is_empty()).then(|| methods.join(", ")),
        seed: record.map(|record| record.seed),
        measured: Some(perennial_train::now()),
        replacements: replacements.map(|(index, _)| index).collect(),
    }
}

/// As [`of_versions`], with the versions looked up by name. Embeddings of other programs may come from unregistered
/// versions; then only the date is known.
pub fn of_names(
    record: Option<&RunRecord>,
    registry: Option<&Registry>,
    names: &[String],
) -> Provenance {
    let versions: Option<Vec<ModelVersion>> = registry.and_then(|registry| {
        names
            .iter()
            .map(|name| registry.get(name).ok())
            .collect::<Option<_>>()
    });
    of_versions(record, &versions.unwrap_or_default())
}
