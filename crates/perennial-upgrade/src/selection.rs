//! The kind of a bridge, chosen by retrieval on pairs that were held out from the fit.

use perennial_bridge::{Bridge, FitRecord, Index, Pairs, Recipe, Trial, fit};
use perennial_eval::Measure;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::evaluation_data::{EvaluationData, FitPairs, Names, Rows, Truth};
use crate::measured::{MeasureError, outcomes_of};
use crate::route::{DualEnds, Prepared, PreparedRef, Route, Search, unit};

/// The share of the pairs that is held out.
const HELD_OUT: f64 = 0.2;
/// Held-out pairs, at most.
const MAX_HELD_OUT: usize = 2_000;
/// Held-out pairs, at least.
pub const MIN_HELD_OUT: usize = 20;
/// Shares of the old query that are tried where labels allow it.
const WEIGHTS: [f64; 5] = [0.125, 0.25, 0.5, 0.625, 0.75];
/// The weight of dual queries where nothing can choose it; see [`dual_weight`].
pub const DEFAULT_WEIGHT: f64 = 0.5;

/// Kinds of bridges that are tried.
pub fn candidates(pairs: usize, dims: [usize; 2]) -> Vec<Recipe> {
    let mut recipes = vec![
        Recipe::Orthogonal,
        Recipe::Ridge { penalty: 1e-3 },
        Recipe::Ridge { penalty: 1e-2 },
        Recipe::Whitened {
            shrinkage: 0.1,
            power: 0.5,
        },
    ];
    let rank = dims[0].min(dims[1]) / 2;
    if rank >= 8 && pairs > rank {
        recipes.push(Recipe::LowRank {
            rank,
            penalty: 1e-3,
        });
    }
    recipes
}

/// One way that was tried on the held-out pairs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tried {
    /// Its name, such as `orthogonal`, `orthogonal, dual 0.5` or `do nothing`.
    pub name: String,
    /// The mean of the measures below: what chooses.
    pub quality: f64,
    /// Each measure.
    pub measures: Vec<(Measure, f64)>,
}

/// A chosen bridge, fitted on all pairs.
pub struct Selection {
    /// The bridge. Its fit record holds what was tried, and the weight where labels chose one.
    pub bridge: Bridge,
    /// Everything that was tried, the best first.
    pub tried: Vec<Tried>,
    /// Held-out pairs.
    pub held_out: usize,
    /// Whether the pairs have labels, so that retrieval was measured by class and dual queries could be tried.
    pub labelled: bool,
    /// The weight of dual queries: chosen where the pairs have labels, else [`DEFAULT_WEIGHT`].
    pub weight: f64,
    /// Whether the best way was better than doing nothing; unknown without labels.
    pub beats_doing_nothing: Option<bool>,
}

/// The bridge cannot be chosen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SelectionError {
    /// Too few pairs.
    #[error(
        "{pairs} pairs are too few to choose the kind of a bridge on held-out pairs; pass at least {}, or name the kind, such as `orthogonal`",
        MIN_HELD_OUT * 5
    )]
    TooFewPairs {
        /// Pairs given.
        pairs: usize,
    },
    /// The bridge cannot be fitted.
    #[error(transparent)]
    Bridge(#[from] perennial_bridge::BridgeError),
    /// A bridge cannot be measured.
    #[error(transparent)]
    Measure(#[from] MeasureError),
}

/// Fits every kind on most pairs, measures it on the others, and fits the best one on all of them.
///
/// With labels, a held-out item searches the other held-out items by class (recall@1, mean average precision), and dual queries are tried as
/// well. Without labels, a held-out item searches its own embedding by the old encoder (recall@1, reciprocal rank). The residual of the fit
/// is never used: a map may be close on average and still lose what tells one item from its neighbours.
///
/// # Errors
/// [`SelectionError`] for fewer than five times [`MIN_HELD_OUT`] pairs, or vectors that cannot be fitted.
pub fn select(
    new: &Rows,
    old: &Rows,
    labels: Option<&[u32]>,
    seed: u64,
) -> Result<Selection, SelectionError> {
    let pairs = new.len();
    let held_out = ((pairs as f64 * HELD_OUT) as usize).min(MAX_HELD_OUT);
    if held_out < MIN_HELD_OUT {
        return Err(SelectionError::TooFewPairs { pairs });
    }
    let mut order: Vec<usize> = (0..pairs).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let (judged, fitted) = order.split_at(held_out);
    let [new_fit, old_fit] = [new.select(fitted), old.select(fitted)];
    let data = held_out_data(new.select(judged), old.select(judged), judged, labels);
    let truth = &data.truths[0];

    let mut tried: Vec<(Tried, Option<(Recipe, f64)>)> = Vec::new();
    if labels.is_some() {
        let own = Prepared {
            queries: unit(&data.old_queries).map_err(MeasureError::from)?,
            gallery: unit(&data.old_gallery).map_err(MeasureError::from)?,
            dim: old.dim,
        };
        let found = outcomes_of(&data, truth, own.as_ref())?;
        tried.push((summary("do nothing".to_owned(), truth, &found), None));
    }
    for recipe in candidates(fitted.len(), [new.dim, old.dim]) {
        let bridge = fit_rows(&new_fit, &old_fit, &recipe)?;
        let mut measure = |name: String, prepared: PreparedRef<'_>, weight: f64| {
            let found = outcomes_of(&data, truth, prepared)?;
            tried.push((summary(name, truth, &found), Some((recipe, weight))));
            Ok::<(), MeasureError>(())
        };
        let search = Search::through(&bridge, Route::Bridged, Index::Centred);
        let bridged = search.prepare(&data).map_err(MeasureError::from)?;
        measure(recipe.to_string(), bridged.as_ref(), DEFAULT_WEIGHT)?;
        if labels.is_some() {
            let mut ends =
                DualEnds::of(&data, &bridge, Index::Centred).map_err(MeasureError::from)?;
            for weight in WEIGHTS {
                let dual = ends.at(weight).map_err(MeasureError::from)?;
                measure(format!("{recipe}, dual {weight}"), dual, weight)?;
            }
        }
    }
    tried.sort_by(|(one, _), (other, _)| other.quality.total_cmp(&one.quality));
    let (recipe, weight) = tried
        .iter()
        .find_map(|(_, settings)| *settings)
        .expect("at least one kind of bridge was tried");
    let beats_doing_nothing = labels.is_some().then(|| {
        tried
            .first()
            .is_some_and(|(_, settings)| settings.is_some())
    });
    let tried: Vec<Tried> = tried.into_iter().map(|(tried, _)| tried).collect();
    let bridge = fit_rows(new, old, &recipe)?;
    let record = FitRecord {
        trials: tried.iter().map(Tried::trial).collect(),
        dual_weight: labels.is_some().then_some(weight),
        ..bridge.fit_record().clone()
    };
    Ok(Selection {
        bridge: bridge.with_fit_record(record)?,
        tried,
        held_out,
        labelled: labels.is_some(),
        weight,
        beats_doing_nothing,
    })
}

impl Tried {
    /// As a bridge's fit record holds it.
    fn trial(&self) -> Trial {
        let value = |(measure, value): &(Measure, f64)| (measure.to_string(), *value);
        Trial {
            name: self.name.clone(),
            values: self.measures.iter().map(value).collect(),
        }
    }
}

impl FitPairs {
    /// Fits the bridge that a route needs: from the old to the new space for [`Route::Mapped`], and from the new to the old one for every
    /// other. Its kind is chosen by [`select`] where no recipe is given. It records the inputs that it was fitted on.
    ///
    /// A weight in the route has no influence.
    ///
    /// # Errors
    /// Those of [`select`], and vectors that cannot be fitted.
    pub fn fit(
        &self,
        route: Route,
        recipe: Option<&Recipe>,
        seed: u64,
    ) -> Result<Bridge, SelectionError> {
        let (new, old, inputs) = (&self.new, &self.old, self.inputs());
        let (from, to, inputs) = match route {
            Route::Mapped => (old, new, inputs.inverse()),
            _ => (new, old, inputs),
        };
        let bridge = match recipe {
            None => select(from, to, self.labels.as_deref(), seed)?.bridge,
            Some(recipe) => fit_rows(from, to, recipe)?,
        };
        Ok(bridge.with_fit_inputs(inputs))
    }
}

/// The old query's share in dual queries through a bridge: what was asked for, else what was chosen when the bridge was fitted, else
/// [`DEFAULT_WEIGHT`].
pub fn dual_weight(bridge: &Bridge, asked: Option<f64>) -> f64 {
    let chosen = bridge.fit_record().dual_weight;
    asked.or(chosen).unwrap_or(DEFAULT_WEIGHT)
}

pub(crate) fn fit_rows(
    new: &Rows,
    old: &Rows,
    recipe: &Recipe,
) -> Result<Bridge, perennial_bridge::BridgeError> {
    let pairs = Pairs::new(&new.values, new.dim, &old.values, old.dim)?;
    fit(&pairs, recipe, new.space.clone(), old.space.clone())
}

/// Held-out items as queries and gallery.
fn held_out_data(new: Rows, old: Rows, judged: &[usize], labels: Option<&[u32]>) -> EvaluationData {
    let positions = 0..judged.len() as u32;
    let (truth, own) = match labels {
        Some(labels) => {
            let labels: Vec<u32> = judged.iter().map(|&row| labels[row]).collect();
            let truth = Truth::Classes {
                queries: labels.clone(),
                gallery: labels,
            };
            (truth, Some(positions.map(Some).collect()))
        }
        None => (Truth::Items(positions.map(|row| vec![row]).collect()), None),
    };
    EvaluationData {
        old_queries: old.clone(),
        old_gallery: old,
        new_queries: new,
        new_gallery: None,
        truths: vec![truth],
        own,
        names: Names::default(),
    }
}

fn summary(name: String, truth: &Truth, found: &perennial_eval::Outcomes) -> Tried {
    let chosen: &[Measure] = match truth {
        Truth::Classes { .. } => &[Measure::RecallAt(1), Measure::MeanAveragePrecision],
        Truth::Items(_) => &[Measure::RecallAt(1), Measure::MeanReciprocalRank(Some(10))],
    };
    let measures: Vec<(Measure, f64)> = chosen
        .iter()
        .filter_map(|&measure| Some((measure, measure.mean(found)?)))
        .collect();
    Tried {
        name,
        quality: measures.iter().map(|(_, mean)| mean).sum::<f64>() / measures.len().max(1) as f64,
        measures,
    }
}
