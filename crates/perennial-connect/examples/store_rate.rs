//! How fast a gallery in a database stores and searches, beside one in a folder.
//!
//! ```sh
//! PERENNIAL_POSTGRES=$(tests/postgres.sh start /tmp/pg) cargo run --release -p perennial-connect --features pgvector --example store_rate -- 50000 256
//! ```
//!
//! It makes the schema `store_rate` in the database of the URL, which must have the extension `vector`, and drops it in the end.

#![allow(clippy::unwrap_used)]

use std::time::Instant;

use perennial_connect::{Address, PostgresStore, StoreOptions};
use perennial_core::SpaceId;
use perennial_gallery::{
    EmbeddedGallery, Filter, GalleryConfig, Item, SearchMode, SearchRequest, VectorStore,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio_postgres::NoTls;

const SCHEMA: &str = "store_rate";
/// Queries of a batch.
const BATCH: usize = 32;
const ROUNDS: usize = 15;

fn unit(random: &mut ChaCha8Rng, dim: usize) -> Vec<f32> {
    let values: Vec<f32> = (0..dim).map(|_| random.random_range(-1.0..1.0)).collect();
    let norm = values.iter().map(|value| value * value).sum::<f32>().sqrt();
    values.iter().map(|value| value / norm).collect()
}

fn item(id: u64, embedding: Vec<f32>) -> Item {
    Item {
        id: id.into(),
        embedding,
        model_version: "v".to_owned(),
        label: Some(id as u32 % 100),
        payload: serde_json::Map::new(),
    }
}

/// Runs statements on a connection of their own.
fn sql(url: &str, statements: &str) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute(statements).await.unwrap();
    });
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let rows: u64 = arguments
        .next()
        .map_or(50_000, |text| text.parse().unwrap());
    let dim: usize = arguments.next().map_or(256, |text| text.parse().unwrap());
    let url = std::env::var("PERENNIAL_POSTGRES").unwrap();
    let drop_schema = format!("DROP SCHEMA IF EXISTS {SCHEMA} CASCADE");
    sql(&url, &drop_schema);
    let folder = tempfile::tempdir().unwrap();
    let embedded = |search| {
        let config = GalleryConfig {
            search,
            hnsw_from: usize::MAX,
            ..GalleryConfig::default()
        };
        let place = folder.path().join(format!("{search:?}"));
        EmbeddedGallery::open(place, config).unwrap()
    };
    let (int8, exact) = (embedded(SearchMode::Int8), embedded(SearchMode::Exact));
    let mut options = StoreOptions::default();
    options.schema = SCHEMA.to_owned();
    let database = PostgresStore::open(&Address::new(&url).unwrap(), &options).unwrap();
    let stores: [(&str, &dyn VectorStore); 3] = [
        ("folder, 8 bits", &int8),
        ("folder, 32 bits", &exact),
        ("database", &database),
    ];
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut seconds = [0.0; 3];
    for from in (0..rows).step_by(1000) {
        let ids = from..rows.min(from + 1000);
        let items: Vec<Item> = ids.map(|id| item(id, unit(&mut random, dim))).collect();
        for (seconds, (_, store)) in seconds.iter_mut().zip(stores) {
            let items = items.clone();
            let begun = Instant::now();
            store.upsert(items).unwrap();
            *seconds += begun.elapsed().as_secs_f64();
        }
    }
    sql(&url, &format!("VACUUM ANALYZE {SCHEMA}.perennial_items"));
    let queries: Vec<f32> = (0..BATCH).flat_map(|_| unit(&mut random, dim)).collect();
    let spaces = [SpaceId::new("v").unwrap()];
    let mut answers = Vec::new();
    for ((name, store), seconds) in stores.into_iter().zip(seconds) {
        println!(
            "{name}: {:.0} items/s stored, 1,000 at a time",
            rows as f64 / seconds
        );
        let search = |from: usize, count: usize| {
            let found = store.search(&SearchRequest {
                spaces: &spaces,
                queries: &queries[from * dim..(from + count) * dim],
                dim,
                limit: 10,
                filter: &Filter::default(),
                exact: true,
            });
            found.unwrap()
        };
        for count in [1, BATCH] {
            search(0, count);
            let mut times: Vec<f64> = (0..ROUNDS)
                .map(|round| {
                    let begun = Instant::now();
                    search(round % (BATCH + 1 - count), count);
                    1000.0 * begun.elapsed().as_secs_f64()
                })
                .collect();
            times.sort_by(f64::total_cmp);
            println!(
                "{name}: {count} queries, exact: median {:.2} ms, {:.2} to {:.2} ms",
                times[ROUNDS / 2],
                times[0],
                times[ROUNDS - 1]
            );
        }
        let hits = search(0, BATCH).into_iter();
        let ids = hits.map(|hits| hits.into_iter().map(|hit| hit.id).collect::<Vec<_>>());
        answers.push(ids.collect::<Vec<_>>());
        let begun = Instant::now();
        for id in 0..100 {
            let one = item(id, unit(&mut ChaCha8Rng::seed_from_u64(id), dim));
            store.upsert(vec![one]).unwrap();
        }
        let rate = 100.0 / begun.elapsed().as_secs_f64();
        println!("{name}: {rate:.0} items/s stored one at a time");
    }
    assert!(answers.iter().all(|answer| *answer == answers[2]));
    println!("the hits are the same");
    drop(database);
    sql(&url, &drop_schema);
}
