//! Encoders of other programs: graphs, and what lies beside them in a folder of a model hub.

use std::path::Path;

use perennial_core::{EncoderFile, sha256_hex};
use perennial_encode::import::{ImportOptions, read};
use perennial_encode::{Encoder, GraphRuntime, Input, InputType, OutsideModel, graph_summary};

use crate::Target;
use crate::scratch::Scratch;

/// Between two files of one input.
pub(crate) const SEPARATOR: &[u8] = b"\n%%\n";
/// The files beside a graph, in the order in which an input has them. An empty one is not there.
pub(crate) const BESIDE: [&str; 7] = [
    "tokenizer.json",
    "1_Pooling/config.json",
    "sentence_bert_config.json",
    "tokenizer_config.json",
    "config_sentence_transformers.json",
    "modules.json",
    "preprocessor_config.json",
];
/// Graphs of texts, and of texts and pictures in one space.
const GRAPHS: [&[u8]; 2] = [
    include_bytes!("../../crates/perennial-encode/testdata/text.onnx"),
    include_bytes!("../../crates/perennial-encode/testdata/towers.onnx"),
];
/// Larger pictures are not computed.
const LARGEST: usize = 256;

/// An ONNX file, read as far as the runtime is not asked.
pub struct Onnx;

impl Target for Onnx {
    fn new() -> Self {
        Self
    }

    fn run(&mut self, bytes: &[u8]) -> bool {
        let Ok(summary) = graph_summary("fuzz.onnx", bytes) else {
            return false;
        };
        for needed in summary.outputs.values() {
            assert!(needed.iter().all(|name| summary.inputs.contains(name)));
        }
        for name in &summary.external {
            // A plain name, so that nothing outside of the folder is read.
            assert_eq!(Path::new(name).file_name(), Some(name.as_ref()), "{name:?}");
        }
        true
    }
}

/// The files beside a graph, and the encoder that they make of it. The first byte says which graph.
pub struct HubFolder;

impl Target for HubFolder {
    fn new() -> Self {
        Self
    }

    fn run(&mut self, bytes: &[u8]) -> bool {
        let Some((&kind, files)) = bytes.split_first() else {
            return false;
        };
        let scratch = Scratch::new();
        std::fs::create_dir(scratch.path().join("1_Pooling")).unwrap();
        scratch.write("model.onnx", GRAPHS[usize::from(kind & 1)]);
        for (name, content) in BESIDE.into_iter().zip(split(files)) {
            if !content.is_empty() {
                scratch.write(name, content);
            }
        }
        let Ok(found) = read(scratch.path(), &ImportOptions::default()) else {
            return false;
        };
        let mut spec = found.spec;
        for (name, path) in &found.files {
            assert_eq!(path, &scratch.path().join(name));
            let content = std::fs::read(path).unwrap();
            spec.files.push(EncoderFile {
                name: name.clone(),
                sha256: sha256_hex(&content),
                bytes: content.len() as u64,
            });
        }
        let model = OutsideModel::load(
            "fuzz",
            found.dim,
            &spec,
            scratch.path(),
            &GraphRuntime::Rten,
        )
        .unwrap();
        for text in ["red rose", "Grün \u{1f33f}\u{200d} \0", &"oak ".repeat(500)] {
            for input_type in [InputType::Query, InputType::Document] {
                check(&model, Input::Text { text, input_type });
            }
        }
        if let Some(image) = &spec.image {
            let [height, width] = image.preparation.size;
            if height.max(width) <= LARGEST {
                let pixels: Vec<u8> = (0..=255).cycle().take(3 * 5 * 9).collect();
                let (pixels, shape) = (pixels.as_slice(), [3, 5, 9]);
                check(&model, Input::Pixels { pixels, shape });
            }
        }
        true
    }
}

/// What can be prepared has an embedding of unit length, or a reason why not.
pub(crate) fn check(model: &OutsideModel, input: Input<'_>) {
    let Ok(prepared) = model.prepare(input) else {
        return;
    };
    if let Ok(row) = model.encode(&[prepared]) {
        assert_eq!(row.len(), model.dim());
        let norm: f64 = row.iter().map(|&value| f64::from(value).powi(2)).sum();
        assert!((norm.sqrt() - 1.0).abs() < 1e-3, "{norm}");
    }
}

/// The parts between separators.
fn split(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    loop {
        let place = bytes
            .windows(SEPARATOR.len())
            .position(|window| window == SEPARATOR);
        let Some(place) = place else {
            parts.push(bytes);
            return parts;
        };
        parts.push(&bytes[..place]);
        bytes = &bytes[place + SEPARATOR.len()..];
    }
}
