//! The mixed-gallery test: items of several spaces are searched space by space, and the results are merged into one ranking.

use crate::calibration::LogisticCalibration;
use crate::outcomes::Outcomes;
use crate::ranking::{Ranker, Ranking};
use crate::relevance::{Judgements, Relevance, RelevanceError, check_own};
use crate::score_rows::{SearchError, Side, map_score_rows};
use crate::search::{Best, RankKey};

/// The items of one space, with the queries as that space sees them.
#[derive(Debug, Clone, Copy)]
pub struct Partition<'a> {
    /// Query vectors in this space, `[n, dim]` row-major: the same `n` queries in every partition.
    pub queries: &'a [f32],
    /// Vectors of this partition's items, `[m, dim]` row-major.
    pub gallery: &'a [f32],
    /// Values per vector of this space.
    pub dim: usize,
    /// Position of every item in the whole gallery, `[m]`.
    pub positions: &'a [u32],
}

/// How similarities of several spaces are made comparable.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Merge<'a> {
    /// As they are: cosines against cosines.
    Scores,
    /// Less their mean over the partition's items, divided by their standard deviation, for each query and partition. Similarities that
    /// do not differ count as average.
    ZNormalised,
    /// As log-odds of a match, by one calibration per partition.
    Calibrated(&'a [LogisticCalibration]),
}

/// A merge in which partitions have a handicap.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ShiftedMerge<'a> {
    /// What makes the similarities comparable.
    pub merge: Merge<'a>,
    /// Added to what that gives, per partition; empty for nothing.
    pub shifts: &'a [f64],
}

impl<'a> From<Merge<'a>> for ShiftedMerge<'a> {
    fn from(merge: Merge<'a>) -> Self {
        Self { merge, shifts: &[] }
    }
}

/// Partitions, and what the queries should find in them.
#[derive(Debug, Clone, Copy)]
pub struct MixedTest<'a> {
    /// The partitions; together they hold every position of the whole gallery once.
    pub partitions: &'a [Partition<'a>],
    /// Which items of the whole gallery answer which query.
    pub relevance: &'a Relevance<'a>,
    /// Per query, `[n]`: the position of the query itself in the whole gallery, which is left out of its ranking.
    pub own: Option<&'a [Option<u32>]>,
    /// The first this many hits are looked at for [`MixedOutcomes::share_of_first`].
    pub first: usize,
}

/// Outcomes of a mixed gallery.
#[derive(Debug, Clone, PartialEq)]
pub struct MixedOutcomes {
    /// The outcome of every query over the whole gallery. There are no class means across spaces.
    pub all: Outcomes,
    /// Per query, `[n]`: the partition that holds all of its relevant items; none where several do, or none does.
    pub answered_by: Vec<Option<usize>>,
    /// Per partition: the share of its items among the first hits, mean over the queries. Compare it with the partition's share of the
    /// gallery; 0 where nothing was searched.
    pub share_of_first: Vec<f64>,
}

/// Why partitions cannot be searched together.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MixedError {
    /// There are no partitions.
    #[error("there are no partitions to search")]
    NoPartitions,
    /// The partitions are not asked the same queries.
    #[error(
        "partition {partition} has {found} queries, the first one has {expected}; give every partition the same queries"
    )]
    Queries {
        /// The partition, counted from 0.
        partition: usize,
        /// Its queries.
        found: usize,
        /// Queries of the first partition.
        expected: usize,
    },
    /// There is not one position per item.
    #[error(
        "partition {partition} has {items} items and {positions} positions; each item needs one"
    )]
    PositionCount {
        /// The partition, counted from 0.
        partition: usize,
        /// Its items.
        items: usize,
        /// Its positions.
        positions: usize,
    },
    /// A position occurs twice or is too large.
    #[error(
        "partition {partition}: position {position} is taken already or is not below {items}, the number of all items"
    )]
    Position {
        /// The partition, counted from 0.
        partition: usize,
        /// The position.
        position: u32,
        /// Items of all partitions.
        items: usize,
    },
    /// There is not one calibration per partition.
    #[error("{found} calibrations for {expected} partitions; each partition needs one")]
    Calibrations {
        /// Calibrations found.
        found: usize,
        /// Partitions.
        expected: usize,
    },
    /// There is not one shift per partition.
    #[error("{found} shifts for {expected} partitions; give one to each partition, or none at all")]
    Shifts {
        /// Shifts found.
        found: usize,
        /// Partitions.
        expected: usize,
    },
    /// The search refused the vectors.
    #[error("partition {partition}: {source}")]
    Search {
        /// The partition, counted from 0.
        partition: usize,
        /// What is wrong.
        source: SearchError,
    },
    /// Judgements or left-out items do not fit the gallery.
    #[error(transparent)]
    Relevance(#[from] RelevanceError),
}

impl MixedOutcomes {
    /// The outcomes of the queries whose relevant items all lie in one partition.
    pub fn answered_in(&self, partition: usize) -> Outcomes {
        let queries = self.answered_by.iter().enumerate();
        let of_partition: Vec<usize> = queries
            .filter(|&(_, &answer)| answer == Some(partition))
            .map(|(query, _)| query)
            .collect();
        self.all.select(&of_partition)
    }
}

/// Searches all partitions for every query and ranks their items together: higher merged score first, of equal ones the lower position.
///
/// The results do not depend on the number of threads.
///
/// **Shapes.** See [`Partition`] and [`MixedTest`]; the outcomes are `[n]`.
///
/// # Errors
/// [`MixedError`] where partitions, judgements, calibrations or shifts do not fit one another.
pub fn mixed_outcomes<'a>(
    test: &MixedTest<'_>,
    merge: impl Into<ShiftedMerge<'a>>,
) -> Result<MixedOutcomes, MixedError> {
    let mut found = mixed_outcomes_by(test, &[merge.into()])?;
    Ok(found.pop().expect("one outcome for one merge"))
}

/// The same by several merges, in their order, for one computation of the similarities.
///
/// # Errors
/// Those of [`mixed_outcomes`].
pub fn mixed_outcomes_by(
    test: &MixedTest<'_>,
    merges: &[ShiftedMerge<'_>],
) -> Result<Vec<MixedOutcomes>, MixedError> {
    let sides = check_partitions(test.partitions)?;
    let partition_of = partition_of_positions(test.partitions)?;
    let queries = sides[0].query_count();
    let items = partition_of.len();
    let judgements = Judgements::new(test.relevance, queries, items)?;
    check_own(test.own, queries, items)?;
    for merge in merges {
        check_merge(merge, test.partitions.len())?;
    }

    let scored: Vec<Vec<(Option<Ranking>, Vec<usize>)>> = map_score_rows(
        &sides,
        || (Ranker::default(), vec![0.0f32; items]),
        |(ranker, merged), query, scores| {
            let own = test.own.and_then(|own| own[query]);
            let by_merge = merges.iter().map(|merge| {
                for (partition, scores) in scores.iter().enumerate() {
                    let positions = test.partitions[partition].positions.iter();
                    let scale = Scale::of(merge, partition, scores);
                    for (&position, &score) in positions.zip(*scores) {
                        merged[position as usize] = scale.apply(score);
                    }
                }
                let ranking = ranker.rank(merged, judgements.relevant(query), own);
                let mut hits = vec![0usize; test.partitions.len()];
                for position in first(merged, test.first, own) {
                    hits[partition_of[position]] += 1;
                }
                (ranking, hits)
            });
            by_merge.collect()
        },
    );
    let answered_by = answers_in_one(test, queries, &judgements, &partition_of);
    let of_merge = |number: usize| {
        let rankings: Vec<Option<Ranking>> = scored.iter().map(|query| query[number].0).collect();
        let share_of_first = (0..test.partitions.len()).map(|partition| {
            let shares = scored.iter().map(|query| {
                let hits = &query[number].1;
                let in_all = hits.iter().sum::<usize>().max(1);
                hits[partition] as f64 / in_all as f64
            });
            shares.sum::<f64>() / queries.max(1) as f64
        });
        MixedOutcomes {
            all: Outcomes::new(None, &rankings),
            answered_by: answered_by.clone(),
            share_of_first: share_of_first.collect(),
        }
    };
    Ok((0..merges.len()).map(of_merge).collect())
}

/// Per query, `[n]`: the partition that holds all of its relevant items, as in [`MixedOutcomes::answered_by`]. Nothing is searched.
///
/// # Errors
/// Those of [`mixed_outcomes`].
pub fn answered_by(test: &MixedTest<'_>) -> Result<Vec<Option<usize>>, MixedError> {
    let sides = check_partitions(test.partitions)?;
    let partition_of = partition_of_positions(test.partitions)?;
    let queries = sides[0].query_count();
    let judgements = Judgements::new(test.relevance, queries, partition_of.len())?;
    check_own(test.own, queries, partition_of.len())?;
    Ok(answers_in_one(test, queries, &judgements, &partition_of))
}

fn answers_in_one(
    test: &MixedTest<'_>,
    queries: usize,
    judgements: &Judgements<'_>,
    partition_of: &[usize],
) -> Vec<Option<usize>> {
    let answered_by = (0..queries).map(|query| {
        let own = test.own.and_then(|own| own[query]);
        let relevant = judgements.relevant(query).iter();
        let mut partitions = relevant
            .filter(|&&item| Some(item) != own)
            .map(|&item| partition_of[item as usize]);
        let one = partitions.next()?;
        partitions.all(|other| other == one).then_some(one)
    });
    answered_by.collect()
}

/// One calibration per partition where they are used, and one shift or none.
fn check_merge(merge: &ShiftedMerge<'_>, expected: usize) -> Result<(), MixedError> {
    if let Merge::Calibrated(calibrations) = merge.merge
        && calibrations.len() != expected
    {
        return Err(MixedError::Calibrations {
            found: calibrations.len(),
            expected,
        });
    }
    match merge.shifts.len() {
        0 => Ok(()),
        found if found == expected => Ok(()),
        found => Err(MixedError::Shifts { found, expected }),
    }
}

/// At least one partition, all with the same queries and one position per item.
fn check_partitions<'a>(partitions: &[Partition<'a>]) -> Result<Vec<Side<'a>>, MixedError> {
    let mut sides: Vec<Side<'a>> = Vec::with_capacity(partitions.len());
    for (index, partition) in partitions.iter().enumerate() {
        let side = Side::new(partition.queries, partition.gallery, partition.dim);
        let side = side.map_err(|source| MixedError::Search {
            partition: index,
            source,
        })?;
        let found = side.query_count();
        let expected = sides.first().map_or(found, Side::query_count);
        if found != expected {
            return Err(MixedError::Queries {
                partition: index,
                found,
                expected,
            });
        }
        if partition.positions.len() != side.items() {
            return Err(MixedError::PositionCount {
                partition: index,
                items: side.items(),
                positions: partition.positions.len(),
            });
        }
        sides.push(side);
    }
    if sides.is_empty() {
        return Err(MixedError::NoPartitions);
    }
    Ok(sides)
}

/// The partition of every position of the whole gallery.
fn partition_of_positions(partitions: &[Partition<'_>]) -> Result<Vec<usize>, MixedError> {
    let items = partitions
        .iter()
        .map(|partition| partition.positions.len())
        .sum();
    let mut partition_of = vec![usize::MAX; items];
    for (index, partition) in partitions.iter().enumerate() {
        for &position in partition.positions {
            match partition_of.get_mut(position as usize) {
                Some(free) if *free == usize::MAX => *free = index,
                _ => {
                    return Err(MixedError::Position {
                        partition: index,
                        position,
                        items,
                    });
                }
            }
        }
    }
    Ok(partition_of)
}

/// What is done to the similarities of one query in one partition: a straight line.
struct Scale {
    slope: f64,
    intercept: f64,
}

impl Scale {
    fn of(merge: &ShiftedMerge<'_>, partition: usize, scores: &[f32]) -> Self {
        let plain = Self::plain(merge.merge, partition, scores);
        let shift = merge.shifts.get(partition).copied().unwrap_or_default();
        Self {
            intercept: plain.intercept + shift,
            ..plain
        }
    }

    fn plain(merge: Merge<'_>, partition: usize, scores: &[f32]) -> Self {
        match merge {
            Merge::Scores => Self {
                slope: 1.0,
                intercept: 0.0,
            },
            Merge::ZNormalised => {
                let values = || scores.iter().copied().map(f64::from);
                let count = scores.len().max(1) as f64;
                let mean = values().sum::<f64>() / count;
                let variance = values().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
                let slope = if variance > 0.0 {
                    variance.sqrt().recip()
                } else {
                    0.0
                };
                Self {
                    slope,
                    intercept: -mean * slope,
                }
            }
            Merge::Calibrated(calibrations) => Self {
                slope: calibrations[partition].slope,
                intercept: calibrations[partition].intercept,
            },
        }
    }

    fn apply(&self, score: f32) -> f32 {
        (self.slope * f64::from(score) + self.intercept) as f32
    }
}

/// The positions of the first `count` items, `own` left out, best first.
fn first(merged: &[f32], count: usize, own: Option<u32>) -> impl Iterator<Item = usize> {
    let mut best = Best::new(count.min(merged.len()));
    if count > 0 {
        for (position, &score) in merged.iter().enumerate() {
            if own.is_none_or(|own| own as usize != position) {
                best.offer(RankKey::new(score, position));
            }
        }
    }
    best.into_sorted().into_iter().map(RankKey::position)
}

#[cfg(test)]
mod tests;
