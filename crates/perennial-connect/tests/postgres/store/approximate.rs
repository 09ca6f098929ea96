//! HNSW indexes: built when asked for, used where they are, and never by an exact search.

use std::time::{Duration, Instant};

use perennial_gallery::{Filter, IndexKind, IndexProgress, Maintenance, VectorStore};
use serde_json::json;

use super::stock::{fill, open, open_with};
use crate::database::{Database, database};
use crate::items::{find, item, items, object, vector};

/// Waits until the index is there.
fn wait_for_index(database: &Database, number: i32) {
    let begun = Instant::now();
    let valid = format!(
        "SELECT EXISTS (SELECT FROM pg_index WHERE indisvalid AND indexrelid = to_regclass('perennial.perennial_hnsw_{number}'))"
    );
    while !database.one::<bool>(&valid) {
        assert!(
            begun.elapsed() < Duration::from_secs(120),
            "no index was built"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn number(database: &Database, space: &str) -> i32 {
    database.one(&format!(
        "SELECT number FROM perennial.perennial_spaces WHERE name = '{space}'"
    ))
}

#[test]
fn an_index_is_built_when_it_is_asked_for() {
    let Some(database) = database() else { return };
    let store = open(&database);
    fill(&store, items(2000, "v1", 16));
    fill(
        &store,
        (5000..5020)
            .map(|id| item(id, "few", vector(id, 16)))
            .collect(),
    );
    assert_eq!(store.stats().unwrap().index.kind, IndexKind::Exact);
    drop(store);
    let store = open_with(&database, |options| options.hnsw_from = 1000);
    wait_for_index(&database, number(&database, "v1"));
    let stats = store.stats().unwrap();
    assert_eq!(
        (stats.index.kind, stats.index.state, stats.index.backlog),
        (IndexKind::Hnsw, IndexProgress::Ready, 0)
    );
    // A store that did not ask for it uses it as well, and what is stored later is in it.
    let other = open(&database);
    let late = item(9000, "v1", vector(9000, 16));
    other.upsert(vec![late.clone()]).unwrap();
    let query = vector(77, 16);
    let exact = find(&other, "v1", &query, 10, &Filter::default(), true);
    let near = find(&other, "v1", &query, 10, &Filter::default(), false);
    let agree = near.iter().filter(|hit| exact.contains(hit)).count();
    assert!(agree >= 9, "{agree} of 10");
    let found = find(&other, "v1", &late.embedding, 1, &Filter::default(), false);
    assert_eq!(found[0].id, late.id);
    // A filter that passes few is complete all the same.
    let rare = Filter {
        ids: Some((0..2000u64).step_by(400).map(Into::into).collect()),
        payload: Some(object(json!({"third": true}))),
        ..Filter::default()
    };
    let near = find(&other, "v1", &query, 10, &rare, false);
    assert_eq!(near, find(&other, "v1", &query, 10, &rare, true));
    assert_eq!(near.len(), 2);
    // Many queries, and both kinds of spaces at once.
    let spaces = ["v1", "few"].map(crate::items::space);
    let queries: Vec<f32> = (0..40).flat_map(|seed| vector(seed, 16)).collect();
    let all = Filter::default();
    let request = |exact| perennial_gallery::SearchRequest {
        spaces: &spaces,
        queries: &queries,
        dim: 16,
        limit: 5,
        filter: &all,
        exact,
    };
    let (near, exact) = (
        other.search(&request(false)).unwrap(),
        other.search(&request(true)).unwrap(),
    );
    assert_eq!((near.len(), exact.len()), (40, 40));
    assert!(near.iter().all(|hits| hits.len() == 5));
}

#[test]
fn an_exact_search_never_goes_through_an_index() {
    let Some(database) = database() else { return };
    let store = open(&database);
    fill(&store, items(300, "v1", 8));
    let number = number(&database, "v1");
    database.run(&format!(
        "SET search_path = perennial, public; \
         CREATE INDEX perennial_hnsw_{number} ON perennial_items USING hnsw ((embedding::vector(8)) vector_ip_ops) WHERE space = {number}; \
         SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off"
    ));
    let plan = |order: &str| {
        database
            .all(&format!(
                "EXPLAIN SELECT key FROM perennial_items WHERE space = {number} ORDER BY {order} LIMIT 3"
            ))
            .join("\n")
    };
    let query = "'[1,0,0,0,0,0,0,0]'::vector";
    let exact = plan(&format!("embedding <#> {query}, key"));
    assert!(!exact.contains("hnsw"), "{exact}");
    let near = plan(&format!("(embedding::vector(8)) <#> ({query}::vector(8))"));
    assert!(near.contains("hnsw"), "{near}");
    assert_eq!(store.stats().unwrap().index.kind, IndexKind::Hnsw);
}
