//! Nearest class mean: the "1:N search accuracy" of the publications.

use std::collections::BTreeMap;

use perennial_core::dot_products;

use crate::score_rows::{Side, map_score_rows};

/// Per query, whether the nearest class mean has the query's class.
///
/// The mean of a query's own gallery item's class is taken without that item; a class of that item alone is out of the race.
///
/// **Shapes.** `own`: `[n]`, or none; the result is `[n]`.
pub(crate) fn nearest_class_correct(
    side: Side<'_>,
    [of_query, of_item]: [&[u32]; 2],
    items_of_class: &BTreeMap<u32, Vec<u32>>,
    own: Option<&[Option<u32>]>,
) -> Vec<bool> {
    let dim = side.dim;
    let classes: Vec<u32> = items_of_class.keys().copied().collect();
    let templates = templates(side.gallery, dim, items_of_class);
    map_score_rows(
        &[side.against(&templates)],
        || (),
        |(), query, scores| {
            let own = own.and_then(|own| own[query]);
            let changed = own.map(|own| {
                let class = of_item[own as usize];
                let others = items_of_class[&class].iter().filter(|&&item| item != own);
                let score = template(side.gallery, dim, others).map(|template| {
                    let mut score = [0.0];
                    let query = &side.queries[query * dim..(query + 1) * dim];
                    dot_products(query, &template, dim, &mut score);
                    score[0]
                });
                (class, score)
            });
            let mut nearest: Option<(u32, f32)> = None;
            for (&class, &score) in classes.iter().zip(scores[0]) {
                let score = match changed {
                    Some((changed, score)) if changed == class => score,
                    _ => Some(score),
                };
                // Of equally similar templates the lowest class stays.
                if let Some(score) = score
                    && nearest.is_none_or(|(_, best)| score > best)
                {
                    nearest = Some((class, score));
                }
            }
            nearest.is_some_and(|(class, _)| class == of_query[query])
        },
    )
}

/// The template of every class, `[classes, dim]` in the order of the classes.
fn templates(vectors: &[f32], dim: usize, items_of_class: &BTreeMap<u32, Vec<u32>>) -> Vec<f32> {
    let rows = items_of_class.values().map(|items| {
        template(vectors, dim, items.iter()).expect("every class was made by an item")
    });
    rows.flatten().collect()
}

/// The normalised mean of some items, `[dim]`; zeros where they cancel out, so that such a template is equally (un)like every query;
/// nothing of no items.
fn template<'a>(
    vectors: &[f32],
    dim: usize,
    items: impl Iterator<Item = &'a u32>,
) -> Option<Vec<f32>> {
    let mut sum = vec![0.0f64; dim];
    let mut count = 0.0f64;
    for &item in items {
        let row = &vectors[item as usize * dim..(item as usize + 1) * dim];
        let values = sum.iter_mut().zip(row);
        values.for_each(|(sum, &value)| *sum += f64::from(value));
        count += 1.0;
    }
    if count == 0.0 {
        return None;
    }
    let norm = sum.iter().map(|value| value * value).sum::<f64>().sqrt();
    // Rounding alone leaves about this much of vectors that cancel out.
    let scale = if norm > 1e-6 * count {
        norm.recip()
    } else {
        0.0
    };
    Some(sum.iter().map(|value| (value * scale) as f32).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_that_cancels_out_is_like_nothing() {
        let classes = BTreeMap::from([(0, vec![0, 1]), (1, vec![2])]);
        let found = templates(&[0.6, 0.8, -0.6, -0.8, 1.0, 0.0], 2, &classes);
        assert_eq!(found, [0.0, 0.0, 1.0, 0.0]);
    }

    #[test]
    fn the_own_item_is_no_part_of_its_class_mean() {
        // Without itself, query 0's class is on the other side; query 2 is alone in its class.
        let vectors = [1.0, 0.0, -1.0, 0.1, 0.8, 0.6];
        let side = Side::new(&vectors, &vectors, 2).unwrap();
        let of_item = [5, 5, 7];
        let classes = BTreeMap::from([(5, vec![0, 1]), (7, vec![2])]);
        let found = |own: Option<&[Option<u32>]>| {
            nearest_class_correct(side, [&of_item, &of_item], &classes, own)
        };
        assert_eq!(found(None), [false, true, true]);
        assert_eq!(
            found(Some(&[Some(0), Some(1), Some(2)])),
            [false, false, false]
        );
        assert_eq!(found(Some(&[None, None, Some(2)])), [false, true, false]);
    }
}
