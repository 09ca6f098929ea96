//! The mixed-gallery test against brute force.
#![allow(clippy::unwrap_used)]

use perennial_eval::{
    LogisticCalibration, Merge, MixedTest, Partition, Relevance, ShiftedMerge, answered_by,
    mixed_outcomes, mixed_outcomes_by,
};
use proptest::prelude::*;

/// A partition's own copy of everything, for tests.
#[derive(Debug, Clone)]
struct Owned {
    queries: Vec<f32>,
    gallery: Vec<f32>,
    dim: usize,
    positions: Vec<u32>,
}

impl Owned {
    fn borrow(&self) -> Partition<'_> {
        Partition {
            queries: &self.queries,
            gallery: &self.gallery,
            dim: self.dim,
            positions: &self.positions,
        }
    }

    fn scores(&self, query: usize) -> Vec<f32> {
        let query = &self.queries[query * self.dim..(query + 1) * self.dim];
        let rows = self.gallery.chunks(self.dim);
        rows.map(|row| row.iter().zip(query).map(|(a, b)| a * b).sum())
            .collect()
    }
}

/// All items of one query, best first, from the definitions.
fn plain_ranking(
    parts: &[Owned],
    query: usize,
    merge: Merge<'_>,
    shifts: [f64; 2],
    own: Option<u32>,
) -> Vec<u32> {
    let mut items: Vec<(f32, u32)> = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        let scores = part.scores(query);
        let count = scores.len() as f64;
        let mean = scores.iter().map(|&score| f64::from(score)).sum::<f64>() / count;
        let variance = scores
            .iter()
            .map(|&score| (f64::from(score) - mean).powi(2))
            .sum::<f64>()
            / count;
        for (&score, &position) in scores.iter().zip(&part.positions) {
            let score = f64::from(score);
            let merged = match merge {
                Merge::Scores => score,
                Merge::ZNormalised if variance == 0.0 => 0.0,
                Merge::ZNormalised => score / variance.sqrt() - mean / variance.sqrt(),
                Merge::Calibrated(calibrations) => calibrations[index].log_odds(score),
            };
            items.push(((merged + shifts[index]) as f32, position));
        }
    }
    items.retain(|&(_, position)| Some(position) != own);
    items.sort_by(|a, b| b.0.partial_cmp(&a.0).unwrap().then(a.1.cmp(&b.1)));
    items.into_iter().map(|(_, position)| position).collect()
}

const CALIBRATIONS: [LogisticCalibration; 2] = [
    LogisticCalibration {
        slope: 2.0,
        intercept: -1.0,
        log_loss: 0.0,
    },
    LogisticCalibration {
        slope: 0.5,
        intercept: 0.25,
        log_loss: 0.0,
    },
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn agrees_with_brute_force(
        queries in 1usize..6,
        values in prop::collection::vec(-2i8..=2, 400),
        old in prop::collection::vec(any::<bool>(), 1..40),
        first in 0usize..50,
        judged in prop::collection::vec(prop::collection::btree_set(0u32..40, 0..9), 6),
        own in prop::collection::vec(prop::option::of(0u32..40), 6),
        shift in -2i8..=2,
    ) {
        let items = old.len() as u32;
        // Two spaces of different dimensions; small integers make similarities exact, and many of them equal.
        let mut values = values.into_iter().map(f32::from).cycle();
        let mut draw = |count: usize| -> Vec<f32> { values.by_ref().take(count).collect() };
        let parts: Vec<Owned> = [(true, 2), (false, 3)]
            .into_iter()
            .map(|(kind, dim)| {
                let positions: Vec<u32> = (0..items).rev().filter(|&item| old[item as usize] == kind).collect();
                Owned { queries: draw(queries * dim), gallery: draw(positions.len() * dim), dim, positions }
            })
            .collect();
        let judged: Vec<Vec<u32>> = judged[..queries]
            .iter()
            .map(|set| set.iter().copied().filter(|&item| item < items).collect())
            .collect();
        let own: Vec<Option<u32>> = own[..queries].iter().map(|own| own.filter(|&own| own < items)).collect();
        let relevance = Relevance::Items(&judged);
        let partitions: Vec<Partition<'_>> = parts.iter().map(Owned::borrow).collect();
        for merge in [Merge::Scores, Merge::ZNormalised, Merge::Calibrated(&CALIBRATIONS)] {
            let test = MixedTest {
                partitions: &partitions, relevance: &relevance, own: Some(&own), first,
            };
            // Whole numbers keep similarities exact.
            let shifts = [f64::from(shift), 0.0];
            let found = mixed_outcomes(&test, ShiftedMerge { merge, shifts: &shifts }).unwrap();
            let mut old_share = 0.0;
            for query in 0..queries {
                let ranking = plain_ranking(&parts, query, merge, shifts, own[query]);
                let relevant = |item: &u32| judged[query].contains(item);
                let rank = ranking.iter().position(relevant).map_or(0, |place| place as u32 + 1);
                // Equal similarities of one partition stay equal; those of two may differ in rounding when scaled.
                if merge == Merge::Scores {
                    prop_assert_eq!(found.all.first_match[query], rank);
                    let hits = &ranking[..first.min(ranking.len())];
                    let from_old = hits.iter().filter(|&&item| old[item as usize]).count();
                    old_share += from_old as f64 / hits.len().max(1) as f64;
                } else {
                    prop_assert_eq!(found.all.first_match[query] == 0, rank == 0);
                }
                let kinds: std::collections::BTreeSet<bool> = judged[query]
                    .iter()
                    .filter(|&&item| Some(item) != own[query])
                    .map(|&item| old[item as usize])
                    .collect();
                let only = if kinds.len() == 1 { Some(usize::from(kinds.contains(&false))) } else { None };
                prop_assert_eq!(found.answered_by[query], only);
            }
            if merge == Merge::Scores {
                prop_assert!((found.share_of_first[0] - old_share / queries as f64).abs() < 1e-12);
            }
            let answered = found.answered_in(0).len() + found.answered_in(1).len();
            prop_assert_eq!(answered, found.answered_by.iter().flatten().count());
            prop_assert_eq!(answered_by(&test).unwrap(), found.answered_by);
        }
    }

    #[test]
    fn scaled_scores_agree_with_brute_force(
        values in prop::collection::vec(-1.0f32..1.0, 200), old in prop::collection::vec(any::<bool>(), 2..20),
        target in 0u32..20, shift in -1.0f64..1.0,
    ) {
        // Real values: hardly any are equal, so rounding decides nothing.
        let items = old.len() as u32;
        let mut values = values.into_iter().cycle();
        let mut draw = |count: usize| -> Vec<f32> { values.by_ref().take(count).collect() };
        let parts: Vec<Owned> = [(true, 2), (false, 3)]
            .into_iter()
            .map(|(kind, dim)| {
                let positions: Vec<u32> = (0..items).filter(|&item| old[item as usize] == kind).collect();
                Owned { queries: draw(dim), gallery: draw(positions.len() * dim), dim, positions }
            })
            .collect();
        let judged = [vec![target % items]];
        let relevance = Relevance::Items(&judged);
        let partitions: Vec<Partition<'_>> = parts.iter().map(Owned::borrow).collect();
        for merge in [Merge::ZNormalised, Merge::Calibrated(&CALIBRATIONS)] {
            let test = MixedTest { partitions: &partitions, relevance: &relevance, own: None, first: 3 };
            let shifted = ShiftedMerge { merge, shifts: &[shift, 0.0] };
            let both = mixed_outcomes_by(&test, &[merge.into(), shifted]).unwrap();
            prop_assert_eq!(&both[0], &mixed_outcomes(&test, merge).unwrap());
            let found = &both[1];
            let ranking = plain_ranking(&parts, 0, merge, [shift, 0.0], None);
            let rank = ranking.iter().position(|&item| item == target % items).unwrap() as i64 + 1;
            // Two items as similar as rounding may swap.
            prop_assert!((i64::from(found.all.first_match[0]) - rank).abs() <= 1);
            prop_assert!((found.share_of_first.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        }
    }
}
