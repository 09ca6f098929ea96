//! Pages in the order of ids, whatever the ids have in common, and samples.

use std::collections::BTreeSet;

use perennial_gallery::{Filter, ItemId, LabelFilter, VectorStore};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::stock::open;
use crate::cluster::cluster;
use crate::items::{item, items, space, vector};

/// Ids that agree in their first bytes, for as long as there are numbers to sort them by, and longer.
fn ids() -> BTreeSet<ItemId> {
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let mut ids: BTreeSet<ItemId> = (0..40u64).map(ItemId::Number).collect();
    ids.extend([u64::MAX, 1 << 40, (1 << 40) + 1, 1 << 24].map(ItemId::Number));
    for _ in 0..60 {
        let length = random.random_range(0..14);
        let tail: String = (0..length)
            .map(|_| ['a', 'b', 'ü'][random.random_range(0..3)])
            .collect();
        for start in ["", "a", "generated/", &"s3://bucket/folder/".repeat(7)] {
            let id = format!("{start}{tail}");
            if !id.is_empty() {
                ids.insert(ItemId::Text(id));
            }
        }
    }
    ids
}

#[test]
fn pages_are_in_the_order_of_ids_across_spaces() {
    let cluster = cluster();
    let store = open(&cluster);
    let ids = ids();
    let all: Vec<_> = ids
        .iter()
        .enumerate()
        .map(|(at, id)| {
            let (space, dim) = [("a", 2), ("b", 2), ("c", 3)][at % 3];
            perennial_gallery::Item {
                label: Some(at as u32 % 4),
                ..item(id.clone(), space, vector(at as u64, dim))
            }
        })
        .collect();
    store.upsert(all.clone()).unwrap();
    let some = Filter {
        labels: Some(LabelFilter::any_of([1, 3])),
        model_versions: Some(vec!["a".to_owned(), "c".to_owned()]),
        ..Filter::default()
    };
    for filter in [Filter::default(), some] {
        let expected: Vec<&ItemId> = all
            .iter()
            .filter(|item| filter.matches(&item.id, &item.model_version, item.label, &item.payload))
            .map(|item| &item.id)
            .collect();
        for limit in [1, 7, 50, 1000] {
            let (mut seen, mut after) = (Vec::new(), None);
            loop {
                let page = store.scroll(after.as_ref(), limit, &filter, false).unwrap();
                assert!(page.items.len() <= limit);
                seen.extend(page.items.into_iter().map(|item| item.id));
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            assert!(
                seen.iter().eq(expected.iter().copied()),
                "{limit} {filter:?}"
            );
        }
        // After an id that is not there.
        let after = ItemId::Text("generated/aaab".to_owned());
        let page = store.scroll(Some(&after), 5, &filter, true).unwrap();
        let rest = expected.iter().filter(|id| ***id > after).take(5);
        assert!(page.items.iter().map(|item| &item.id).eq(rest.copied()));
    }
}

#[test]
fn samples_are_seeded_and_go_round() {
    let cluster = cluster();
    let store = open(&cluster);
    store.upsert(items(400, "v1", 4)).unwrap();
    let mut starts = BTreeSet::new();
    for seed in 0..20 {
        let sample = store.sample(&space("v1"), 100, seed).unwrap();
        assert_eq!(sample, store.sample(&space("v1"), 100, seed).unwrap());
        let vectors: BTreeSet<Vec<u32>> = sample
            .chunks(4)
            .map(|vector| vector.iter().map(|value| value.to_bits()).collect())
            .collect();
        assert_eq!(vectors.len(), 100);
        starts.insert(sample[0].to_bits());
    }
    assert!(starts.len() > 15, "{}", starts.len());
}
