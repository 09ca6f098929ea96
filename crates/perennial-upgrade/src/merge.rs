//! One ranking from the hits of several spaces.

use std::collections::HashMap;

use perennial_core::dot_products;
use perennial_gallery::{Hit, ItemId};

use crate::recorded_merge::{LinearScale, RecordedMerge};

/// Similarities of a part that say as much about their mean there as the other parts do.
const MEAN_HALF: f64 = 2.0;
/// The same for their spread, which takes more of them.
const SPREAD_HALF: f64 = 20.0;
/// Smaller spreads are rounding: such similarities do not differ.
const ROUNDING: f64 = 1e-6;

/// Vectors of a space's sample, at most. The error of a mean of so many similarities is a 22nd of their spread.
pub const SAMPLE_VECTORS: usize = 512;
/// The seed of every sample, so that equal galleries rank equally, served or not.
pub const SAMPLE_SEED: u64 = 0x5045_5245_4e4e_4941;

/// The hits of one query in one part of a gallery.
#[derive(Debug, Clone)]
pub struct PartHits {
    /// Best first.
    pub hits: Vec<Hit>,
    /// What similarities of this query are usual in the part.
    pub calibration: ScoreCalibration,
    /// How its similarities come onto one scale with those of other parts.
    pub scale: PartScale,
}

/// How the similarities of a part come onto the scale of the query's own space.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum PartScale {
    /// By what is usual in the part and there; nothing better was measured.
    #[default]
    Usual,
    /// The same, and so many standard deviations more, as it was measured when the route was certified.
    UsualAnd(f64),
    /// They are on it.
    Own,
    /// As it was measured when the route was certified.
    Measured(LinearScale),
}

impl PartScale {
    /// Of a route, by the merge that was measured with it.
    pub fn of(merge: &RecordedMerge) -> Self {
        match (merge.own_scale(), merge.standard_shift()) {
            (Some(scale), _) => Self::Measured(scale),
            (None, 0.0) => Self::Usual,
            (None, more) => Self::UsualAnd(more),
        }
    }
}

/// The similarities of one query to a sample of a part's items.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ScoreCalibration {
    /// Their mean, without the largest: of few items that is the answer itself.
    pub mean: f64,
    /// Their standard deviation, without the largest.
    pub spread: f64,
    /// How many similarities these are from.
    pub sample: usize,
}

/// A hit in the ranking of all parts.
#[derive(Debug, Clone, PartialEq)]
pub struct MergedHit {
    /// The hit, with its similarity as its part gave it.
    pub hit: Hit,
    /// Which part it is from, counted from 0.
    pub part: usize,
    /// Its similarity less what is usual for this query in the part, by the spread there. Always finite.
    pub standard_score: f64,
    /// Its similarity on the scale of the query's own space, where the measured merge of some part ranks by it; none where standard scores rank.
    pub merged_score: Option<f64>,
}

impl ScoreCalibration {
    /// Of the query that the part is searched with.
    ///
    /// **Shapes**: `query` `[dim]`, `sample` `[m, dim]`; nothing is known of a sample that is empty or of another shape.
    pub fn of(query: &[f32], sample: &[f32]) -> Self {
        if query.is_empty() || sample.is_empty() || !sample.len().is_multiple_of(query.len()) {
            return Self::default();
        }
        let mut similarities = vec![0.0f32; sample.len() / query.len()];
        dot_products(query, sample, query.len(), &mut similarities);
        similarities.retain(|similarity| similarity.is_finite());
        let largest = (0..similarities.len())
            .max_by(|&one, &other| similarities[one].total_cmp(&similarities[other]));
        if let Some(largest) = largest {
            similarities.swap_remove(largest);
        }
        let count = similarities.len().max(1) as f64;
        let values = || similarities.iter().copied().map(f64::from);
        let mean = values().sum::<f64>() / count;
        let variance = values().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
        Self {
            mean,
            spread: variance.sqrt(),
            sample: similarities.len(),
        }
    }

    /// Over the items of several spaces that are searched with the same vectors: mean and deviation of all, each space by its number of items.
    pub fn over_spaces(spaces: &[(Self, u64)]) -> Self {
        if let [(one, _)] = spaces {
            return *one;
        }
        let known = || spaces.iter().filter(|(one, _)| one.sample > 0);
        let items: f64 = known().map(|&(_, items)| items as f64).sum();
        if items == 0.0 {
            return Self::default();
        }
        let over_all = |value: fn(&Self) -> f64| {
            let sum: f64 = known().map(|(one, items)| *items as f64 * value(one)).sum();
            sum / items
        };
        let mean = over_all(|one| one.mean);
        let squares = over_all(|one| one.spread.powi(2) + one.mean.powi(2));
        Self {
            mean,
            spread: (squares - mean.powi(2)).max(0.0).sqrt(),
            sample: known().map(|(one, _)| one.sample).sum(),
        }
    }

    /// Finite figures, or none at all.
    fn sound(self) -> Self {
        let sound = self.mean.is_finite() && self.spread.is_finite() && self.spread >= 0.0;
        if sound { self } else { Self::default() }
    }

    /// Of a part with few items, drawn towards what is usual in all parts: the similarities to three items say where the fourth is to be
    /// expected, but little about how far from there. Those to any number of equal items say nothing.
    fn drawn_to(self, all: Self) -> Self {
        let count = self.sample as f64;
        let own = |half: f64| count / (count + half);
        let differ = self.spread > ROUNDING;
        let between = |own: f64, one: f64, other: f64| own * one + (1.0 - own) * other;
        let mean = if differ || self.sample == 1 {
            own(MEAN_HALF)
        } else {
            0.0
        };
        let spread = if differ { own(SPREAD_HALF) } else { 0.0 };
        Self {
            mean: between(mean, self.mean, all.mean),
            spread: between(spread, self.spread.powi(2), all.spread.powi(2)).sqrt(),
            ..self
        }
    }

    /// Similarities that do not differ count as usual.
    fn standard(&self, similarity: f32) -> f64 {
        if self.spread <= ROUNDING {
            return 0.0;
        }
        let score = (f64::from(similarity) - self.mean) / self.spread;
        // Adding 0 makes -0 and 0 equal in the order of all floats.
        if score.is_finite() { score + 0.0 } else { 0.0 }
    }
}

/// The hits of all parts, best first; by standard score unless something better was measured: the similarity less its mean over the part's items for this query, by their standard
/// deviation. Equal scores stay in the order of the parts and of their hits; hits without a finite similarity are left out.
///
/// Cosines of different spaces are not on one scale. Where ways to merge were measured side by side (half a gallery searched by dual queries, one
/// right item for each query), standard scores ranked as well as any other, and they need no labels. A part with few items borrows from all parts
/// what it does not show itself, down to merged cosines for a single item; where nothing is known of any part, the standard score is the
/// similarity. With one part the order is that of the similarities.
///
/// Where another merge was measured best for the route of a part, hits are ranked by what it gives: similarities on the scale of the query's own
/// space. Those of parts without such a measurement come there by their standard scores, from the mean and deviation of the part that is on that
/// scale, or of all. A part that gains standard deviations comes there with them.
///
/// An item has one place: parts that both found it were searched before and after it moved. Its hit in the query's own space stays, otherwise that of
/// the earlier part.
pub fn merge(parts: Vec<PartHits>, limit: usize) -> Vec<MergedHit> {
    let known: Vec<ScoreCalibration> = parts.iter().map(|part| part.calibration.sound()).collect();
    let sampled: Vec<(ScoreCalibration, u64)> =
        known.iter().map(|&one| (one, one.sample as u64)).collect();
    let all = match ScoreCalibration::over_spaces(&sampled) {
        ScoreCalibration { sample: 0, .. } => ScoreCalibration {
            mean: 0.0,
            spread: 1.0,
            sample: 0,
        },
        known => known,
    };
    let measured =
        |part: &PartHits| matches!(part.scale, PartScale::Measured(_) | PartScale::UsualAnd(_));
    let by_scale = parts.len() > 1 && parts.iter().any(measured);
    let own = parts.iter().position(|part| part.scale == PartScale::Own);
    let usual = own.map_or(all, |own| known[own].drawn_to(all));
    let mut merged: Vec<MergedHit> = Vec::new();
    for (number, part) in parts.into_iter().enumerate() {
        let calibration = known[number].drawn_to(all);
        let at_standard = |score: f64| usual.mean + usual.spread * score;
        let on_own_scale = |similarity: f32| match part.scale {
            PartScale::Usual => at_standard(calibration.standard(similarity)),
            PartScale::UsualAnd(more) => at_standard(calibration.standard(similarity) + more),
            PartScale::Own => f64::from(similarity),
            PartScale::Measured(scale) => scale.apply(similarity),
        };
        let hits = part.hits.into_iter().filter(|hit| hit.score.is_finite());
        merged.extend(hits.map(|hit| MergedHit {
            standard_score: calibration.standard(hit.score),
            // Adding 0 makes -0 and 0 equal in the order of all floats.
            merged_score: by_scale.then(|| on_own_scale(hit.score) + 0.0),
            part: number,
            hit,
        }));
    }
    if known.len() > 1 {
        keep_one_each(&mut merged, own);
    }
    // Stable, so that equal scores keep their order.
    let rank = |hit: &MergedHit| hit.merged_score.unwrap_or(hit.standard_score);
    merged.sort_by(|one, other| rank(other).total_cmp(&rank(one)));
    merged.truncate(limit);
    merged
}

/// Leaves each item its hit in the part that is on the query's own scale, or in the earliest.
fn keep_one_each(merged: &mut Vec<MergedHit>, own: Option<usize>) {
    let order = |hit: &MergedHit| (Some(hit.part) != own, hit.part);
    let mut first: HashMap<&ItemId, (bool, usize)> = HashMap::with_capacity(merged.len());
    for hit in merged.iter() {
        let known = first.entry(&hit.hit.id).or_insert_with(|| order(hit));
        *known = (*known).min(order(hit));
    }
    let stays: Vec<bool> = merged
        .iter()
        .map(|hit| first.get(&hit.hit.id) == Some(&order(hit)))
        .collect();
    let mut stays = stays.into_iter();
    merged.retain(|_| stays.next().unwrap_or(true));
}

#[cfg(test)]
mod tests;
