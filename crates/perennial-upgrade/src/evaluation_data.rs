//! What a certificate is measured on: the same queries embedded by both encoders, a gallery, and which items are right.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use perennial_bridge::FitInputs;
use perennial_core::{Embeddings, ItemId, SpaceRef};
use perennial_eval::{KnownRelevance, Measure, Relevance, TopK};
use perennial_formats::{Judgements, Label, VectorSet};
use serde::{Deserialize, Serialize};

/// Vectors of one space.
///
/// **Shapes**: `values` is `[n, dim]`, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// Raw or unit vectors.
    pub values: Vec<f32>,
    /// The length of a vector.
    pub dim: usize,
    /// The space, as far as it is known.
    pub space: SpaceRef,
}

impl Rows {
    /// The vectors of a file.
    pub fn of(set: &VectorSet) -> Self {
        Self {
            values: set.vectors().to_vec(),
            dim: set.dim(),
            space: SpaceRef {
                dim: set.dim(),
                id: set.space().cloned(),
                fingerprint: None,
            },
        }
    }

    /// The embeddings of a model version, or of another encoder that these are known to come from.
    pub fn embedded(embeddings: &Embeddings, space: SpaceRef) -> Self {
        Self {
            values: embeddings.vectors().to_vec(),
            dim: embeddings.dim(),
            space,
        }
    }

    /// The number of vectors.
    pub fn len(&self) -> usize {
        self.values.len() / self.dim.max(1)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Some of the vectors, in the order given.
    pub fn select(&self, rows: &[usize]) -> Self {
        let values = rows
            .iter()
            .flat_map(|&row| &self.values[row * self.dim..][..self.dim]);
        Self {
            values: values.copied().collect(),
            dim: self.dim,
            space: self.space.clone(),
        }
    }
}

/// Inputs outside of the evaluation set that both encoders embedded, row by row.
#[derive(Debug, Clone)]
pub struct FitPairs {
    /// By the new encoder.
    pub new: Rows,
    /// By the old encoder.
    pub old: Rows,
    /// The inputs' ids, where they have some.
    pub ids: Option<Vec<ItemId>>,
    /// The inputs' classes, where they are known, `[n]`.
    pub labels: Option<Vec<u32>>,
}

impl FitPairs {
    /// What identifies the inputs, for a bridge from the new to the old space.
    pub fn inputs(&self) -> FitInputs {
        let (new, old) = (&self.new, &self.old);
        FitInputs::of(&new.values, new.dim, &old.values, old.dim)
            .with_ids(self.ids.iter().flatten())
    }
}

/// What is searched for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// Items of the same class as the query.
    #[default]
    ClassLike,
    /// The items that belong to this very query: a near-duplicate, the one right answer.
    ItemLike,
}

impl Task {
    /// The measures that are shown, the deciding ones first.
    pub fn measures(self) -> &'static [Measure] {
        match self {
            Self::ClassLike => &[
                Measure::NearestClassMean,
                Measure::RecallAt(1),
                Measure::MeanAveragePrecision,
                Measure::RecallAt(10),
                Measure::MeanReciprocalRank(Some(10)),
            ],
            Self::ItemLike => &[
                Measure::RecallAt(1),
                Measure::MeanReciprocalRank(Some(10)),
                Measure::RecallAt(10),
                Measure::MeanAveragePrecision,
            ],
        }
    }

    /// How many of [`measures`](Self::measures) decide. All of them must hold: class means alone do not certify a search for items.
    pub fn deciding(self) -> usize {
        match self {
            Self::ClassLike => 3,
            Self::ItemLike => 2,
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClassLike => "class-like",
            Self::ItemLike => "item-like",
        })
    }
}

/// Which gallery items are right for which query.
#[derive(Debug, Clone, PartialEq)]
pub enum Truth {
    /// Items of the query's class: class-like retrieval.
    Classes {
        /// Class of each query, `[n]`.
        queries: Vec<u32>,
        /// Class of each gallery item, `[m]`.
        gallery: Vec<u32>,
    },
    /// Items that were judged relevant for the query: item-like retrieval.
    Items(Vec<Vec<u32>>),
}

impl Truth {
    /// Classes from the labels of both files, numbered together.
    pub fn of_labels(queries: &[Label], gallery: &[Label]) -> Self {
        let mut numbers: BTreeMap<&Label, u32> = BTreeMap::new();
        for label in gallery.iter().chain(queries) {
            let next = numbers.len() as u32;
            numbers.entry(label).or_insert(next);
        }
        let number = |labels: &[Label]| labels.iter().map(|label| numbers[label]).collect();
        Self::Classes {
            queries: number(queries),
            gallery: number(gallery),
        }
    }

    /// Relevant items by id. Also returns how many judged items are not in the gallery.
    pub fn of_judgements(
        judgements: &Judgements,
        queries: &[ItemId],
        gallery: &[ItemId],
    ) -> (Self, usize) {
        let positions: HashMap<&ItemId, u32> = gallery
            .iter()
            .enumerate()
            .map(|(position, id)| (id, position as u32))
            .collect();
        let mut missing = 0;
        let relevant = queries
            .iter()
            .map(|query| {
                let mut found: Vec<u32> = Vec::new();
                for (item, grade) in judgements.of(query) {
                    if *grade <= 0 {
                        continue;
                    }
                    match positions.get(item) {
                        Some(&position) => found.push(position),
                        None => missing += 1,
                    }
                }
                found.sort_unstable();
                found.dedup();
                found
            })
            .collect();
        (Self::Items(relevant), missing)
    }

    /// The names of the classes by their numbers, from the labels that [`of_labels`](Self::of_labels) numbered.
    pub fn class_names(&self, query_labels: &[Label], gallery_labels: &[Label]) -> Vec<String> {
        let Self::Classes { queries, gallery } = self else {
            return Vec::new();
        };
        let numbered = gallery.iter().zip(gallery_labels);
        let numbered = numbered.chain(queries.iter().zip(query_labels));
        let names: BTreeMap<u32, &Label> =
            numbered.map(|(&number, label)| (number, label)).collect();
        // Numbers are given without gaps.
        names.values().map(ToString::to_string).collect()
    }

    /// What kind of retrieval this truth measures.
    pub fn task(&self) -> Task {
        match self {
            Self::Classes { .. } => Task::ClassLike,
            Self::Items(_) => Task::ItemLike,
        }
    }

    /// Whether a gallery item, by position, is right for a query.
    pub fn is_relevant(&self, query: usize, item: usize) -> bool {
        match self {
            Self::Classes { queries, gallery } => queries[query] == gallery[item],
            Self::Items(items) => items[query].binary_search(&(item as u32)).is_ok(),
        }
    }

    /// The positions of a query's right items in a gallery of so many, ascending.
    pub fn relevant_items(
        &self,
        query: usize,
        items: usize,
    ) -> Box<dyn Iterator<Item = usize> + '_> {
        match self {
            Self::Classes { .. } => {
                Box::new((0..items).filter(move |&item| self.is_relevant(query, item)))
            }
            Self::Items(right) => Box::new(right[query].iter().map(|&item| item as usize)),
        }
    }

    /// For the evaluation.
    pub fn relevance(&self) -> Relevance<'_> {
        match self {
            Self::Classes { queries, gallery } => Relevance::Classes { queries, gallery },
            Self::Items(items) => Relevance::Items(items),
        }
    }

    fn select(&self, queries: &[usize]) -> Self {
        match self {
            Self::Classes {
                queries: labels,
                gallery,
            } => Self::Classes {
                queries: queries.iter().map(|&query| labels[query]).collect(),
                gallery: gallery.clone(),
            },
            Self::Items(items) => {
                Self::Items(queries.iter().map(|&query| items[query].clone()).collect())
            }
        }
    }
}

impl From<KnownRelevance> for Truth {
    fn from(relevance: KnownRelevance) -> Self {
        match relevance {
            KnownRelevance::Classes { queries, gallery } => Self::Classes { queries, gallery },
            KnownRelevance::Items(items) => Self::Items(items),
        }
    }
}

/// What queries, items and classes are called, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Names {
    /// Ids of the queries, `[n]`.
    pub queries: Option<Vec<ItemId>>,
    /// Ids of the gallery items, `[m]`.
    pub items: Option<Vec<ItemId>>,
    /// Names of the classes, by number; empty where classes have no names but their numbers.
    pub classes: Vec<String>,
}

/// An evaluation set as both encoders embedded it.
///
/// Row `i` of both query sets is the same query, and row `j` of both galleries is the same item.
#[derive(Debug, Clone)]
pub struct EvaluationData {
    /// The queries, embedded by the old encoder.
    pub old_queries: Rows,
    /// The gallery, embedded by the old encoder: what is stored.
    pub old_gallery: Rows,
    /// The queries, embedded by the new encoder.
    pub new_queries: Rows,
    /// The gallery, embedded by the new encoder, where its originals are at hand.
    pub new_gallery: Option<Rows>,
    /// Which items are right, where that is known: by class, by judgements, or both.
    pub truths: Vec<Truth>,
    /// Per query, its own position in the gallery, where queries are gallery items; such a query does not find itself.
    pub own: Option<Vec<Option<u32>>>,
    /// What queries, items and classes are called.
    pub names: Names,
}

impl EvaluationData {
    /// The number of queries.
    pub fn queries(&self) -> usize {
        self.old_queries.len()
    }

    /// Hits to ask for, so that `count` are left without the query's own item.
    pub(crate) fn to_ask(&self, count: usize) -> usize {
        count + usize::from(self.own.is_some())
    }

    /// The first `count` hits of a query, best first, without its own item.
    pub(crate) fn others<'a>(
        &self,
        found: &'a TopK,
        query: usize,
        count: usize,
    ) -> impl Iterator<Item = usize> + use<'a> {
        let own = self.own.as_ref().and_then(|own| own[query]);
        found
            .neighbours(query)
            .map(|(item, _)| item)
            .filter(move |&item| own.is_none_or(|own| item != own as usize))
            .take(count)
    }

    /// The same gallery with some of the queries.
    pub fn with_queries(&self, queries: &[usize]) -> Self {
        Self {
            old_queries: self.old_queries.select(queries),
            old_gallery: self.old_gallery.clone(),
            new_queries: self.new_queries.select(queries),
            new_gallery: self.new_gallery.clone(),
            truths: self
                .truths
                .iter()
                .map(|truth| truth.select(queries))
                .collect(),
            own: self
                .own
                .as_ref()
                .map(|own| queries.iter().map(|&query| own[query]).collect()),
            names: Names {
                queries: self
                    .names
                    .queries
                    .as_ref()
                    .map(|ids| queries.iter().map(|&query| ids[query].clone()).collect()),
                ..self.names.clone()
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(values: &[f32], dim: usize) -> Rows {
        Rows {
            values: values.to_vec(),
            dim,
            space: SpaceRef::unnamed(dim),
        }
    }

    #[test]
    fn labels_of_both_sides_are_numbered_together() {
        let label = |text: &str| Label::Text(text.to_owned());
        let query_labels = [label("dog"), label("eel"), label("cat")];
        let gallery_labels = [label("cat"), label("dog")];
        let truth = Truth::of_labels(&query_labels, &gallery_labels);
        let Truth::Classes { queries, gallery } = &truth else {
            panic!("{truth:?}");
        };
        assert_eq!(queries[0], gallery[1]);
        assert_eq!(queries[2], gallery[0]);
        assert!(!gallery.contains(&queries[1]));
        let names = truth.class_names(&query_labels, &gallery_labels);
        assert_eq!(names[queries[1] as usize], "eel");
        assert_eq!(names[gallery[0] as usize], "cat");
    }

    #[test]
    fn queries_are_selected_with_all_that_belongs_to_them() {
        let data = EvaluationData {
            old_queries: rows(&[1.0, 2.0, 3.0], 1),
            old_gallery: rows(&[9.0], 1),
            new_queries: rows(&[4.0, 5.0, 6.0], 1),
            new_gallery: None,
            truths: vec![Truth::Items(vec![vec![0], vec![], vec![0]])],
            own: Some(vec![None, Some(0), None]),
            names: Names {
                queries: Some(vec!["x".into(), "y".into(), "z".into()]),
                ..Names::default()
            },
        };
        let some = data.with_queries(&[2, 1]);
        assert_eq!(some.old_queries.values, [3.0, 2.0]);
        assert_eq!(some.new_queries.values, [6.0, 5.0]);
        assert_eq!(some.truths, [Truth::Items(vec![vec![0], vec![]])]);
        assert_eq!(some.own, Some(vec![None, Some(0)]));
        assert_eq!(some.names.queries, Some(vec!["z".into(), "y".into()]));
    }
}
