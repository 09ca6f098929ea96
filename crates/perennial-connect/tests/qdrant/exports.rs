//! Points to files.

use perennial_connect::migrate::{
    ExportReport, ExportRequest, Rows, SampleRequest, export, sample,
};
use perennial_connect::{ConnectError, Silent};
use perennial_core::ItemId;
use perennial_formats::{VectorSet, prepare, read};
use serde_json::json;

use crate::cluster::{Cluster, cluster};
use crate::spaces::{request, run_quietly, vector_of};

fn exported(cluster: &Cluster, rows: Rows, label: Option<&str>) -> (ExportReport, VectorSet) {
    tried(cluster, rows, label).unwrap()
}

fn tried(
    cluster: &Cluster,
    rows: Rows,
    label: Option<&str>,
) -> Result<(ExportReport, VectorSet), ConnectError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("points.jsonl");
    let request = ExportRequest {
        table: cluster.table(),
        key: None,
        vector: None,
        label: label.map(str::to_owned),
        space: None,
        rows,
        rate: None,
        patience: ExportRequest::PATIENCE,
    };
    let (output, format) = prepare(&path).unwrap();
    let report = export(&cluster.address(), &request, output, format, &mut Silent);
    let left = fs_err::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, usize::from(report.is_ok()));
    Ok((report?, read(&path).unwrap()))
}

#[test]
fn all_points_and_samples_are_exported() {
    let cluster = cluster();
    cluster.items(1500);
    let uuid = "936da01f-9abd-4d9d-80c7-02af85c822a8";
    cluster.upsert(
        &cluster.name,
        &[
            json!({"id": uuid, "vector": vector_of(3), "payload": {"title": "last"}}),
            json!({"id": 4, "vector": vector_of(4)}),
        ],
    );
    let (report, set) = exported(&cluster, Rows::All, Some("title"));
    assert_eq!(
        (report.rows, report.without_label, report.dim),
        (1500, 1, 8)
    );
    assert_eq!(set.ids().unwrap()[1499], ItemId::Text(uuid.to_owned()));
    assert_eq!(set.labels().unwrap()[2].to_string(), "item 3");
    let near = set
        .row(0)
        .iter()
        .zip(vector_of(1))
        .all(|(a, b)| (a - b).abs() < 1e-6);
    assert!(near, "{:?}", set.row(0));
    let (_, numbers) = exported(&cluster, Rows::All, Some("n"));
    assert_eq!(numbers.labels().unwrap()[2].to_string(), "3");

    let some = |count, seed, also| Rows::Sample { count, seed, also };
    let chosen_by = |count, seed| exported(&cluster, some(count, seed, vec![]), None).1;
    let first = chosen_by(100, 7);
    assert_eq!(first.len(), 100);
    assert_eq!(first, chosen_by(100, 7));
    assert_ne!(first.ids(), chosen_by(100, 8).ids());
    // More than there are.
    assert_eq!(chosen_by(1 << 40, 7).len(), 1501);
    // Points that are asked for come on top; nothing has the other ids.
    let also = vec![
        ItemId::from(uuid),
        ItemId::Number(90_000),
        ItemId::from("no id"),
    ];
    let more = exported(&cluster, some(100, 7, also), None).1;
    let chosen = first.ids().unwrap();
    let more = more.ids().unwrap();
    assert!(more.contains(&ItemId::from(uuid)));
    assert!(chosen.iter().all(|id| more.contains(id)));
    assert!(more.len() <= 101, "{}", more.len());
}

#[test]
fn a_sample_in_memory_is_that_of_a_file() {
    let cluster = cluster();
    cluster.items(300);
    cluster.upsert(
        &cluster.name,
        &[json!({"id": 301, "vector": vector_of(301)})],
    );
    let request = SampleRequest {
        table: cluster.table(),
        key: None,
        vector: None,
        label: Some("title".to_owned()),
        space: None,
        count: 50,
        seed: 7,
        also: vec![ItemId::Number(301)],
        rate: None,
    };
    let found = sample(&cluster.address(), &request, &mut Silent).unwrap();
    let rows = Rows::Sample {
        count: 50,
        seed: 7,
        also: vec![],
    };
    let (_, file) = exported(&cluster, rows, Some("title"));
    assert_eq!((found.of, found.without_label), (301, 1));
    assert_eq!(found.set, file);
}

#[test]
fn pending_points_are_those_that_need_an_embedding() {
    let cluster = cluster();
    cluster.items(30);
    run_quietly(&cluster, &request(&cluster)).unwrap();
    cluster.fill(31..=33);
    cluster.upsert(&cluster.name, &[json!({"id": 2, "vector": vector_of(99)})]);
    // The payload alone is brought along by the next run.
    cluster.set_payload(&cluster.name, &[json!(3)], &json!({"title": "b"}));
    let (report, set) = exported(&cluster, Rows::Pending("new".to_owned()), None);
    assert_eq!(report.rows, 4);
    let ids: Vec<String> = set.ids().unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(ids, ["2", "31", "32", "33"]);
}

/// As LangChain writes its documents: everything of the item is within `metadata`.
#[test]
fn labels_lie_within_fields() {
    let cluster = cluster();
    cluster.create(&json!({"size": 8, "distance": "Cosine"}));
    let payloads = [
        json!({"page_content": "a", "metadata": {"category": "shoes", "n": 3, "source": {"file": "a.pdf"}, "tags": ["x"], "a.b": "dotted"}}),
        json!({"page_content": "b", "metadata": {"category": "hats", "n": 4, "source": {"file": "b.pdf"}, "tags": ["y"]}}),
        json!({"page_content": "c", "metadata": "none"}),
        json!({"page_content": "d", "metadata": {"category": null}}),
        json!({}),
    ];
    let points: Vec<_> = (1..)
        .zip(payloads)
        .map(|(id, payload)| json!({"id": id, "vector": vector_of(id), "payload": payload}))
        .collect();
    cluster.upsert(&cluster.name, &points);
    for (label, wanted) in [
        ("metadata.category", vec!["shoes", "hats"]),
        ("metadata.n", vec!["3", "4"]),
        ("metadata.source.file", vec!["a.pdf", "b.pdf"]),
        ("metadata.\"a.b\"", vec!["dotted"]),
    ] {
        let (report, set) = exported(&cluster, Rows::All, Some(label));
        let labels = set.labels().unwrap().iter();
        let labels: Vec<String> = labels.map(ToString::to_string).collect();
        assert_eq!(labels, wanted, "{label}");
        assert_eq!(report.without_label, 5 - wanted.len() as u64, "{label}");
    }
    for (label, wanted) in [
        ("metadata.tags", "list or an object"),
        ("metadata", "list or an object"),
        ("metadata.colour", "metadata.category"),
        ("metadata.category.name", "none of 5 rows has a label"),
        ("metadata..category", "no path of a payload"),
    ] {
        let error = tried(&cluster, Rows::All, Some(label)).unwrap_err();
        let error = error.to_string();
        assert!(error.contains(wanted), "{label}: {error}");
    }
}
