//! How often searches found an item, in bounded memory.

use std::cmp::Ordering;
use std::collections::HashMap;

use perennial_gallery::ItemId;

use super::order::Order;

/// Items that are counted at once.
const CAPACITY: usize = 1 << 16;

/// What searches say about one item.
#[derive(Debug, Clone, PartialEq)]
pub struct Retrieval {
    /// How often it was found; halved with all others when the counter is full.
    pub times: u32,
    /// The lowest standard score that it was found with, where scores are standardised.
    pub lowest_standard_score: Option<f64>,
    /// The space that it was in.
    pub space: String,
}

/// Counts of retrievals. When it is full, all counts are halved and those of zero are forgotten, so that recent searches count most.
#[derive(Debug)]
pub struct Retrievals {
    counts: HashMap<ItemId, Retrieval>,
    capacity: usize,
}

impl Default for Retrievals {
    fn default() -> Self {
        Self::with_capacity(CAPACITY)
    }
}

impl Retrievals {
    fn with_capacity(capacity: usize) -> Self {
        Self {
            counts: HashMap::new(),
            capacity,
        }
    }

    /// Counts an item that a search found.
    pub fn note(&mut self, id: &ItemId, space: &str, standard_score: Option<f64>) {
        let score = standard_score.filter(|score| score.is_finite());
        if let Some(known) = self.counts.get_mut(id) {
            known.times = known.times.saturating_add(1);
            known.lowest_standard_score = match (known.lowest_standard_score, score) {
                (Some(lowest), Some(score)) => Some(lowest.min(score)),
                (lowest, score) => lowest.or(score),
            };
            if known.space != space {
                space.clone_into(&mut known.space);
            }
            return;
        }
        // Each round halves the largest count, so this ends.
        while self.counts.len() >= self.capacity {
            self.counts.retain(|_, known| {
                known.times /= 2;
                known.times > 0
            });
        }
        let first = Retrieval {
            times: 1,
            lowest_standard_score: score,
            space: space.to_owned(),
        };
        self.counts.insert(id.clone(), first);
    }

    /// Forgets an item, such as one that was embedded again.
    pub fn forget(&mut self, id: &ItemId) {
        self.counts.remove(id);
    }

    /// Items that are counted.
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// Whether no search found anything yet.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// The first `limit` items in an order, of the spaces that have a rank: a smaller rank is served worse. None in the order of ids,
    /// which counts do not change.
    pub fn first(
        &self,
        order: Order,
        rank: &dyn Fn(&str) -> Option<usize>,
        limit: usize,
    ) -> Vec<ItemId> {
        if order == Order::Id || limit == 0 {
            return Vec::new();
        }
        let mut ranked: Vec<(&ItemId, &Retrieval, usize)> = self
            .counts
            .iter()
            .filter_map(|(id, known)| Some((id, known, rank(&known.space)?)))
            .collect();
        let compare = |one: &(&ItemId, &Retrieval, usize), other: &(&ItemId, &Retrieval, usize)| {
            let by_times = other.1.times.cmp(&one.1.times);
            let by_score = lowest_first(one.1.lowest_standard_score, other.1.lowest_standard_score);
            let by_rank = one.2.cmp(&other.2);
            let by_service = by_score.then(by_rank);
            match order {
                Order::WorstServed => by_service.then(by_times),
                Order::Retrieved | Order::Id => by_times.then(by_service),
            }
            .then_with(|| one.0.cmp(other.0))
        };
        if limit < ranked.len() {
            ranked.select_nth_unstable_by(limit - 1, compare);
            ranked.truncate(limit);
        }
        ranked.sort_unstable_by(compare);
        ranked.into_iter().map(|(id, ..)| id.clone()).collect()
    }
}

/// Known scores before unknown ones.
fn lowest_first(one: Option<f64>, other: Option<f64>) -> Ordering {
    match (one, other) {
        (Some(one), Some(other)) => one.total_cmp(&other),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => Ordering::Equal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rank(space: &str) -> Option<usize> {
        ["v0001", "v0002"].iter().position(|name| *name == space)
    }

    fn filled() -> Retrievals {
        let mut counts = Retrievals::default();
        for (id, space, times, score) in [
            (1, "v0002", 3, Some(2.0)),
            (2, "v0001", 1, Some(-1.0)),
            (3, "v0001", 3, Some(1.0)),
            (4, "v0002", 1, None),
            (5, "v0001", 1, None),
            (6, "v0003", 9, Some(-9.0)),
        ] {
            (0..times).for_each(|_| counts.note(&ItemId::Number(id), space, score));
        }
        counts
    }

    fn numbers(ids: Vec<ItemId>) -> Vec<u64> {
        ids.into_iter()
            .map(|id| match id {
                ItemId::Number(number) => number,
                ItemId::Text(text) => panic!("{text}"),
            })
            .collect()
    }

    #[test]
    fn the_most_retrieved_come_first_then_the_worst_served_then_by_id() {
        let counts = filled();
        let first = |order, limit| numbers(counts.first(order, &rank, limit));
        assert_eq!(first(Order::Retrieved, 10), [3, 1, 2, 5, 4]);
        assert_eq!(first(Order::Retrieved, 2), [3, 1]);
        assert_eq!(first(Order::WorstServed, 10), [2, 3, 1, 5, 4]);
        assert!(first(Order::Id, 10).is_empty());
    }

    #[test]
    fn the_lowest_score_is_kept() {
        let mut counts = Retrievals::default();
        for score in [Some(1.0), None, Some(-2.0), Some(f64::NAN), Some(5.0)] {
            counts.note(&ItemId::Number(1), "v0001", score);
        }
        let known = &counts.counts[&ItemId::Number(1)];
        assert_eq!((known.times, known.lowest_standard_score), (5, Some(-2.0)));
    }

    #[test]
    fn memory_is_bounded_and_what_is_found_often_stays() {
        let mut counts = Retrievals::with_capacity(10);
        for round in 0..100 {
            counts.note(&ItemId::Number(7), "v0001", None);
            counts.note(&ItemId::Number(1000 + round), "v0001", None);
            assert!(counts.len() <= 10);
        }
        assert_eq!(numbers(counts.first(Order::Retrieved, &rank, 1)), [7]);
        counts.forget(&ItemId::Number(7));
        assert!(!counts.counts.contains_key(&ItemId::Number(7)));
    }
}
