//! Making a gallery, finding it again, and what cannot be one.

use perennial_connect::{Address, QdrantStore, StoreOptions};
use perennial_gallery::{Filter, GalleryError, Maintenance, Snapshots, VectorStore};
use serde_json::json;

use super::stock::{GALLERY, gallery_name, head, open, open_with};
use crate::cluster::{Cluster, cluster, double};
use crate::double::{Fault, Kind};
use crate::items::{everything, item, items, vector};

#[test]
fn a_gallery_in_qdrant_does_what_every_store_must() {
    let cluster = cluster();
    let mut galleries = 0;
    let mut make = || {
        galleries += 1;
        let address = cluster.gallery(&format!("store{galleries}"));
        QdrantStore::open(&address, &Cluster::gallery_options()).unwrap()
    };
    perennial_gallery::conformance::run(&mut || Box::new(make()));
    perennial_gallery::conformance::run_whole(&mut make);
    perennial_gallery::conformance::run_mapped(&mut make);
    assert!(galleries > 10);
}

#[test]
fn items_are_still_there_when_it_is_opened_again() {
    let cluster = cluster();
    open(&cluster).upsert(items(30, "v1", 8)).unwrap();
    let store = open(&cluster);
    let all = everything(&store);
    assert_eq!(all.len(), 30);
    assert_eq!(all[7].embedding, Some(vector(7, 8)));
    // Two galleries of one server have nothing to do with each other.
    let other = QdrantStore::open(&cluster.gallery("other"), &Cluster::gallery_options()).unwrap();
    assert!(other.spaces().unwrap().is_empty());
}

#[test]
fn what_is_only_read_is_not_changed() {
    let cluster = cluster();
    let read_only = |options: &mut StoreOptions| options.read_only = true;
    let mut options = StoreOptions::default();
    options.read_only = true;
    let error = QdrantStore::open(&cluster.gallery(GALLERY), &options).unwrap_err();
    assert!(error.to_string().contains("there is no gallery"), "{error}");
    assert_eq!(cluster.info(&gallery_name(&cluster)), None);
    open(&cluster).upsert(items(3, "v1", 8)).unwrap();
    let store = open_with(&cluster, read_only);
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
    let Some(cluster) = double() else { return };
    let open_at = |name: &str, options: &StoreOptions| {
        QdrantStore::open(&cluster.gallery(name), options)
            .unwrap_err()
            .to_string()
    };
    let usual = StoreOptions::default();
    assert!(open_at("items.1.0", &usual).contains("store.url"));
    let mut options = StoreOptions::default();
    options.schema = "shop".to_owned();
    assert!(open_at(GALLERY, &options).contains("store.schema"));
    options = StoreOptions::default();
    options.replicas = 1001;
    assert!(open_at(GALLERY, &options).contains("store.replicas"));

    // A collection with the vectors of others.
    cluster.items(5);
    let error = QdrantStore::open(&cluster.address(), &usual).unwrap_err();
    assert!(error.to_string().contains("other data"), "{error}");
    assert_eq!(cluster.points(&cluster.name).len(), 5);
    // A gallery of a later version.
    drop(open(&cluster));
    head(&mut cluster.inside().state(), &cluster).insert("format".to_owned(), json!(2));
    let error = QdrantStore::open(&cluster.gallery(GALLERY), &usual).unwrap_err();
    assert!(
        matches!(error, GalleryError::Format { found: 2, .. }),
        "{error}"
    );
}

#[test]
fn new_collections_get_the_shards_and_replicas_that_are_asked_for() {
    let Some(cluster) = double() else { return };
    let store = open_with(&cluster, |options| {
        options.shards = 6;
        options.replicas = 3;
    });
    store.upsert(items(3, "v1", 8)).unwrap();
    let state = cluster.inside().state();
    let head = &state.collections[&gallery_name(&cluster)].config["params"];
    assert_eq!(
        (&head["shard_number"], &head["replication_factor"]),
        (&json!(1), &json!(3))
    );
    let spaces = state.collections.iter();
    let spaces: Vec<_> = spaces.filter(|(name, _)| name.ends_with(".1.0")).collect();
    let params = &spaces[0].1.config["params"];
    assert_eq!(
        (
            &params["shard_number"],
            &params["replication_factor"],
            &params["write_consistency_factor"]
        ),
        (&json!(6), &json!(3), &json!(2))
    );
    // Every write waits until it is applied, and goes through the permanent leader; every read asks a majority.
    for line in state.log.iter().filter(|line| line.contains("/points")) {
        let by_id = line.starts_with("POST") && line.contains("/points?");
        let is_read = by_id
            || ["scroll", "count", "query"]
                .iter()
                .any(|read| line.contains(read));
        match is_read {
            true => assert!(line.contains("consistency=majority"), "{line}"),
            false => assert!(line.contains("wait=true&ordering=strong"), "{line}"),
        }
    }
}

#[test]
fn the_key_is_in_no_message() {
    const SECRET: &str = "s3cret-key";
    let Some(cluster) = double() else { return };
    cluster.inside().state().key = Some(SECRET.to_owned());
    let url = format!("qdrant://127.0.0.1:{}/items", cluster.inside().port);
    let open = |key: &str| {
        let address = Address::new(&url).unwrap();
        let address =
            address.with_secret(|name| (name == "QDRANT_API_KEY").then(|| key.to_owned()));
        QdrantStore::open(&address.unwrap(), &StoreOptions::default())
    };
    let error = open("other-s3cret").unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(
        text.contains("QDRANT_API_KEY") && !text.contains("s3cret"),
        "{text}"
    );
    let store = open(SECRET).unwrap();
    assert!(!format!("{store:?}").contains("s3cret"), "{store:?}");
    // A server that repeats it.
    let said = r#"{"result": "s3cret-key"}"#;
    cluster
        .inside()
        .fail(Fault::new("points", 0, Kind::Say(said)));
    let error = store.spaces().unwrap_err();
    assert!(!format!("{error} {error:?}").contains(SECRET), "{error:?}");
}

#[test]
fn what_the_server_does_by_itself_is_refused_with_the_reason() {
    let cluster = cluster();
    let store = open(&cluster);
    store.flush().unwrap();
    let error = store.compact().unwrap_err();
    assert!(matches!(&error, GalleryError::NotOffered { .. }), "{error}");
    assert!(error.to_string().contains("vacuum"), "{error}");
    store
        .upsert(vec![item(1, "large", vector(1, 16_384))])
        .unwrap();
    assert_eq!(everything(&store)[0].embedding, Some(vector(1, 16_384)));
}
