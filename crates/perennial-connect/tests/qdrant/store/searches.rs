//! Exact searches, and the index where one is asked for.

use perennial_gallery::{Filter, IndexKind, Maintenance, VectorStore};
use serde_json::json;

use super::stock::{head, open, open_with};
use crate::cluster::{cluster, double};
use crate::double::Id;
use crate::items::{find, item, items, object, vector};

#[test]
fn hits_are_the_best_with_the_smallest_ids_first_among_equals() {
    let cluster = cluster();
    let store = open(&cluster);
    // More equals than any page of hits, of all kinds of ids.
    let equals = (0..400u64).map(|id| item(id, "v1", vec![0.6, 0.8]));
    let texts = (0..50).map(|id| item(format!("x{id}"), "v1", vec![0.6, 0.8]));
    let others = (1000..1300u64).map(|id| item(id, "v1", vector(id, 2)));
    store
        .upsert(texts.chain(equals).chain(others).collect())
        .unwrap();
    for limit in [1, 5, 300] {
        let hits = find(&store, "v1", &[0.6, 0.8], limit, &Filter::default(), true);
        let ids: Vec<u64> = (0..limit as u64).collect();
        assert!(
            hits.iter()
                .map(|hit| hit.id.clone())
                .eq(ids.into_iter().map(Into::into)),
            "{limit}"
        );
    }
    let query = vector(77, 2);
    let hits = find(&store, "v1", &query, 20, &Filter::default(), true);
    assert!(hits.is_sorted_by(|a, b| a.score >= b.score));
    for hit in &hits {
        let stored = store
            .get(std::slice::from_ref(&hit.id), true)
            .unwrap()
            .remove(0);
        let embedding = stored.embedding.unwrap();
        let product: f32 = embedding.iter().zip(&query).map(|(a, b)| a * b).sum();
        assert!((product - hit.score).abs() < 1e-5, "{hit:?}");
    }
}

#[test]
fn an_index_is_used_where_it_was_asked_for_and_never_by_an_exact_search() {
    let Some(cluster) = double() else { return };
    let store = open(&cluster);
    store.upsert(items(50, "v1", 8)).unwrap();
    assert_eq!(store.stats().unwrap().index.kind, IndexKind::Exact);
    let collection = format!("{}.1.0", super::stock::gallery_name(&cluster));
    let threshold = || {
        let state = cluster.inside().state();
        state.collections[&collection].config["optimizer_config"]["indexing_threshold"].clone()
    };
    assert_eq!(threshold(), json!(0));
    let unseen = [3u64, 8].map(|id| store.get(&[id.into()], false).unwrap().remove(0).id);
    // What the server's index does not find.
    {
        let mut state = cluster.inside().state();
        let collection = state.collections.get_mut(&collection).unwrap();
        let hidden: Vec<Id> = collection
            .points
            .iter()
            .filter(|(_, point)| ["n3", "n8"].contains(&point.payload["key"].as_str().unwrap()))
            .map(|(id, _)| id.clone())
            .collect();
        collection.unseen.extend(hidden);
    }
    let query = vector(3, 8);
    let find_with = |store: &dyn VectorStore, exact, limit| {
        find(store, "v1", &query, limit, &Filter::default(), exact)
    };
    // Nobody asked for an index yet.
    assert_eq!(find_with(&store, false, 3)[0].id, unseen[0]);
    let store = open_with(&cluster, |options| options.hnsw_from = 51);
    store.upsert(vec![item(500, "v1", vector(500, 8))]).unwrap();
    assert_eq!(threshold(), json!(1));
    assert_eq!(store.stats().unwrap().index.kind, IndexKind::Hnsw);
    assert_eq!(
        head(&mut cluster.inside().state(), &cluster)["state"]["spaces"]["v1"]["indexed"],
        true
    );
    assert_eq!(find_with(&store, true, 3)[0].id, unseen[0]);
    assert!(
        find_with(&store, false, 3)
            .iter()
            .all(|hit| !unseen.contains(&hit.id))
    );
    // Where the index finds fewer than there are, everything is compared.
    assert_eq!(find_with(&store, false, 51).len(), 51);
    let rare = Filter {
        payload: Some(object(json!({"third": true}))),
        ids: Some([3, 9, 10].map(|id: u64| id.into()).to_vec()),
        ..Filter::default()
    };
    let hits = find(&store, "v1", &query, 5, &rare, false);
    assert_eq!(hits.len(), 2);
}

#[test]
fn payloads_are_compared_as_filters_say() {
    let cluster = cluster();
    let store = open(&cluster);
    let values = [
        json!(1),
        json!(1.0),
        json!("1"),
        json!(true),
        json!(null),
        json!(1e16),
        json!(10_000_000_000_000_000u64),
        json!([1, 2]),
        json!({"a": [1.5, "\u{0}"]}),
        json!(-0.0),
        json!(u64::MAX),
    ];
    let stored = values
        .iter()
        .zip(0u64..)
        .map(|(value, id)| perennial_gallery::Item {
            payload: object(json!({"key": value, "other.key": id})),
            ..item(id, "v1", vector(id, 4))
        });
    store.upsert(stored.collect()).unwrap();
    for (value, id) in values.iter().zip(0u64..) {
        let filter = Filter {
            payload: Some(object(json!({ "key": value }))),
            ..Filter::default()
        };
        let page = store.scroll(None, 10, &filter, false).unwrap();
        assert_eq!(page.items.len(), 1, "{value}");
        assert_eq!(page.items[0].id, id.into());
        assert_eq!(page.items[0].payload["key"], *value);
        let hits = find(&store, "v1", &vector(1, 4), 10, &filter, true);
        assert_eq!(hits.len(), 1, "{value}");
    }
}
