//! Files of vectors, of texts and of judgements.

use perennial_core::{Embeddings, ItemId, Output, SpaceId};
use perennial_formats::{Format, Label, VectorSet, write_embeddings};

use super::Seeds;

fn array(descr: &str, fortran: &str, shape: &str, values: &[u8]) -> Vec<u8> {
    let header =
        format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n");
    let length = (header.len() as u16).to_le_bytes();
    [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), values].concat()
}

pub(super) fn npy_seeds() -> Seeds {
    vec![
        ("matrix", array("<f4", "False", "(2, 3)", &[0x3f; 24])),
        ("doubles", array(">f8", "False", "(1, 2)", &[0; 16])),
        ("transposed", array("<f2", "True", "(2, 2)", &[1; 8])),
        ("refused_nan", array("<f4", "False", "(1, 1)", &[0xff; 4])),
        (
            "refused_objects",
            array("|O", "False", "(1, 1)", b"\x80\x04."),
        ),
    ]
}

pub(super) fn column_seeds() -> Seeds {
    let text = |text: &str| text.as_bytes().to_vec();
    vec![
        ("numbers", array("|i1", "False", "(3,)", &[1, 2, 255])),
        ("texts", array("<U1", "False", "(2,)", b"a\0\0\0b\0\0\0")),
        ("bytes", array("|S2", "False", "(2,)", b"a\0bc")),
        ("lines", text("cat\n-3\n\"7\"\n")),
        ("table", text("id;label\n1;a\n2;b\n")),
        ("objects", text("{\"id\":1,\"label\":\"a\"}\n")),
        ("refused_floats", array("<f4", "False", "(1,)", &[0; 4])),
        ("refused_binary", vec![0, 1, 2]),
    ]
}

pub(super) fn csv_seeds() -> Seeds {
    let text = |text: &str| text.as_bytes().to_vec();
    vec![
        (
            "arrays",
            text("id,label,embedding,payload\n1,a,\"[0.5,1]\",\"{\"\"k\"\":1}\"\n"),
        ),
        (
            "columns",
            text("\tid\te0\te1\tcolour\n0\tx\t1\t-2e-3\tred\n"),
        ),
        ("refused_hole", text("e0,e2\n1,2\n")),
        ("refused_quote", text("id,embedding\n1,\"[1\n")),
    ]
}

pub(super) fn jsonl_seeds() -> Seeds {
    let text = |text: &str| text.as_bytes().to_vec();
    vec![
        (
            "full",
            text("{\"id\":\"a\",\"embedding\":[0.5,1],\"label\":-1,\"payload\":{\"k\":[null]}}\n"),
        ),
        (
            "vectors",
            text("\u{feff}{\"vector\":[1e-3]}\n\n{\"values\":[2]}"),
        ),
        (
            "refused_length",
            text("{\"vector\":[1]}\n{\"vector\":[1,2]}\n"),
        ),
        ("refused_cut", text("{\"vector\":[1")),
    ]
}

pub(super) fn judgement_seeds() -> Seeds {
    let text = |text: &str| text.as_bytes().to_vec();
    vec![
        ("trec", text("q1 0 d1 2\n7 Q0 d2 0\n")),
        ("beir", text("query-id\tcorpus-id\tscore\nq1\td1\t1\n")),
        ("csv", text("grade,query,item\n1.0,a,\"b\"\n")),
        (
            "jsonl",
            text("{\"query\":1,\"item\":\"x\",\"grade\":-1}\n{\"query\":1,\"item\":2}\n"),
        ),
        ("refused_grades", text("q 0 d 1\nq 0 d 2\n")),
        ("refused_layout", text("a b\n")),
    ]
}

/// Files of our own writing: numbers, and texts that look like numbers.
pub(super) fn vector_seeds(format: Format) -> Seeds {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("seed");
    let file = |ids: [ItemId; 2], labels: [Label; 2]| {
        let set = VectorSet::new(2, vec![0.6, 0.8, 3.0, 0.0])
            .and_then(|set| set.with_ids(ids.to_vec()))
            .and_then(|set| set.with_labels(labels.to_vec()))
            .unwrap()
            .with_space(Some(SpaceId::new("a space").unwrap()));
        crate::vectors::write(&path, format, &set);
        std::fs::read(&path).unwrap()
    };
    let numbers = file(
        [1.into(), u64::MAX.into()],
        [Label::from(3_i64), Label::from(-4_i64)],
    );
    let texts = file([1.into(), "12".into()], ["a b".into(), "3".into()]);
    vec![
        ("refused_cut", numbers[..numbers.len() - 1].to_vec()),
        ("numbers", numbers),
        ("texts", texts),
    ]
}

pub(super) fn embeddings_seeds() -> Seeds {
    let file = |labels: Option<Vec<u32>>| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seed");
        let vectors = vec![0.6, 0.8, 1.0, 0.0];
        let embeddings = Embeddings::new("v0001", 2, vectors, vec![1, 2], labels).unwrap();
        write_embeddings(&embeddings, Output::prepare(&path).unwrap()).unwrap();
        std::fs::read(&path).unwrap()
    };
    let plain = file(None);
    vec![
        ("labels", file(Some(vec![3, 4]))),
        ("refused_cut", plain[..plain.len() - 1].to_vec()),
        ("no_labels", plain),
    ]
}
