//! Files of imported encoders beside graph and tokenizer: tables of token vectors, linear layers, canaries.

use perennial_core::{
    Classifier, ClassifierKind, EncoderFile, EncoderHead, EncoderKind, Graph, OutsideEncoder,
    Pooling, TextTower,
};
use perennial_encode::import::{ImportOptions, read};
use perennial_encode::{GraphRuntime, Input, InputType, OutsideModel};
use perennial_upgrade::canaries_from;

use crate::Target;
use crate::encoders::check;
use crate::scratch::Scratch;

const TOKENIZER: &[u8] = include_bytes!("../../crates/perennial-encode/testdata/tokenizer.json");
const GRAPH: &[u8] = include_bytes!("../../crates/perennial-encode/testdata/text.onnx");
/// Values of a row that [`GRAPH`] gives.
const INPUTS: usize = 6;
/// Values of an embedding behind the layer.
const OUTPUTS: usize = 3;
/// Values of the embeddings in a file of canaries.
const CANARY_DIM: usize = 2;

/// A listed file; hashes are compared before an encoder is loaded.
fn listed(name: &str) -> EncoderFile {
    EncoderFile {
        name: name.to_owned(),
        sha256: String::new(),
        bytes: 0,
    }
}

fn embeds_texts(model: &OutsideModel) {
    for text in ["red rose", "Grün \u{1f33f} \0", &"oak ".repeat(100)] {
        let input_type = InputType::Document;
        check(model, Input::Text { text, input_type });
    }
}

/// A table of token vectors, beside a tokenizer of 18 words.
pub struct TableFile(Scratch);

impl Target for TableFile {
    fn new() -> Self {
        let scratch = Scratch::new();
        scratch.write("tokenizer.json", TOKENIZER);
        Self(scratch)
    }

    fn run(&mut self, bytes: &[u8]) -> bool {
        self.0.write("model.safetensors", bytes);
        let options = ImportOptions {
            max_tokens: Some(16),
            ..ImportOptions::default()
        };
        let Ok(found) = read(self.0.path(), &options) else {
            return false;
        };
        let mut spec = found.spec;
        assert_eq!(spec.kind, EncoderKind::TokenTable);
        self.0.write("table.safetensors", bytes);
        spec.files = vec![listed("table.safetensors"), listed("tokenizer.json")];
        let runtime = GraphRuntime::Rten;
        let model = OutsideModel::load("fuzz", found.dim, &spec, self.0.path(), &runtime);
        std::fs::remove_file(self.0.path().join("table.safetensors")).unwrap();
        embeds_texts(&model.unwrap());
        true
    }
}

/// The tokenizer of an encoder of texts, beside its graph.
pub struct TokenizerFile {
    scratch: Scratch,
    spec: OutsideEncoder,
}

impl Target for TokenizerFile {
    fn new() -> Self {
        let scratch = Scratch::new();
        scratch.write("model.onnx", GRAPH);
        let files = ["model.onnx", "tokenizer.json"];
        let spec = OutsideEncoder {
            kind: EncoderKind::Onnx,
            image: None,
            text: Some(text_tower()),
            head: None,
            endpoint: None,
            files: files.map(listed).to_vec(),
        };
        Self { scratch, spec }
    }

    fn run(&mut self, bytes: &[u8]) -> bool {
        self.scratch.write("tokenizer.json", bytes);
        let (folder, runtime) = (self.scratch.path(), GraphRuntime::Rten);
        match OutsideModel::load("fuzz", INPUTS, &self.spec, folder, &runtime) {
            Ok(model) => {
                embeds_texts(&model);
                true
            }
            Err(_) => false,
        }
    }
}

/// The tower of [`GRAPH`].
fn text_tower() -> TextTower {
    TextTower {
        graph: Graph {
            file: "model.onnx".to_owned(),
            output: "last_hidden_state".to_owned(),
            pooling: Pooling::Mean,
        },
        tokenizer: "tokenizer.json".to_owned(),
        max_tokens: 16,
        query_prefix: String::new(),
        document_prefix: String::new(),
    }
}

/// The linear layer behind an encoder of texts.
pub struct HeadFile {
    scratch: Scratch,
    spec: OutsideEncoder,
}

impl Target for HeadFile {
    fn new() -> Self {
        let scratch = Scratch::new();
        scratch.write("tokenizer.json", TOKENIZER);
        scratch.write("model.onnx", GRAPH);
        let head = EncoderHead {
            file: "head.safetensors".to_owned(),
            inputs: INPUTS,
            classifier: Classifier {
                kind: ClassifierKind::Linear,
                vertices: None,
                vertex_end: None,
                skipped_vertices: 0,
                classes: 1,
                pretrained_classes: 0,
            },
        };
        let files = ["model.onnx", "tokenizer.json", "head.safetensors"];
        let spec = OutsideEncoder {
            kind: EncoderKind::Onnx,
            image: None,
            text: Some(text_tower()),
            head: Some(Box::new(head)),
            endpoint: None,
            files: files.map(listed).to_vec(),
        };
        Self { scratch, spec }
    }

    fn run(&mut self, bytes: &[u8]) -> bool {
        self.scratch.write("head.safetensors", bytes);
        let (folder, runtime) = (self.scratch.path(), GraphRuntime::Rten);
        match OutsideModel::load("fuzz", OUTPUTS, &self.spec, folder, &runtime) {
            Ok(model) => {
                embeds_texts(&model);
                true
            }
            Err(_) => false,
        }
    }
}

/// The canaries of a version.
pub struct Canaries;

impl Target for Canaries {
    fn new() -> Self {
        Self
    }

    fn run(&mut self, bytes: &[u8]) -> bool {
        let Ok(canaries) = canaries_from(bytes, CANARY_DIM) else {
            return false;
        };
        assert!(canaries.count() > 0);
        true
    }
}
