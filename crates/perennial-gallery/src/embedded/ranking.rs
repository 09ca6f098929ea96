//! The best of many candidates: scores and slots in one order, and a collector that most candidates cost one comparison.

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
        // Flipping the sign bit of positive numbers and all bits of negative ones orders floats as integers.
        let bits = (score + 0.0).to_bits();
        let ordered = if bits >> 31 == 0 {
            bits | 1 << 31
        } else {
            !bits
        };
        Self(u64::from(!ordered) << 32 | slot as u64 & u64::from(u32::MAX))
    }

    pub(super) fn score(self) -> f32 {
        let ordered = !((self.0 >> 32) as u32);
        f32::from_bits(if ordered >> 31 == 1 {
            ordered & !(1 << 31)
        } else {
            !ordered
        })
    }

    pub(super) fn slot(self) -> usize {
        self.0 as u32 as usize
    }

    fn same_score(self, other: Self) -> bool {
        self.0 >> 32 == other.0 >> 32
    }
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

    /// Offers the scores of rows that lie side by side and pass.
    pub(super) fn offer_all(&mut self, first: usize, scores: &[f32], allowed: Option<&SlotSet>) {
        const LOOK: usize = 64;
        for (block, scores) in scores.chunks(LOOK).enumerate() {
            let highest = scores
                .iter()
                .copied()
                .fold(f32::NEG_INFINITY, |a, b| if b > a { b } else { a });
            if highest < self.least {
                continue;
            }
            for (at, &score) in scores.iter().enumerate() {
                let slot = first + block * LOOK + at;
                if score >= self.least && allowed.is_none_or(|allowed| allowed.contains(slot)) {
                    self.offer(score, slot);
                }
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
            let (mut single, mut blocks) = (Best::new(count), Best::new(count));
            for (slot, &score) in (7..).zip(&scores) {
                single.offer(score, slot);
            }
            blocks.offer_all(7, &scores, None);
            for best in [single, blocks] {
                let mut found = best.finish();
                found.sort_unstable();
                assert_eq!(found, all, "{count} of {levels}");
            }
        }
    }
}
