use proptest::prelude::*;

use super::*;
use crate::protobuf::{put_bytes, put_number};

const TEXT: &[u8] = include_bytes!("../../../testdata/text.onnx");
const TOWERS: &[u8] = include_bytes!("../../../testdata/towers.onnx");
const EXTERNAL: &[u8] = include_bytes!("../../../testdata/external.onnx");

fn message(fields: &[(u64, &[u8])]) -> Vec<u8> {
    let mut message = Vec::new();
    for (field, content) in fields {
        put_bytes(&mut message, *field, content);
    }
    message
}

/// A file with such a graph and operators of version 17.
fn file(graph: &[u8]) -> Vec<u8> {
    let mut opset = Vec::new();
    put_number(&mut opset, 2, 17);
    message(&[(7, graph), (8, &opset)])
}

fn tensor(dims: &[u64], raw: &[u8]) -> Vec<u8> {
    let mut tensor = Vec::new();
    for dim in dims {
        put_number(&mut tensor, 1, *dim);
    }
    put_number(&mut tensor, 2, 1);
    put_bytes(&mut tensor, 8, b"weight");
    put_bytes(&mut tensor, 9, raw);
    tensor
}

#[test]
fn a_graph_is_described() {
    let graph = GraphFile::read("text.onnx", TEXT).unwrap();
    assert_eq!(graph.opsets[STANDARD], 17);
    let names: Vec<&str> = graph
        .inputs
        .iter()
        .map(|input| input.name.as_str())
        .collect();
    assert_eq!(names, ["input_ids", "attention_mask", "token_type_ids"]);
    assert_eq!(
        graph.inputs[0],
        Declared {
            name: "input_ids".to_owned(),
            element: 7,
            shape: Some(vec![None, None])
        }
    );
    assert_eq!(graph.outputs[0].shape, Some(vec![None, None, Some(6)]));
    assert_eq!(graph.table_rows("input_ids"), Some(18));
    assert_eq!(graph.table_rows("token_type_ids"), Some(2));
    assert!(graph.operators.contains("Softmax") && !graph.scales_by_batch());
    let dynamic = include_bytes!("../../../testdata/dynamic.onnx");
    assert!(
        GraphFile::read("dynamic.onnx", dynamic)
            .unwrap()
            .scales_by_batch()
    );
    let external = GraphFile::read("external.onnx", EXTERNAL).unwrap();
    assert_eq!(
        external.external.into_iter().collect::<Vec<_>>(),
        ["external.onnx.data"]
    );
}

#[test]
fn an_output_needs_its_own_inputs_only() {
    let graph = GraphFile::read("towers.onnx", TOWERS).unwrap();
    let needed = |output| {
        graph
            .needed(output)
            .into_iter()
            .map(|input| input.name.as_str())
            .collect::<Vec<_>>()
    };
    assert_eq!(needed("image_embeds"), ["pixel_values"]);
    assert_eq!(
        needed("text_embeds"),
        ["input_ids", "attention_mask", "token_type_ids"]
    );
}

#[test]
fn sizes_must_belong_to_the_data() {
    let read = |tensor: &[u8]| GraphFile::read("a.onnx", &file(&message(&[(5, tensor)]))).map(drop);
    assert_eq!(read(&tensor(&[2, 3], &[0; 24])), Ok(()));
    let large = 1 << 40;
    for (dims, bytes) in [
        (&[2, 3][..], 20),
        (&[large, large], 24),
        (&[u64::MAX], 24),
        (&[1 << 32], 24),
        (&[], 8),
        (&[0], 4),
    ] {
        let error = read(&tensor(dims, &vec![0; bytes])).unwrap_err();
        assert!(matches!(error, GraphError::Tensor { .. }), "{error}");
        assert!(error.to_string().contains("weight"), "{error}");
    }
}

#[test]
fn data_elsewhere_are_refused() {
    for location in [
        "../secret",
        "/etc/passwd",
        "a/b.data",
        "..",
        "",
        "c:\\x",
        "a\0b",
    ] {
        let entry = message(&[(1, b"location"), (2, location.as_bytes())]);
        let mut tensor = tensor(&[2, 3], &[0; 24]);
        put_bytes(&mut tensor, 13, &entry);
        let error = GraphFile::read("a.onnx", &file(&message(&[(5, &tensor)]))).unwrap_err();
        assert!(matches!(error, GraphError::External { .. }), "{error}");
    }
}

#[test]
fn graphs_within_graphs_end() {
    let mut graph = Vec::new();
    for _ in 0..10_000 {
        let attribute = message(&[(6, &graph)]);
        let node = message(&[(4, b"If"), (5, &attribute)]);
        graph = message(&[(1, &node)]);
    }
    let error = GraphFile::read("a.onnx", &file(&graph)).unwrap_err();
    assert!(
        matches!(error, GraphError::Depth { limit: DEPTH, .. }),
        "{error}"
    );
}

#[test]
fn sequences_of_sequences_are_refused() {
    let declaration = |levels: usize| {
        let mut kind = message(&[(1, b"")]);
        for _ in 0..levels {
            let sequence = message(&[(1, &kind)]);
            kind = message(&[(4, &sequence)]);
        }
        message(&[(2, &kind)])
    };
    // An input, an output, and what lies between.
    for field in [11, 12, 13] {
        let read = |levels: usize| {
            let graph = message(&[(field, &declaration(levels))]);
            GraphFile::read("a.onnx", &file(&graph)).map(drop)
        };
        assert_eq!(read(1), Ok(()));
        for levels in [2, 2_000] {
            let error = read(levels).unwrap_err();
            assert!(matches!(error, GraphError::Unsupported { .. }), "{error}");
        }
    }
}

#[test]
fn counts_are_bounded() {
    let node = message(&[(1, b"")]);
    let output = message(&[(12, &message(&[(1, b"y")]))]);
    for (part, times, what) in [(&node, 1 << 18, "nodes"), (&output, 256, "outputs")] {
        let read = |times: usize| {
            let graph = part.repeat(times);
            GraphFile::read("a.onnx", &file(&graph)).map(drop)
        };
        assert_eq!(read(times), Ok(()));
        let error = read(times + 1).unwrap_err().to_string();
        assert!(error.contains("a.onnx") && error.contains(what), "{error}");
    }
    // Attributes of one node, where there are no more nodes.
    let attributes = |times: usize| file(&message(&[(1, &message(&[(5, b"")]).repeat(times))]));
    assert!(GraphFile::read("a.onnx", &attributes(1 << 21)).is_ok());
    let error = GraphFile::read("a.onnx", &attributes((1 << 21) + 1)).unwrap_err();
    assert!(error.to_string().contains("attributes"), "{error}");
    // Inputs and outputs of one node.
    for field in [1, 2] {
        let node = message(&[(field, b"")]).repeat((1 << 21) + 1);
        let error = GraphFile::read("a.onnx", &file(&message(&[(1, &node)]))).unwrap_err();
        assert!(error.to_string().contains("values"), "{error}");
    }
    let shaped = |dims: usize| file(&message(&[(5, &tensor(&vec![1; dims], &[0; 4]))]));
    assert!(GraphFile::read("a.onnx", &shaped(64)).is_ok());
    let error = GraphFile::read("a.onnx", &shaped(65)).unwrap_err();
    assert!(error.to_string().contains("dimensions"), "{error}");
    // Packed, as most exporters write them.
    let packed = message(&[(5, &message(&[(1, &[1; 65])]))]);
    let error = GraphFile::read("a.onnx", &file(&packed)).unwrap_err();
    assert!(error.to_string().contains("dimensions"), "{error}");
    // Versions of operators go with every node that is tried alone.
    let many = |count: usize| [file(b""), message(&[(8, b"\x0a\x01x")]).repeat(count)].concat();
    assert!(GraphFile::read("a.onnx", &many(63)).is_ok());
    let error = GraphFile::read("a.onnx", &many(64)).unwrap_err();
    assert!(
        error.to_string().contains("versions of operators"),
        "{error}"
    );
}

#[test]
fn nodes_stand_alone_with_the_versions_of_their_operators() {
    let graph = GraphFile::read("text.onnx", TEXT).unwrap();
    let apart = graph.apart();
    let files: Vec<(&str, Vec<u8>)> = apart.files().collect();
    assert_eq!(
        files.len(),
        graph
            .nodes
            .iter()
            .filter(|node| node.operator != "Constant")
            .count()
    );
    for (operator, content) in &files {
        let alone = GraphFile::read("alone.onnx", content).unwrap();
        assert_eq!(alone.nodes[0].operator, *operator);
        assert_eq!(alone.opsets, graph.opsets);
    }
}

#[test]
fn other_files_are_named() {
    for (content, part) in [
        (&b""[..], "empty"),
        (b"PK\x03\x04....", "pickled"),
        (b"\x80\x02}q\x00.", "pickled"),
        (b"version https://git-lfs.example/spec/v1\n", "LFS"),
        (b"\x89HDF\r\n", "HDF5"),
        (b"{\"a\": 1}", "text file"),
        (b"\x20\x00\x00\x00\x00\x00\x00\x00{\"", "safetensors"),
    ] {
        let error = GraphFile::read("model.bin", content)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(part) && error.contains("model.bin"),
            "{error}"
        );
    }
    let error = GraphFile::read("a.onnx", &message(&[(2, b"nobody")])).unwrap_err();
    assert!(matches!(error, GraphError::NotOnnx { .. }), "{error}");
    let error = GraphFile::read("a.onnx", &message(&[(7, b"")])).unwrap_err();
    assert!(
        matches!(error, GraphError::Opset { found: None, .. }),
        "{error}"
    );
}

#[test]
fn every_truncation_is_an_error_or_a_graph() {
    for length in 0..TEXT.len() {
        // Ends between two fields are whole files that hold less.
        if let Ok(graph) = GraphFile::read("text.onnx", &TEXT[..length]) {
            assert!(graph.opsets.contains_key(STANDARD));
        }
    }
}

proptest! {
    #[test]
    fn damage_never_panics(position in 0..TEXT.len(), byte in any::<u8>(), more in prop::collection::vec((0..TEXT.len(), any::<u8>()), 0..8)) {
        let mut damaged = TEXT.to_vec();
        damaged[position] = byte;
        for (position, byte) in more {
            damaged[position] = byte;
        }
        // Whatever is found, what is asked of it ends.
        if let Ok(graph) = GraphFile::read("text.onnx", &damaged) {
            for output in &graph.outputs {
                let _ = graph.needed(&output.name);
            }
            let _ = graph.table_rows("input_ids");
        }
    }
}
