//! One way to search, measured against doing nothing.

use perennial_bridge::Index;
use perennial_core::{ConfidenceInterval, Interval, SimilarityError, Verdict};
use perennial_eval::{
    Bootstrap, Measure, Outcomes, OutcomesError, PairedComparison, ScoresError, Test,
    compare_scores, decide, outcomes, upgrade_recovery,
};
use serde::{Deserialize, Serialize};

use crate::evaluation_data::{EvaluationData, Task, Truth};
use crate::finding::Finding;
use crate::route::{Prepared, PreparedRef, RouteError, Search, unit};

/// What is demanded of a search, and how it is measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Demands {
    /// The smallest margin over the old self-test, a difference of fractions.
    pub min_margin: f64,
    /// Which interval of the margin decides: 0.9, 0.95 or 0.99.
    pub confidence: f64,
    /// The largest share of queries that may be right before and wrong after the upgrade.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_negative_flips: Option<f64>,
    /// Resamples and seed of the intervals.
    pub bootstrap: Bootstrap,
}

impl Demands {
    /// Demands as a user states them. `alpha` is the error probability of the intervals.
    ///
    /// # Errors
    /// [`DemandsError`] for a value that makes no sense, or an `alpha` that there are no intervals for.
    pub fn checked(
        min_margin: f64,
        max_negative_flips: Option<f64>,
        alpha: f64,
        bootstrap: Bootstrap,
    ) -> Result<Self, DemandsError> {
        let confidence = Bootstrap::CONFIDENCES
            .into_iter()
            .find(|confidence| (1.0 - confidence - alpha).abs() < 1e-9)
            .ok_or(DemandsError::Alpha { alpha })?;
        if !(-1.0..=1.0).contains(&min_margin) {
            return Err(DemandsError::MinMargin { min_margin });
        }
        if let Some(limit) = max_negative_flips.filter(|limit| !(0.0..=1.0).contains(limit)) {
            return Err(DemandsError::MaxNegativeFlips { limit });
        }
        if bootstrap.resamples == 0 {
            return Err(DemandsError::NoResamples);
        }
        Ok(Self {
            min_margin,
            confidence,
            max_negative_flips,
            bootstrap,
        })
    }

    /// The same with resamples enough that the result may be recorded: a handful would make any interval narrow enough to pass.
    #[must_use]
    pub fn to_record(self) -> Self {
        Self {
            bootstrap: self.bootstrap.to_record(),
            ..self
        }
    }

    /// At least as good as the old self-test, at 95 % confidence.
    pub fn new(seed: u64) -> Self {
        Self {
            min_margin: 0.0,
            confidence: 0.95,
            max_negative_flips: None,
            bootstrap: Bootstrap::new(seed),
        }
    }
}

/// A demand that makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DemandsError {
    /// There are no intervals of this error probability.
    #[error("alpha {alpha}: use 0.1, 0.05 or 0.01")]
    Alpha {
        /// The value given.
        alpha: f64,
    },
    /// No difference of fractions.
    #[error("min-margin {min_margin}: use a difference of fractions, from -1 to 1")]
    MinMargin {
        /// The value given.
        min_margin: f64,
    },
    /// No fraction.
    #[error("max-negative-flips {limit}: use a fraction from 0 to 1")]
    MaxNegativeFlips {
        /// The value given.
        limit: f64,
    },
    /// No resamples.
    #[error("resamples 0: use at least 1; 2000 is usual")]
    NoResamples,
}

/// A search cannot be measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MeasureError {
    /// The vectors cannot be prepared.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// The vectors cannot be compared.
    #[error(transparent)]
    Outcomes(#[from] OutcomesError),
    /// The results cannot be compared.
    #[error(transparent)]
    Scores(#[from] ScoresError),
    /// Items of two spaces cannot be merged.
    #[error(transparent)]
    Mixed(#[from] perennial_eval::MixedError),
    /// The similarities give no thresholds.
    #[error(transparent)]
    Calibration(#[from] perennial_eval::CalibrationError),
    /// The neighbours cannot be found.
    #[error(transparent)]
    Search(#[from] perennial_eval::SearchError),
}

impl From<SimilarityError> for MeasureError {
    fn from(error: SimilarityError) -> Self {
        Self::Route(error.into())
    }
}

impl From<perennial_bridge::BridgeError> for MeasureError {
    fn from(error: perennial_bridge::BridgeError) -> Self {
        Self::Route(error.into())
    }
}

/// One measure of a search.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// The comparison of the cross-test with the old self-test.
    #[serde(flatten)]
    pub comparison: PairedComparison,
    /// Whether it is one of those that decide.
    pub decides: bool,
    /// What its interval says.
    pub verdict: Verdict,
    /// The new encoder's queries on its own gallery, where that was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_self_test: Option<f64>,
    /// Bootstrap intervals of the search's own figure, in certificates; none in those of older programs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub new_intervals: Vec<ConfidenceInterval>,
    /// The same of `new_self_test`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub new_self_intervals: Vec<ConfidenceInterval>,
    /// (cross - old self) / (new self - old self): 1 is as good as embedding everything again, 0 as before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgrade_recovery: Option<f64>,
}

impl Measured {
    /// What the interval says at a confidence, and of a right-or-wrong measure its flips as well ([`decide`]).
    pub fn verdict_at(&self, confidence: f64, min_margin: f64) -> Verdict {
        let Some(interval) = self.interval(confidence) else {
            return Verdict::Undecided;
        };
        let flips = self.comparison.mcnemar.as_ref();
        decide(interval, min_margin, confidence, flips)
    }

    /// The interval that decides.
    pub fn interval(&self, confidence: f64) -> Option<Interval> {
        let intervals = self.comparison.intervals.iter();
        let mut found = intervals.filter(|one| (one.confidence - confidence).abs() < 1e-9);
        found.next().map(|one| one.bounds)
    }
}

/// Centres rows of the old space in place.
pub type Centring<'a> = dyn Fn(&mut [f32]) -> Result<(), perennial_bridge::BridgeError> + 'a;

/// The old encoder's queries on its own gallery, and the new one's on its own: the bounds of every way.
#[derive(Debug)]
pub struct Bounds {
    task: Task,
    raw: Outcomes,
    centred: Option<Outcomes>,
    new: Option<Outcomes>,
}

impl Bounds {
    /// Measures the self-tests. `centre` subtracts the mean of the old space's fit set, for an index that is searched centred.
    ///
    /// # Errors
    /// Vectors without a direction, or of the wrong shape.
    pub fn of(
        data: &EvaluationData,
        truth: &Truth,
        centre: Option<&Centring<'_>>,
    ) -> Result<Self, MeasureError> {
        let plain = Prepared {
            queries: unit(&data.old_queries)?,
            gallery: unit(&data.old_gallery)?,
            dim: data.old_gallery.dim,
        };
        let raw = outcomes_of(data, truth, plain.as_ref())?;
        let centred = match centre {
            Some(centre) => {
                let mut both = plain;
                centre(&mut both.queries)?;
                centre(&mut both.gallery)?;
                Some(outcomes_of(data, truth, both.as_ref())?)
            }
            None => None,
        };
        let new = match &data.new_gallery {
            Some(gallery) => {
                let own = Prepared {
                    queries: unit(&data.new_queries)?,
                    gallery: unit(gallery)?,
                    dim: gallery.dim,
                };
                Some(outcomes_of(data, truth, own.as_ref())?)
            }
            None => None,
        };
        Ok(Self {
            task: truth.task(),
            raw,
            centred,
            new,
        })
    }

    /// Of a search whose outcomes are known, where nothing is known of the new encoder's own gallery.
    pub fn of_outcomes(task: Task, old: Outcomes) -> Self {
        Self {
            task,
            raw: old,
            centred: None,
            new: None,
        }
    }

    /// The same with other outcomes in the place of each self-test's.
    ///
    /// # Errors
    /// Those of `each`.
    pub(crate) fn with_each<E>(
        self,
        each: impl Fn(&Outcomes) -> Result<Outcomes, E>,
    ) -> Result<Self, E> {
        Ok(Self {
            task: self.task,
            raw: each(&self.raw)?,
            centred: self.centred.as_ref().map(&each).transpose()?,
            new: self.new.as_ref().map(&each).transpose()?,
        })
    }

    /// What is searched for.
    pub fn task(&self) -> Task {
        self.task
    }

    /// The old encoder's own queries on its stored vectors as they are: doing nothing.
    pub fn old(&self) -> &Outcomes {
        &self.raw
    }

    /// The new encoder's queries on its own gallery: everything embedded again.
    pub fn new_self_test(&self) -> Option<&Outcomes> {
        self.new.as_ref()
    }

    /// The old self-test's scores per query. A centred index is compared with the better of both self-tests, since centring needs no new
    /// encoder.
    pub(crate) fn old_scores(&self, measure: Measure, index: Index) -> Option<Vec<f32>> {
        let raw = measure.scores(&self.raw)?;
        let centred = match (index, &self.centred) {
            (Index::Centred, Some(centred)) => measure.scores(centred),
            _ => None,
        };
        match centred {
            Some(centred) if mean(&centred) > mean(&raw) => Some(centred),
            _ => Some(raw),
        }
    }

    /// The old self-test by a measure: of a centred index, the better of raw and centred.
    pub fn old_self_test(&self, measure: Measure, index: Index) -> Option<f64> {
        self.old_scores(measure, index).map(|scores| mean(&scores))
    }

    /// Every measure of a search's outcomes against the old self-test.
    ///
    /// # Errors
    /// Outcomes of other queries.
    pub fn compare(
        &self,
        found: &Outcomes,
        index: Index,
        demands: &Demands,
    ) -> Result<Vec<Measured>, MeasureError> {
        let mut compared = Vec::new();
        for (number, &measure) in self.task.measures().iter().enumerate() {
            let scores = measure.scores(found);
            let (Some(new), Some(old)) = (scores, self.old_scores(measure, index)) else {
                continue;
            };
            let comparison =
                compare_scores(measure, &new, &old, &demands.bootstrap, number as u64)?;
            let new_self_test = self
                .new
                .as_ref()
                .and_then(|new| measure.scores(new))
                .map(|scores| mean(&scores));
            let mut measured = Measured {
                new_intervals: Vec::new(),
                new_self_intervals: Vec::new(),
                decides: number < self.task.deciding(),
                verdict: Verdict::Undecided,
                upgrade_recovery: new_self_test
                    .and_then(|new| upgrade_recovery(comparison.new, comparison.old, new)),
                new_self_test,
                comparison,
            };
            measured.verdict = measured.verdict_at(demands.confidence, demands.min_margin);
            compared.push(measured);
        }
        Ok(compared)
    }

    /// Adds the intervals of absolute figures to what was compared: of the search, and of the new self-test.
    ///
    /// # Errors
    /// No queries.
    pub(crate) fn add_intervals(
        &self,
        measured: &mut [Measured],
        found: &Outcomes,
        demands: &Demands,
    ) -> Result<(), MeasureError> {
        for (number, one) in measured.iter_mut().enumerate() {
            let measure = one.comparison.measure;
            let intervals = |outcomes: &Outcomes| match measure.scores(outcomes) {
                Some(scores) => mean_intervals(measure, &scores, demands, number as u64),
                None => Ok(Vec::new()),
            };
            one.new_intervals = intervals(found)?;
            if let Some(new) = &self.new {
                one.new_self_intervals = intervals(new)?;
            }
        }
        Ok(())
    }
}

/// The bootstrap intervals of a mean score: those of its difference to nothing.
fn mean_intervals(
    measure: Measure,
    scores: &[f32],
    demands: &Demands,
    stream: u64,
) -> Result<Vec<ConfidenceInterval>, MeasureError> {
    let bootstrap = demands.bootstrap;
    let intervals = match measure.is_binary() {
        true => {
            let right: Vec<bool> = scores.iter().map(|&score| score == 1.0).collect();
            bootstrap.intervals(&right, &vec![false; right.len()], stream)
        }
        false => {
            let scores: Vec<f64> = scores.iter().map(|&score| f64::from(score)).collect();
            let drawn = bootstrap.graded_intervals(&scores, stream);
            drawn.map(|(intervals, _)| intervals)
        }
    };
    Ok(intervals.map_err(ScoresError::from)?.to_vec())
}

/// The worst verdict of the deciding measures, and whether too many queries were lost.
pub fn judge(measured: &[Measured], demands: &Demands) -> (Finding, Vec<String>) {
    let mut finding = Finding::Compatible;
    let mut reasons = Vec::new();
    for one in measured.iter().filter(|one| one.decides) {
        let measure = one.comparison.measure;
        if one.verdict != Verdict::Compatible {
            reasons.push(format!(
                "{measure}: {} (margin {:+.4})",
                one.verdict, one.comparison.margin
            ));
        }
        finding = finding.worst(one.verdict.into());
        let binary = one.comparison.mcnemar.is_some();
        if let Some(limit) = demands.max_negative_flips.filter(|_| binary)
            && one.comparison.negative_flips > limit
        {
            reasons.push(format!(
                "{measure}: {:.4} of the queries were right before and are wrong now, allowed are {limit}",
                one.comparison.negative_flips
            ));
            finding = finding.worst(Finding::Incompatible);
        }
    }
    (finding, reasons)
}

/// The outcomes of a search.
///
/// # Errors
/// A route that cannot be prepared, or vectors that cannot be compared.
pub fn search_outcomes(
    data: &EvaluationData,
    truth: &Truth,
    search: &Search<'_>,
) -> Result<Outcomes, MeasureError> {
    outcomes_of(data, truth, search.prepare(data)?.as_ref())
}

/// The outcomes of prepared vectors.
///
/// # Errors
/// Vectors that cannot be compared.
pub fn outcomes_of(
    data: &EvaluationData,
    truth: &Truth,
    prepared: PreparedRef<'_>,
) -> Result<Outcomes, MeasureError> {
    Ok(outcomes(&Test {
        queries: prepared.queries,
        gallery: prepared.gallery,
        dim: prepared.dim,
        relevance: &truth.relevance(),
        own: data.own.as_deref(),
    })?)
}

fn mean(scores: &[f32]) -> f64 {
    scores.iter().map(|&score| f64::from(score)).sum::<f64>() / scores.len().max(1) as f64
}
