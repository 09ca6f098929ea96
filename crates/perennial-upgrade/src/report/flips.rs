//! Queries whose first hit became right or wrong, with pictures where there are some.

use perennial_core::ItemId;
use perennial_eval::html::certificate_page::{Flip, FlipItem};
use perennial_eval::{SearchError, map_query_scores};

use crate::evaluation_data::{EvaluationData, Truth};
use crate::route::PreparedRef;

/// Flips of each kind that are shown.
const SHOWN: usize = 12;

/// Small pictures of queries and gallery items, as base64 `data:` URIs of at most 96 pixels a side.
pub trait Pictures {
    /// That of a query, by its row.
    fn query(&self, row: usize) -> Option<String>;

    /// That of a gallery item, by its row.
    fn item(&self, row: usize) -> Option<String>;
}

/// Up to twelve queries that were right and are wrong, and up to twelve that were wrong and are right.
pub(super) fn flips(
    data: &EvaluationData,
    truth: &Truth,
    [before, after]: [PreparedRef<'_>; 2],
    pictures: Option<&dyn Pictures>,
) -> Result<Vec<Flip>, SearchError> {
    let (before, after) = (first_hits(data, before)?, first_hits(data, after)?);
    let shown = Shown {
        data,
        truth,
        pictures,
    };
    let mut found = Vec::new();
    for gained in [false, true] {
        let hits = before.iter().zip(&after).enumerate();
        let changed = hits.filter_map(|(query, (&old, &new))| {
            let (old, new) = (old?, new?);
            let right = |item| truth.is_relevant(query, item);
            (right(new) == gained && right(old) != gained).then_some((query, old, new))
        });
        found.extend(changed.take(SHOWN).map(|(query, old, new)| Flip {
            gained,
            query: shown.query(query),
            old_hit: shown.item(old),
            new_hit: shown.item(new),
        }));
    }
    Ok(found)
}

/// The most similar item of each query other than the query itself; of equal ones the first.
fn first_hits(
    data: &EvaluationData,
    prepared: PreparedRef<'_>,
) -> Result<Vec<Option<usize>>, SearchError> {
    let (queries, gallery) = (prepared.queries, prepared.gallery);
    map_query_scores(queries, gallery, prepared.dim, |query, scores| {
        let own = data.own.as_ref().and_then(|own| own[query]);
        let mut best: Option<(usize, f32)> = None;
        for (item, &score) in scores.iter().enumerate() {
            let better = best.is_none_or(|(_, most)| score > most);
            if better && own != Some(item as u32) {
                best = Some((item, score));
            }
        }
        best.map(|(item, _)| item)
    })
}

/// How queries and items are shown.
struct Shown<'a> {
    data: &'a EvaluationData,
    truth: &'a Truth,
    pictures: Option<&'a dyn Pictures>,
}

impl Shown<'_> {
    fn query(&self, row: usize) -> FlipItem {
        FlipItem {
            id: id(&self.data.names.queries, row),
            label: self.class(|queries, _| queries[row]),
            picture: self.pictures.and_then(|pictures| pictures.query(row)),
        }
    }

    fn item(&self, row: usize) -> FlipItem {
        FlipItem {
            id: id(&self.data.names.items, row),
            label: self.class(|_, gallery| gallery[row]),
            picture: self.pictures.and_then(|pictures| pictures.item(row)),
        }
    }

    fn class(&self, of: impl Fn(&[u32], &[u32]) -> u32) -> Option<String> {
        let Truth::Classes { queries, gallery } = self.truth else {
            return None;
        };
        let number = of(queries, gallery);
        let name = self.data.names.classes.get(number as usize);
        Some(name.cloned().unwrap_or_else(|| number.to_string()))
    }
}

fn id(ids: &Option<Vec<ItemId>>, row: usize) -> ItemId {
    match ids {
        Some(ids) => ids[row].clone(),
        None => ItemId::from(row as u64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation_data::{Names, Rows};
    use perennial_core::SpaceRef;

    struct Drawn;

    impl Pictures for Drawn {
        fn query(&self, row: usize) -> Option<String> {
            (row == 0).then(|| "query 0".to_owned())
        }

        fn item(&self, row: usize) -> Option<String> {
            Some(format!("item {row}"))
        }
    }

    fn rows(values: &[f32]) -> Rows {
        Rows {
            values: values.to_vec(),
            dim: 2,
            space: SpaceRef::unnamed(2),
        }
    }

    #[test]
    fn flips_of_both_kinds_are_shown_with_names_and_pictures() {
        // Queries point to one of three items; the first one is an item itself and must not find itself.
        let gallery = [1.0, 0.0, 0.0, 1.0, -1.0, 0.0];
        let old = [1.0, 0.1, 0.0, 1.0, 0.0, 1.0];
        let new = [1.0, 0.1, -1.0, 0.0, 0.0, 1.0];
        let classes = Truth::Classes {
            queries: vec![0, 1, 0],
            gallery: vec![0, 0, 1],
        };
        let mut data = EvaluationData {
            old_queries: rows(&old),
            old_gallery: rows(&gallery),
            new_queries: rows(&new),
            new_gallery: None,
            truths: vec![classes],
            own: Some(vec![Some(0), None, None]),
            names: Names {
                queries: Some(vec!["a".into(), "b".into(), "c".into()]),
                items: None,
                classes: vec!["cat".to_owned(), "dog".to_owned()],
            },
        };
        let sides = |queries| PreparedRef {
            queries,
            gallery: &gallery,
            dim: 2,
        };
        let both = [sides(&old), sides(&new)];
        let found = flips(&data, &data.truths[0], both, Some(&Drawn)).unwrap();
        assert_eq!(found.len(), 1);
        let flip = &found[0];
        assert!(flip.gained);
        assert_eq!(
            (flip.query.id.to_string(), flip.query.label.as_deref()),
            ("b".to_owned(), Some("dog"))
        );
        assert_eq!(flip.query.picture, None);
        assert_eq!(
            (flip.old_hit.id.to_string(), flip.new_hit.id.to_string()),
            ("1".to_owned(), "2".to_owned())
        );
        assert_eq!(flip.new_hit.picture.as_deref(), Some("item 2"));
        // Backwards it is a loss. With judgements there are no classes, and without pictures none are shown.
        data.truths = vec![Truth::Items(vec![vec![], vec![2], vec![]])];
        let back = [both[1], both[0]];
        let found = flips(&data, &data.truths[0], back, None).unwrap();
        assert_eq!(found.len(), 1);
        assert!(!found[0].gained && found[0].query.label.is_none());
        assert!(found[0].new_hit.picture.is_none());
    }

    #[test]
    fn only_some_flips_are_shown() {
        let count = 3 * SHOWN;
        let data = EvaluationData {
            old_queries: rows(&[1.0, 0.0].repeat(count)),
            old_gallery: rows(&[1.0, 0.0, 0.0, 1.0]),
            new_queries: rows(&[0.0, 1.0].repeat(count)),
            new_gallery: None,
            truths: vec![Truth::Items(vec![vec![1]; count])],
            own: None,
            names: Names::default(),
        };
        let sides = |queries| PreparedRef {
            queries,
            gallery: &data.old_gallery.values,
            dim: 2,
        };
        let both = [
            sides(&data.old_queries.values),
            sides(&data.new_queries.values),
        ];
        let found = flips(&data, &data.truths[0], both, None).unwrap();
        assert_eq!(found.len(), SHOWN);
        assert!(found.iter().all(|flip| flip.gained));
    }
}
