//! Records are read while nobody holds the state, each once, and answers are right whatever is written meanwhile.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::AtomicBool;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::scan::tests::unit;
use super::*;
use crate::filter::LabelFilter;

/// Payloads with so many pairs that their fingerprints rule out nothing.
fn payload(wanted: bool) -> Map<String, Value> {
    let mut payload: Map<String, Value> = (0..500).map(|n| (format!("k{n}"), json!(n))).collect();
    payload.insert("wanted".to_owned(), json!(wanted));
    assert_eq!(crate::payload::fingerprint(&payload), u64::MAX);
    payload
}

fn of_payload(wanted: bool) -> Filter {
    let payload = json!({"wanted": wanted});
    Filter {
        payload: payload.as_object().cloned(),
        ..Filter::default()
    }
}

fn vector(id: u64, dim: usize) -> Vec<f32> {
    unit(&mut ChaCha8Rng::seed_from_u64(id), dim)
}

fn items(count: u64, dim: usize, wanted: impl Fn(u64) -> bool) -> Vec<Item> {
    let one = |id| Item {
        embedding: vector(id, dim),
        label: Some(id as u32),
        payload: payload(wanted(id)),
        ..item(id, dim)
    };
    (0..count).map(one).collect()
}

fn ask(gallery: &EmbeddedGallery, queries: &[f32], filter: &Filter, limit: usize) -> Vec<Vec<Hit>> {
    let found = gallery.search(&SearchRequest {
        spaces: &[SpaceId::new("v0001").unwrap()],
        queries,
        dim: 16,
        limit,
        filter,
        exact: false,
    });
    found.unwrap()
}

/// How many records work on this thread reads; nobody may hold the state meanwhile.
fn records(gallery: &EmbeddedGallery, work: impl FnOnce()) -> usize {
    let (shared, seen) = (Arc::clone(&gallery.shared), Rc::new(Cell::new((0, 0))));
    let count = Rc::clone(&seen);
    let look = move |_| {
        let (read, held) = count.get();
        count.set((read + 1, held + usize::from(shared.is_held())));
    };
    AT_A_RECORD.set(Some(Box::new(look)));
    work();
    AT_A_RECORD.set(None);
    let (read, held) = seen.get();
    assert_eq!(held, 0, "of {read} records");
    read
}

#[test]
fn records_are_read_once_and_without_the_state() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = open(folder.path());
    gallery.upsert(items(3000, 16, |id| id == 1717)).unwrap();
    let (rare, none, all) = (
        of_payload(true),
        Filter {
            payload: json!({"k0": "other"}).as_object().cloned(),
            ..Filter::default()
        },
        Filter::default(),
    );
    let queries: Vec<f32> = (0..3).flat_map(|id| vector(50 + id, 16)).collect();
    // Every item is looked at, once for all queries, and the one that passes once for each.
    let found = records(&gallery, || {
        for hits in ask(&gallery, &queries, &rare, 5) {
            assert_eq!(hits.len(), 1);
            assert_eq!(hits[0].id, 1717.into());
        }
    });
    assert_eq!(found, 3000 + 2);
    let found = records(&gallery, || {
        assert!(ask(&gallery, &queries, &none, 5).iter().all(Vec::is_empty));
    });
    assert_eq!(found, 3000);
    let found = records(&gallery, || {
        let hits = ask(&gallery, &queries, &all, 5);
        assert!(
            hits.iter()
                .zip(50u64..)
                .all(|(hits, id)| hits[0].id == id.into())
        );
    });
    assert_eq!(found, 3 * 5);
    let ids: Vec<ItemId> = (0..40).map(ItemId::Number).collect();
    assert_eq!(
        records(&gallery, || drop(gallery.get(&ids, true).unwrap())),
        40
    );
    for filter in [&rare, &all] {
        let found = records(&gallery, || {
            let page = gallery.scroll(None, 30, filter, true).unwrap();
            assert_eq!(page.next.is_some(), filter == &all);
        });
        // One more, to know whether another page follows.
        assert_eq!(found, if filter == &all { 31 } else { 3000 });
    }
}

#[test]
fn long_lists_select_what_short_ones_do() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = open(folder.path());
    gallery.upsert(items(400, 16, |_| true)).unwrap();
    let many = |numbers: &[u64]| -> Vec<u64> {
        let others = 1_000_000..1_000_000 + 9_000;
        others.rev().chain(numbers.iter().copied()).collect()
    };
    let chosen = many(&[7, 3, 399, 3]);
    let labels = chosen.iter().map(|&label| label as u32);
    let names = chosen.iter().map(|number| format!("v{number}"));
    let filters = [
        Filter {
            labels: Some(LabelFilter::any_of(labels)),
            ..Filter::default()
        },
        Filter {
            ids: Some(chosen.iter().map(|&id| id.into()).collect()),
            ..Filter::default()
        },
        Filter {
            model_versions: Some(names.chain(["v0001".to_owned()]).collect()),
            labels: Some(LabelFilter::any_of([3, 7, 399])),
            ..Filter::default()
        },
    ];
    for filter in filters {
        let page = gallery.scroll(None, 10, &filter, false).unwrap();
        let ids: Vec<ItemId> = page.items.into_iter().map(|item| item.id).collect();
        assert_eq!(ids, [3.into(), 7.into(), 399.into()]);
        let mut hits = ask(&gallery, &vector(7, 16), &filter, 10).remove(0);
        assert_eq!(hits[0].id, 7.into());
        hits.sort_by(|a, b| a.id.cmp(&b.id));
        assert!(hits.into_iter().map(|hit| hit.id).eq(ids));
    }
}

/// Items are stored again and again with the same content, and so get other rows, which move together from time to time: each answer must be the one of
/// the content.
#[test]
fn answers_are_right_while_rows_move() {
    const DIM: usize = 8192;
    let folder = tempfile::tempdir().unwrap();
    let gallery = open(folder.path());
    let items = items(700, DIM, |id| id % 97 == 5);
    gallery.upsert(items.clone()).unwrap();
    let query = vector(1, DIM);
    let rare = of_payload(true);
    let space = [SpaceId::new("v0001").unwrap()];
    let best = |filter: &Filter, limit: usize| -> Vec<ItemId> {
        let found = gallery.search(&SearchRequest {
            spaces: &space,
            queries: &query,
            dim: DIM,
            limit,
            filter,
            exact: true,
        });
        let hits = found.unwrap().remove(0);
        for hit in &hits {
            let ItemId::Number(id) = hit.id else { panic!() };
            assert_eq!(
                (hit.label, &hit.payload),
                (Some(id as u32), &payload(id % 97 == 5))
            );
            let score = scan::dot(&query, &items[id as usize].embedding);
            assert_eq!(hit.score, score);
        }
        hits.into_iter().map(|hit| hit.id).collect()
    };
    let (of_rare, of_all) = (best(&rare, 3), best(&Filter::default(), 20));
    assert_eq!((of_rare.len(), of_all.len()), (3, 20));
    let mut scored: Vec<(f32, u64)> = (0..700)
        .filter(|id| id % 97 == 5)
        .map(|id| (scan::dot(&query, &items[id as usize].embedding), id))
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    assert!(
        of_rare
            .iter()
            .zip(&scored)
            .all(|(id, (_, best))| *id == (*best).into())
    );
    let done = AtomicBool::new(false);
    let mut answers = 0;
    let moved = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut compacted = 0;
            let mut before = 0;
            for batch in items.chunks(50).cycle().take(60) {
                gallery.upsert(batch.to_vec()).unwrap();
                let slots = gallery.shared.state().slots();
                compacted += usize::from(slots < before);
                before = slots;
            }
            done.store(true, Ordering::Relaxed);
            compacted
        });
        while !done.load(Ordering::Relaxed) {
            assert_eq!(best(&rare, 3), of_rare);
            assert_eq!(best(&Filter::default(), 20), of_all);
            let page = gallery.scroll(None, 100, &rare, false).unwrap();
            assert_eq!(page.items.len(), 8);
            answers += 1;
        }
        writer.join().unwrap()
    });
    assert!(moved > 0 && answers > 1, "{moved} {answers}");
}
