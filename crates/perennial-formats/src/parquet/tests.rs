//! Small files that would become large, and damaged ones.

use std::sync::Arc;

use arrow_array::builder::{FixedSizeListBuilder, Float32Builder, LargeListBuilder};
use arrow_array::{Array, ArrayRef, LargeStringArray, RecordBatch};
use arrow_schema::{Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding};
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;

use super::cells::MAX_PAYLOAD_BYTES;
use crate::testing::{file, problem, read};
use crate::{FormatError, TextColumns, open, open_texts};

fn table(columns: Vec<(&str, ArrayRef)>, properties: WriterPropertiesBuilder) -> Vec<u8> {
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, column)| Field::new(*name, column.data_type().clone(), true))
        .collect();
    let schema = Arc::new(Schema::new(fields));
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    let batch = RecordBatch::try_new(schema.clone(), columns).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties.build())).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

fn zstandard() -> WriterPropertiesBuilder {
    WriterProperties::builder().set_compression(Compression::ZSTD(Default::default()))
}

fn vectors(rows: usize) -> ArrayRef {
    let mut vectors = FixedSizeListBuilder::new(Float32Builder::new(), 2);
    for row in 0..rows {
        vectors.values().append_slice(&[1.0, row as f32]);
        vectors.append(true);
    }
    Arc::new(vectors.finish())
}

/// One row of that many equal values.
fn long_list(values: usize) -> ArrayRef {
    let mut list = LargeListBuilder::new(Float32Builder::new());
    list.values().append_slice(&vec![1.0; values]);
    list.append(true);
    Arc::new(list.finish())
}

fn texts(text: &str, rows: usize) -> ArrayRef {
    Arc::new(LargeStringArray::from_iter_values(std::iter::repeat_n(
        text, rows,
    )))
}

/// Why a file of at most 32 KiB is refused, which must be its memory.
fn too_large(content: Vec<u8>) -> String {
    assert!(content.len() <= 32 << 10, "{}", content.len());
    let error = read(content).unwrap_err();
    assert!(matches!(error, FormatError::Memory { .. }), "{error}");
    error.to_string()
}

#[test]
fn a_row_of_millions_of_equal_values_is_refused() {
    let text = too_large(table(vec![("embedding", long_list(1 << 26))], zstandard()));
    for says in ["tested.file", "`embedding.list.item`", "512 MiB", "256 MiB"] {
        assert!(text.contains(says), "{says}: {text}");
    }
    let payload = table(
        vec![("embedding", vectors(1)), ("marks", long_list(1 << 23))],
        zstandard(),
    );
    let text = too_large(payload);
    assert!(text.contains("`marks.list.item`"), "{text}");
    // Many rows of as many values are no matter, since they are read in batches.
    let mut lists = LargeListBuilder::new(Float32Builder::new());
    for _ in 0..1 << 13 {
        lists.values().append_slice(&[0.5; 1 << 12]);
        lists.append(true);
    }
    let wide = table(vec![("embedding", Arc::new(lists.finish()))], zstandard());
    let (_folder, path) = file(wide);
    let mut reader = open(&path).unwrap();
    let mut rows = 0;
    while let Some(set) = reader.next(usize::MAX).unwrap() {
        assert!(set.vectors().len() <= 1 << 22);
        rows += set.len();
    }
    assert_eq!(rows, 1 << 13);
}

#[test]
fn a_text_that_is_repeated_is_held_once() {
    let long = "x".repeat(1 << 20);
    let content = table(
        vec![("embedding", vectors(300)), ("note", texts(&long, 300))],
        zstandard(),
    );
    assert!(content.len() < 1 << 20, "{}", content.len());
    let (_folder, path) = file(&content);
    let mut reader = open(&path).unwrap();
    let mut rows = 0;
    while let Some(set) = reader.next(usize::MAX).unwrap() {
        for payload in set.payload().unwrap() {
            assert_eq!(payload["note"].as_str().unwrap().len(), long.len());
        }
        assert!(set.len() <= MAX_PAYLOAD_BYTES / long.len() + 1);
        rows += set.len();
        assert_eq!(set.vectors()[2 * set.len() - 1], (rows - 1) as f32);
    }
    assert_eq!(rows, 300);

    let columns = TextColumns {
        text: "note".to_owned(),
        id: None,
    };
    let mut reader = open_texts(&path, &columns).unwrap();
    let mut rows = 0;
    while let Some(some) = reader.next(usize::MAX).unwrap() {
        assert!(some.len() <= MAX_PAYLOAD_BYTES / long.len() + 1);
        rows += some.len();
    }
    assert_eq!(rows, 300);
}

#[test]
fn pages_that_expand_are_refused_before_they_do() {
    let long = "x".repeat(300 << 20);
    for (compression, most) in [
        (Compression::ZSTD(Default::default()), 32 << 10),
        (Compression::GZIP(Default::default()), 1 << 20),
    ] {
        let properties = WriterProperties::builder()
            .set_compression(compression)
            .set_dictionary_enabled(false);
        let columns = vec![("embedding", vectors(1)), ("note", texts(&long, 1))];
        let content = table(columns, properties);
        assert!(content.len() <= most, "{}", content.len());
        let error = read(content).unwrap_err();
        assert!(matches!(error, FormatError::Memory { .. }), "{error}");
        assert!(error.to_string().contains("`note`"), "{error}");
    }
    // Texts that each repeat all of the one before.
    let properties = zstandard()
        .set_dictionary_enabled(false)
        .set_column_encoding(ColumnPath::from("note"), Encoding::DELTA_BYTE_ARRAY);
    let rows = 300;
    let columns = vec![
        ("embedding", vectors(rows)),
        ("note", texts(&"x".repeat(1 << 20), rows)),
    ];
    let text = too_large(table(columns, properties));
    assert!(text.contains("`note`"), "{text}");
}

#[test]
fn a_payload_is_no_longer_than_a_line_of_jsonl() {
    let long = "x".repeat(MAX_PAYLOAD_BYTES);
    let columns = vec![("embedding", vectors(2)), ("note", texts(&long, 2))];
    let text = problem(table(columns, zstandard()));
    assert!(
        text.contains("row 0 holds a payload of more than 16777216 bytes"),
        "{text}"
    );
}

#[test]
fn damaged_files_end_in_a_message() {
    let text = table(
        vec![
            ("embedding", vectors(3)),
            ("note", texts("abc", 3)),
            ("list", {
                let mut lists = LargeListBuilder::new(Float32Builder::new());
                for row in 0..3 {
                    lists.values().append_slice(&vec![1.0; row]);
                    lists.append(row != 1);
                }
                Arc::new(lists.finish())
            }),
        ],
        WriterProperties::builder(),
    );
    assert_eq!(read(&text).unwrap().len(), 3);
    let mut refused = 0;
    for place in 4..text.len() {
        for value in [0, 0xff, text[place] ^ 1, text[place].wrapping_add(16)] {
            let mut damaged = text.clone();
            damaged[place] = value;
            if let Err(error) = read(damaged) {
                assert!(error.to_string().contains("tested.file"), "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > text.len(), "{refused}");
}
