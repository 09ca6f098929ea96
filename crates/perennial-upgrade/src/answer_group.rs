//! Groups of queries by where their answers lie in a gallery that is partly embedded again.

use std::fmt;

use perennial_core::Verdict;
use serde::{Deserialize, Serialize};

use crate::measured::Measured;

/// Where the right items of a query lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answers {
    /// All of them are left as the old encoder embedded them.
    Old,
    /// All of them are embedded again.
    New,
}

impl fmt::Display for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Old => "old",
            Self::New => "new",
        })
    }
}

/// What queries with an answer in one part find in a gallery that is partly embedded again, by the certified route and merge, beside what the old
/// encoder found for the same queries in its own gallery of all items. Of queries that did not choose the merge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswerGroup {
    /// Share of the gallery's items that are embedded again, evenly drawn.
    pub share: f64,
    /// Where the right items are.
    pub answers: Answers,
    /// Queries of the group.
    pub queries: u64,
    /// The deciding measures of the task. They decide nothing here: of several groups some are below by chance.
    pub measures: Vec<Measured>,
}

impl AnswerGroup {
    /// The measures by which it is worse than before, as surely as a certificate demands.
    pub fn worse(&self) -> impl Iterator<Item = &Measured> {
        let measures = self.measures.iter();
        measures.filter(|one| one.verdict == Verdict::Incompatible)
    }

    /// Where it is worse than before, in words; nothing where it is not.
    pub(crate) fn warning(&self) -> Option<String> {
        let worse = self.worse().map(|one| {
            let found = &one.comparison;
            format!(
                "{} {:.4} instead of {:.4}",
                found.measure, found.new, found.old
            )
        });
        let worse: Vec<String> = worse.collect();
        (!worse.is_empty()).then(|| {
            format!(
                "with {:.0} % of the gallery embedded again, queries whose answers are {} find less than before: {}; a second stage \
                 (`rerank`) or embedding the rest again helps",
                self.share * 100.0,
                self.answers,
                worse.join(", ")
            )
        })
    }
}
