//! Whether an evaluation set can tell anything at all, before any model is measured on it.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::relevance::{Judgements, Relevance, RelevanceError, check_own};

/// What an evaluation set must have.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Requirements {
    /// Fewest queries: below about 30 a bootstrap interval is too narrow.
    pub queries: usize,
    /// Fewest classes in the gallery, where relevance is by class.
    pub classes: usize,
    /// Largest share of queries without a relevant item. They are missed whatever the model, so they hide differences.
    pub share_without_relevant: f64,
}

impl Default for Requirements {
    fn default() -> Self {
        Self {
            queries: 30,
            classes: 2,
            share_without_relevant: 0.05,
        }
    }
}

impl Requirements {
    /// What so many queries lack; nothing where they are enough.
    pub fn lacks_queries(&self, found: usize) -> Option<CannotTell> {
        (found < self.queries).then_some(CannotTell::TooFewQueries {
            found,
            needed: self.queries,
        })
    }
}

/// Why an evaluation set cannot tell whether an upgrade is compatible.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
#[non_exhaustive]
pub enum CannotTell {
    /// Too few queries.
    TooFewQueries {
        /// Queries found.
        found: usize,
        /// Queries needed.
        needed: usize,
    },
    /// Too few classes in the gallery: with one class every answer is right.
    TooFewClasses {
        /// Classes found.
        found: usize,
        /// Classes needed.
        needed: usize,
    },
    /// The gallery has no relevant item for too many queries.
    NothingToFind {
        /// Queries without a relevant item.
        queries: usize,
        /// Their share of all queries.
        share: f64,
        /// The largest share allowed.
        most: f64,
        /// Classes of the queries that the gallery lacks; none where relevance is not by class.
        missing_classes: Option<usize>,
    },
}

impl fmt::Display for CannotTell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooFewQueries { found, needed } => {
                write!(f, "too few queries: {found}, at least {needed} are needed")
            }
            Self::TooFewClasses { found, needed } => {
                write!(
                    f,
                    "too few classes in the gallery: {found}, at least {needed} are needed"
                )
            }
            Self::NothingToFind {
                queries,
                share,
                most,
                missing_classes,
            } => {
                write!(
                    f,
                    "{queries} queries (a share of {share:.3}) have nothing to find in the gallery; at most {most} is allowed"
                )?;
                match missing_classes {
                    Some(classes) => write!(f, " ({classes} of their classes are missing there)"),
                    None => Ok(()),
                }
            }
        }
    }
}

/// Everything that an evaluation set lacks; empty where it will do.
///
/// **Shapes.** `relevance` for any number of queries; `items`: gallery items; `own`: `[n]`, see [`Test::own`](crate::outcomes::Test).
///
/// # Errors
/// [`RelevanceError`] where relevance or own items do not fit the gallery.
pub fn cannot_tell(
    relevance: &Relevance<'_>,
    items: usize,
    own: Option<&[Option<u32>]>,
    requirements: &Requirements,
) -> Result<Vec<CannotTell>, RelevanceError> {
    let queries = match relevance {
        Relevance::Classes { queries, .. } => queries.len(),
        Relevance::Items(relevant) => relevant.len(),
    };
    let judgements = Judgements::new(relevance, queries, items)?;
    check_own(own, queries, items)?;
    let mut lacking = Vec::from_iter(requirements.lacks_queries(queries));
    let mut missing_classes = None;
    if let Judgements::Classes {
        queries,
        items_of_class,
        ..
    } = &judgements
    {
        let found = items_of_class.len();
        if found < requirements.classes {
            lacking.push(CannotTell::TooFewClasses {
                found,
                needed: requirements.classes,
            });
        }
        let missing = queries
            .iter()
            .filter(|class| !items_of_class.contains_key(class));
        missing_classes = Some(missing.collect::<BTreeSet<_>>().len());
    }
    let has_nothing = |query: &usize| {
        let own = own.and_then(|own| own[*query]);
        let mut relevant = judgements.relevant(*query).iter();
        relevant.all(|&item| Some(item) == own)
    };
    let without = (0..queries).filter(has_nothing).count();
    let share = without as f64 / queries.max(1) as f64;
    if share > requirements.share_without_relevant {
        lacking.push(CannotTell::NothingToFind {
            queries: without,
            share,
            most: requirements.share_without_relevant,
            missing_classes,
        });
    }
    Ok(lacking)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_set_lacks_nothing() {
        let classes: Vec<u32> = (0..40).map(|query| query % 4).collect();
        let relevance = Relevance::Classes {
            queries: &classes,
            gallery: &classes,
        };
        assert_eq!(
            cannot_tell(&relevance, 40, None, &Requirements::default()),
            Ok(vec![])
        );
    }

    #[test]
    fn everything_that_lacks_is_named() {
        let relevance = Relevance::Classes {
            queries: &[1, 2, 3, 3],
            gallery: &[1, 1],
        };
        let found = cannot_tell(&relevance, 2, None, &Requirements::default()).unwrap();
        let texts: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "too few queries: 4, at least 30 are needed",
                "too few classes in the gallery: 1, at least 2 are needed",
                "3 queries (a share of 0.750) have nothing to find in the gallery; at most 0.05 is allowed (2 of their classes are missing there)",
            ]
        );
        let json = serde_json::to_string(&found).unwrap();
        assert_eq!(
            serde_json::from_str::<Vec<CannotTell>>(&json).unwrap(),
            found
        );
    }

    #[test]
    fn a_query_that_could_find_only_itself_has_nothing_to_find() {
        let items: Vec<Vec<u32>> = (0..30).map(|query| vec![query]).collect();
        let own: Vec<Option<u32>> = (0..30).map(Some).collect();
        let relevance = Relevance::Items(&items);
        let requirements = Requirements::default();
        assert_eq!(cannot_tell(&relevance, 30, None, &requirements), Ok(vec![]));
        let found = cannot_tell(&relevance, 30, Some(&own), &requirements).unwrap();
        assert!(matches!(
            found[..],
            [CannotTell::NothingToFind {
                queries: 30,
                missing_classes: None,
                ..
            }]
        ));
        assert!(cannot_tell(&relevance, 29, None, &requirements).is_err());
    }
}
