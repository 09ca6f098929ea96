//! What is compared: the measurement of one run.

use std::collections::BTreeMap;

use super::worst_pair::WorstPair;
use crate::Interval;

/// The measurement of one run.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// What it was read from, for messages.
    pub source: String,
    /// The method's name; entries of one name are seeds of one method.
    pub method: String,
    /// The kind of method that published figures are looked up for, such as `hoc`; none for methods of other names.
    pub kind: Option<String>,
    /// The scenario, such as `iamcl2r-7`.
    pub scenario: Option<String>,
    /// What it was measured on. Only equal texts are compared.
    pub evaluation: Option<String>,
    /// The seed of the training.
    pub seed: Option<u64>,
    /// The measures, best by their names in [`MEASURES`](super::MEASURES).
    pub values: BTreeMap<String, f64>,
    /// Their 95 % intervals over the queries, of those that have one.
    pub intervals: BTreeMap<String, Interval>,
    /// The pair of versions with the smallest margin, by the prefix of the measure's names: empty for class means, `recall@1 `, `mAP `.
    pub worst_pairs: BTreeMap<String, WorstPair>,
}
