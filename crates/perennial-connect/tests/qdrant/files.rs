//! New embeddings from files.

use std::path::Path;

use perennial_connect::ConnectError;
use perennial_core::ItemId;
use perennial_formats::{Header, VectorSet, create, prepare};
use serde_json::json;

use crate::cluster::cluster;
use crate::observers::AfterBatches;
use crate::spaces::{from_file, request, run_quietly, run_watched, vector_of};

fn write(path: &Path, ids: impl Iterator<Item = ItemId>, value: f32) {
    let ids: Vec<ItemId> = ids.collect();
    let vectors = ids.iter().flat_map(|_| [value, 0.0, 0.5]).collect();
    let (output, format) = prepare(path).unwrap();
    let header = Header {
        dim: 3,
        rows: None,
        space: None,
        format,
    };
    let mut writer = create(output, format, &header).unwrap();
    let set = VectorSet::new(3, vectors).unwrap().with_ids(ids).unwrap();
    writer.write(&set).unwrap();
    writer.finish().unwrap();
}

fn numbers(ids: impl Iterator<Item = u64>) -> impl Iterator<Item = ItemId> {
    ids.map(ItemId::Number)
}

#[test]
fn portions_come_in_any_order_and_may_repeat() {
    let cluster = cluster();
    cluster.items(100);
    let folder = tempfile::tempdir().unwrap();
    let portion = |name: &str| folder.path().join(name);
    write(&portion("b.npz"), numbers(51..=80), 2.0);
    write(&portion("a.jsonl"), numbers(1..=50), -1.0);
    write(
        &portion("c.csv"),
        numbers((70..=100).chain([100, 500])),
        3.0,
    );
    let run = |name: &str| run_quietly(&cluster, &from_file(&cluster, &portion(name))).unwrap();
    let report = run("b.npz");
    assert_eq!((report.written, report.standing.missing), (30, 70));
    let report = run("a.jsonl");
    assert_eq!((report.written, report.standing.missing), (50, 20));
    let report = run("c.csv");
    assert_eq!(
        (report.written, report.unknown_ids, report.standing.missing),
        (31, 1, 0)
    );
    // The last file again: it is done.
    assert_eq!(run("c.csv").written, 0);
    let copies = cluster.points(&cluster.copies());
    assert!(copies["1"].dense("")[0] < 0.0 && copies["60"].dense("")[0] > 0.0);
    assert_eq!(copies["60"].payload["title"], "item 60");

    // A point whose vector changes needs a new embedding, which only its owner can make.
    let changed = json!({"id": 5, "vector": vector_of(900), "payload": {"title": "other"}});
    cluster.upsert(&cluster.name, &[changed]);
    cluster.delete(&cluster.name, &[json!(6)]);
    // One whose payload alone changes keeps its new vector.
    cluster.set_payload(&cluster.name, &[json!(7)], &json!({"title": "renamed"}));
    let report = run("c.csv");
    assert_eq!((report.standing.changed, report.removed), (1, 1));
    let after = cluster.points(&cluster.copies());
    assert_eq!(after["7"].payload["title"], "renamed");
    let both = after["7"].dense("").into_iter().zip(copies["7"].dense(""));
    // Servers bring vectors to unit length again.
    assert!(both.into_iter().all(|(a, b)| (a - b).abs() < 1e-6));
    assert_eq!(after["5"], copies["5"]);
}

#[test]
fn an_interrupted_file_continues_where_it_stopped() {
    let cluster = cluster();
    cluster.items(9000);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("all.npz");
    write(&path, numbers(1..=9000), 1.0);
    let mut observer = AfterBatches::new(|_| {});
    observer.stop_at = Some(1);
    let request = from_file(&cluster, &path);
    let error = run_watched(&cluster, &request, &mut observer).unwrap_err();
    assert!(matches!(error, ConnectError::Interrupted), "{error}");
    let copied = cluster.points(&cluster.copies()).len() as u64;
    assert!(copied > 0 && copied < 9000, "{copied}");
    let report = run_quietly(&cluster, &request).unwrap();
    assert_eq!(report.written, 9000 - copied);
    assert_eq!(report.standing.missing, 0);
}

#[test]
fn files_that_do_not_fit_are_refused() {
    let cluster = cluster();
    cluster.items(10);
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("a.jsonl");
    let refused = || {
        let error = run_quietly(&cluster, &from_file(&cluster, &text)).unwrap_err();
        error.to_string()
    };
    std::fs::write(&text, "{\"id\": \"abc\", \"embedding\": [1, 2, 3]}\n").unwrap();
    let error = refused();
    assert!(error.contains("abc") && error.contains("UUIDs"), "{error}");
    std::fs::write(&text, "{\"id\": 1, \"embedding\": [1, 2]}\n").unwrap();
    let error = refused();
    assert!(error.contains("another --name"), "{error}");
    // A migration of files is not continued by a bridge.
    let error = run_quietly(&cluster, &request(&cluster))
        .unwrap_err()
        .to_string();
    assert!(error.contains("was begun with files"), "{error}");
}
