//! Which items a command means: ids as text, and names of versions.

use perennial_gallery::{EmbeddedGallery, GalleryConfig, Item, ItemId, VectorStore};
use serde_json::{Map, Value, json};

use crate::bench::Bench;
use crate::gallery::stocked;

fn open(bench: &Bench) -> EmbeddedGallery {
    EmbeddedGallery::open(bench.path("gallery"), GalleryConfig::default()).unwrap()
}

fn item(id: impl Into<ItemId>) -> Item {
    Item {
        id: id.into(),
        embedding: vec![1.0, 0.0],
        model_version: "v0001".to_owned(),
        label: None,
        payload: Map::new(),
    }
}

#[test]
fn ids_are_read_as_they_were_stored() {
    let bench = Bench::new();
    let texts = [
        "+5",
        "007",
        "-1",
        " 5",
        "5 ",
        "00",
        "1e1",
        "18446744073709551616",
    ];
    let numbers = [5, 7, 1, 0, 10, u64::MAX];
    {
        let gallery = open(&bench);
        gallery
            .upsert(texts.iter().map(|&id| item(id)).collect())
            .unwrap();
        gallery
            .upsert(numbers.iter().map(|&id| item(id)).collect())
            .unwrap();
        gallery.upsert(vec![item("5"), item("\"")]).unwrap();
    }
    let delete = |id: &str| bench.answer(&["gallery", "delete", id])["deleted"].clone();
    for (number, text) in numbers.iter().zip(texts) {
        assert_eq!(delete(text), 1, "{text}");
        let gallery = open(&bench);
        let left = gallery.get(&[(*number).into()], false).unwrap();
        assert_eq!(left.len(), 1, "{text} took the number {number} with it");
        assert!(gallery.get(&[text.into()], false).unwrap().is_empty());
    }
    // Quotation marks make a text of digits.
    assert_eq!(delete("\"5\""), 1);
    assert_eq!(open(&bench).get(&[5.into()], false).unwrap().len(), 1);
    assert_eq!(delete("5"), 1);
    assert_eq!(delete("\"\\\"\""), 1);
    assert_eq!(delete("18446744073709551615"), 1);
    let refused = bench.run(&["gallery", "delete", "\"5"]);
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("quotation mark"),
        "{}",
        refused.stderr
    );
}

#[test]
fn unknown_versions_are_refused_and_aliases_resolved() {
    let bench = stocked();
    let search = |version: &str| {
        bench.run(&[
            "gallery",
            "search",
            "--id",
            "generated/7",
            "--model-version",
            version,
        ])
    };
    search("v0O01").assert_wrong_usage(&["v0O01", "did you mean `v0001`?"]);
    search("lvie").assert_wrong_usage(&["lvie", "did you mean `live`?"]);
    search("").assert_wrong_usage(&["--model-version"]);
    let delete = |version: &str| bench.run(&["gallery", "delete", "--model-version", version]);
    delete("v1").assert_wrong_usage(&["v1", "v0001"]);
    let items = || bench.answer(&["gallery", "stats"])["items"].clone();
    assert_eq!(items(), 2000);

    // An alias is its version; a version without items is known, and empty.
    let found = |version: &str| -> Value {
        let common = ["gallery", "search", "--id", "generated/7", "--limit", "3"];
        let answer = bench.answer(&[&common[..], &["--model-version", version]].concat());
        answer["hits"].clone()
    };
    assert_eq!(found("live").as_array().unwrap().len(), 3);
    assert_eq!(found("live"), found("v0001"));
    assert_eq!(found("v0002"), json!([]));
    let deleted = bench.answer(&["gallery", "delete", "--model-version", "live"]);
    assert_eq!((&deleted["deleted"], items()), (&json!(2000), json!(0)));
}

#[test]
fn embeddings_are_stored_under_the_version_itself() {
    let bench = stocked();
    bench.succeed(&[
        "embed",
        "v0001",
        "--set",
        "generated:train",
        "--out",
        "train.embeddings",
    ]);
    let file = perennial_formats::read_embeddings(bench.path("train.embeddings")).unwrap();
    let named = |version: &str| {
        let copy = perennial_core::Embeddings::new(
            version.to_owned(),
            file.dim(),
            file.vectors().to_vec(),
            file.ids().to_vec(),
            file.labels().map(<[u32]>::to_vec),
        );
        let output = perennial_core::Output::prepare(bench.path("named.embeddings")).unwrap();
        perennial_formats::write_embeddings(&copy.unwrap(), output).unwrap();
    };
    // An alias may have moved since the file was written.
    named("live");
    bench
        .run(&["gallery", "add", "--embeddings", "named.embeddings"])
        .assert_wrong_usage(&["alias live", "v0001"]);
    let stats = bench.answer(&["gallery", "stats"]);
    let versions: Vec<_> = stats["per_version"].as_object().unwrap().keys().collect();
    assert_eq!(versions, ["v0001"]);
    named("v0009");
    bench
        .run(&[
            "gallery",
            "add",
            "--embeddings",
            "named.embeddings",
            "--force",
        ])
        .assert_wrong_usage(&["v0009", "named.embeddings"]);
}
