//! Files for tests.

use std::path::PathBuf;

use perennial_core::{ItemId, SpaceId};
use tempfile::TempDir;

use crate::{Format, FormatError, Header, Label, Payload, VectorSet};

pub(crate) fn file(content: impl AsRef<[u8]>) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tested.file");
    std::fs::write(&path, content).unwrap();
    (folder, path)
}

pub(crate) fn read(content: impl AsRef<[u8]>) -> Result<VectorSet, FormatError> {
    let (_folder, path) = file(content);
    crate::read(&path)
}

/// Why a file is refused; the message must name it.
pub(crate) fn problem(content: impl AsRef<[u8]>) -> String {
    let text = read(content).unwrap_err().to_string();
    assert!(text.contains("tested.file"), "{text}");
    text
}

/// Writes a set in batches and returns the file.
pub(crate) fn written(format: Format, set: &VectorSet, batch: usize, rows_known: bool) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("written");
    let output = perennial_core::Output::prepare(&path).unwrap();
    let header = Header {
        dim: set.dim(),
        rows: rows_known.then_some(set.len() as u64),
        space: set.space().cloned(),
        format,
    };
    let mut writer = crate::create(output, format, &header).unwrap();
    for first in (0..set.len()).step_by(batch) {
        let rows = first..(first + batch).min(set.len());
        writer.write(&part(set, rows)).unwrap();
    }
    writer.finish().unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    std::fs::read(path).unwrap()
}

fn part(set: &VectorSet, rows: std::ops::Range<usize>) -> VectorSet {
    let mut parts = set.clone().into_parts();
    parts.vectors = set.vectors()[rows.start * set.dim()..rows.end * set.dim()].to_vec();
    parts.ids = parts.ids.map(|ids| ids[rows.clone()].to_vec());
    parts.labels = parts.labels.map(|labels| labels[rows.clone()].to_vec());
    parts.payload = parts.payload.map(|payload| payload[rows.clone()].to_vec());
    VectorSet::from_parts(parts).unwrap()
}

/// A set with everything: numbers and texts that look like numbers, in ids and labels.
pub(crate) fn example() -> VectorSet {
    let payload: Payload =
        serde_json::from_str(r#"{"a":1,"b":"007","c":[null,true,{"d":1.5}],"e":"x, \"y\"\n"}"#)
            .unwrap();
    VectorSet::new(2, vec![0.1, -2.5e-30, 3.0e30, 0.0, 1.0, 1.0e-45])
        .unwrap()
        .with_ids(vec![u64::MAX.into(), "12".into(), ItemId::from("é, \"")])
        .unwrap()
        .with_labels(vec![Label::Number(i64::MIN), "3".into(), "a b".into()])
        .unwrap()
        .with_payload(vec![payload, Payload::new(), Payload::new()])
        .unwrap()
        .with_space(Some(SpaceId::new("v0001 \"é\" \\").unwrap()))
}
