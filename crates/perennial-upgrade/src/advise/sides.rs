//! Items that stay old and items that are embedded again, searched in one ranking.

use perennial_bridge::Index;
use perennial_core::normalize_rows;
use perennial_eval::{
    MixedOutcomes, MixedTest, Partition, ShiftedMerge, answered_by, mixed_outcomes_by,
};

use super::halves::truth_of;
use super::merging::Chosen;
use crate::evaluation_data::{EvaluationData, Truth};
use crate::measured::MeasureError;
use crate::route::{Prepared, Search};

/// Shares embedded again at which merges are compared.
pub(super) const TRIED_SHARES: [f64; 2] = [0.25, 0.75];
/// Hits among which the share of old items is counted.
const FIRST: usize = 24;

/// The items that stay old and those that are embedded again; nothing if one of them is empty.
pub(super) fn parts(order: &[usize], share: f64) -> Option<[&[usize]; 2]> {
    let embedded = ((share * order.len() as f64).round() as usize).min(order.len());
    let (again, left) = order.split_at(embedded);
    (!again.is_empty() && !left.is_empty()).then_some([left, again])
}

/// Both encoders' vectors of one half of the queries, to be searched in one ranking.
pub(super) struct Sides<'a> {
    pub(super) data: &'a EvaluationData,
    pub(super) truth: &'a Truth,
    /// Dual queries and stored vectors.
    pub(super) old: Prepared,
    /// The new encoder's own, as they are and centred.
    new: [Prepared; 2],
}

impl<'a> Sides<'a> {
    /// Nothing without the gallery by the new encoder.
    pub(super) fn of(
        data: &'a EvaluationData,
        number: usize,
        search: &Search<'_>,
    ) -> Result<Option<Self>, MeasureError> {
        let Some(gallery) = &data.new_gallery else {
            return Ok(None);
        };
        let mut new = [Index::Raw, Index::Centred].map(|_| Prepared {
            queries: data.new_queries.values.clone(),
            gallery: gallery.values.clone(),
            dim: gallery.dim,
        });
        let [raw, centred] = &mut new;
        for rows in [&mut raw.queries, &mut raw.gallery] {
            normalize_rows(rows, gallery.dim)?;
        }
        for rows in [&mut centred.queries, &mut centred.gallery] {
            match search.bridge {
                Some(bridge) => bridge.centre_from(rows)?,
                None => normalize_rows(rows, gallery.dim)?,
            }
        }
        Ok(Some(Self {
            data,
            truth: truth_of(data, number),
            old: search.prepare(data)?,
            new,
        }))
    }

    pub(super) fn new_side(&self, index: Index) -> &Prepared {
        match index {
            Index::Raw => &self.new[0],
            Index::Centred => &self.new[1],
        }
    }

    /// One ranking of the items that stay old and those that are embedded again.
    pub(super) fn merged(
        &self,
        chosen: &Chosen,
        split: [&[usize]; 2],
    ) -> Result<MixedOutcomes, MeasureError> {
        let found = self.merged_by(std::slice::from_ref(chosen), split)?;
        Ok(found.into_iter().next().expect("one outcome for one merge"))
    }

    /// The same by several merges, for one computation of the similarities. All of them compare new items in the same way.
    pub(super) fn merged_by(
        &self,
        merges: &[Chosen],
        split: [&[usize]; 2],
    ) -> Result<Vec<MixedOutcomes>, MeasureError> {
        let Some(first) = merges.first() else {
            return Ok(Vec::new());
        };
        let shifts: Vec<[f64; 2]> = merges.iter().map(Chosen::ranking_shifts).collect();
        let merges = merges.iter().zip(&shifts);
        let merges: Vec<ShiftedMerge<'_>> = merges
            .map(|(chosen, shifts)| chosen.for_ranking(shifts))
            .collect();
        let search = |test: &MixedTest<'_>| mixed_outcomes_by(test, &merges);
        Ok(self.with_test(first.merge.new_items, split, search)?)
    }

    /// For each query, the side that holds all of its right items, old items being 0; nothing is searched.
    pub(super) fn answered_by(
        &self,
        split: [&[usize]; 2],
    ) -> Result<Vec<Option<usize>>, MeasureError> {
        Ok(self.with_test(Index::Raw, split, answered_by)?)
    }

    fn with_test<T>(
        &self,
        new_items: Index,
        [left, again]: [&[usize]; 2],
        then: impl FnOnce(&MixedTest<'_>) -> T,
    ) -> T {
        let (old, new) = (&self.old, self.new_side(new_items));
        let rows = |prepared: &Prepared, items: &[usize]| -> Vec<f32> {
            items
                .iter()
                .flat_map(|&item| &prepared.gallery[item * prepared.dim..][..prepared.dim])
                .copied()
                .collect()
        };
        let positions =
            |items: &[usize]| items.iter().map(|&item| item as u32).collect::<Vec<u32>>();
        let galleries = [rows(old, left), rows(new, again)];
        let places = [positions(left), positions(again)];
        let partitions = [(0, old), (1, new)].map(|(side, prepared)| Partition {
            queries: &prepared.queries,
            gallery: &galleries[side],
            dim: prepared.dim,
            positions: &places[side],
        });
        then(&MixedTest {
            partitions: &partitions,
            relevance: &self.truth.relevance(),
            own: self.data.own.as_deref(),
            first: FIRST,
        })
    }
}
