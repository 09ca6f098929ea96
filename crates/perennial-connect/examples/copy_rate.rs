//! How fast a mapped run is, beside a bare `COPY` of the same vectors, and beside filling a column of the table itself.
//!
//! ```sh
//! PERENNIAL_POSTGRES=$(tests/postgres.sh start /tmp/pg) cargo run --release -p perennial-connect --features pgvector --example copy_rate -- 200000 384
//! ```
//!
//! It makes tables `rate_…` in the database of the URL and drops them in the end. Copy and run alternate three times, or as often as a third
//! argument says; the medians of all rounds follow.

#![allow(clippy::unwrap_used)]

use std::pin::pin;
use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::SinkExt;
use perennial_bridge::{Bridge, Pairs, Recipe, fit};
use perennial_connect::migrate::{RunRequest, Source, clean, run};
use perennial_connect::{Address, Silent};
use perennial_core::SpaceRef;
use perennial_upgrade::MappedPermission;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio_postgres::{Client, NoTls};

/// Rows whose update is measured, and rows of their table.
const UPDATED: usize = 2000;
const COLUMN_ROWS: usize = 20_000;

fn random_rows(rows: usize, dim: usize, seed: u64) -> Vec<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..rows * dim)
        .map(|_| random.random_range(-1.0..1.0))
        .collect()
}

fn bridge(dim: usize) -> Bridge {
    let rows = random_rows(2 * dim, dim, 1);
    let other = random_rows(2 * dim, dim, 2);
    let pairs = Pairs::new(&rows, dim, &other, dim).unwrap();
    let space = || SpaceRef::unnamed(dim);
    fit(&pairs, &Recipe::Orthogonal, space(), space()).unwrap()
}

/// Rows of a piece of a copy.
const PIECE: usize = 4096;

/// Key and vector of each row, in the binary form of `COPY`. All pieces hold the same vectors, so that making them costs next to nothing.
fn encoded(from: usize, vectors: &[f32], dim: usize) -> Bytes {
    let mut bytes = BytesMut::with_capacity(vectors.len() * 5);
    for (row, vector) in vectors.chunks_exact(dim).enumerate() {
        bytes.put_i16(2);
        bytes.put_i32(8);
        bytes.put_i64((from + row) as i64);
        bytes.put_i32(4 + 4 * dim as i32);
        bytes.put_u16(dim as u16);
        bytes.put_u16(0);
        vector.iter().for_each(|&value| bytes.put_f32(value));
    }
    bytes.freeze()
}

/// Seconds of a copy, from its first byte to the server's answer.
async fn copy(client: &Client, table: &str, rows: usize, dim: usize) -> f64 {
    let vectors = random_rows(PIECE, dim, 10);
    let begun = Instant::now();
    let sink = client
        .copy_in(&format!(
            "COPY {table} (id, embedding) FROM STDIN (FORMAT binary)"
        ))
        .await
        .unwrap();
    let mut sink = pin!(sink);
    let head = Bytes::from_static(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0");
    sink.send(head).await.unwrap();
    for from in (0..rows).step_by(PIECE) {
        let count = PIECE.min(rows - from);
        let bytes = encoded(from, &vectors[..count * dim], dim);
        sink.send(bytes).await.unwrap();
    }
    sink.send(Bytes::from_static(b"\xff\xff")).await.unwrap();
    sink.finish().await.unwrap();
    begun.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The most memory that this process has used, in MB.
fn peak_memory() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    kib.unwrap_or(f64::NAN) * 1024.0 / 1e6
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let rows: usize = arguments
        .next()
        .unwrap_or("200000".to_owned())
        .parse()
        .unwrap();
    let dim: usize = arguments
        .next()
        .unwrap_or("384".to_owned())
        .parse()
        .unwrap();
    let rounds: usize = arguments.next().map_or(3, |text| text.parse().unwrap());
    let url = std::env::var("PERENNIAL_POSTGRES").unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let client = runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    });
    let sql = |text: &str| runtime.block_on(client.batch_execute(text)).unwrap();
    sql(&format!(
        "CREATE EXTENSION IF NOT EXISTS vector; DROP TABLE IF EXISTS rate_items, rate_bare, rate_column; \
         CREATE TABLE rate_items (id bigint PRIMARY KEY, embedding vector({dim}))"
    ));
    runtime.block_on(copy(&client, "rate_items", rows, dim));
    sql("ANALYZE rate_items; CHECKPOINT");
    let bridge = bridge(dim);
    let permission = MappedPermission {
        basis: "measured for speed alone".to_owned(),
        undecided: false,
        certificate: "0".repeat(64),
    };
    let request = RunRequest {
        table: "rate_items".parse().unwrap(),
        key: Some("id".to_owned()),
        vector: Some("embedding".to_owned()),
        name: "new".to_owned(),
        source: Source::Mapped {
            bridge: &bridge,
            permission: &permission,
        },
        rate: None,
        index: false,
    };
    let address = Address::new(&url).unwrap();
    let (mut copies, mut runs, mut shares) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        sql(&format!(
            "CREATE TABLE rate_bare (id bigint PRIMARY KEY, embedding vector({dim}))"
        ));
        let bare = runtime.block_on(copy(&client, "rate_bare", rows, dim));
        sql("DROP TABLE rate_bare; CHECKPOINT");
        let before = peak_memory();
        let begun = Instant::now();
        let report = run(&address, &request, &mut Silent).unwrap();
        let whole = begun.elapsed().as_secs_f64();
        assert_eq!(report.written, rows as u64);
        clean(&address, &request.table, &request.name).unwrap();
        sql("CHECKPOINT");
        println!(
            "bare COPY {:.0} rows/s; run {:.0} rows/s: {:.2} of it ({whole:.1} s with the pass for late writes); memory {before:.0} -> {:.0} MB",
            rows as f64 / bare,
            rows as f64 / report.seconds,
            bare / report.seconds,
            peak_memory(),
        );
        copies.push(rows as f64 / bare);
        runs.push(rows as f64 / report.seconds);
        shares.push(bare / report.seconds);
    }
    println!(
        "medians: bare COPY {:.0} rows/s; run {:.0} rows/s; {:.2} of it",
        median(copies),
        median(runs),
        median(shares)
    );
    sql(&format!(
        "SET maintenance_work_mem = '512MB'; CREATE TABLE rate_column AS SELECT id, embedding, NULL::vector({dim}) AS other FROM rate_items \
         ORDER BY id LIMIT {COLUMN_ROWS}; ALTER TABLE rate_column ADD PRIMARY KEY (id); DROP TABLE rate_items; CHECKPOINT"
    ));
    for index in [false, true] {
        if index {
            let begun = Instant::now();
            sql("CREATE INDEX ON rate_column USING hnsw (embedding vector_cosine_ops)");
            println!("HNSW index built in {:.0} s", begun.elapsed().as_secs_f64());
        }
        let begun = Instant::now();
        sql(&format!(
            "UPDATE rate_column SET other = embedding WHERE id < {UPDATED}"
        ));
        println!(
            "a column of the table itself, {COLUMN_ROWS} rows, {}: {:.0} rows/s",
            if index {
                "with an HNSW index of the old vectors"
            } else {
                "without an index of vectors"
            },
            UPDATED as f64 / begun.elapsed().as_secs_f64()
        );
    }
    sql("DROP TABLE rate_column");
}
