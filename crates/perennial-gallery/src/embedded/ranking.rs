//! The best of many candidates: scores and slots in one order, and a collector that most candidates cost one comparison.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use super::rows::SlotSet;

/// Equals of the last of the best that are kept, so that their ids can decide. Beyond it, older rows win.
pub(super) const TIES: usize = 1024;
/// Candidates that memory is reserved for before there are any.
const RESERVED: usize = 512;

/// A similarity and a slot in one integer: the natural order of the integers is best first, older rows first among equals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ranked(u64);

impl Ranked {
    pub(super) fn new(score: f32, slot: usize) -> Self {
        Self(u64::from(!ordered(score)) << 32 | slot as u64 & u64::from(u32::MAX))
    }

    pub(super) fn score(self) -> f32 {
        unordered(!((self.0 >> 32) as u32))
    }

    pub(super) fn slot(self) -> usize {
        self.0 as u32 as usize
    }

    fn same_score(self, other: Self) -> bool {
        self.0 >> 32 == other.0 >> 32
    }
}

/// A score as an integer of the same order.
fn ordered(score: f32) -> u32 {
    // Flipping the sign bit of positive numbers and all bits of negative ones orders floats as integers.
    let bits = (score + 0.0).to_bits();
    if bits >> 31 == 0 {
        bits | 1 << 31
    } else {
        !bits
    }
}

fn unordered(ordered: u32) -> f32 {
    f32::from_bits(if ordered >> 31 == 1 {
        ordered & !(1 << 31)
    } else {
        !ordered
    })
}

/// Keeps the best `count` in any order, and up to [`TIES`] equals of the last of them.
pub(super) fn keep_best(ranked: &mut Vec<Ranked>, count: usize) {
    if count == 0 || ranked.len() <= count {
        return;
    }
    let last = *ranked.select_nth_unstable(count - 1).1;
    let mut kept = count;
    for at in count..ranked.len() {
        if ranked[at].same_score(last) {
            ranked.swap(kept, at);
            kept += 1;
        }
    }
    if kept > count + TIES {
        ranked[count..kept].select_nth_unstable(TIES - 1);
        kept = count + TIES;
    }
    ranked.truncate(kept);
}

/// Keeps the best `count` of many candidates, and up to [`TIES`] equals of the last of them. Most candidates cost one
/// comparison.
pub(super) struct Best {
    ranked: Vec<Ranked>,
    count: usize,
    /// No smaller score can be among the best any more.
    least: f32,
    /// Candidates at which the best are picked out.
    full: usize,
}

impl Best {
    pub(super) fn new(count: usize) -> Self {
        let full = count.saturating_mul(4).saturating_add(64);
        Self {
            // A search that wants nearly all rows would reserve them for each segment.
            ranked: Vec::with_capacity(full.min(RESERVED)),
            count,
            least: f32::NEG_INFINITY,
            full,
        }
    }

    #[inline(always)]
    pub(super) fn offer(&mut self, score: f32, slot: usize) {
        if score >= self.least {
            self.ranked.push(Ranked::new(score, slot));
            if self.ranked.len() >= self.full {
                self.pick();
            }
        }
    }

    #[cold]
    fn pick(&mut self) {
        keep_best(&mut self.ranked, self.count);
        let lowest = self.ranked.iter().map(|ranked| ranked.score());
        if self.ranked.len() >= self.count {
            self.least = lowest.fold(f32::INFINITY, f32::min);
        }
        self.full = 2 * self.ranked.len() + 2 * self.count + 64;
    }

    pub(super) fn finish(mut self) -> Vec<Ranked> {
        keep_best(&mut self.ranked, self.count);
        self.ranked
    }
}

/// A lower bound of the last of the best `count` so far, known to all threads that search.
#[derive(Debug)]
pub(super) struct Threshold {
    least: AtomicU32,
    count: usize,
    /// The best scores so far, at most `count` in any order, as integers of the same order.
    best: Mutex<Vec<u32>>,
}

impl Threshold {
    pub(super) fn new(count: usize) -> Self {
        Self {
            least: AtomicU32::new(ordered(f32::NEG_INFINITY)),
            count,
            best: Mutex::default(),
        }
    }

    pub(super) fn get(&self) -> f32 {
        unordered(self.least.load(Ordering::Relaxed))
    }

    /// Takes in the scores of some rows. No row may come twice.
    pub(super) fn learn(&self, ranked: &[Ranked]) {
        let mut best = self.best.lock().unwrap_or_else(PoisonError::into_inner);
        let least = self.least.load(Ordering::Relaxed);
        let better = ranked.iter().map(|ranked| ordered(ranked.score()));
        best.extend(better.filter(|&score| score > least));
        if self.count == 0 || best.len() < self.count {
            return;
        }
        let last = *best
            .select_nth_unstable_by(self.count - 1, |a, b| b.cmp(a))
            .1;
        best.truncate(self.count);
        self.least.store(last, Ordering::Relaxed);
    }
}

/// Rows whose scores are known only within bounds: keeps all that may be among the best `count`.
pub(super) struct Contenders {
    /// Best case and slot, as small as in [`Ranked`].
    found: Vec<(f32, u32)>,
    worst_cases: Best,
    least: f32,
}

impl Contenders {
    /// Starts from what is known already.
    pub(super) fn new(count: usize, threshold: &Threshold) -> Self {
        Self {
            found: Vec::new(),
            worst_cases: Best::new(count),
            least: threshold.get(),
        }
    }

    /// A best case below this one does not matter any more.
    #[inline(always)]
    pub(super) fn least(&self) -> f32 {
        self.least
    }

    #[inline(always)]
    pub(super) fn offer(&mut self, score: f32, margin: f32, slot: usize) {
        if score + margin >= self.least {
            self.found.push((score + margin, slot as u32));
            self.worst_cases.offer(score - margin, slot);
            self.least = self.least.max(self.worst_cases.least);
        }
    }

    /// Offers the scores of rows that lie side by side and pass, all known within one margin.
    pub(super) fn offer_all(
        &mut self,
        first: usize,
        scores: &[f32],
        margin: f32,
        allowed: Option<&SlotSet>,
    ) {
        const LOOK: usize = 64;
        for (block, scores) in scores.chunks(LOOK).enumerate() {
            let highest = scores
                .iter()
                .copied()
                .fold(f32::NEG_INFINITY, |a, b| if b > a { b } else { a });
            if highest + margin < self.least {
                continue;
            }
            for (at, &score) in scores.iter().enumerate() {
                let slot = first + block * LOOK + at;
                if allowed.is_none_or(|allowed| allowed.contains(slot)) {
                    self.offer(score, margin, slot);
                }
            }
        }
    }

    /// Slots of all that may be among the best, from what is known now.
    pub(super) fn finish(mut self, threshold: &Threshold) -> impl Iterator<Item = usize> {
        self.worst_cases.pick();
        let least = self.least.max(self.worst_cases.least);
        let least = least.max(threshold.get());
        self.found
            .into_iter()
            .filter_map(move |(best_case, slot)| (best_case >= least).then_some(slot as usize))
    }
}

/// The best of all rows, in order.
pub(super) fn best_of(parts: Vec<Vec<Ranked>>, count: usize) -> Vec<Ranked> {
    let mut ranked = parts.concat();
    keep_best(&mut ranked, count);
    ranked.sort_unstable();
    ranked
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    proptest! {
        #[test]
        fn ranks_keep_score_and_slot(a in -1.0f32..1.0, b in -1.0f32..1.0, p in 0usize..9, q in 0usize..9) {
            let (x, y) = (Ranked::new(a, p), Ranked::new(b, q));
            prop_assert_eq!((x.score(), x.slot()), (a, p));
            prop_assert_eq!(x.cmp(&y), b.partial_cmp(&a).unwrap().then(p.cmp(&q)));
        }

        #[test]
        fn the_best_and_their_equals_stay(scores in prop::collection::vec(0u8..6, 0..60), count in 1usize..20) {
            let ranked = |slot| Ranked::new(f32::from(scores[slot]), slot);
            let mut sorted: Vec<Ranked> = (0..scores.len()).map(ranked).collect();
            let kept = best_of(sorted.chunks(7).map(<[Ranked]>::to_vec).collect(), count);
            sorted.sort();
            let bound = sorted.get(count - 1).map(|last| last.score());
            sorted.retain(|r| bound.is_none_or(|bound| r.score() >= bound));
            prop_assert_eq!(kept, sorted);
        }
    }

    #[test]
    fn a_threshold_is_the_last_of_the_best_of_all_that_it_learnt() {
        let mut random = ChaCha8Rng::seed_from_u64(6);
        for (count, levels) in [(1, 1000.0f32), (10, 1e6), (10, 20.0), (300, 1e6)] {
            let (threshold, mut all) = (Threshold::new(count), Vec::new());
            for part in 0..40 {
                let some: Vec<Ranked> = (0..random.random_range(0..30))
                    .map(|at| {
                        let score = (random.random::<f32>() * levels).floor() / levels - 0.5;
                        Ranked::new(score, part * 30 + at)
                    })
                    .collect();
                threshold.learn(&some);
                all.extend(some);
                all.sort_unstable();
                let last = all.get(count - 1);
                let expected = last.map_or(f32::NEG_INFINITY, |last| last.score());
                assert_eq!(threshold.get(), expected, "{count} of {}", all.len());
            }
        }
    }

    #[test]
    fn candidates_that_come_one_by_one_leave_the_same_best() {
        let mut random = ChaCha8Rng::seed_from_u64(5);
        for (count, levels) in [(1, 1000.0f32), (10, 1e6), (10, 40.0), (50, 3.0)] {
            let scores: Vec<f32> = (0..5000)
                .map(|_| (random.random::<f32>() * levels).floor() / levels - 0.5)
                .collect();
            let all = (7..)
                .zip(&scores)
                .map(|(slot, &score)| Ranked::new(score, slot));
            let mut all: Vec<Ranked> = all.collect();
            keep_best(&mut all, count);
            all.sort_unstable();
            let mut best = Best::new(count);
            for (slot, &score) in (7..).zip(&scores) {
                best.offer(score, slot);
            }
            let mut found = best.finish();
            found.sort_unstable();
            assert_eq!(found, all, "{count} of {levels}");
            // Without a margin, contenders are exactly those; with one, also all that come so close: to the last one's worst case, or to the last
            // one where a threshold knows it.
            for margin in [0.0, 0.01] {
                let (threshold, last) = (Threshold::new(count), all[count - 1].score());
                for bound in [last - margin, last] {
                    let mut contenders = Contenders::new(count, &threshold);
                    contenders.offer_all(7, &scores, margin, None);
                    let slots: Vec<usize> = contenders.finish(&threshold).collect();
                    let close = |slot: &usize| scores[slot - 7] + margin >= bound;
                    let expected: Vec<usize> = (7..5007).filter(close).collect();
                    assert_eq!(slots, expected, "{count} of {levels} within {margin}");
                    threshold.learn(&all);
                }
            }
        }
    }
}
