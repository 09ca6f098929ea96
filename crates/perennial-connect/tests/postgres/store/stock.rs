//! Stores, how they are filled, and what is true of their tables.

use perennial_connect::{PostgresStore, StoreOptions};
use perennial_gallery::{Item, VectorStore};

use crate::database::Database;

pub fn open(database: &Database) -> PostgresStore {
    open_with(database, |_| {})
}

pub fn open_with(database: &Database, change: impl FnOnce(&mut StoreOptions)) -> PostgresStore {
    let mut options = StoreOptions::default();
    change(&mut options);
    PostgresStore::open(&database.address(), &options).unwrap()
}

pub fn fill(store: &dyn VectorStore, items: Vec<Item>) {
    for some in items.chunks(5000) {
        store.upsert(some.to_vec()).unwrap();
    }
}

/// The counts are those of the rows, and every item is of a space that there is.
pub fn assert_counted(database: &Database) {
    let wrong = database.all(
        "SELECT concat(s.name, ': ', s.items, ' but ', count(i.key)) FROM perennial.perennial_spaces s \
         LEFT JOIN perennial.perennial_items i ON i.space = s.number GROUP BY s.number HAVING s.items <> count(i.key)",
    );
    assert!(wrong.is_empty(), "{wrong:?}");
    let wrong = database.all(
        "SELECT i.key::text FROM perennial.perennial_items i JOIN perennial.perennial_spaces s ON s.number = i.space \
         WHERE s.dim <> vector_dims(i.embedding)",
    );
    assert!(wrong.is_empty(), "{wrong:?}");
}
