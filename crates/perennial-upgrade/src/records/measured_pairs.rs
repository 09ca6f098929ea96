//! Route own by the compatibility records that `evaluate` wrote: class means of one evaluation set.

use std::path::Path;

use perennial_core::{CompatibilityRecord, CompatibilityRecords, ProbeSet, Registry};
use perennial_eval::Requirements;

use super::certified_routes::Ranked;
use super::pair::{End, Pair};
use super::recorded_finding::recorded_finding;
use crate::certification::{Certified, NotCertified};
use crate::evaluation_data::Task;
use crate::expected_quality::ExpectedQuality;
use crate::finding::Finding;
use crate::policy::{Policy, Undecided};
use crate::remedy::Remedy;

/// The registry that commands use unless told otherwise.
const DEFAULT_REGISTRY: &str = "registry";

/// The records of a registry, under a policy.
pub(super) struct MeasuredPairs<'a> {
    pub(super) registry: &'a Registry,
    pub(super) policy: &'a Policy,
    pub(super) records: &'a CompatibilityRecords,
}

impl MeasuredPairs<'_> {
    /// Whether the newest record that counts certifies the pair.
    ///
    /// # Errors
    /// Why not, and the command that measures the pair where a measurement is missing.
    pub(super) fn certify(&self, pair: &Pair) -> Result<Ranked, NotCertified> {
        let (policy, records) = (self.policy, self.records);
        let (query, gallery) = (pair.query.name.as_str(), pair.gallery.name.as_str());
        let refused = |reason: String, remedy: Option<Remedy>| pair.refused(reason, remedy);
        let (from, to) = (pair.query.space.dim, pair.gallery.space.dim);
        if from != to {
            let reason = format!(
                "queries of {from} dimensions reach items of {to} only through a bridge, and no certificate of one counts"
            );
            return Err(refused(
                reason,
                Some(self.certify_command(pair, Through::Bridge)),
            ));
        }
        if policy.task == Task::ItemLike {
            let reason = "this gallery requires a certificate for item-like retrieval, and compatibility records measure class means only";
            return Err(refused(
                reason.to_owned(),
                Some(self.certify_command(pair, Through::Nothing)),
            ));
        }
        if !pair.are_versions() {
            let reason = "no certificate leads there, and spaces of outside encoders have no compatibility records";
            return Err(refused(
                reason.to_owned(),
                Some(self.certify_command(pair, Through::Bridge)),
            ));
        }
        let set = evaluation_set(policy, records, pair);
        let measured: Vec<&CompatibilityRecord> = records.of_pair(query, gallery).collect();
        let of_weights: Vec<&CompatibilityRecord> = measured
            .iter()
            .copied()
            .filter(|record| pair.is_measured_by(record))
            .collect();
        let counts = |record: &&CompatibilityRecord| match (&policy.evaluation_set, &set) {
            (Some(wanted), _) => wanted.matches(&record.queries, &record.gallery),
            (None, Set::First(queries, searched)) => record.is_on(queries, searched),
            (None, _) => true,
        };
        let Some(record) = of_weights
            .iter()
            .copied()
            .filter(counts)
            .max_by(|one, other| one.created.cmp(&other.created))
        else {
            let remedy = Some(self.command(&set, records, query, gallery));
            let reason = if let Some(other) = of_weights.first() {
                format!(
                    "it was measured on {} and {}, but this gallery requires the evaluation set {set}",
                    other.queries.name, other.gallery.name
                )
            } else if measured.is_empty() {
                "the compatibility of this pair was never measured".to_owned()
            } else if measured.iter().any(|record| record.query_weights.is_some()) {
                "the compatibility of this pair was measured with other weights under the same names".to_owned()
            } else {
                "the compatibility record is from an older program, which did not record the weights"
                    .to_owned()
            };
            return Err(refused(reason, remedy));
        };
        let Some(interval) = record.interval_at(policy.confidence) else {
            let reason = format!(
                "the compatibility record has no interval at the policy's confidence of {}",
                policy.confidence
            );
            return Err(refused(
                reason,
                Some(self.command(&set, records, query, gallery)),
            ));
        };
        if let Some(lacking) = Requirements::default().lacks_queries(record.queries.count) {
            return Err(refused(
                format!("the compatibility record cannot tell: {lacking}"),
                Some(self.command(&Set::Any, records, query, gallery)),
            ));
        }
        let finding = recorded_finding(record, policy.confidence, policy.min_margin)
            .unwrap_or(Finding::Undecided);
        let mut basis = format!(
            "{finding}: cross-test {:.4}, self-test {:.4}, margin {:+.4} [{:+.4}, {:+.4}] at {} confidence, required {:+}, on {}",
            record.cross_test,
            record.self_test,
            record.margin,
            interval.low,
            interval.high,
            policy.confidence,
            policy.min_margin,
            record.gallery.name
        );
        match record.flips {
            Some(flips) => basis.push_str(&format!(
                "; {} of {} queries gained, {} lost",
                flips.positive, record.queries.count, flips.negative
            )),
            // Nothing else decides what the interval would not.
            None if finding == Finding::Undecided && interval.low >= policy.min_margin => {
                basis.push_str(
                    "; the record does not say how many queries changed, so evaluate again",
                );
            }
            None => {}
        }
        let undecided = match (finding, policy.undecided) {
            (Finding::Compatible, _) => false,
            (Finding::Undecided, Undecided::Warn) => true,
            _ => return Err(refused(basis, None)),
        };
        Ok(Ranked {
            certified: Certified {
                undecided,
                expected: ExpectedQuality::of_record(record, policy.confidence),
                ..Certified::by(basis)
            },
            margin: record.margin,
            by_record: true,
        })
    }

    /// The command that certifies a pair.
    fn certify_command(&self, pair: &Pair, through: Through) -> Remedy {
        let files = |end: &End| match end.weights.is_some() {
            true => (format!("{}@SET:SPLIT", quoted(&end.name)), String::new()),
            false => ("FILE".to_owned(), end.name.clone()),
        };
        let ((old, old_space), (new, new_space)) = (files(&pair.gallery), files(&pair.query));
        let mut command = format!(
            "perennial certify --record --old-queries {old} --old-gallery {old} --new-queries {new}"
        );
        for (option, space) in [("--old-space", old_space), ("--new-space", new_space)] {
            if !space.is_empty() {
                command.push_str(&format!(" {option} {}", quoted(&space)));
            }
        }
        if self.policy.task == Task::ItemLike {
            command.push_str(" --relevance FILE");
        }
        if through == Through::Bridge {
            command.push_str(&format!(" --route dual --fit-from {new} --fit-to {old}"));
        }
        self.in_registry(command)
    }

    /// A command with the registry that it needs, if that is not the usual one.
    fn in_registry(&self, command: String) -> Remedy {
        let root = self.registry.root();
        let is_usual = root == Path::new(DEFAULT_REGISTRY);
        Remedy::new(
            command,
            (!is_usual).then(|| quoted(&root.to_string_lossy())),
        )
    }

    /// The command that measures a pair.
    fn command(
        &self,
        set: &Set<'_>,
        records: &CompatibilityRecords,
        query: &str,
        gallery: &str,
    ) -> Remedy {
        const UNKNOWN: &str = "SET:SPLIT";
        let argument = |set: &ProbeSet| set.argument.clone();
        // A policy may name a set by its content or its name, which the command line does not take.
        let named = |name: &str| {
            let sets = records.records.iter();
            let mut sets = sets.flat_map(|record| [&record.queries, &record.gallery]);
            match sets.find(|set| set.sha256 == name || set.name == name) {
                Some(set) => argument(set),
                None => name.contains(':').then(|| name.to_owned()),
            }
        };
        let [queries, searched] = match set {
            Set::Named(queries, searched) => [named(queries), named(searched)],
            Set::First(queries, searched) => [argument(queries), argument(searched)],
            Set::Any => [None, None],
        };
        self.in_registry(format!(
            "perennial evaluate --versions {gallery} {query} --queries {} --gallery {}",
            quoted(queries.as_deref().unwrap_or(UNKNOWN)),
            quoted(searched.as_deref().unwrap_or(UNKNOWN))
        ))
    }
}

/// What a route may need.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Through {
    Nothing,
    Bridge,
}

/// The evaluation set on which a pair must be measured.
enum Set<'a> {
    /// The policy names it.
    Named(&'a str, &'a str),
    /// The stored version was measured on it first.
    First(&'a ProbeSet, &'a ProbeSet),
    /// The stored version was never measured.
    Any,
}

fn evaluation_set<'a>(
    policy: &'a Policy,
    records: &'a CompatibilityRecords,
    pair: &Pair,
) -> Set<'a> {
    if let Some(named) = &policy.evaluation_set {
        return Set::Named(&named.queries, &named.gallery);
    }
    let weights = pair.gallery.weights.as_deref();
    let least = Requirements::default().queries;
    match weights.and_then(|weights| records.first_set_of(weights, least)) {
        Some((queries, gallery)) => Set::First(queries, gallery),
        None => Set::Any,
    }
}

impl std::fmt::Display for Set<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Named(queries, searched) => write!(f, "{queries} and {searched}"),
            Self::First(queries, searched) => write!(f, "{} and {}", queries.name, searched.name),
            Self::Any => f.write_str("any"),
        }
    }
}

/// An argument for a POSIX shell.
pub(super) fn quoted(argument: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '/' | '.' | '-' | '_');
    if !argument.is_empty() && argument.chars().all(plain) {
        return argument.to_owned();
    }
    format!("'{}'", argument.replace('\'', r"'\''"))
}
