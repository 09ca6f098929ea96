//! In which order it pays to embed a gallery again.

use perennial_eval::top_k;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::evaluation_data::EvaluationData;
use crate::measured::MeasureError;
use crate::route::Search;

/// Hits of the choosing queries that count as retrievals.
const RETRIEVED: usize = 10;

/// The positions of a gallery in the order in which embedding them again pays: most often among the first hits of the choosing queries
/// first, then by position.
pub(super) fn order(
    tuning: &EvaluationData,
    search: &Search<'_>,
) -> Result<Vec<usize>, MeasureError> {
    let prepared = search.prepare(tuning)?;
    let top = top_k(
        &prepared.queries,
        &prepared.gallery,
        prepared.dim,
        tuning.to_ask(RETRIEVED),
    )?;
    let mut retrieved = vec![0u32; tuning.old_gallery.len()];
    for query in 0..tuning.queries() {
        for item in tuning.others(&top, query, RETRIEVED) {
            retrieved[item] += 1;
        }
    }
    let mut order: Vec<usize> = (0..retrieved.len()).collect();
    order.sort_by_key(|&item| (std::cmp::Reverse(retrieved[item]), item));
    Ok(order)
}

/// The positions of a gallery in an order that prefers none, as where items come in anew.
pub(super) fn evenly_drawn(items: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..items).collect();
    // Not the numbers that say which queries choose: where each query has its own item, those that choose would have theirs embedded again first.
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(1);
    order.shuffle(&mut random);
    order
}

#[cfg(test)]
mod tests {
    use super::super::halves::split;
    use super::*;

    #[test]
    fn which_items_are_drawn_first_has_nothing_to_do_with_which_queries_choose() {
        for seed in 0..4 {
            let mut drawn = evenly_drawn(1000, seed);
            let [choosing, _] = split(1000, seed);
            let first = &mut drawn[..500];
            first.sort_unstable();
            let both = choosing.iter().filter(|at| first.binary_search(at).is_ok());
            let both = both.count();
            assert!((200..300).contains(&both), "{both} of 500");
        }
    }
}
