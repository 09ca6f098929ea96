//! A seeded sample of a space's vectors.

use perennial_core::SpaceId;

use super::state::State;

/// The vectors of up to `limit` items of a space, in the order of their rows: one from each of `limit` stretches of equal length.
pub(super) fn sample(state: &State, space: &SpaceId, limit: usize, seed: u64) -> Vec<f32> {
    let Some((number, partition)) = state.number_and_home(space) else {
        return Vec::new();
    };
    let Some(rows) = state.partitions.get(&partition) else {
        return Vec::new();
    };
    let items = state.items_of(number);
    let mut places = places(items, limit as u64, seed).peekable();
    let mut vectors = Vec::new();
    let mut place = 0;
    for slot in rows.alive().iter() {
        let Some(&wanted) = places.peek() else {
            break;
        };
        let (segment, row) = rows.place(slot);
        if segment.versions[row] != number {
            continue;
        }
        if place == wanted {
            vectors.extend_from_slice(rows.vector(slot));
            places.next();
        }
        place += 1;
    }
    vectors
}

/// Up to `limit` different places below `items`, ascending.
fn places(items: u64, limit: u64, seed: u64) -> impl Iterator<Item = u64> {
    let count = items.min(limit);
    // Both factors are below 2^64 and their product is not.
    let bound = move |stretch: u64| {
        (u128::from(stretch) * u128::from(items) / u128::from(count.max(1))) as u64
    };
    (0..count).map(move |stretch| {
        let (start, end) = (bound(stretch), bound(stretch + 1));
        start + mixed(seed.wrapping_add(stretch)) % (end - start).max(1)
    })
}

/// The output function of SplitMix64: neighbouring numbers become unrelated ones.
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_different_and_spread() {
        for (items, limit) in [(0, 5), (3, 5), (5, 5), (7, 5), (1_000_003, 512)] {
            let chosen: Vec<u64> = places(items, limit, 7).collect();
            assert_eq!(chosen.len() as u64, items.min(limit));
            assert!(chosen.is_sorted_by(|a, b| a < b), "{chosen:?}");
            assert!(chosen.iter().all(|&place| place < items));
        }
        let of_seed = |seed| places(1_000_003, 512, seed).collect::<Vec<_>>();
        assert_eq!(of_seed(1), of_seed(1));
        assert_ne!(of_seed(1), of_seed(2));
        let mean = of_seed(3).iter().sum::<u64>() / 512;
        assert!((450_000..550_000).contains(&mean), "{mean}");
    }
}
