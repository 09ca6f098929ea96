use std::path::PathBuf;

use perennial_core::{
    ChannelOrder, EncoderFile, Graph, ImagePreparation, ImageTower, Interpolation, Pooling, Resize,
    TextTower,
};

use super::*;

pub(super) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata")
}

pub(super) fn golden(key: &str) -> Vec<Vec<f32>> {
    let content = std::fs::read(folder().join("golden.json")).unwrap();
    let golden: serde_json::Value = serde_json::from_slice(&content).unwrap();
    serde_json::from_value(golden[key].clone()).unwrap()
}

pub(super) fn graph(file: &str, output: &str, pooling: Pooling) -> Graph {
    Graph {
        file: file.to_owned(),
        output: output.to_owned(),
        pooling,
    }
}

fn listed(name: &str) -> EncoderFile {
    EncoderFile {
        name: name.to_owned(),
        sha256: String::new(),
        bytes: 1,
    }
}

pub(super) fn encoder(image: Option<Graph>, text: Option<Graph>) -> OutsideEncoder {
    let graphs = image.iter().chain(&text).map(|graph| graph.file.as_str());
    let files = graphs
        .chain(["tokenizer.json", "external.onnx.data"])
        .map(listed)
        .collect();
    let preparation = ImagePreparation {
        size: [8, 8],
        resize: Resize::ShortestSide(8),
        interpolation: Interpolation::Bilinear,
        channels: ChannelOrder::Rgb,
        scale: 1.0 / 255.0,
        mean: vec![0.5; 3],
        std: vec![0.25; 3],
    };
    OutsideEncoder {
        kind: EncoderKind::Onnx,
        image: image.map(|graph| ImageTower { graph, preparation }),
        text: text.map(|graph| TextTower {
            graph,
            tokenizer: "tokenizer.json".to_owned(),
            max_tokens: 32,
            query_prefix: "query: ".to_owned(),
            document_prefix: String::new(),
        }),
        head: None,
        endpoint: None,
        files,
    }
}

fn pictures(file: &str) -> Result<OutsideModel, LoadModelError> {
    pictures_in(file, &GraphRuntime::Rten)
}

pub(super) fn pictures_in(
    file: &str,
    runtime: &GraphRuntime,
) -> Result<OutsideModel, LoadModelError> {
    let spec = encoder(Some(graph(file, "features", Pooling::None)), None);
    OutsideModel::load("v0001", 4, &spec, &folder(), runtime)
}

fn texts(file: &str, pooling: Pooling) -> Result<OutsideModel, LoadModelError> {
    texts_in(file, pooling, &GraphRuntime::Rten)
}

pub(super) fn texts_in(
    file: &str,
    pooling: Pooling,
    runtime: &GraphRuntime,
) -> Result<OutsideModel, LoadModelError> {
    let spec = encoder(None, Some(graph(file, "last_hidden_state", pooling)));
    OutsideModel::load("v0001", 6, &spec, &folder(), runtime)
}

pub(super) fn pixels() -> Vec<Prepared> {
    golden("pixels")
        .into_iter()
        .map(|pixels| Prepared {
            values: Values::Pixels(pixels),
        })
        .collect()
}

pub(super) fn tokens() -> Vec<Prepared> {
    let tokens = golden("tokens")
        .into_iter()
        .map(|tokens| tokens.iter().map(|&token| token as u32).collect());
    tokens
        .map(|tokens| Prepared {
            values: Values::Tokens(tokens),
        })
        .collect()
}

fn text(text: &str, input_type: crate::InputType) -> Input<'_> {
    Input::Text { text, input_type }
}

#[track_caller]
pub(super) fn assert_near(actual: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(actual.len(), expected.len());
    let largest = actual
        .iter()
        .zip(expected)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max);
    assert!(largest <= tolerance, "largest difference {largest:e}");
}

#[test]
fn two_towers_share_a_graph_and_a_batch() {
    let spec = encoder(
        Some(graph("towers.onnx", "image_embeds", Pooling::None)),
        Some(graph("towers.onnx", "text_embeds", Pooling::None)),
    );
    let model = OutsideModel::load("v0001", 4, &spec, &folder(), &GraphRuntime::Rten).unwrap();
    assert_eq!(model.accepts(), [Modality::Image, Modality::Text]);
    let inputs = [
        text("red rose", crate::InputType::Document),
        Input::Pixels {
            pixels: &[100; 3 * 64],
            shape: [3, 8, 8],
        },
        text("oak", crate::InputType::Query),
    ];
    let batch: Vec<Prepared> = inputs
        .into_iter()
        .map(|input| model.prepare(input).unwrap())
        .collect();
    let rows = model.encode(&batch).unwrap();
    for (input, row) in batch.iter().zip(rows.chunks_exact(4)) {
        assert_near(
            &model.encode(std::slice::from_ref(input)).unwrap(),
            row,
            2e-6,
        );
        assert!((row.iter().map(|value| value * value).sum::<f32>() - 1.0).abs() < 1e-5);
    }
}

#[test]
fn a_table_is_averaged() {
    let temporary = tempfile::tempdir().unwrap();
    let copy = |name: &str| {
        std::fs::copy(folder().join("tokenizer.json"), temporary.path().join(name)).unwrap()
    };
    copy("tokenizer.json");
    std::fs::write(
        temporary.path().join("table.safetensors"),
        crate::token_table::tests::file(18, None),
    )
    .unwrap();
    let mut spec = encoder(
        None,
        Some(graph("table.safetensors", "table", Pooling::Mean)),
    );
    spec.kind = EncoderKind::TokenTable;
    let model =
        OutsideModel::load("v0001", 2, &spec, temporary.path(), &GraphRuntime::Rten).unwrap();
    // "red rose" without marks: rows 6 and 8.
    let prepared = model
        .prepare(text("red rose", crate::InputType::Document))
        .unwrap();
    assert_eq!(prepared.values, Values::Tokens(vec![6, 8]));
    let length = 50.0_f32.sqrt();
    assert_near(
        &model.encode(&[prepared]).unwrap(),
        &[7.0 / length, 1.0 / length],
        1e-6,
    );
    let error = OutsideModel::load("v0001", 3, &spec, temporary.path(), &GraphRuntime::Rten)
        .err()
        .unwrap();
    assert!(error.to_string().contains("2 values, not of 3"), "{error}");
    // A table of fewer rows than the tokenizer has tokens.
    std::fs::write(
        temporary.path().join("table.safetensors"),
        crate::token_table::tests::file(17, None),
    )
    .unwrap();
    let error = OutsideModel::load("v0001", 2, &spec, temporary.path(), &GraphRuntime::Rten)
        .err()
        .unwrap();
    assert!(error.to_string().contains("another encoder"), "{error}");
}

#[test]
fn inputs_of_another_encoder_are_refused_by_position() {
    let model = pictures("picture.onnx").unwrap();
    let mut batch = pixels();
    batch.push(Prepared {
        values: Values::Pixels(vec![0.0; 10]),
    });
    assert!(matches!(
        model.encode(&batch),
        Err(EncodeError::Prepared { input: 3, .. })
    ));
    assert!(matches!(
        model.encode(&tokens()),
        Err(EncodeError::Prepared { input: 0, .. })
    ));
    batch[1] = Prepared {
        values: Values::Pixels(vec![f32::NAN; 3 * 64]),
    };
    assert_eq!(
        model.encode(&batch[..3]),
        Err(EncodeError::NonFinite { input: 1 })
    );
    let model = texts("text.onnx", Pooling::Mean).unwrap();
    for tokens in [vec![], vec![18], vec![0; 33]] {
        let batch = [Prepared {
            values: Values::Tokens(tokens),
        }];
        assert!(matches!(
            model.encode(&batch),
            Err(EncodeError::Prepared { input: 0, .. })
        ));
    }
    assert_eq!(model.encode(&[]), Ok(Vec::new()));
}

#[test]
fn another_dimension_is_an_error() {
    let spec = encoder(Some(graph("picture.onnx", "features", Pooling::None)), None);
    let model = OutsideModel::load("v0001", 5, &spec, &folder(), &GraphRuntime::Rten).unwrap();
    assert!(matches!(
        model.encode(&pixels()),
        Err(EncodeError::Backend(_))
    ));
    assert!(OutsideModel::load("v0001", 0, &spec, &folder(), &GraphRuntime::Rten).is_err());
}

#[track_caller]
fn assert_refused(model: Result<OutsideModel, LoadModelError>, parts: &[&str]) {
    let error = model.err().unwrap().to_string();
    for part in parts {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn graphs_that_do_not_fit_are_refused() {
    // Both unknown operators, and not the known one between them.
    assert_refused(
        pictures("unsupported.onnx"),
        &["Celu", "com.example.Sharpen", "Det"],
    );
    assert_refused(pictures("huge.onnx"), &["ConstantOfShape"]);
    assert_refused(pictures("old.onnx"), &["version 6", "opset"]);
    assert_refused(pictures("missing.onnx"), &["missing.onnx cannot be read"]);
    assert_refused(pictures("../testdata/picture.onnx"), &["plain name"]);
    assert_refused(pictures("tokenizer.json"), &["a text file"]);
    assert_refused(
        pictures("text.onnx"),
        &["no output \"features\"", "pooler_output"],
    );
    assert_refused(texts("picture.onnx", Pooling::Mean), &["no output"]);
    let spec = encoder(None, Some(graph("picture.onnx", "features", Pooling::None)));
    assert_refused(
        OutsideModel::load("v0001", 4, &spec, &folder(), &GraphRuntime::Rten),
        &["not pixels"],
    );
    let spec = encoder(
        Some(graph("text.onnx", "pooler_output", Pooling::None)),
        None,
    );
    assert_refused(
        OutsideModel::load("v0001", 6, &spec, &folder(), &GraphRuntime::Rten),
        &["needs 3", "attention_mask [?, ?]"],
    );
    let mut spec = encoder(Some(graph("picture.onnx", "features", Pooling::None)), None);
    spec.image.as_mut().unwrap().preparation.size = [9, 8];
    assert_refused(
        OutsideModel::load("v0001", 4, &spec, &folder(), &GraphRuntime::Rten),
        &["[3, 9, 8]", "pixels [?, 3, 8, 8]"],
    );
}

#[test]
fn data_beside_a_graph_must_be_there() {
    let temporary = tempfile::tempdir().unwrap();
    std::fs::copy(
        folder().join("external.onnx"),
        temporary.path().join("external.onnx"),
    )
    .unwrap();
    let spec = encoder(
        Some(graph("external.onnx", "features", Pooling::None)),
        None,
    );
    assert_refused(
        OutsideModel::load("v0001", 4, &spec, temporary.path(), &GraphRuntime::Rten),
        &["external.onnx.data", "not there"],
    );
    // Shorter than the graph says.
    std::fs::write(temporary.path().join("external.onnx.data"), [0; 100]).unwrap();
    assert!(OutsideModel::load("v0001", 4, &spec, temporary.path(), &GraphRuntime::Rten).is_err());
}

#[test]
fn data_that_are_not_listed_are_not_read() {
    let mut spec = encoder(
        Some(graph("external.onnx", "features", Pooling::None)),
        None,
    );
    spec.files.retain(|file| file.name != "external.onnx.data");
    assert_refused(
        OutsideModel::load("v0001", 4, &spec, &folder(), &GraphRuntime::Rten),
        &["external.onnx.data", "not listed"],
    );
}

#[test]
fn a_linear_layer_follows_the_graph() {
    use perennial_core::outside_encoder::{HEAD_FILE, HEAD_TENSOR};
    use perennial_core::{Classifier, ClassifierKind, EncoderHead};
    use safetensors::tensor::{Dtype, TensorView};

    let weight = [0.5f32, 1.0, 0.0, -2.0, 0.0, 0.25, 1.0, 1.0];
    let bytes: Vec<u8> = weight
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let view = TensorView::new(Dtype::F32, vec![2, 4], &bytes).unwrap();
    let files = tempfile::tempdir().unwrap();
    let graph_file = "picture.onnx";
    std::fs::copy(folder().join(graph_file), files.path().join(graph_file)).unwrap();
    let head = safetensors::serialize([(HEAD_TENSOR, view)], None).unwrap();
    std::fs::write(files.path().join(HEAD_FILE), head).unwrap();

    let mut spec = encoder(Some(graph(graph_file, "features", Pooling::None)), None);
    spec.files.push(listed(HEAD_FILE));
    spec.head = Some(Box::new(EncoderHead {
        file: HEAD_FILE.to_owned(),
        inputs: 4,
        classifier: Classifier {
            kind: ClassifierKind::Linear,
            vertices: None,
            vertex_end: None,
            skipped_vertices: 0,
            classes: 0,
            pretrained_classes: 0,
        },
    }));
    let model = OutsideModel::load("v0002", 2, &spec, files.path(), &GraphRuntime::Rten).unwrap();
    assert_eq!(model.dim(), 2);
    let plain = pictures(graph_file).unwrap().encode(&pixels()).unwrap();
    let found = model.encode(&pixels()).unwrap();
    assert_eq!(found.len(), 2 * pixels().len());
    for (found, row) in found.chunks_exact(2).zip(plain.chunks_exact(4)) {
        let mut expected: Vec<f32> = weight
            .chunks_exact(4)
            .map(|weight| perennial_core::dot(weight, row))
            .collect();
        normalize_in_place(&mut expected).unwrap();
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6);
        }
    }
    // A layer for other embeddings than the graph gives.
    let error = OutsideModel::load("v0002", 3, &spec, files.path(), &GraphRuntime::Rten)
        .err()
        .unwrap();
    assert!(error.to_string().contains(HEAD_TENSOR), "{error}");
    spec.head.as_mut().unwrap().file = "other.safetensors".to_owned();
    let error = OutsideModel::load("v0002", 2, &spec, files.path(), &GraphRuntime::Rten)
        .err()
        .unwrap();
    assert!(error.to_string().contains("other.safetensors"), "{error}");
}
