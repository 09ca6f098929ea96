//! Items of several spaces and dimensions in one gallery.

use std::sync::atomic::{AtomicBool, Ordering};

use perennial_core::SpaceId;
use perennial_gallery::{
    EmbeddedGallery, Filter, Hit, Item, ItemId, Maintenance, SearchRequest, SimplexIdentity,
    Snapshots, VectorStore,
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::fixtures::*;

/// Spaces and their dimensions.
const SPACES: [(&str, usize); 3] = [("text", 6), ("v0001", 4), ("v0002", 4)];

/// Items `from..to`, spread over the spaces by turns.
pub fn spread(from: u64, to: u64, seed: u64) -> Vec<Item> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (from..to)
        .map(|id| {
            let (space, dim) = SPACES[id as usize % 3];
            Item {
                model_version: space.to_owned(),
                label: Some((id % 10) as u32),
                payload: payload(serde_json::json!({"third": id % 3 == 0, "n": id})),
                ..item(id, unit(&mut rng, dim))
            }
        })
        .collect()
}

pub fn in_spaces(
    gallery: &EmbeddedGallery,
    spaces: &[&str],
    query: &[f32],
    limit: usize,
    filter: &Filter,
) -> Vec<Hit> {
    let spaces: Vec<SpaceId> = spaces.iter().map(|&id| SpaceId::new(id).unwrap()).collect();
    let found = gallery.search(&SearchRequest {
        spaces: &spaces,
        queries: query,
        dim: query.len(),
        limit,
        filter,
        exact: false,
    });
    found.unwrap().remove(0)
}

/// Compares the gallery with what it should hold, in every way that it can be asked.
fn assert_holds(gallery: &EmbeddedGallery, items: &[Item]) {
    let mut rng = ChaCha8Rng::seed_from_u64(99);
    for (spaces, dim) in [
        (&["text"][..], 6),
        (&["v0001", "v0002"], 4),
        (&["v0002"], 4),
    ] {
        let there: Vec<Item> = items
            .iter()
            .filter(|item| spaces.contains(&&*item.model_version))
            .cloned()
            .collect();
        for filter in filters() {
            let query = unit(&mut rng, dim);
            let found = ids(&in_spaces(gallery, spaces, &query, 12, &filter));
            let expected = expected(&there, &query, 12, &filter);
            assert_eq!(found.len(), expected.len(), "{spaces:?} {filter:?}");
            assert!(agreement(&found, &expected) + 1 >= expected.len());
        }
    }
    let stats = gallery.stats().unwrap();
    assert_eq!(stats.items as usize, items.len());
    let of = |space: &str| items.iter().filter(|i| i.model_version == space).count() as u64;
    for stats in gallery.spaces().unwrap() {
        assert_eq!(stats.items, of(stats.space.id.as_str()));
    }
    let (mut listed, mut after) = (Vec::new(), None);
    loop {
        let page = gallery
            .scroll(after.as_ref(), 50, &Filter::default(), true)
            .unwrap();
        listed.extend(page.items);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let mut sorted: Vec<&Item> = items.iter().collect();
    sorted.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(listed.len(), sorted.len());
    for (listed, item) in listed.iter().zip(sorted) {
        assert_eq!(listed.id, item.id);
        assert_eq!(listed.model_version, item.model_version);
        assert_eq!(listed.embedding.as_ref(), Some(&item.embedding));
    }
}

#[test]
fn partitions_survive_everything_that_a_gallery_goes_through() {
    let folder = tempfile::tempdir().unwrap();
    let snapshot = folder.path().join("all.snapshot");
    let mut items = spread(0, 300, 1);
    {
        let gallery = open(&folder.path().join("a"));
        of_simplex(&gallery, 5);
        gallery.upsert(items.clone()).unwrap();
        let stats = gallery.stats().unwrap();
        assert_eq!(stats.dim, None);
        let partitions = &stats.partitions;
        assert_eq!(
            partitions.len(),
            2,
            "the versions share one: {partitions:?}"
        );
        assert_eq!((partitions[0].dim, partitions[0].items), (4, 200));
        assert_eq!(partitions[0].simplex, Some(SimplexIdentity { vertices: 5 }));
        assert_eq!((partitions[1].dim, partitions[1].items), (6, 100));
        assert_eq!(partitions[1].per_version["text"], 100);
        assert_holds(&gallery, &items);

        // Every tenth item moves, every seventh goes.
        let moved: Vec<Item> = spread(1, 301, 2)
            .into_iter()
            .map(|item| match item.id {
                ItemId::Number(id) => Item {
                    id: (id - 1).into(),
                    ..item
                },
                ItemId::Text(_) => item,
            })
            .step_by(10)
            .collect();
        assert_eq!(gallery.upsert(moved.clone()).unwrap().replaced, 30);
        items.retain(|item| moved.iter().all(|moved| moved.id != item.id));
        items.extend(moved);
        let gone: Vec<ItemId> = (0..300).step_by(7).map(ItemId::Number).collect();
        gallery.delete(&gone).unwrap();
        items.retain(|item| !gone.contains(&item.id));
        assert_holds(&gallery, &items);
        gallery.compact().unwrap();
        assert_holds(&gallery, &items);
        assert_eq!(
            gallery.snapshot(&snapshot).unwrap().items as usize,
            items.len()
        );
    }
    let gallery = open(&folder.path().join("a"));
    assert_holds(&gallery, &items);
    drop(gallery);
    let config = small();
    let gallery = EmbeddedGallery::open_read_only(folder.path().join("a"), config).unwrap();
    assert_holds(&gallery, &items);

    let other = open(&folder.path().join("b"));
    other.upsert(spread(0, 50, 3)).unwrap();
    other.restore(&snapshot).unwrap();
    assert_holds(&other, &items);
    assert_eq!(other.spaces().unwrap(), gallery.spaces().unwrap());
    // Another restore, and a restart, change nothing.
    other.restore(&snapshot).unwrap();
    drop(other);
    let other = open(&folder.path().join("b"));
    assert_holds(&other, &items);
    other.upsert(vec![items[0].clone()]).unwrap();
    assert_holds(&other, &items);
}

#[test]
fn readers_see_a_moving_item_in_one_partition() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = open(folder.path());
    gallery.upsert(spread(0, 30, 7)).unwrap();
    let here = item("moving", vec![1.0, 0.0, 0.0, 0.0]);
    let there = Item {
        model_version: "text".to_owned(),
        embedding: vec![1.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        ..here.clone()
    };
    gallery.upsert(vec![here.clone()]).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let of_it = Filter {
                    ids: Some(vec!["moving".into()]),
                    ..Filter::default()
                };
                while !done.load(Ordering::Relaxed) {
                    let page = gallery.scroll(None, 10, &of_it, true).unwrap();
                    assert_eq!(page.items.len(), 1);
                    let stats = gallery.stats().unwrap();
                    assert_eq!(stats.items, 31);
                    assert_eq!(stats.per_version.values().sum::<u64>(), 31);
                }
            });
        }
        for _ in 0..60 {
            gallery.upsert(vec![there.clone()]).unwrap();
            gallery.upsert(vec![here.clone()]).unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
}
