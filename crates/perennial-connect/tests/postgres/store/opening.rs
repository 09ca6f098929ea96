//! What every store must do; tables, read-only stores, and databases that do not fit.

use perennial_connect::{Address, PostgresStore, StoreOptions};
use perennial_gallery::{Filter, GalleryError, Maintenance, Snapshots, VectorStore};

use super::stock::{fill, open, open_with};
use crate::database::database;
use crate::items::{everything, find, item, items, vector};

#[test]
fn it_does_what_every_store_must() {
    let Some(database) = database() else { return };
    let mut galleries = 0;
    perennial_gallery::conformance::run(&mut || {
        galleries += 1;
        let schema = format!("gallery {galleries}\"");
        Box::new(open_with(&database, |options| options.schema = schema))
    });
    let mut make = || {
        galleries += 1;
        let schema = format!("gallery {galleries}\"");
        open_with(&database, |options| options.schema = schema)
    };
    perennial_gallery::conformance::run_whole(&mut make);
    perennial_gallery::conformance::run_mapped(&mut make);
    assert!(galleries > 5);
}

#[test]
fn items_are_still_there_when_it_is_opened_again() {
    let Some(database) = database() else { return };
    fill(&open(&database), items(30, "v1", 8));
    let store = open(&database);
    assert_eq!(everything(&store).len(), 30);
    let stats = store.stats().unwrap();
    assert_eq!((stats.items, stats.dim), (30, Some(8)));
    assert!(stats.disk.bytes > 0 && store.is_shared());
    // Another schema is another gallery.
    let other = open_with(&database, |options| options.schema = "other".to_owned());
    assert!(everything(&other).is_empty());
}

#[test]
fn a_store_for_reading_writes_nothing() {
    let Some(database) = database() else { return };
    let read_only = |options: &mut StoreOptions| options.read_only = true;
    let mut options = StoreOptions::default();
    read_only(&mut options);
    let error = PostgresStore::open(&database.address(), &options).unwrap_err();
    assert!(error.to_string().contains("no gallery"), "{error}");
    let made: bool =
        database.one("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'perennial')");
    assert!(!made);
    fill(&open(&database), items(3, "v1", 8));
    let store = open_with(&database, read_only);
    assert_eq!(everything(&store).len(), 3);
    let folder = tempfile::tempdir().unwrap();
    let snapshot = folder.path().join("a.snapshot");
    store.snapshot(&snapshot).unwrap();
    let refusals = [
        store.upsert(items(1, "v1", 8)).map(|_| ()),
        store.delete(&[1.into()]).map(|_| ()),
        store.delete_where(&Filter::everything()).map(|_| ()),
        store.restore(&snapshot).map(|_| ()),
    ];
    for refusal in refusals {
        assert!(
            matches!(refusal, Err(GalleryError::ReadOnly { .. })),
            "{refusal:?}"
        );
    }
}

#[test]
fn what_cannot_be_a_gallery_is_named() {
    let Some(database) = database() else { return };
    let open = |options: &StoreOptions| PostgresStore::open(&database.address(), options);
    drop(open(&StoreOptions::default()).unwrap());
    database.run("UPDATE perennial.perennial_meta SET format = 2");
    let error = open(&StoreOptions::default()).unwrap_err();
    assert!(
        matches!(error, GalleryError::Format { found: 2, .. }),
        "{error}"
    );
    let mut options = StoreOptions::default();
    options.schema = "x".repeat(64);
    assert!(
        open(&options)
            .unwrap_err()
            .to_string()
            .contains("store.schema")
    );
    options.schema = "other".to_owned();
    database.run("DROP SCHEMA perennial CASCADE; DROP EXTENSION vector");
    options.read_only = true;
    let error = open(&options).unwrap_err();
    assert!(
        error.to_string().contains("CREATE EXTENSION vector"),
        "{error}"
    );
    // Who may, gets it by opening for writing.
    options.read_only = false;
    drop(open(&options).unwrap());
}

#[test]
fn the_password_is_in_no_message() {
    let Some(database) = database() else { return };
    let wrong = Address::new(&database.url.replace("perennial-tests", "s3cret")).unwrap();
    let error = PostgresStore::open(&wrong, &StoreOptions::default()).unwrap_err();
    assert!(
        !format!("{error} {error:?}").contains("s3cret"),
        "{error:?}"
    );
    let store = open(&database);
    assert!(
        !format!("{store:?}").contains("perennial-tests"),
        "{store:?}"
    );
}

#[test]
fn what_only_an_engine_of_its_own_can_do_is_refused_with_the_reason() {
    let Some(database) = database() else { return };
    let store = open(&database);
    store.flush().unwrap();
    let error = store.compact().unwrap_err();
    assert!(matches!(&error, GalleryError::NotOffered { .. }));
    assert!(error.to_string().contains("VACUUM"), "{error}");
    // pgvector has fewer dimensions than a gallery in a folder.
    let largest = item(1, "large", vector(1, 16_000));
    store.upsert(vec![largest.clone()]).unwrap();
    let found = find(
        &store,
        "large",
        &largest.embedding,
        1,
        &Filter::default(),
        true,
    );
    assert!((found[0].score - 1.0).abs() < 1e-5);
    let larger = item(2, "larger", vector(1, 16_001));
    let error = store.upsert(vec![larger]).unwrap_err().to_string();
    assert!(
        error.contains("16000") && error.contains("folder"),
        "{error}"
    );
    assert_eq!(everything(&store).len(), 1);
}
