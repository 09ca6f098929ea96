//! The same rows, codes and errors on any number of threads as one row after the other.

use std::path::Path;

use redb::ReadableTable;
use serde_json::json;

use super::super::log::{Access, Log};
use super::super::rows::Row;
use super::super::tables::ITEMS;
use super::super::{EmbeddedGallery, GalleryConfig};
use super::*;
use crate::item::Item;
use crate::store::VectorStore;

/// A segment of it has 128 rows.
const DIM: usize = 16_384;

fn item(id: u64, space: &str, dim: usize) -> Item {
    let mut embedding = vec![0.0; dim];
    embedding[id as usize % dim] = 0.6;
    embedding[(id as usize + 7) % dim] = 0.8;
    let payload = json!({"half": id / 2});
    Item {
        id: id.into(),
        embedding,
        model_version: space.to_owned(),
        label: (!id.is_multiple_of(3)).then_some(id as u32),
        payload: payload.as_object().unwrap().clone(),
    }
}

fn gallery(folder: &Path) -> EmbeddedGallery {
    let config = GalleryConfig {
        threads: 1,
        cache_bytes: 4 << 20,
        hnsw_from: usize::MAX,
        ..GalleryConfig::default()
    };
    EmbeddedGallery::open(folder, config).unwrap()
}

fn log(folder: &Path) -> Log {
    Log::open(folder, 4 << 20, Access::Write).unwrap()
}

/// What all threads together read, or the error.
fn read(folder: &Path, with_codes: bool, threads: usize) -> Result<Loaded, GalleryError> {
    let log = log(folder);
    let reader = log.reader()?;
    let (layout, meta) = (reader.layout()?, reader.meta()?);
    load(&reader, &layout, &meta, with_codes, threads)
}

/// The same rows, added one after the other.
fn one_by_one(folder: &Path, with_codes: bool) -> Loaded {
    let log = log(folder);
    let reader = log.reader().unwrap();
    let layout = reader.layout().unwrap();
    let shapes = layout.partitions().iter();
    let mut partitions: BTreeMap<u32, Rows> = shapes
        .map(|(&number, shape)| (number, Rows::new(shape.dim(), with_codes)))
        .collect();
    let mut space = Space::default();
    let add = |number: u64, bytes: &[u8], record: Record<'_>| {
        space.add(bytes.len(), record.id_key.len());
        let mut row = Row {
            number,
            version: record.version,
            label: record.label,
            fingerprint: fingerprint(&record.payload().unwrap()),
            vector: record.embedding().collect(),
            codes: Vec::new(),
            coding: Default::default(),
        };
        row.encode();
        let (home, _) = layout.home(record.version).unwrap();
        partitions.get_mut(&home).unwrap().push(&row);
        Ok(())
    };
    reader.for_each(add).unwrap();
    for rows in partitions.values_mut() {
        let centred = rows.centred();
        rows.set_centred(centred);
    }
    Loaded { partitions, space }
}

fn assert_same(found: &Loaded, expected: &Loaded) {
    assert_eq!(found.space, expected.space);
    assert!(found.partitions.keys().eq(expected.partitions.keys()));
    for (rows, expected) in found.partitions.values().zip(expected.partitions.values()) {
        assert_eq!(rows.dim(), expected.dim());
        assert_eq!(rows.slots(), expected.slots());
        assert_eq!(rows.alive(), expected.alive());
        assert_eq!(rows.per_version(), expected.per_version());
        assert_eq!(rows.bytes(), expected.bytes());
        assert_eq!(rows.segments().len(), expected.segments().len());
        for (segment, expected) in rows.segments().iter().zip(expected.segments()) {
            assert_eq!(segment.numbers, expected.numbers);
            assert_eq!(segment.versions, expected.versions);
            assert_eq!(segment.fingerprints, expected.fingerprints);
            assert_eq!(segment.vectors, expected.vectors);
            let labels = |segment: &Segment| -> Vec<Option<u32>> {
                (0..segment.len()).map(|row| segment.label(row)).collect()
            };
            assert_eq!(labels(segment), labels(expected));
            assert_eq!(segment.coded.centre(), expected.coded.centre());
            assert_eq!(segment.coded.codes, expected.coded.codes);
            assert_eq!(segment.coded.codings, expected.coded.codings);
        }
    }
}

#[test]
fn rows_are_the_same_on_any_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let check = || {
        for with_codes in [true, false] {
            let expected = one_by_one(folder.path(), with_codes);
            for threads in [1, 2, 5] {
                let found = read(folder.path(), with_codes, threads).unwrap();
                assert_same(&found, &expected);
            }
        }
    };
    drop(gallery(folder.path()));
    check();
    let add = |items: Vec<Item>| gallery(folder.path()).upsert(items).unwrap();
    add((0..3).map(|id| item(id, "v0001", DIM)).collect());
    check();
    // Full segments without gaps.
    add((3..256).map(|id| item(id, "v0001", DIM)).collect());
    check();
    // A space of another dimension among them, gaps, and rows that moved to the end.
    let others = (256..700).map(|id| match id % 3 {
        0 => item(id, "v0001", DIM),
        _ => item(id, "text", 24),
    });
    add(others.collect());
    check();
    let gone: Vec<_> = (0..500).filter(|id| id % 7 < 2).map(Into::into).collect();
    gallery(folder.path()).delete(&gone).unwrap();
    add((40..60).map(|id| item(id, "v0002", DIM)).collect());
    check();
    // Hardly any is left of the first ones.
    let gone: Vec<_> = (1..650).map(Into::into).collect();
    gallery(folder.path()).delete(&gone).unwrap();
    check();
}

#[test]
fn the_first_damaged_row_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let items = (0..700).map(|id| item(id, "v0001", DIM)).collect();
    gallery(folder.path()).upsert(items).unwrap();
    let damage = |row: u64, change: &dyn Fn(&mut Vec<u8>)| {
        let mut log = log(folder.path());
        let writer = log.writer().unwrap();
        {
            let mut items = writer.transaction.open_table(ITEMS).unwrap();
            let mut bytes = items.get(row).unwrap().unwrap().value().to_vec();
            change(&mut bytes);
            items.insert(row, &*bytes).unwrap();
        }
        writer.commit().unwrap();
    };
    let assert_named = |row: u64, problem: &str| {
        for threads in [1, 2, 5] {
            let error = read(folder.path(), true, threads).err().unwrap();
            assert!(matches!(error, GalleryError::Corrupt { .. }), "{error}");
            let text = error.to_string();
            assert!(text.contains(&format!("row {row}")), "{text}");
            assert!(text.contains(problem), "{text}");
        }
    };
    let seal = |bytes: &mut Vec<u8>| {
        let checksum = crc32fast::hash(&bytes[4..]);
        bytes[..4].copy_from_slice(&checksum.to_le_bytes());
    };
    damage(650, &|bytes| bytes[40] ^= 1);
    assert_named(650, "checksum");
    damage(400, &|bytes| {
        bytes.truncate(bytes.len() - 4);
        seal(bytes);
    });
    assert_named(400, "16383 dimensions, not 16384");
    damage(130, &|bytes| {
        bytes[4] = 9;
        seal(bytes);
    });
    assert_named(130, "unknown space 9");
    damage(129, &|bytes| bytes.clear());
    assert_named(129, "cut off");
}
