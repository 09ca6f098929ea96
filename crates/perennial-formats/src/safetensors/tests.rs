use super::*;
use crate::testing::{problem, read, written};
use crate::{VectorSet, read_embeddings};
use perennial_core::Embeddings;

fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    let length = (header.len() as u64).to_le_bytes();
    [&length, header.as_bytes(), data].concat()
}

fn tensor(name: &str, dtype: &str, shape: &str, start: usize, end: usize) -> String {
    format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{start},{end}]}}"#)
}

#[test]
fn any_file_with_one_matrix_is_read() {
    for (dtype, bytes) in [
        ("F16", vec![0x00, 0x3e]),
        ("BF16", 1.5_f32.to_le_bytes()[2..].to_vec()),
        ("F32", 1.5_f32.to_le_bytes().to_vec()),
        ("F64", 1.5_f64.to_le_bytes().to_vec()),
    ] {
        let end = bytes.len();
        let header = [
            r#"{"__metadata__":{"space":"minilm"}"#.to_owned(),
            tensor("sentence_embedding", dtype, "[1,1]", 0, end),
            tensor("bias", "F32", "[0]", end, end),
            tensor("ids", "I16", "[1]", end, end + 2),
            tensor("labels", "I8", "[1]", end + 2, end + 3),
        ];
        let file = safetensors(
            &(header.join(",") + "}"),
            &[&bytes[..], &[2, 1, 255]].concat(),
        );
        let set = read(file).unwrap();
        assert_eq!(set.vectors(), [1.5]);
        assert_eq!(set.ids().unwrap(), [ItemId::Number(258)]);
        assert_eq!(set.labels().unwrap(), [Label::Number(-1)]);
        assert_eq!(set.space().unwrap().as_str(), "minilm");
    }
}

#[test]
fn wrong_content_is_named() {
    let file = |tensors: &[String], data: usize| {
        safetensors(&format!("{{{}}}", tensors.join(",")), &vec![0; data])
    };
    let vectors = || tensor("embeddings", "F32", "[1,1]", 0, 4);
    for (tensors, bytes, says) in [
        (vec![], 0, "lacks the tensor `embeddings`"),
        (
            vec![tensor("embeddings", "I32", "[1,1]", 0, 4)],
            4,
            "`embeddings` is I32",
        ),
        (
            vec![tensor("vectors", "F32", "[1]", 0, 4)],
            4,
            "`vectors` is F32 of shape [1]",
        ),
        (
            vec![
                tensor("a", "F32", "[1,1]", 0, 4),
                tensor("b", "F16", "[1,1]", 4, 6),
            ],
            6,
            "`a` and `b` could both be it",
        ),
        (
            vec![tensor("a", "F32", "[1000000000000,0]", 0, 0)],
            0,
            "0 dimensions",
        ),
        (
            vec![vectors(), tensor("ids", "U8", "[2]", 4, 6)],
            6,
            "expected [1]",
        ),
        (
            vec![vectors(), tensor("ids", "F32", "[1]", 4, 8)],
            8,
            "an integer type",
        ),
        (
            vec![vectors(), tensor("ids_text", "U8", "[2]", 4, 6)],
            6,
            "texts need",
        ),
        (vec![vectors()], 5, "it was cut off or extended"),
    ] {
        let error = problem(file(&tensors, bytes));
        assert!(error.contains(says), "{error} | {says}");
    }
    let own = r#"{"__metadata__":{"format":"perennial-embeddings","format_version":"2"}}"#;
    assert!(problem(safetensors(own, &[])).contains("format_version \"2\""));
}

#[test]
fn offsets_of_texts_are_checked() {
    for (offsets, says) in [
        ([0_u64, 1, 2], None),
        ([1, 1, 2], Some("must rise from 0")),
        ([0, 2, 1], Some("must rise from 0")),
        ([0, 1, 3], Some("must rise from 0")),
        ([0, 1, u64::MAX], Some("must rise from 0")),
        ([0, 0, 2], Some("row 0: id \"\" is empty")),
    ] {
        let header = [
            tensor("embeddings", "F32", "[2,1]", 0, 8),
            tensor("ids_offsets", "U64", "[3]", 8, 32),
            tensor("ids_text", "U8", "[2]", 32, 34),
        ];
        let mut data = vec![0; 8];
        data.extend(offsets.iter().flat_map(|offset| offset.to_le_bytes()));
        data.extend(b"a7");
        let file = safetensors(&format!("{{{}}}", header.join(",")), &data);
        match says {
            None => {
                let set = read(file).unwrap();
                assert_eq!(set.ids().unwrap(), ["a".into(), ItemId::Number(7)]);
            }
            Some(says) => assert!(problem(file).contains(says), "{offsets:?}"),
        }
    }
}

#[test]
fn numbers_give_the_embeddings_file_of_model_versions() {
    let vectors = vec![0.6, 0.8, 1.0, 0.0, 0.0, -1.0];
    let embeddings = Embeddings::new(
        "v0001",
        2,
        vectors.clone(),
        vec![1, u64::MAX, 3],
        Some(vec![4, 5, 0]),
    )
    .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let output = perennial_core::Output::prepare(&path).unwrap();
    crate::write_embeddings(&embeddings, output).unwrap();
    let set = VectorSet::new(2, vectors)
        .unwrap()
        .with_ids(vec![1.into(), u64::MAX.into(), 3.into()])
        .unwrap()
        .with_labels([4_i64, 5, 0].map(Label::from).to_vec())
        .unwrap()
        .with_space(Some(SpaceId::new("v0001").unwrap()));
    assert_eq!(crate::read(&path).unwrap(), set);
    let bytes = written(Format::Safetensors, &set, 2, false);
    assert_eq!(bytes, std::fs::read(&path).unwrap());
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(read_embeddings(&path).unwrap(), embeddings);
}
