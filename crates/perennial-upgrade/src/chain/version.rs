//! One version of a chain.

use std::borrow::Cow;

use perennial_eval::Known;

use crate::evaluation_data::{EvaluationData, Names, Rows, Truth};
use crate::measured::MeasureError;

/// What a version of the chain embedded.
pub struct ChainVersion {
    /// Its name.
    pub name: String,
    /// The queries, as it embeds them.
    pub queries: Rows,
    /// The gallery, as it embeds it.
    pub gallery: Rows,
    /// Inputs outside of the evaluation set, the same for all versions, to fit bridges on.
    pub fit: Option<Rows>,
    /// Which of these have no embedding.
    pub missing: MissingRows,
}

/// Positions of rows that stand for inputs without an embedding, ascending. What is in these rows does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MissingRows {
    /// Queries, which are missed.
    pub queries: Vec<usize>,
    /// Gallery items, which are never found.
    pub gallery: Vec<usize>,
    /// Inputs to fit on, which are left out.
    pub fit: Vec<usize>,
}

/// The queries of `askers` and the gallery items of `galleries` that have an embedding in all of them.
pub(super) fn known_to(askers: &[&ChainVersion], galleries: &[&ChainVersion]) -> Known {
    let queries = askers.first().map_or(0, |version| version.queries.len());
    let items = galleries.first().map_or(0, |version| version.gallery.len());
    let of_queries = askers.iter().flat_map(|version| &version.missing.queries);
    let of_items = galleries
        .iter()
        .flat_map(|version| &version.missing.gallery);
    let missing: [Vec<&usize>; 2] = [of_queries.collect(), of_items.collect()];
    Known::without([queries, items], missing)
}

/// The inputs to fit on that both versions have embedded, by each.
pub(super) fn fit_pairs<'a>(
    from: &'a ChainVersion,
    to: &'a ChainVersion,
) -> Option<[Cow<'a, Rows>; 2]> {
    let (Some(from_rows), Some(to_rows)) = (&from.fit, &to.fit) else {
        return None;
    };
    let missing = [&from.missing.fit, &to.missing.fit];
    if missing.iter().all(|rows| rows.is_empty()) {
        return Some([Cow::Borrowed(from_rows), Cow::Borrowed(to_rows)]);
    }
    let is_known = |row: &usize| missing.iter().all(|rows| rows.binary_search(row).is_err());
    let rows: Vec<usize> = (0..from_rows.len()).filter(is_known).collect();
    Some([from_rows, to_rows].map(|all| Cow::Owned(all.select(&rows))))
}

/// Queries of a newer version and the gallery of an older one, of what is known. The new version's gallery is not part of it.
pub(super) fn pair(new: &ChainVersion, old: &ChainVersion, known: &Known) -> EvaluationData {
    let of = |rows: &Rows, positions: &[usize]| match known.is_complete() {
        true => rows.clone(),
        false => rows.select(positions),
    };
    EvaluationData {
        old_queries: of(&old.queries, known.queries()),
        old_gallery: of(&old.gallery, known.items()),
        new_queries: of(&new.queries, known.queries()),
        new_gallery: None,
        truths: Vec::new(),
        own: None,
        names: Names::default(),
    }
}

/// What is right among what is known.
pub(super) fn truth_among<'a>(
    truth: &'a Truth,
    known: &Known,
) -> Result<Cow<'a, Truth>, MeasureError> {
    if known.is_complete() {
        return Ok(Cow::Borrowed(truth));
    }
    let relevance = known.relevance(&truth.relevance());
    let truth: Truth = relevance
        .map_err(perennial_eval::OutcomesError::from)?
        .into();
    Ok(Cow::Owned(truth))
}
