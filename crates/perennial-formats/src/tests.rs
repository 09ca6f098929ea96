//! What holds for every format.

use perennial_core::{ItemId, SpaceId};
use proptest::prelude::*;

use crate::testing::{example, file, read, written};
use crate::{FORMATS, Format, Label, Parts, Payload, VectorSet};

fn formats() -> impl Iterator<Item = Format> {
    FORMATS
        .iter()
        .map(|entry| entry.format)
        .filter(|format| *format != Format::Parquet || cfg!(feature = "parquet"))
}

/// What is left of a set in a format.
fn kept(format: Format, set: &VectorSet) -> VectorSet {
    let entry = format.entry();
    let mut parts = set.clone().into_parts();
    if !entry.keeps_ids_and_labels {
        (parts.ids, parts.labels) = (None, None);
    }
    let empty = |payload: &Vec<Payload>| payload.iter().all(Payload::is_empty);
    if !entry.keeps_payload || parts.payload.as_ref().is_some_and(empty) {
        parts.payload = None;
    }
    if !entry.keeps_space {
        parts.space = None;
    }
    VectorSet::from_parts(parts).unwrap()
}

/// Parquet's columns have one type from the first row on.
fn writable(format: Format, set: VectorSet) -> VectorSet {
    if format != Format::Parquet {
        return set;
    }
    let mut parts = set.into_parts();
    for id in parts.ids.iter_mut().flatten() {
        *id = ItemId::Text(format!("text {id}"));
    }
    for label in parts.labels.iter_mut().flatten() {
        *label = Label::Text(format!("text {label}"));
    }
    VectorSet::from_parts(parts).unwrap()
}

#[test]
fn every_format_gives_back_what_it_keeps() {
    for format in formats() {
        let set = writable(format, example());
        for (batch, rows_known) in [(3, true), (1, false)] {
            let bytes = written(format, &set, batch, rows_known);
            let (_folder, path) = file(&bytes);
            assert_eq!(crate::detect(&path).unwrap(), format);
            assert_eq!(crate::read(&path).unwrap(), kept(format, &set), "{format}");
            let mut reader = crate::open(&path).unwrap();
            let mut joined = reader.next(0).unwrap().unwrap();
            assert_eq!(joined.len(), 1);
            while let Some(set) = reader.next(2).unwrap() {
                joined.append(set).unwrap();
            }
            assert_eq!(joined, kept(format, &set), "{format}");
            assert!((format.file_kind().recognise)(
                &bytes[..bytes.len().min(4096)]
            ));
        }
    }
}

#[test]
fn what_a_format_leaves_out_is_named() {
    assert_eq!(
        Format::Npy.left_out(&example()),
        ["ids", "labels", "payload", "the name of the space"]
    );
    assert_eq!(Format::Safetensors.left_out(&example()), ["payload"]);
    assert!(Format::Parquet.left_out(&example()).is_empty());
}

#[test]
fn cut_files_are_errors() {
    for format in formats() {
        let bytes = written(format, &writable(format, example()), 3, true);
        // A line that is whole remains a row in formats of lines.
        let lines = matches!(format, Format::Jsonl | Format::Csv);
        for length in 0..bytes.len() {
            let result = read(&bytes[..length]);
            assert!(
                lines || result.is_err(),
                "{format}: {length} of {} bytes",
                bytes.len()
            );
        }
    }
}

#[cfg(not(feature = "parquet"))]
#[test]
fn a_missing_feature_is_named() {
    let error = read(b"PAR1").unwrap_err().to_string();
    assert!(error.contains("--features parquet"), "{error}");
}

fn ids() -> impl Strategy<Value = ItemId> {
    prop_oneof![
        any::<u64>().prop_map(ItemId::Number),
        "[0-9a-zä,;\"\\\\{\\[ ]{0,5}[a-z0-9\"]".prop_map(ItemId::Text),
    ]
}

fn labels() -> impl Strategy<Value = Label> {
    prop_oneof![
        any::<i64>().prop_map(Label::Number),
        "[0-9a-zä,;\"\\\\{\\[-]{1,6}".prop_map(Label::Text),
    ]
}

fn payloads() -> impl Strategy<Value = Payload> {
    let value = prop_oneof![
        any::<i64>().prop_map(serde_json::Value::from),
        any::<bool>().prop_map(serde_json::Value::from),
        "\\PC{0,8}".prop_map(serde_json::Value::from),
        Just(serde_json::Value::Null),
    ];
    prop::collection::vec(("[a-z ]{1,3}", value), 0..3)
        .prop_map(|entries| entries.into_iter().collect())
}

fn sets() -> impl Strategy<Value = VectorSet> {
    (1_usize..6, 1_usize..5, any::<[bool; 4]>()).prop_flat_map(
        |(dim, rows, [with_ids, with_labels, with_payload, with_space])| {
            let finite = prop::num::f32::NORMAL | prop::num::f32::SUBNORMAL | prop::num::f32::ZERO;
            (
                prop::collection::vec(finite, dim * rows),
                prop::collection::vec(ids(), rows),
                prop::collection::vec(labels(), rows),
                prop::collection::vec(payloads(), rows),
            )
                .prop_map(move |(vectors, ids, labels, payload)| {
                    VectorSet::from_parts(Parts {
                        dim,
                        vectors,
                        ids: with_ids.then_some(ids),
                        labels: with_labels.then_some(labels),
                        payload: with_payload.then_some(payload),
                        space: with_space.then(|| SpaceId::new("a space").unwrap()),
                    })
                    .unwrap()
                })
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read_back(set in sets(), batch in 1_usize..4, rows_known: bool) {
        for format in formats() {
            let set = writable(format, set.clone());
            let bytes = written(format, &set, batch, rows_known);
            prop_assert_eq!(read(&bytes).unwrap(), kept(format, &set), "{}", format);
            prop_assert_eq!(bytes, written(format, &set, batch, rows_known));
        }
    }

    #[test]
    fn damaged_files_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        for format in formats() {
            let mut bytes = written(format, &writable(format, example()), 3, true);
            for (position, value) in &changes {
                let position = position.index(bytes.len());
                bytes[position] = *value;
            }
            for length in [bytes.len(), cut.index(bytes.len())] {
                let (_folder, path) = file(&bytes[..length]);
                let _ = (crate::read(&path), crate::read_labels(&path), crate::read_ids(&path), crate::read_judgements(&path));
            }
        }
    }

    #[test]
    fn any_bytes_after_a_start_never_panic(
        start in prop::sample::select(vec![
            &b""[..], b"\x93NUMPY\x01\x00", b"PK\x03\x04", b"PAR1", b"\x10\0\0\0\0\0\0\0{\"", b"{\"embedding\":[1]}\n", b"id,embedding\n",
        ]),
        rest in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let (_folder, path) = file([start, &rest].concat());
        let _ = (crate::read(&path), crate::read_labels(&path), crate::read_ids(&path), crate::read_judgements(&path));
    }
}

#[test]
fn what_is_taken_for_vectors_is_named() {
    let cases: [(&[u8], &str); 7] = [
        (b"", "is empty;"),
        (b"\x1f\x8b\x08\0", "unpack it"),
        (b"\xff\xfei\0d\0", "UTF-16"),
        (b"\x80\x04\x95", "pickle"),
        (b"[{\"id\": 1, \"embedding\": [1]}]", "one a line"),
        (b"id,embedding\n\xe4,\"[1]\"\n", "is not UTF-8"),
        (b"\x00\x01\xff", "is of no format"),
    ];
    for (content, says) in cases {
        let text = crate::testing::problem(content);
        assert!(text.contains(says) && text.contains("npy, npz"), "{text}");
    }
}
