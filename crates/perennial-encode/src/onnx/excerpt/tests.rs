use proptest::prelude::*;

use super::*;
use crate::onnx::rten_runtime::RtenGraph;
use crate::onnx::run::{Given, Numbers, Output};

const TEXT: &[u8] = include_bytes!("../../../testdata/text.onnx");
const TOWERS: &[u8] = include_bytes!("../../../testdata/towers.onnx");
const EXTERNAL: &[u8] = include_bytes!("../../../testdata/external.onnx");
const EXTERNAL_DATA: &[u8] = include_bytes!("../../../testdata/external.onnx.data");

type Data = BTreeMap<String, Vec<u8>>;

fn of(content: &[u8], data: &Data, output: &str) -> Result<Vec<u8>, GraphError> {
    let graph = GraphFile::read("a.onnx", content).unwrap();
    excerpt("a.onnx", content, &graph, data, output)
}

fn beside() -> Data {
    Data::from([("external.onnx.data".to_owned(), EXTERNAL_DATA.to_vec())])
}

fn names(graph: &GraphFile<'_>) -> [Vec<String>; 2] {
    [&graph.inputs, &graph.outputs].map(|declared| {
        let names = declared.iter().map(|declared| declared.name.clone());
        names.collect()
    })
}

/// Features of a picture in rten.
fn features(content: Vec<u8>, data: Data) -> Output {
    let apart = GraphFile::read("a.onnx", &content).unwrap().apart();
    let graph = RtenGraph::load("a.onnx", content, data, &apart).unwrap();
    let pixels = (0..3 * 64).map(|value| (value as f32).sin()).collect();
    let given = Given {
        name: "pixels",
        shape: vec![1, 3, 8, 8],
        numbers: Numbers::Floats(pixels),
    };
    graph.run(vec![given], "features").unwrap().unwrap()
}

#[test]
fn an_output_gets_its_own_nodes_tensors_and_inputs_only() {
    let whole = GraphFile::read("a.onnx", TOWERS).unwrap();
    for (output, inputs) in [
        ("image_embeds", &["pixel_values"][..]),
        (
            "text_embeds",
            &["input_ids", "attention_mask", "token_type_ids"],
        ),
    ] {
        let part = of(TOWERS, &Data::new(), output).unwrap();
        let read = GraphFile::read("part.onnx", &part).unwrap();
        let [own, outputs] = names(&read);
        assert_eq!(
            (own.as_slice(), outputs.as_slice()),
            (
                &inputs
                    .iter()
                    .map(|&name| name.to_owned())
                    .collect::<Vec<_>>()[..],
                &[output.to_owned()][..]
            )
        );
        assert!(read.nodes.len() < whole.nodes.len() && part.len() < TOWERS.len());
        // Nothing more to leave out.
        assert_eq!(of(&part, &Data::new(), output).unwrap(), part);
    }
}

#[test]
fn data_beside_a_graph_are_in_it() {
    let part = of(EXTERNAL, &beside(), "features").unwrap();
    let read = GraphFile::read("part.onnx", &part).unwrap();
    assert!(read.external.is_empty());
    let (whole, part) = (
        features(EXTERNAL.to_vec(), beside()),
        features(part, Data::new()),
    );
    assert_eq!((whole.shape, whole.values), (part.shape, part.values));
}

#[test]
fn data_that_are_not_there_are_refused() {
    let mut short = beside();
    for content in short.values_mut() {
        content.pop();
    }
    for data in [short, Data::new()] {
        let error = of(EXTERNAL, &data, "features").unwrap_err();
        assert!(matches!(error, GraphError::Tensor { .. }), "{error}");
        assert!(error.to_string().contains("external.onnx.data"), "{error}");
    }
}

fn message(fields: &[(u64, &[u8])]) -> Vec<u8> {
    let mut message = Vec::new();
    for (field, content) in fields {
        put_bytes(&mut message, *field, content);
    }
    message
}

/// A tensor of one number, at a place in a file.
fn elsewhere(entries: &[(&str, &str)]) -> Vec<u8> {
    let mut tensor = Vec::new();
    put_number(&mut tensor, 1, 1);
    put_number(&mut tensor, 2, 1);
    for (key, value) in entries {
        put_bytes(
            &mut tensor,
            13,
            &message(&[(1, key.as_bytes()), (2, value.as_bytes())]),
        );
    }
    put_number(&mut tensor, 14, 1);
    tensor
}

/// A graph whose branch has a constant with such a tensor.
fn branch(tensor: &[u8]) -> Vec<u8> {
    let attribute = message(&[(1, b"value"), (5, tensor)]);
    let constant = message(&[(2, b"one"), (4, b"Constant"), (5, &attribute)]);
    let inner = message(&[(1, &constant), (12, &message(&[(1, b"one")]))]);
    let attribute = message(&[(1, b"then_branch"), (6, &inner)]);
    let node = message(&[(1, b"x"), (2, b"y"), (4, b"If"), (5, &attribute)]);
    let graph = message(&[(1, &node), (12, &message(&[(1, b"y")]))]);
    let mut opset = Vec::new();
    put_number(&mut opset, 2, 17);
    message(&[(7, &graph), (8, &opset)])
}

#[test]
fn data_of_branches_are_in_it_too() {
    let data = Data::from([("w".to_owned(), (0..20).collect())]);
    let part = |entries: &[(&str, &str)]| of(&branch(&elsewhere(entries)), &data, "y");
    let found = part(&[("location", "w"), ("offset", "8"), ("length", "4")]).unwrap();
    assert!(
        GraphFile::read("a.onnx", &found)
            .unwrap()
            .external
            .is_empty()
    );
    assert!(found.windows(4).any(|window| window == [8, 9, 10, 11]));
    assert!(
        part(&[("location", "w")])
            .unwrap()
            .windows(4)
            .any(|window| window == [0, 1, 2, 3])
    );
    for entries in [
        &[("location", "w"), ("offset", "17")][..],
        &[("location", "w"), ("length", "5")],
        &[("location", "w"), ("offset", "-4")],
        &[("location", "w"), ("offset", "18446744073709551615")],
        &[("location", "w"), ("offset", "four")],
        &[("location", "v")],
    ] {
        let error = part(entries).unwrap_err();
        assert!(matches!(error, GraphError::Tensor { .. }), "{error}");
    }
}

#[test]
fn what_is_beside_the_graph_is_left_out() {
    // What a runtime might take for settings, for operators, for training, and for another format.
    let more = message(&[
        (2, b"somebody"),
        (14, &message(&[(1, b"ort_config"), (2, b"{}")])),
        (20, b""),
        (25, b""),
    ]);
    let content = [TEXT, &more].concat();
    let plain = of(TEXT, &Data::new(), "last_hidden_state").unwrap();
    assert_eq!(
        of(&content, &Data::new(), "last_hidden_state").unwrap(),
        plain
    );
}

proptest! {
    #[test]
    fn damage_never_panics(changes in prop::collection::vec((0..EXTERNAL.len(), any::<u8>()), 1..8)) {
        let mut damaged = EXTERNAL.to_vec();
        for (position, byte) in changes {
            damaged[position] = byte;
        }
        if let Ok(graph) = GraphFile::read("a.onnx", &damaged) {
            let outputs: Vec<String> = graph.outputs.iter().map(|output| output.name.clone()).collect();
            for output in outputs {
                if let Ok(part) = excerpt("a.onnx", &damaged, &graph, &beside(), &output) {
                    // Whatever it is, no file is named in it.
                    if let Ok(read) = GraphFile::read("part.onnx", &part) {
                        prop_assert!(read.external.is_empty());
                    }
                }
            }
        }
    }
}
