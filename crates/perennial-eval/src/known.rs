//! Tests in which some queries or gallery items have no embedding: such a query is missed, such an item is never found.
//!
//! The others are tested among themselves, and the outcomes are put back in their places, so that no vector without a direction is ever
//! compared with anything.

use std::collections::BTreeMap;

use crate::outcomes::Outcomes;
use crate::relevance::{Judgements, Relevance, RelevanceError};

/// The queries and gallery items of a test that have an embedding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Positions of such queries, ascending.
    queries: Vec<usize>,
    /// Positions of such items, ascending.
    items: Vec<usize>,
    /// Queries and items in all.
    counts: [usize; 2],
}

/// What answers which query, by their places among those that have an embedding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KnownRelevance {
    /// As [`Relevance::Classes`].
    Classes {
        /// Class of every query.
        queries: Vec<u32>,
        /// Class of every item.
        gallery: Vec<u32>,
    },
    /// As [`Relevance::Items`].
    Items(Vec<Vec<u32>>),
}

impl KnownRelevance {
    /// As a test takes it.
    pub fn as_relevance(&self) -> Relevance<'_> {
        match self {
            Self::Classes { queries, gallery } => Relevance::Classes { queries, gallery },
            Self::Items(items) => Relevance::Items(items),
        }
    }
}

impl Known {
    /// Of `queries` queries and `items` gallery items, all but those at the positions `missing`: first those of queries, then those of items.
    pub fn without<'a>(
        [queries, items]: [usize; 2],
        missing: [impl IntoIterator<Item = &'a usize>; 2],
    ) -> Self {
        let counts = [queries, items];
        let [missing_queries, missing_items] = missing;
        Self {
            queries: all_but(queries, missing_queries),
            items: all_but(items, missing_items),
            counts,
        }
    }

    /// Whether every query and every item has an embedding.
    pub fn is_complete(&self) -> bool {
        [self.queries.len(), self.items.len()] == self.counts
    }

    /// Positions of the queries that have an embedding, ascending.
    pub fn queries(&self) -> &[usize] {
        &self.queries
    }

    /// Positions of the items that have an embedding, ascending.
    pub fn items(&self) -> &[usize] {
        &self.items
    }

    /// What answers which query, among those that have an embedding.
    ///
    /// # Errors
    /// Relevance of other queries or items than these are positions of.
    pub fn relevance(&self, relevance: &Relevance<'_>) -> Result<KnownRelevance, RelevanceError> {
        let [queries, items] = self.counts;
        Judgements::new(relevance, queries, items)?;
        let of = |positions: &[usize], classes: &[u32]| -> Vec<u32> {
            positions
                .iter()
                .map(|&position| classes[position])
                .collect()
        };
        Ok(match *relevance {
            Relevance::Classes { queries, gallery } => KnownRelevance::Classes {
                queries: of(&self.queries, queries),
                gallery: of(&self.items, gallery),
            },
            Relevance::Items(relevant) => {
                let place = |item: &u32| self.items.binary_search(&(*item as usize)).ok();
                let places = |&query: &usize| {
                    let items = relevant[query].iter();
                    items.filter_map(place).map(|place| place as u32).collect()
                };
                KnownRelevance::Items(self.queries.iter().map(places).collect())
            }
        })
    }

    /// Outcomes of the queries that have an embedding, on the items that have one, as outcomes of all queries on the whole gallery: the other
    /// queries are missed by every measure, and a relevant item without an embedding counts in average precision as one that is at no
    /// rank.
    ///
    /// # Errors
    /// As [`relevance`](Self::relevance), and outcomes of another number of queries.
    pub fn expand(
        &self,
        relevance: &Relevance<'_>,
        found: &Outcomes,
    ) -> Result<Outcomes, RelevanceError> {
        let [queries, items] = self.counts;
        if found.len() != self.queries.len() {
            return Err(RelevanceError::Length {
                what: "outcomes",
                found: found.len(),
                expected: self.queries.len(),
            });
        }
        let judgements = Judgements::new(relevance, queries, items)?;
        let known_of_class = match *relevance {
            Relevance::Classes { gallery, .. } => {
                let mut counts = BTreeMap::<u32, usize>::new();
                for &item in &self.items {
                    *counts.entry(gallery[item]).or_default() += 1;
                }
                counts
            }
            Relevance::Items(_) => BTreeMap::new(),
        };
        let known = |query: usize, relevant: &[u32]| match *relevance {
            Relevance::Classes { queries, .. } => {
                known_of_class.get(&queries[query]).copied().unwrap_or(0)
            }
            Relevance::Items(_) => {
                let is_known = |item: &&u32| self.items.binary_search(&(**item as usize)).is_ok();
                relevant.iter().filter(is_known).count()
            }
        };
        let mut first_match = vec![0; queries];
        let mut average_precision = vec![0.0; queries];
        let mut nearest = found
            .nearest_class_correct
            .as_ref()
            .map(|_| vec![false; queries]);
        for (place, &query) in self.queries.iter().enumerate() {
            first_match[query] = found.first_match[place];
            let relevant = judgements.relevant(query);
            let share = known(query, relevant) as f64 / relevant.len().max(1) as f64;
            average_precision[query] = (f64::from(found.average_precision[place]) * share) as f32;
            if let (Some(all), Some(found)) = (&mut nearest, &found.nearest_class_correct) {
                all[query] = found[place];
            }
        }
        Ok(Outcomes {
            nearest_class_correct: nearest,
            queries_without_relevant: first_match.iter().filter(|&&rank| rank == 0).count(),
            first_match,
            average_precision,
        })
    }
}

fn all_but<'a>(count: usize, missing: impl IntoIterator<Item = &'a usize>) -> Vec<usize> {
    let mut known = vec![true; count];
    for &position in missing {
        if let Some(known) = known.get_mut(position) {
            *known = false;
        }
    }
    (0..count).filter(|&position| known[position]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Measure, Test, outcomes};
    use proptest::prelude::*;

    /// The outcomes where the vectors at the positions `missing` are left out.
    fn tested(
        [queries, gallery]: [&[f32]; 2],
        relevance: &Relevance<'_>,
        missing: [&[usize]; 2],
    ) -> Outcomes {
        let known = Known::without([queries.len() / 2, gallery.len() / 2], missing);
        let of = |rows: &[f32], positions: &[usize]| -> Vec<f32> {
            let rows = positions.iter().flat_map(|&at| &rows[2 * at..2 * at + 2]);
            rows.copied().collect()
        };
        let among = known.relevance(relevance).unwrap();
        let test = Test {
            queries: &of(queries, known.queries()),
            gallery: &of(gallery, known.items()),
            dim: 2,
            relevance: &among.as_relevance(),
            own: None,
        };
        known.expand(relevance, &outcomes(&test).unwrap()).unwrap()
    }

    #[test]
    fn what_has_no_embedding_is_missed_and_never_found() {
        let queries = [1.0, 0.0, 0.0, 1.0, 1.0, 0.0];
        let gallery = [1.0, 0.0, 0.8, 0.6, 0.0, 1.0];
        let classes = Relevance::Classes {
            queries: &[4, 7, 4],
            gallery: &[4, 4, 7],
        };
        let all = tested([&queries, &gallery], &classes, [&[], &[]]);
        assert_eq!(all.first_match, [1, 1, 1]);
        assert_eq!(all.average_precision, [1.0; 3]);

        // Query 2 and item 0 are out: the item is one of two that query 0 should find.
        let some = tested([&queries, &gallery], &classes, [&[2], &[0]]);
        assert_eq!(some.nearest_class_correct, Some(vec![true, true, false]));
        assert_eq!(some.first_match, [1, 1, 0]);
        assert_eq!(some.average_precision, [0.5, 1.0, 0.0]);
        assert_eq!(some.queries_without_relevant, 1);
        assert_eq!(Measure::RecallAt(1).mean(&some), Some(2.0 / 3.0));

        // The only item of a class: nothing is left to find, and no mean of nothing stands for the class.
        let none = tested([&queries, &gallery], &classes, [&[], &[2]]);
        assert_eq!(none.nearest_class_correct, Some(vec![true, false, true]));
        assert_eq!(none.first_match, [1, 0, 1]);
        assert_eq!(none.average_precision, [1.0, 0.0, 1.0]);

        let single = [vec![0], vec![1, 2], vec![2]];
        let items = Relevance::Items(&single);
        let some = tested([&queries, &gallery], &items, [&[0], &[1]]);
        assert_eq!(some.nearest_class_correct, None);
        assert_eq!(some.first_match, [0, 1, 2]);
        assert_eq!(some.average_precision, [0.0, 0.5, 0.5]);

        let none = tested([&queries, &gallery], &classes, [&[0, 1, 2], &[]]);
        assert_eq!(
            (none.first_match, none.average_precision),
            (vec![0; 3], vec![0.0; 3])
        );
        let none = tested([&queries, &gallery], &classes, [&[], &[0, 1, 2]]);
        assert_eq!(
            (none.first_match, none.average_precision),
            (vec![0; 3], vec![0.0; 3])
        );
        assert_eq!(none.nearest_class_correct, Some(vec![false; 3]));

        let one_out = Known::without([3, 3], [&[0usize] as &[usize], &[]]);
        assert!(one_out.expand(&classes, &all).is_err());
        let known = Known::without([2, 3], [&[] as &[usize], &[1]]);
        assert!(!known.is_complete() && known.relevance(&classes).is_err());
        assert!(known.expand(&classes, &all).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// An item that is like no query at all and ranks last changes as little as one without an embedding.
        #[test]
        fn a_missing_item_is_like_one_behind_all_others(
            queries in prop::collection::vec((0.1f32..1.0, 0.1f32..1.0, 0u32..3), 1..8),
            gallery in prop::collection::vec((0.1f32..1.0, 0.1f32..1.0, 0u32..3), 2..12),
            missing in 0usize..12,
        ) {
            let missing = missing % gallery.len();
            let rows = |set: &[(f32, f32, u32)]| -> Vec<f32> {
                set.iter().flat_map(|row| [row.0, row.1]).collect()
            };
            let of_query: Vec<u32> = queries.iter().map(|row| row.2).collect();
            let of_item: Vec<u32> = gallery.iter().map(|row| row.2).collect();
            let relevance = Relevance::Classes { queries: &of_query, gallery: &of_item };
            let (query_rows, mut rows) = (rows(&queries), rows(&gallery));
            let left_out = tested([&query_rows, &rows], &relevance, [&[], &[missing]]);
            rows[2 * missing..2 * missing + 2].fill(-1.0);
            let behind = tested([&query_rows, &rows], &relevance, [&[], &[]]);
            for (query, &class) in of_query.iter().enumerate() {
                let alone = of_item.iter().filter(|&&other| other == class).count() == 1
                    && of_item[missing] == class;
                // Where it is the only one that is right, it is found last instead of never.
                if !alone {
                    prop_assert_eq!(left_out.first_match[query], behind.first_match[query]);
                }
                // What is right and ranks last adds less than 1 of as many as are right, and what is wrong and ranks last nothing.
                let right = of_item.iter().filter(|&&other| other == class).count().max(1);
                let adds = if of_item[missing] == class { 1.0 / right as f32 } else { 0.0 };
                let lost = behind.average_precision[query] - left_out.average_precision[query];
                prop_assert!((-1e-6..=adds + 1e-6).contains(&lost), "{lost}");
            }
        }
    }
}
