//! What a store does with indexes of mapped vectors, and what one says that has none.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use super::scene::{ids, item, object, search, space};
use crate::error::GalleryError;
use crate::filter::{Filter, LabelFilter};
use crate::item::{Hit, Item};
use crate::limits::MAX_LIMIT;
use crate::mapped_index::{MappedIndex, MappedIndexes, VectorMap};
use crate::store::{Replacement, SearchRequest, Snapshots, VectorStore};

/// A store whose mapped vectors are tested.
pub(super) trait Mapping: VectorStore + Snapshots + MappedIndexes {}

impl<S: VectorStore + Snapshots + MappedIndexes> Mapping for S {}

const FROM: usize = 3;
const TO: usize = 5;

/// Turns vectors over and adds dimensions; refuses those that point down.
struct Turn(&'static str);

fn is_refused(vector: &[f32]) -> bool {
    vector[0] < -0.9
}

fn turned(vector: &[f32]) -> Vec<f32> {
    let mut turned: Vec<f32> = vector.iter().rev().copied().collect();
    turned.resize(TO, 0.0);
    turned
}

impl VectorMap for Turn {
    fn key(&self) -> &str {
        self.0
    }

    fn input_dim(&self) -> usize {
        FROM
    }

    fn output_dim(&self) -> usize {
        TO
    }

    fn map(&self, vectors: &[f32], mapped: &mut Vec<f32>) -> Result<(), String> {
        mapped.clear();
        for vector in vectors.chunks_exact(FROM) {
            if is_refused(vector) {
                return Err("it points down".to_owned());
            }
            mapped.extend(turned(vector));
        }
        Ok(())
    }
}

fn index(of: &str, key: &'static str) -> MappedIndex {
    MappedIndex {
        space: space(of),
        map: Arc::new(Turn(key)),
    }
}

/// The vectors of a spiral on the sphere, the same for the same number.
fn on_a_spiral(at: u64) -> [f32; FROM] {
    let height = ((at * 37 % 101) as f32 / 50.0 - 1.0).clamp(-1.0, 1.0);
    let (sin, cos) = (at as f32 * 2.4).sin_cos();
    let radius = (1.0 - height * height).sqrt();
    [height, radius * cos, radius * sin]
}

fn scene_item(id: u64, of: &str, at: u64) -> Item {
    Item {
        label: (!id.is_multiple_of(4)).then_some(id as u32 % 4),
        payload: object(json!({"third": id.is_multiple_of(3)})),
        ..item(id, of, &on_a_spiral(at))
    }
}

fn scene(ids: std::ops::Range<u64>, of: &str) -> Vec<Item> {
    ids.map(|id| scene_item(id, of, id)).collect()
}

fn wait<S: Mapping>(store: &S, of: &str, key: &str) {
    let start = Instant::now();
    while !store.has_mapped(of, key) {
        let waited = start.elapsed();
        assert!(waited < Duration::from_secs(60), "{:?}", store.mapped());
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn request<'a>(
    spaces: &'a [perennial_core::SpaceId],
    queries: &'a [f32],
    limit: usize,
    filter: &'a Filter,
) -> SearchRequest<'a> {
    SearchRequest {
        spaces,
        queries,
        dim: TO,
        limit,
        filter,
        exact: true,
    }
}

/// What a search must find: every vector mapped and compared.
fn expected(
    content: &[Item],
    of: &[&str],
    query: &[f32],
    limit: usize,
    filter: &Filter,
) -> Vec<(Item, f32)> {
    let counts = |item: &&Item| {
        of.contains(&&*item.model_version)
            && item.embedding.len() == FROM
            && !is_refused(&item.embedding)
            && filter.matches(&item.id, &item.model_version, item.label, &item.payload)
    };
    let mut all: Vec<(Item, f32)> = content
        .iter()
        .filter(counts)
        .map(|item| {
            let mapped = turned(&item.embedding);
            (item.clone(), perennial_core::dot(query, &mapped))
        })
        .collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.id.cmp(&b.0.id)));
    all.truncate(limit);
    all
}

/// Searches one by one and at once, of whole spaces and of parts of them, find what they must.
fn check<S: Mapping>(store: &S, content: &[Item], of: &[&str]) {
    let spaces: Vec<_> = of.iter().map(|name| space(name)).collect();
    let filters = [
        Filter::default(),
        Filter {
            labels: Some(LabelFilter::any_of([1, 3])),
            ..Filter::default()
        },
        Filter {
            payload: Some(object(json!({"third": true}))),
            ..Filter::default()
        },
        Filter {
            ids: Some(vec![2.into(), 3.into(), 12.into(), "none".into()]),
            ..Filter::default()
        },
        Filter {
            model_versions: Some(vec!["elsewhere".to_owned()]),
            ..Filter::default()
        },
    ];
    // The map's own vectors, and some that no item has.
    let mut queries = [3, 12, 70].map(|at| turned(&on_a_spiral(at))).to_vec();
    queries.push(vec![0.0, 0.6, 0.0, 0.8, 0.0]);
    let all = queries.concat();
    for filter in &filters {
        for limit in [1, 7, MAX_LIMIT] {
            let found = store.search_mapped("turn", &request(&spaces, &all, limit, filter));
            let found = found.unwrap();
            assert_eq!(found.len(), queries.len());
            for (query, hits) in queries.iter().zip(&found) {
                let wanted = expected(content, of, query, limit, filter);
                assert_hits(hits, &wanted);
                let alone = store.search_mapped("turn", &request(&spaces, query, limit, filter));
                assert_eq!(ids(&alone.unwrap()[0]), ids(hits), "{filter:?}");
            }
        }
    }
}

fn assert_hits(hits: &[Hit], wanted: &[(Item, f32)]) {
    let of: Vec<_> = wanted.iter().map(|(item, _)| item.id.clone()).collect();
    assert_eq!(ids(hits), of);
    for (hit, (item, score)) in hits.iter().zip(wanted) {
        assert!(
            (hit.score - score).abs() < 1e-5,
            "{hit:?} instead of {score}"
        );
        assert_eq!(
            (&hit.model_version, hit.label, &hit.payload),
            (&item.model_version, item.label, &item.payload)
        );
    }
}

/// Stores items, and notes them.
fn upsert<S: Mapping>(store: &S, content: &mut Vec<Item>, items: Vec<Item>) {
    content.retain(|known| items.iter().all(|item| item.id != known.id));
    content.extend(items.iter().cloned());
    store.upsert(items).unwrap();
}

pub(super) fn searches_follow_every_write<S: Mapping>(_: &Path, store: &S) {
    let mut content = Vec::new();
    upsert(store, &mut content, scene(0..60, "old"));
    upsert(store, &mut content, scene(60..80, "other"));
    store.keep_mapped(&[index("old", "turn")]).unwrap();
    // It may be being built, and is complete all the same.
    check(store, &content, &["old"]);
    wait(store, "old", "turn");
    check(store, &content, &["old"]);
    let refused = content.iter().filter(|item| is_refused(&item.embedding));
    assert!(refused.count() > 1, "the map refuses some");

    // New items, other vectors, and items that leave for another space or come from one.
    upsert(store, &mut content, scene(100..110, "old"));
    check(store, &content, &["old"]);
    let moved = |id, of| scene_item(id, of, id + 41);
    let others = vec![moved(3, "old"), moved(12, "other"), moved(70, "old")];
    upsert(store, &mut content, others);
    check(store, &content, &["old"]);
    // The same vector under another label.
    let labelled = Item {
        label: Some(3),
        ..scene_item(8, "old", 8)
    };
    upsert(store, &mut content, vec![labelled]);
    check(store, &content, &["old"]);

    let read = store.get(&[2.into(), 70.into()], true).unwrap();
    let replace = |read: &crate::StoredItem, to: &str, at| Replacement {
        read: read.clone(),
        model_version: to.to_owned(),
        embedding: on_a_spiral(at).to_vec(),
    };
    let replaced = vec![replace(&read[0], "old", 55), replace(&read[1], "other", 6)];
    for one in &replaced {
        content.retain(|item| item.id != one.read.id);
        content.push(one.item());
    }
    assert_eq!(store.replace_unchanged(replaced).unwrap(), []);
    check(store, &content, &["old"]);

    assert_eq!(store.delete(&[3.into(), 5.into(), 104.into()]).unwrap(), 3);
    content.retain(|item| ![3.into(), 5.into(), 104.into()].contains(&item.id));
    check(store, &content, &["old"]);
    let thirds = Filter {
        payload: Some(object(json!({"third": true}))),
        ..Filter::default()
    };
    store.delete_where(&thirds).unwrap();
    content.retain(|item| item.payload["third"] != json!(true));
    check(store, &content, &["old"]);
    // The last one goes, and others come.
    store.delete_where(&Filter::everything()).unwrap();
    check(store, &[], &["old"]);
    let mut content = Vec::new();
    upsert(store, &mut content, scene(200..230, "old"));
    check(store, &content, &["old"]);
}

pub(super) fn what_is_restored_is_mapped_anew<S: Mapping>(folder: &Path, store: &S) {
    let before = scene(0..40, "old");
    store.upsert(before.clone()).unwrap();
    store.keep_mapped(&[index("old", "turn")]).unwrap();
    wait(store, "old", "turn");
    let path = folder.join("before.snapshot");
    store.snapshot(&path).unwrap();
    store.upsert(scene(30..90, "old")).unwrap();
    store.delete(&[7.into()]).unwrap();
    store.restore(&path).unwrap();
    check(store, &before, &["old"]);
    wait(store, "old", "turn");
    check(store, &before, &["old"]);
}

pub(super) fn an_index_that_is_not_kept_is_an_error_with_its_space<S: Mapping>(
    _: &Path,
    store: &S,
) {
    store.upsert(scene(0..20, "old")).unwrap();
    store.upsert(scene(20..40, "other")).unwrap();
    let (filter, query) = (Filter::default(), turned(&on_a_spiral(3)));
    let missing = |key: &str, of: &[&str]| {
        let spaces: Vec<_> = of.iter().map(|name| space(name)).collect();
        match store.search_mapped(key, &request(&spaces, &query, 5, &filter)) {
            Err(GalleryError::NotMapped { space }) => space,
            found => panic!("{of:?} by {key}: {found:?}"),
        }
    };
    assert_eq!(missing("turn", &["old"]), "old");
    store.keep_mapped(&[index("old", "turn")]).unwrap();
    for ready in [false, true] {
        if ready {
            wait(store, "old", "turn");
        }
        assert_eq!(missing("another", &["old"]), "old");
        assert_eq!(missing("turn", &["other"]), "other");
        assert_eq!(missing("turn", &["unknown"]), "unknown");
        // One of two is not enough.
        assert_eq!(missing("turn", &["old", "other"]), "other");
    }
    let (known, not) = (store.has_mapped("old", "turn"), ["another", "other"]);
    assert!(known && !store.has_mapped("old", not[0]) && !store.has_mapped(not[1], "turn"));
}

pub(super) fn spaces_and_dimensions_are_told_apart<S: Mapping>(_: &Path, store: &S) {
    let mut content = Vec::new();
    upsert(store, &mut content, scene(0..30, "old"));
    upsert(store, &mut content, scene(30..50, "other"));
    upsert(store, &mut content, scene(50..55, "unmapped"));
    let wanted = [
        index("old", "turn"),
        index("other", "turn"),
        index("none", "turn"),
    ];
    store.keep_mapped(&wanted).unwrap();
    for one in &wanted {
        wait(store, one.space.as_str(), "turn");
    }
    // Each space alone, and several of one map together; a space without items has nothing to find.
    for of in [
        &["old"][..],
        &["other"],
        &["old", "other"],
        &["none"],
        &["none", "old"],
    ] {
        check(store, &content, of);
    }
    let (spaces, filter) = ([space("old")], Filter::default());
    let query = turned(&on_a_spiral(3));
    let good = request(&spaces, &query, 5, &filter);
    assert!(
        store
            .search_mapped("turn", &request(&spaces, &[], 5, &filter))
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        store
            .search_mapped("turn", &request(&[], &query, 5, &filter))
            .unwrap(),
        [[]]
    );
    // The queries have the dimension of what is mapped, not of what is stored.
    for wrong in [
        SearchRequest {
            queries: &query[..FROM],
            dim: FROM,
            ..good
        },
        SearchRequest {
            queries: &[0.6, 0.8, 0.0],
            dim: FROM,
            ..good
        },
        SearchRequest {
            queries: &query[..TO - 1],
            ..good
        },
        SearchRequest {
            queries: &[1.0, 1.0, 0.0, 0.0, 0.0],
            ..good
        },
        SearchRequest {
            queries: &[f32::NAN, 0.0, 0.0, 0.0, 0.0],
            ..good
        },
        SearchRequest { limit: 0, ..good },
        SearchRequest {
            limit: MAX_LIMIT + 1,
            ..good
        },
    ] {
        let error = store
            .search_mapped("turn", &wrong)
            .expect_err(&format!("{wrong:?}"));
        assert!(error.is_invalid_input(), "{error}");
    }
    // What the map cannot take is not found: a name that came back with vectors of another dimension.
    let of_old = Filter {
        model_versions: Some(vec!["old".to_owned()]),
        ..Filter::default()
    };
    store.delete_where(&of_old).unwrap();
    content.retain(|item| item.model_version != "old");
    upsert(store, &mut content, vec![item(1, "old", &[0.6, 0.8])]);
    check(store, &content, &["old"]);
    check(store, &content, &["old", "other"]);
    assert_eq!(search(store, &["old"], &[0.6, 0.8], 5, &filter).len(), 1);
}

pub(super) fn what_is_wanted_is_kept_and_no_more<S: Mapping>(_: &Path, store: &S) {
    let content = scene(0..30, "old");
    store.upsert(content.clone()).unwrap();
    assert!(store.mapped().is_empty());
    store.keep_mapped(&[]).unwrap();
    store
        .keep_mapped(&[index("old", "turn"), index("old", "back")])
        .unwrap();
    wait(store, "old", "turn");
    wait(store, "old", "back");
    let stats = store.mapped();
    assert_eq!(stats.len(), 2, "{stats:?}");
    for one in &stats {
        let refused = content.iter().filter(|item| is_refused(&item.embedding));
        assert_eq!(one.refused, refused.count() as u64, "{one:?}");
        assert_eq!(one.items + one.refused, 30, "{one:?}");
        assert_eq!((&one.space, one.dim, one.ready), (&space("old"), TO, true));
    }
    assert_eq!(store.mapped_bytes(0, TO), 0);
    assert!(store.mapped_bytes(1000, TO) > store.mapped_bytes(10, TO));
    // What is wanted again stays as it is, the other goes.
    store.keep_mapped(&[index("old", "turn")]).unwrap();
    assert!(store.has_mapped("old", "turn") && !store.has_mapped("old", "back"));
    check(store, &content, &["old"]);
    let (spaces, filter) = ([space("old")], Filter::default());
    let query = turned(&on_a_spiral(3));
    let request = request(&spaces, &query, 5, &filter);
    let gone = |key| {
        matches!(
            store.search_mapped(key, &request),
            Err(GalleryError::NotMapped { .. })
        )
    };
    assert!(gone("back") && !gone("turn"));
    store.keep_mapped(&[]).unwrap();
    assert!(gone("turn") && store.mapped().is_empty() && !store.has_mapped("old", "turn"));
    // What is stored was never touched.
    let stored = store.scroll(None, MAX_LIMIT, &filter, true).unwrap().items;
    let vectors = stored.iter().map(|item| item.embedding.as_deref());
    assert!(vectors.eq(content.iter().map(|item| Some(&item.embedding[..]))));
    let hits = search(store, &["old"], &content[4].embedding, 1, &filter);
    assert_eq!(ids(&hits), [4.into()]);
    // And it may come back.
    store.keep_mapped(&[index("old", "turn")]).unwrap();
    check(store, &content, &["old"]);
}

/// What a store says that has no such indexes.
pub(super) fn nothing_is_kept_where_it_is_not_offered<S: Mapping>(_: &Path, store: &S) {
    store.upsert(scene(0..5, "old")).unwrap();
    store.keep_mapped(&[]).unwrap();
    let not_offered = |error: GalleryError| match error {
        GalleryError::NotOffered { problem } => assert!(!problem.is_empty()),
        error => panic!("{error}"),
    };
    not_offered(store.keep_mapped(&[index("old", "turn")]).unwrap_err());
    let (spaces, filter) = ([space("old")], Filter::default());
    let query = turned(&on_a_spiral(3));
    not_offered(
        store
            .search_mapped("turn", &request(&spaces, &query, 5, &filter))
            .unwrap_err(),
    );
    assert!(store.mapped().is_empty() && !store.has_mapped("old", "turn"));
    assert_eq!(store.mapped_bytes(1000, TO), 0);
}
