//! What the answers of a place say about all of its originals: that it is away, or the wrong one.

use std::collections::BTreeSet;

use perennial_gallery::{ItemId, StoredItem};
use thiserror::Error;

use super::failure::{Failure, FailureReason};
use super::original::Original;
use super::outcome::Outcome;

/// So many originals in a row whose place does not answer, and the place is taken to be away.
const UNANSWERED: usize = 16;
/// After so many failures before the first success, the source is the wrong one.
pub const FAILURES_WITHOUT_SUCCESS: u64 = 100;

/// The place of the originals does not answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the originals cannot be reached: {detail}; resume when they can")]
pub struct PlaceAway {
    /// What was found the last time.
    pub detail: String,
}

/// An item, and what came of asking for its original.
pub type Asked<T> = (StoredItem, Result<T, Failure>);

/// Items whose place did not answer, kept apart until it does for another one: while the whole place is away, its items have not failed.
#[derive(Debug, Default)]
pub struct Unanswered {
    items: Vec<(StoredItem, Failure)>,
    /// Whether the place has answered for any item.
    answered: bool,
}

impl Unanswered {
    /// Those kept apart, which are not to be handed out again meanwhile.
    pub fn ids(&self) -> BTreeSet<ItemId> {
        self.items.iter().map(|(item, _)| item.id.clone()).collect()
    }

    /// Takes in what came of some items. `answered` says whether the place has answered for one of them ([`place_answered`]): those kept apart have
    /// failed then, and are given back with the others.
    ///
    /// # Errors
    /// Too many in a row without an answer; none of them is kept apart any more.
    pub fn sort_out<T>(
        &mut self,
        found: Vec<Asked<T>>,
        answered: bool,
    ) -> Result<Vec<Asked<T>>, PlaceAway> {
        let mut others = Vec::with_capacity(found.len());
        for (item, original) in found {
            match original {
                Err(failure) if failure.reason == FailureReason::Unreachable => {
                    self.items.push((item, failure));
                }
                original => others.push((item, original)),
            }
        }
        if answered {
            self.answered = true;
            let failed = self.items.drain(..);
            others.extend(failed.map(|(item, failure)| (item, Err(failure))));
        } else if self.items.len() >= UNANSWERED {
            return Err(self.away());
        }
        Ok(others)
    }

    /// The items that have failed, once no item is left that the place could answer for.
    ///
    /// # Errors
    /// The place has not answered at all; none of them has failed.
    pub fn at_end(&mut self) -> Result<Vec<(StoredItem, Failure)>, PlaceAway> {
        match self.answered || self.items.is_empty() {
            true => Ok(std::mem::take(&mut self.items)),
            false => Err(self.away()),
        }
    }

    fn away(&mut self) -> PlaceAway {
        let last = self.items.pop().map(|(_, failure)| failure.detail);
        self.items.clear();
        PlaceAway {
            detail: last.unwrap_or_default(),
        }
    }
}

/// Whether the place of an original has answered, be it that there is none: not where nothing was asked, as for an item that holds its text or does
/// not say where its original is.
pub fn place_answered(original: &Result<Original, Failure>) -> bool {
    match original {
        Ok(Original::Picture(_) | Original::Text(_)) => true,
        Ok(Original::Held(_)) => false,
        Err(failure) => !matches!(
            failure.reason,
            FailureReason::Unreachable
                | FailureReason::NoSource
                | FailureReason::Refused
                | FailureReason::OtherModality
        ),
    }
}

/// Notices a source that is the wrong one: of the first originals, none can be used.
#[derive(Debug, Default)]
pub struct FirstOriginals {
    succeeded: bool,
    failed: u64,
}

impl FirstOriginals {
    /// Takes in what became of some items, and says whether the source is the wrong one. Items that the version cannot embed say nothing about the
    /// place of the others' originals.
    pub fn are_useless(&mut self, outcome: &Outcome) -> bool {
        self.succeeded |= !outcome.done.is_empty();
        let lost = |failure: &Failure| failure.reason != FailureReason::OtherModality;
        let failed = outcome.failed.iter();
        self.failed += failed.filter(|(_, failure)| lost(failure)).count() as u64;
        !self.succeeded && self.failed >= FAILURES_WITHOUT_SUCCESS
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;

    fn item(id: u64) -> StoredItem {
        StoredItem {
            id: id.into(),
            model_version: "v0001".to_owned(),
            label: None,
            payload: Map::new(),
            embedding: None,
        }
    }

    fn of(id: u64, reason: FailureReason) -> (StoredItem, Result<Original, Failure>) {
        (
            item(id),
            Err(Failure::new(reason, format!("{reason:?} {id}"))),
        )
    }

    fn sort_out(
        apart: &mut Unanswered,
        found: Vec<(StoredItem, Result<Original, Failure>)>,
    ) -> Result<Vec<u64>, PlaceAway> {
        let answered = found.iter().any(|(_, original)| place_answered(original));
        let others = apart.sort_out(found, answered)?;
        let ids = others.iter().map(|(item, _)| item.id.to_string());
        Ok(ids.map(|id| id.parse().unwrap()).collect())
    }

    #[test]
    fn one_that_cannot_be_reached_fails_once_another_one_can() {
        let mut apart = Unanswered::default();
        let unreachable = |id| of(id, FailureReason::Unreachable);
        assert_eq!(sort_out(&mut apart, vec![unreachable(1)]), Ok(vec![]));
        assert_eq!(apart.ids(), [1.into()].into());
        let found = vec![of(2, FailureReason::Gone), unreachable(3)];
        assert_eq!(sort_out(&mut apart, found), Ok(vec![2, 1, 3]));
        assert!(apart.ids().is_empty());
        // The last item of all: the place is there.
        assert_eq!(sort_out(&mut apart, vec![unreachable(4)]), Ok(vec![]));
        assert_eq!(apart.at_end().unwrap().len(), 1);
    }

    #[test]
    fn a_place_that_is_away_makes_no_item_fail() {
        let mut apart = Unanswered::default();
        let mut away = None;
        for id in 0..UNANSWERED as u64 {
            // Items beside them of which nobody is asked.
            let held = (item(1000 + id), Ok(Original::Held("a text".to_owned())));
            let unasked = vec![
                of(id, FailureReason::Unreachable),
                of(2000 + id, FailureReason::NoSource),
                held,
            ];
            match sort_out(&mut apart, unasked) {
                Ok(others) => assert_eq!(others, [2000 + id, 1000 + id]),
                Err(found) => away = Some(found),
            }
        }
        let last = format!("Unreachable {}", UNANSWERED - 1);
        assert_eq!(away.unwrap().detail, last);
        assert!(apart.ids().is_empty() && apart.at_end().unwrap().is_empty());

        let found = vec![of(1, FailureReason::Unreachable)];
        assert_eq!(sort_out(&mut apart, found), Ok(vec![]));
        let away = apart.at_end().unwrap_err();
        assert!(away.to_string().contains("Unreachable 1; resume"));
    }

    #[test]
    fn the_first_originals_say_whether_the_source_is_right() {
        let failed = |reason, count| Outcome {
            failed: (0..count)
                .map(|id| (item(id), Failure::new(reason, "")))
                .collect(),
            ..Outcome::default()
        };
        let mut first = FirstOriginals::default();
        assert!(!first.are_useless(&failed(FailureReason::OtherModality, 500)));
        assert!(!first.are_useless(&failed(FailureReason::Gone, FAILURES_WITHOUT_SUCCESS - 1)));
        assert!(first.are_useless(&failed(FailureReason::Gone, 1)));
        let mut first = FirstOriginals::default();
        let done = Outcome {
            done: vec![1.into()],
            ..Outcome::default()
        };
        assert!(!first.are_useless(&done));
        assert!(!first.are_useless(&failed(FailureReason::Gone, 500)));
    }
}
