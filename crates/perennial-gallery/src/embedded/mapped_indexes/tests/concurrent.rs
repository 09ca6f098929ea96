//! Everything at once: writes, moves, searches, indexes that come and go, compactions and restores.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::RwLock;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{DIM, TO, Turn, filters, index, item, items, open, space, unit, wait};
use crate::embedded::EmbeddedGallery;
use crate::error::GalleryError;
use crate::filter::Filter;
use crate::item::{Hit, Item, ItemId};
use crate::mapped_index::MappedIndexes;
use crate::store::{Maintenance, SearchRequest, Snapshots, VectorStore};

/// Ids of the items that the threads fight over.
const IDS: u64 = 3000;
/// Another dimension that the space has for a while.
const SHORT: usize = 4;

fn found(
    gallery: &EmbeddedGallery,
    query: &[f32],
    filter: &Filter,
    exact: bool,
) -> Result<Vec<Hit>, GalleryError> {
    let request = SearchRequest {
        spaces: &[space("old")],
        queries: query,
        dim: TO,
        limit: 10,
        filter,
        exact,
    };
    let found = gallery.search_mapped("turn", &request);
    found.map(|mut found| found.remove(0))
}

/// What is stored.
fn stored(gallery: &EmbeddedGallery) -> Vec<Item> {
    let mut all = Vec::new();
    let mut after: Option<ItemId> = None;
    loop {
        let page = gallery.scroll(after.as_ref(), 1000, &Filter::default(), true);
        let page = page.unwrap();
        all.extend(page.items.into_iter().map(|item| Item {
            id: item.id,
            embedding: item.embedding.unwrap(),
            model_version: item.model_version,
            label: item.label,
            payload: item.payload,
        }));
        after = page.next;
        if after.is_none() {
            return all;
        }
    }
}

/// Searches find what a comparison with everything that is stored finds.
fn check(gallery: &EmbeddedGallery, random: &mut ChaCha8Rng) {
    let content = stored(gallery);
    let mapped = |item: &&Item| item.model_version == "old" && item.embedding.len() == DIM;
    for filter in filters() {
        for _ in 0..3 {
            let query = unit(random, TO);
            let passes = |item: &&Item| {
                (filter.labels.is_none() || item.label == Some(7))
                    && filter.matches_payload(&item.payload)
            };
            let among = content.iter().filter(mapped).filter(passes);
            let mut wanted: Vec<(f32, ItemId)> = among
                .filter(|item| !Turn::refuses(&item.embedding))
                .map(|item| {
                    let turned = Turn::one(&item.embedding);
                    (perennial_core::dot(&query, &turned), item.id.clone())
                })
                .collect();
            wanted.sort_by(|a, b| b.0.total_cmp(&a.0));
            let wanted: Vec<ItemId> = wanted.into_iter().take(10).map(|(_, id)| id).collect();
            let hits = found(gallery, &query, &filter, true).unwrap();
            let hits: Vec<ItemId> = hits.into_iter().map(|hit| hit.id).collect();
            assert_eq!(hits, wanted);
        }
    }
}

/// The items of an index and those that its map refuses, where it has caught up.
fn check_counts(gallery: &EmbeddedGallery) {
    let content = stored(gallery);
    let of_space = content
        .iter()
        .filter(|item| item.model_version == "old" && item.embedding.len() == DIM);
    let (refused, mapped): (Vec<&Item>, Vec<&Item>) =
        of_space.partition(|item| Turn::refuses(&item.embedding));
    let stats = gallery.mapped();
    let kept = stats
        .iter()
        .find(|one| one.space == space("old") && one.map == "turn")
        .unwrap();
    assert_eq!(
        (kept.items, kept.refused),
        (mapped.len() as u64, refused.len() as u64)
    );
}

/// Writes, moves and deletes.
fn change(gallery: &EmbeddedGallery, random: &mut ChaCha8Rng) {
    let first = random.random_range(0..IDS);
    let ids = first..(first + random.random_range(1..400)).min(IDS);
    let result = match random.random_range(0..6) {
        0 => {
            let ids: Vec<ItemId> = ids.map(ItemId::from).collect();
            gallery.delete(&ids).map(|_| ())
        }
        1 => gallery.upsert(items(random, ids, "other")).map(|_| ()),
        _ => gallery.upsert(items(random, ids, "old")).map(|_| ()),
    };
    // The space has another dimension at times.
    assert!(result.is_ok() || result.is_err_and(|error| error.is_invalid_input()));
}

/// What one thread writes, it finds at once, and what it takes away, it finds no more.
fn follow(gallery: &EmbeddedGallery, random: &mut ChaCha8Rng, number: u64) {
    let id = IDS + number;
    let vector = unit(random, DIM);
    let query = Turn::one(&vector);
    let finds = || {
        let hits = found(gallery, &query, &Filter::default(), true).ok()?;
        Some(hits.iter().any(|hit| hit.id == id.into()))
    };
    if gallery
        .upsert(vec![item(id, "old", vector.clone())])
        .is_err()
    {
        return;
    }
    // The index is not always kept.
    assert_ne!(finds(), Some(Turn::refuses(&vector)));
    if random.random_bool(0.5) {
        gallery.delete(&[id.into()]).unwrap();
    } else {
        gallery.upsert(vec![item(id, "other", vector)]).unwrap();
    }
    assert_ne!(finds(), Some(true));
}

/// The space goes, and comes again with another dimension or the same.
fn change_dimension(gallery: &EmbeddedGallery, random: &mut ChaCha8Rng) {
    let filter = Filter {
        model_versions: Some(vec!["old".to_owned()]),
        ..Filter::default()
    };
    let of_dimension = |random: &mut ChaCha8Rng, dim: usize| {
        let ids = 0..random.random_range(1..300);
        let new = ids.map(|id| item(id, "old", unit(random, dim)));
        new.collect::<Vec<Item>>()
    };
    for dim in [SHORT, DIM] {
        gallery.delete_where(&filter).unwrap();
        // Another thread may have been faster.
        let stored = gallery.upsert(of_dimension(random, dim));
        assert!(stored.is_ok() || stored.is_err_and(|error| error.is_invalid_input()));
    }
}

fn run(folder: &Path, seed: u64) {
    let gallery = open(&folder.join("gallery"), 600);
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    gallery.upsert(items(&mut random, 0..IDS, "old")).unwrap();
    // What one thread writes is still there when it looks, but for the upheavals.
    let upheavals = RwLock::new(());
    let (gallery, upheavals) = (&gallery, &upheavals);
    let random_of = |thread: u64| ChaCha8Rng::seed_from_u64(seed * 100 + thread);
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let mut random = random_of(thread);
            scope.spawn(move || (0..40).for_each(|_| change(gallery, &mut random)));
        }
        let mut random = random_of(2);
        scope.spawn(move || {
            for number in 0..40 {
                let _steady = upheavals.read().unwrap();
                follow(gallery, &mut random, number);
            }
        });
        let mut random = random_of(3);
        scope.spawn(move || {
            for number in 0..60 {
                let exact = random.random_bool(0.5);
                let filter = &filters()[number % 3];
                let hits = match found(gallery, &unit(&mut random, TO), filter, exact) {
                    Ok(hits) => hits,
                    Err(GalleryError::NotMapped { .. }) => continue,
                    Err(error) => panic!("{error}"),
                };
                let ids: BTreeSet<&ItemId> = hits.iter().map(|hit| &hit.id).collect();
                assert_eq!(ids.len(), hits.len(), "an item occurs twice");
                assert!(hits.iter().all(|hit| hit.model_version == "old"));
                assert!(hits.is_sorted_by(|one, next| one.score >= next.score));
            }
        });
        let mut random = random_of(4);
        scope.spawn(move || {
            for _ in 0..30 {
                let wanted = match random.random_range(0..4) {
                    0 => vec![],
                    1 => vec![index("old", "turn"), index("other", "turn")],
                    2 => vec![index("old", "turn"), index("old", "again")],
                    _ => vec![index("old", "turn")],
                };
                gallery.keep_mapped(&wanted).unwrap();
                gallery.stats().unwrap();
                std::thread::yield_now();
            }
        });
        let mut random = random_of(5);
        scope.spawn(move || {
            for round in 0..4 {
                let snapshot = folder.join(format!("snapshot-{round}"));
                gallery.snapshot(&snapshot).unwrap();
                gallery.compact().unwrap();
                let _alone = upheavals.write().unwrap();
                if random.random_bool(0.5) {
                    gallery.restore(&snapshot).unwrap();
                } else {
                    change_dimension(gallery, &mut random);
                }
            }
        });
    });
    // Whether it is kept already or not, and built or not.
    gallery.keep_mapped(&[index("old", "turn")]).unwrap();
    check(gallery, &mut random);
    wait(gallery, "old", "turn");
    gallery.flush().unwrap();
    check(gallery, &mut random);
    check_counts(gallery);
    // And after what takes most of the rows away.
    let gone: Vec<ItemId> = (0..IDS * 3 / 4).map(ItemId::from).collect();
    gallery.delete(&gone).unwrap();
    check(gallery, &mut random);
    gallery.flush().unwrap();
    check_counts(gallery);
}

#[test]
fn mapped_searches_equal_brute_force_whatever_happened_at_once() {
    let seeds = std::env::var("PERENNIAL_MAPPED_SEEDS").map_or(3, |seeds| seeds.parse().unwrap());
    for seed in 0..seeds {
        let folder = tempfile::tempdir().unwrap();
        run(folder.path(), seed);
    }
}
