//! One method over its seeds.

use std::collections::BTreeMap;

use serde::Serialize;

use super::entry::Entry;
use super::error::MethodTableError;
use super::worst_pair::WorstPair;
use crate::Interval;
use crate::published::Published;
use crate::seed_summary::SeedSummary;

/// One method over its seeds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Method {
    /// Its name.
    pub method: String,
    /// The runs, in the order of their seeds.
    pub runs: Vec<String>,
    /// Their seeds, ascending; unknown ones come last.
    pub seeds: Vec<Option<u64>>,
    /// The measures by name.
    pub measures: BTreeMap<String, SeedSummary>,
    /// The 95 % intervals over the queries, of a method with one run.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub query_intervals: BTreeMap<String, Interval>,
    /// The pair with the smallest margin of all runs, by the prefix of the measure's names.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub worst_pairs: BTreeMap<String, WorstPair>,
    /// The published figures of the same method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub published: Option<&'static Published>,
}

impl Method {
    /// `entries` are of one method, at least one.
    pub(super) fn of(
        mut entries: Vec<Entry>,
        published: &'static [Published],
    ) -> Result<Self, MethodTableError> {
        entries.sort_by_key(|entry| (entry.seed.is_none(), entry.seed));
        for pair in entries.windows(2) {
            if let (Some(seed), true) = (pair[0].seed, pair[0].seed == pair[1].seed) {
                return Err(MethodTableError::SeedTwice {
                    method: pair[0].method.clone(),
                    seed,
                    first: pair[0].source.clone(),
                    second: pair[1].source.clone(),
                });
            }
        }
        let mut values: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for entry in &entries {
            for (name, &value) in &entry.values {
                values.entry(name.clone()).or_default().push(value);
            }
        }
        let mut worst_pairs: BTreeMap<String, WorstPair> = BTreeMap::new();
        for (prefix, pair) in entries.iter().flat_map(|entry| &entry.worst_pairs) {
            worst_pairs
                .entry(prefix.clone())
                .and_modify(|worst| {
                    if pair.margin < worst.margin {
                        *worst = *pair;
                    }
                })
                .or_insert(*pair);
        }
        let query_intervals = match &entries[..] {
            [only] => only.intervals.clone(),
            _ => BTreeMap::new(),
        };
        let kind = entries[0].kind.as_deref();
        Ok(Self {
            method: entries[0].method.clone(),
            published: published
                .iter()
                .find(|row| kind.is_some() && row.kind == kind),
            query_intervals,
            worst_pairs,
            seeds: entries.iter().map(|entry| entry.seed).collect(),
            runs: entries.into_iter().map(|entry| entry.source).collect(),
            measures: values
                .into_iter()
                .filter_map(|(name, values)| Some((name, SeedSummary::of(values)?)))
                .collect(),
        })
    }
}
