//! A database of its own for each test.

use std::sync::atomic::{AtomicU32, Ordering};

use perennial_connect::Address;
use tokio::runtime::Runtime;
use tokio_postgres::types::FromSqlOwned;
use tokio_postgres::{Client, NoTls};

pub struct Database {
    runtime: Runtime,
    client: Client,
    pub url: String,
    /// Dropped in the end, by the server's own database.
    own: Option<(String, Box<Database>)>,
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Some((name, server)) = &self.own {
            let drop = format!("DROP DATABASE {name} WITH (FORCE)");
            // A server that a test broke keeps it; a panic here would hide why.
            let _ = server.runtime.block_on(server.client.batch_execute(&drop));
        }
    }
}

/// A database with pgvector; nothing where there is no server.
pub fn database() -> Option<Database> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let Ok(server) = std::env::var("PERENNIAL_POSTGRES") else {
        println!("skipped: PERENNIAL_POSTGRES names no server; start one with tests/postgres.sh");
        return None;
    };
    let name = format!(
        "test_{}_{}",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    );
    let first = Database::open(server.clone());
    first.run(&format!("CREATE DATABASE {name}"));
    let (base, _) = server.rsplit_once('/').unwrap();
    let mut database = Database::open(format!("{base}/{name}"));
    database.run("CREATE EXTENSION vector");
    database.own = Some((name, Box::new(first)));
    Some(database)
}

impl Database {
    fn open(url: String) -> Self {
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
        Self {
            runtime,
            client,
            url,
            own: None,
        }
    }

    /// Another connection to it, for a test that ended the first one.
    pub fn again(&self) -> Self {
        Self::open(self.url.clone())
    }

    pub fn address(&self) -> Address {
        Address::new(&self.url).unwrap()
    }

    pub fn run(&self, sql: &str) {
        self.runtime
            .block_on(self.client.batch_execute(sql))
            .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    pub fn one<T: FromSqlOwned>(&self, sql: &str) -> T {
        let row = self.runtime.block_on(self.client.query_one(sql, &[]));
        row.unwrap_or_else(|error| panic!("{sql}: {error:?}"))
            .get(0)
    }

    pub fn all(&self, sql: &str) -> Vec<String> {
        let rows = self.runtime.block_on(self.client.query(sql, &[]));
        let rows = rows.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Everything that a migration must leave alone: rows with their transaction ids and places.
    pub fn fingerprint(&self, table: &str) -> String {
        self.one(&format!(
            "SELECT md5(string_agg(concat_ws('|', t.ctid, t.xmin, t.*), ',' ORDER BY t.ctid)) FROM {table} t"
        ))
    }

    /// A table `items` with a bigint key and seeded vectors of 8 dimensions.
    pub fn items(&self, rows: u32) {
        self.run("CREATE TABLE items (id bigint PRIMARY KEY, embedding vector(8), title text)");
        self.fill("items", 1, rows);
    }

    /// Adds rows to `items`.
    pub fn fill(&self, table: &str, from: u32, to: u32) {
        self.run(&format!(
            "INSERT INTO {table} (id, embedding, title) SELECT i, \
             (SELECT array_agg(sin(i * 12.9898 + j * 78.233)) FROM generate_series(1, 8) j)::vector, 'item ' || i \
             FROM generate_series({from}, {to}) i"
        ));
    }
}

/// The vector that [`Database::fill`] stores.
pub fn vector_of(id: u32) -> Vec<f32> {
    (1..=8)
        .map(|j| (f64::from(id) * 12.9898 + f64::from(j) * 78.233).sin() as f32)
        .collect()
}

/// A vector as pgvector writes it.
pub fn parse(text: &str) -> Vec<f32> {
    text.trim_matches(['[', ']'])
        .split(',')
        .map(|value| value.parse().unwrap())
        .collect()
}
