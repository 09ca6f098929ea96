//! Searches against brute force.

use perennial_gallery::{EmbeddedGallery, Filter, GalleryConfig, ItemId, SearchMode, VectorStore};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::fixtures::*;

#[test]
fn filters_find_what_brute_force_finds() {
    let folder = tempfile::tempdir().unwrap();
    for mode in [SearchMode::Int8, SearchMode::Exact] {
        let config = GalleryConfig {
            search: mode,
            ..small()
        };
        let gallery =
            EmbeddedGallery::open(folder.path().join(format!("{mode:?}")), config).unwrap();
        let mut items = items(900, 16, 1);
        gallery.upsert(items.clone()).unwrap();
        gallery.delete(&[17.into(), 30.into()]).unwrap();
        items.retain(|i| ![17.into(), 30.into()].contains(&i.id));
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let queries: Vec<f32> = (0..6).flat_map(|_| unit(&mut rng, 16)).collect();
        for filter in filters() {
            let batch = search_all(&gallery, &queries, 16, 10, &filter, true).unwrap();
            for (query, batch) in queries.chunks(16).zip(&batch) {
                let expected = expected(&items, query, 10, &filter);
                let found = ids(&search(&gallery, query, 10, &filter));
                assert!(
                    agreement(&found, &expected) + 1 >= expected.len(),
                    "{filter:?}"
                );
                assert_eq!(found.len(), expected.len());
                assert_eq!(ids(batch), expected, "{filter:?}");
            }
        }
    }
}

#[test]
fn eight_bits_rarely_miss() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = open(folder.path());
    let items = items(3000, 64, 3);
    gallery.upsert(items.clone()).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let mut found = 0;
    for _ in 0..30 {
        let query = unit(&mut rng, 64);
        let hits = ids(&search(&gallery, &query, 10, &Filter::default()));
        found += agreement(&hits, &expected(&items, &query, 10, &Filter::default()));
    }
    assert!(found >= 297, "recall {found} of 300");
}

#[test]
fn equal_items_come_in_the_order_of_their_ids() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = open(folder.path());
    let vector = vec![0.6, 0.8];
    let names = ["b", "a", "c"].map(|id| item(id, vector.clone()));
    let numbers = (0..200u64).rev().map(|id| item(id, vector.clone()));
    gallery
        .upsert(names.into_iter().chain(numbers).collect())
        .unwrap();
    for exact in [true, false] {
        let filter = Filter::default();
        let found = search_all(&gallery, &[1.0, 0.0], 2, 3, &filter, exact);
        let hits = found.unwrap().remove(0);
        assert_eq!(ids(&hits), [0.into(), 1.into(), 2.into()]);
        let batch = search_all(&gallery, &[1.0, 0.0].repeat(5), 2, 3, &filter, exact).unwrap();
        assert_eq!(batch, vec![hits; 5]);
    }
    gallery
        .delete_where(&Filter {
            ids: Some((0..200).map(ItemId::Number).collect()),
            ..Filter::default()
        })
        .unwrap();
    let hits = search(&gallery, &[1.0, 0.0], 3, &Filter::default());
    assert_eq!(ids(&hits), ["a".into(), "b".into(), "c".into()]);
}
