use perennial_core::dot;
use perennial_eval::{MixedTest, Partition, Relevance, mixed_outcomes};
use perennial_gallery::Hit;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::merge::{PartHits, PartScale, ScoreCalibration, merge};

/// Items of each part; as many as the sample of a space holds.
const ITEMS: usize = 500;
const QUERIES: usize = 40;

struct Part {
    queries: Vec<f32>,
    gallery: Vec<f32>,
    dim: usize,
    positions: Vec<u32>,
}

impl Part {
    fn draw(random: &mut ChaCha8Rng, dim: usize, first: u32) -> Self {
        let mut rows = |count: usize| {
            let values = (0..count * dim).map(|_| random.random::<f32>() - 0.3);
            values.collect::<Vec<f32>>()
        };
        Self {
            queries: rows(QUERIES),
            gallery: rows(ITEMS),
            dim,
            positions: (first..first + ITEMS as u32).collect(),
        }
    }

    fn partition(&self) -> Partition<'_> {
        Partition {
            queries: &self.queries,
            gallery: &self.gallery,
            dim: self.dim,
            positions: &self.positions,
        }
    }

    /// What a search of all items gives for a query.
    fn hits(&self, query: usize, scale: PartScale) -> PartHits {
        let query = &self.queries[query * self.dim..][..self.dim];
        let rows = self.gallery.chunks_exact(self.dim).zip(&self.positions);
        let hit = |(row, &position): (&[f32], &u32)| Hit {
            id: u64::from(position).into(),
            score: dot(query, row),
            model_version: "v0001".to_owned(),
            label: None,
            payload: serde_json::Map::new(),
        };
        PartHits {
            hits: rows.map(hit).collect(),
            calibration: ScoreCalibration::of(query, &self.gallery),
            scale,
        }
    }
}

fn calibration(slope: f64, intercept: f64) -> LogisticCalibration {
    LogisticCalibration {
        slope,
        intercept,
        log_loss: 0.1,
    }
}

#[test]
fn a_search_by_a_record_ranks_as_it_was_evaluated() {
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let calibrations = vec![calibration(4.0, -1.0), calibration(3.0, -0.5)];
    for (kind, calibrations) in [
        (MergeKind::Cosines, Vec::new()),
        (MergeKind::Calibrated, calibrations),
        (MergeKind::ZScores, Vec::new()),
    ] {
        let mut by_shift = Vec::new();
        for shift in [0.0, -0.4, 0.7] {
            let [old, new] =
                [(6, 0), (7, ITEMS as u32)].map(|(dim, first)| Part::draw(&mut random, dim, first));
            let targets: Vec<Vec<u32>> = (0..QUERIES)
                .map(|_| vec![random.random_range(0..2 * ITEMS as u32)])
                .collect();
            let new_items = Index::Raw;
            let chosen = Chosen {
                shift,
                ..Chosen::plain(CurveMerge { kind, new_items }, calibrations.clone())
            };
            let test = MixedTest {
                partitions: &[old.partition(), new.partition()],
                relevance: &Relevance::Items(&targets),
                own: None,
                first: 24,
            };
            let shifts = chosen.ranking_shifts();
            let evaluated = mixed_outcomes(&test, chosen.for_ranking(&shifts)).unwrap();
            let record = chosen.recorded(60);
            let mut from_old = 0;
            for (query, target) in targets.iter().enumerate() {
                let parts = vec![
                    new.hits(query, PartScale::Own),
                    old.hits(query, PartScale::of(&record)),
                ];
                let merged = merge(parts, 2 * ITEMS);
                let wanted = u64::from(target[0]).into();
                let place = merged.iter().position(|hit| hit.hit.id == wanted);
                let place = place.unwrap() as i64 + 1;
                let rank = i64::from(evaluated.all.first_match[query]);
                // z-scores leave the largest similarity out of what is usual; otherwise only rounding differs.
                let allowed = match kind {
                    MergeKind::ZScores => 4 + rank / 20,
                    _ => 1,
                };
                assert!(
                    (place - rank).abs() <= allowed,
                    "{kind:?} {shift}: place {place}, evaluated {rank}"
                );
                from_old += merged.iter().take(24).filter(|hit| hit.part == 1).count();
            }
            let share = from_old as f64 / (24 * QUERIES) as f64;
            assert!(
                (share - evaluated.share_of_first[0]).abs() < 0.02,
                "{kind:?} {shift}: {share} old, evaluated {:?}",
                evaluated.share_of_first
            );
            by_shift.push(share);
        }
        let [none, less, more] = by_shift[..] else {
            panic!("{by_shift:?}");
        };
        assert!(less < none && none < more, "{kind:?}: {by_shift:?}");
    }
}
