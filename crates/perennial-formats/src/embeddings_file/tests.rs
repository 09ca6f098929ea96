use proptest::prelude::*;
use safetensors::SafeTensors;

use super::*;

fn example(labels: bool) -> Embeddings {
    let labels = labels.then(|| vec![4, u32::MAX, 0]);
    let vectors = vec![0.6, 0.8, 1.0, 0.0, 0.0, -1.0];
    Embeddings::new("v0001 \"é\" \\", 2, vectors, vec![1, u64::MAX, 3], labels).unwrap()
}

fn written(embeddings: &Embeddings) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    write_embeddings(embeddings, Output::prepare(&path).unwrap()).unwrap();
    std::fs::read(&path).unwrap()
}

fn read_bytes(bytes: &[u8]) -> Result<Embeddings, FormatError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    std::fs::write(&path, bytes).unwrap();
    read_embeddings(&path)
}

fn file(header: &str, data: &[u8]) -> Vec<u8> {
    [
        &(header.len() as u64).to_le_bytes(),
        header.as_bytes(),
        data,
    ]
    .concat()
}

/// A file with one embedding of dimension 1, where `tensors` describes the given data.
fn foreign(tensors: &str, data: &[u8]) -> Result<Embeddings, FormatError> {
    let metadata = r#"{"format":"perennial-embeddings","format_version":"1","model_version":"m"}"#;
    read_bytes(&file(
        &format!(r#"{{"__metadata__":{metadata},{tensors}}}"#),
        data,
    ))
}

fn problem(result: Result<Embeddings, FormatError>) -> String {
    let error = result.unwrap_err().to_string();
    assert!(error.contains("a.safetensors"), "{error}");
    error
}

#[test]
fn files_of_other_formats_say_what_they_hold_and_what_is_needed() {
    let set = crate::testing::example();
    let npz = crate::testing::written(crate::Format::Npz, &set, 3, true);
    let text = problem(read_bytes(&npz));
    for says in [
        "is an npz file that holds",
        "\"embeddings\" (<f4 [3, 2])",
        "\"labels\" (<U",
        "`ids` (integers, [n])",
        "model_version",
        "perennial embed",
    ] {
        assert!(text.contains(says), "{says}: {text}");
    }
    let text = problem(read_bytes(b"id,embedding\n1,\"[1,2]\"\n"));
    assert!(
        text.contains("is a CSV file with a header line; embeddings"),
        "{text}"
    );
    // Vectors without the metadata, under other names.
    let tensors = r#"{"vecs":{"dtype":"F16","shape":[1,2],"data_offsets":[0,4]}}"#;
    let text = problem(read_bytes(&file(tensors, &[0; 4])));
    assert!(text.contains("\"vecs\" (F16 [1, 2])"), "{text}");
    let tensors = r#""embeddings":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]}"#;
    let text = problem(foreign(tensors, &1.0_f32.to_le_bytes()));
    assert!(
        text.contains("lacks the tensor `ids`: it holds \"embeddings\""),
        "{text}"
    );
}

#[test]
fn what_was_written_is_read() {
    for set in [
        example(true),
        example(false),
        Embeddings::new("v", 3, vec![], vec![], Some(vec![])).unwrap(),
    ] {
        assert_eq!(read_bytes(&written(&set)).unwrap(), set);
    }
}

#[test]
fn values_longer_than_one_chunk_survive() {
    let count = 2 * 65_536 / 8 + 3;
    let vectors = (0..count)
        .map(|i| if i % 3 == 0 { 1.0 } else { -1.0 })
        .collect();
    let set = Embeddings::new("v", 1, vectors, (0..count as u64).collect(), None).unwrap();
    assert_eq!(read_bytes(&written(&set)).unwrap(), set);
}

#[test]
fn the_safetensors_crate_reads_the_file() {
    let bytes = written(&example(true));
    assert_eq!(
        bytes,
        written(&example(true)),
        "equal embeddings, equal bytes"
    );
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(tensors.tensor("embeddings").unwrap().shape(), [3, 2]);
    assert_eq!(tensors.tensor("ids").unwrap().dtype(), Dtype::U64);
    assert_eq!(
        tensors.tensor("labels").unwrap().data()[..8],
        4i64.to_le_bytes()
    );
    assert_eq!(bytes[0] % 8, 0, "data starts aligned");
}

#[test]
fn other_integer_types_and_tensors_are_accepted() {
    let tensors = r#""a":{"dtype":"F16","shape":[1],"data_offsets":[0,2]},
        "embeddings":{"dtype":"F32","shape":[1,1],"data_offsets":[2,6]},
        "ids":{"dtype":"I64","shape":[1],"data_offsets":[6,14]},
        "labels":{"dtype":"U8","shape":[1],"data_offsets":[14,15]}"#;
    let data = [
        &[0, 0][..],
        &1f32.to_le_bytes(),
        &9i64.to_le_bytes(),
        &[200],
    ]
    .concat();
    let set = foreign(tensors, &data).unwrap();
    assert_eq!(
        (set.ids(), set.labels(), set.row(0)),
        (&[9][..], Some(&[200][..]), &[1.0][..])
    );
    assert_eq!(set.model_version(), "m");
}

#[test]
fn wrong_content_is_named() {
    let ids = r#""ids":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}"#;
    let one = |tensor: &str, value: f32, id: i64| {
        foreign(
            &format!("{ids},{tensor}"),
            &[&id.to_le_bytes()[..], &value.to_le_bytes()].concat(),
        )
    };
    let embeddings = r#""embeddings":{"dtype":"F32","shape":[1,1],"data_offsets":[8,12]}"#;
    assert!(one(embeddings, 1.0, 5).is_ok());
    assert!(problem(one(embeddings, 2.0, 5)).contains("row 0 has length 2"));
    assert!(problem(one(embeddings, 1.0, -5)).contains("`ids` of row 0 is -5"));
    for (from, to, says) in [
        ("F32", "I32", "expected F32"),
        ("[1,1]", "[1]", "expected [n, d]"),
        (
            "\"embeddings\"",
            "\"vectors\"",
            "lacks the tensor `embeddings`",
        ),
        ("[1,1]", "[2,1]", "header"),
        ("[1,1]", "[4611686018427387905,4]", "header"),
        ("[8,12]", "[0,4]", "header"),
    ] {
        let text = problem(one(&embeddings.replace(from, to), 1.0, 5));
        assert!(text.contains(says), "{to}: {text}");
    }
    let rows_for_free =
        r#""embeddings":{"dtype":"F32","shape":[1000000000000,0],"data_offsets":[0,0]}"#;
    assert!(problem(foreign(rows_for_free, &[])).contains("0 columns"));
    let two_ids = r#""embeddings":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]},
        "ids":{"dtype":"U64","shape":[2],"data_offsets":[4,20]}"#;
    assert!(problem(foreign(two_ids, &[0; 20])).contains("expected [1]"));
}

#[test]
fn the_format_must_be_declared() {
    assert!(problem(read_bytes(&file("{}", &[]))).contains("not marked as embeddings"));
    for (from, to, says) in [
        (
            "\"format_version\":\"1\"",
            "\"format_version\":\"2\"",
            "format_version \"2\"",
        ),
        (
            "\"model_version\"",
            "\"model_versiom\"",
            "lacks the metadata key model_version",
        ),
    ] {
        let bytes = written(&Embeddings::new("v", 1, vec![], vec![], None).unwrap());
        let header = std::str::from_utf8(&bytes[8..]).unwrap().replace(from, to);
        assert!(
            problem(read_bytes(&file(&header, &[]))).contains(says),
            "{to}"
        );
    }
}

#[test]
fn cut_off_and_absurd_files_are_errors() {
    let bytes = written(&example(true));
    for length in 0..bytes.len() {
        problem(read_bytes(&bytes[..length]));
    }
    problem(read_bytes(&[bytes.as_slice(), &[0]].concat()));
    problem(read_bytes(&u64::MAX.to_le_bytes()));
    let missing = read_embeddings("/nonexistent/e.safetensors").unwrap_err();
    assert!(missing.to_string().contains("e.safetensors"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn damaged_files_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = written(&example(true));
        for (position, value) in changes {
            let position = position.index(bytes.len());
            bytes[position] = value;
        }
        if let Ok(set) = read_bytes(&bytes) {
            prop_assert_eq!(set.vectors().len(), set.len() * set.dim());
        }
    }

    #[test]
    fn random_headers_are_errors(header in "\\PC{0,60}", data in any::<[u8; 12]>()) {
        prop_assert!(read_bytes(&file(&header, &data)).is_err());
    }
}
