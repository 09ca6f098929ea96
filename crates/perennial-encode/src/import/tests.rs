use std::fs;

use perennial_core::{ChannelOrder, Interpolation, Resize};

use super::*;

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("testdata")
        .join(name)
}

/// A folder of a model hub: test files under other names, and texts.
fn hub(copies: &[(&str, &str)], texts: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (from, to) in copies {
        let to = folder.path().join(to);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(testdata(from), to).unwrap();
    }
    for (name, content) in texts {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    folder
}

const POOLING: (&str, &str) = (
    "1_Pooling/config.json",
    r#"{"word_embedding_dimension": 6, "pooling_mode_cls_token": false, "pooling_mode_mean_tokens": true}"#,
);
const LENGTH: (&str, &str) = (
    "sentence_bert_config.json",
    r#"{"max_seq_length": 24, "do_lower_case": false}"#,
);
const TEXT_FILES: [(&str, &str); 2] = [
    ("text.onnx", "onnx/model.onnx"),
    ("tokenizer.json", "tokenizer.json"),
];

#[track_caller]
fn refused(path: &Path, options: &ImportOptions, parts: &[&str]) {
    let error = read(path, options).unwrap_err().to_string();
    for part in parts {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_sentence_encoder_is_found() {
    let prompts = (
        "config_sentence_transformers.json",
        r#"{"prompts": {"query": "query: ", "document": ""}, "default_prompt_name": null}"#,
    );
    let modules = (
        "modules.json",
        r#"[{"type": "sentence_transformers.models.Transformer"}, {"type": "sentence_transformers.models.Normalize"}]"#,
    );
    let tokenizer = (
        "tokenizer_config.json",
        r#"{"model_max_length": 1000000000000000019884624838656}"#,
    );
    let folder = hub(&TEXT_FILES, &[POOLING, LENGTH, prompts, modules, tokenizer]);
    let imported = read(folder.path(), &ImportOptions::default()).unwrap();
    let text = imported.spec.text.unwrap();
    assert_eq!(
        (imported.dim, imported.spec.image, imported.spec.kind),
        (6, None, EncoderKind::Onnx)
    );
    assert_eq!(
        text.graph,
        Graph {
            file: "model.onnx".to_owned(),
            output: "last_hidden_state".to_owned(),
            pooling: Pooling::Mean
        }
    );
    assert_eq!(
        (
            text.max_tokens,
            text.query_prefix.as_str(),
            text.document_prefix.as_str()
        ),
        (24, "query: ", "")
    );
    let names: Vec<&str> = imported
        .files
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(names, ["model.onnx", "tokenizer.json"]);
    assert!(
        imported
            .findings
            .iter()
            .any(|finding| finding.contains("1_Pooling")),
        "{:?}",
        imported.findings
    );
}

#[test]
fn what_is_said_goes_before_what_is_found() {
    let folder = hub(&TEXT_FILES, &[POOLING, LENGTH]);
    let options = ImportOptions {
        output: Some("pooler_output".to_owned()),
        max_tokens: Some(12),
        document_prefix: Some("passage: ".to_owned()),
        ..ImportOptions::default()
    };
    let text = read(folder.path(), &options).unwrap().spec.text.unwrap();
    assert_eq!(
        (
            text.graph.output.as_str(),
            text.graph.pooling,
            text.max_tokens
        ),
        ("pooler_output", Pooling::None, 12)
    );
    assert_eq!(text.document_prefix, "passage: ");
}

#[test]
fn what_is_not_known_is_asked_for() {
    let none = ImportOptions::default();
    refused(
        hub(&TEXT_FILES, &[LENGTH]).path(),
        &none,
        &["several outputs", "last_hidden_state, pooler_output"],
    );
    refused(hub(&TEXT_FILES, &[POOLING]).path(), &none, &["max-tokens"]);
    refused(
        hub(&TEXT_FILES[..1], &[POOLING, LENGTH]).path(),
        &none,
        &["tokenizer"],
    );
    refused(
        &testdata("picture.onnx"),
        &none,
        &["how pictures are prepared", "preprocess"],
    );
    let hidden = ImportOptions {
        output: Some("last_hidden_state".to_owned()),
        ..ImportOptions::default()
    };
    refused(hub(&TEXT_FILES, &[LENGTH]).path(), &hidden, &["pooling"]);
    refused(
        hub(&TEXT_FILES, &[]).path(),
        &ImportOptions {
            output: Some("logits".to_owned()),
            ..none.clone()
        },
        &["logits", "pooler_output"],
    );
    let graphs = hub(
        &[("picture.onnx", "a.onnx"), ("single.onnx", "onnx/b.onnx")],
        &[],
    );
    refused(graphs.path(), &none, &["a.onnx, onnx/b.onnx"]);
    let options = ImportOptions {
        graph: Some("../x.onnx".into()),
        ..ImportOptions::default()
    };
    refused(graphs.path(), &options, &["inside the folder"]);
    refused(
        hub(&[], &[("pytorch_model.bin", "x")]).path(),
        &none,
        &["only pytorch_model.bin", "ONNX"],
    );
    refused(&testdata("nothing-here"), &none, &["cannot be read"]);
}

#[test]
fn values_that_are_not_supported_name_file_and_key() {
    let none = ImportOptions::default();
    let with = |name: &str, content: &str, parts: &[&str]| {
        let folder = hub(&TEXT_FILES, &[POOLING, LENGTH, (name, content)]);
        refused(folder.path(), &none, parts);
    };
    with(
        "1_Pooling/config.json",
        r#"{"pooling_mode_max_tokens": true}"#,
        &["1_Pooling/config.json", "pooling_mode_max_tokens"],
    );
    with(
        "1_Pooling/config.json",
        r#"{"pooling_mode_mean_tokens": true, "pooling_mode_cls_token": true}"#,
        &["another pooling"],
    );
    with("1_Pooling/config.json", "{}", &["pooling_mode_mean_tokens"]);
    with(
        "1_Pooling/config.json",
        r#"{"pooling_mode": 3}"#,
        &["pooling_mode", "text"],
    );
    with("1_Pooling/config.json", "[", &["no JSON"]);
    with(
        "sentence_bert_config.json",
        r#"{"max_seq_length": "long"}"#,
        &["sentence_bert_config.json", "max_seq_length"],
    );
    with(
        "modules.json",
        r#"[{"type": "sentence_transformers.models.Dense"}]"#,
        &["modules.json", "Dense"],
    );
    with(
        "config_sentence_transformers.json",
        r#"{"prompts": ["a"]}"#,
        &["prompts"],
    );
    let long = format!("{{\"a\": \"{}\"}}", "x".repeat(5 << 20));
    with("sentence_bert_config.json", &long, &["more than the limit"]);
}

/// A tokenizer of words and marks, whose ids begin at `first`.
fn words(first: usize, count: usize) -> String {
    let mut vocabulary: serde_json::Map<String, serde_json::Value> = (0..count)
        .map(|word| (format!("word{word}"), (first + word).into()))
        .collect();
    vocabulary.insert("<unk>".to_owned(), 0.into());
    serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null, "post_processor": null, "decoder": null,
        "pre_tokenizer": {"type": "Whitespace"}, "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"}
    })
    .to_string()
}

#[test]
fn tokenizers_of_other_encoders_are_told() {
    let none = ImportOptions::default();
    let with =
        |files: &[(&str, &str)]| hub(&TEXT_FILES[..1], &[&[POOLING, LENGTH], files].concat());
    // The table has 18 rows: as many ids, one too many, one and two too few for it.
    let tokenizer = |largest: usize| words(largest, 1);
    read(with(&[("tokenizer.json", &tokenizer(17))]).path(), &none).unwrap();
    read(with(&[("tokenizer.json", &tokenizer(16))]).path(), &none).unwrap();
    let large = with(&[("tokenizer.json", &tokenizer(18))]);
    refused(large.path(), &none, &["ids up to 18", "18 tokens", "give"]);
    let small = with(&[("tokenizer.json", &tokenizer(15))]);
    refused(
        small.path(),
        &none,
        &[
            "tokenizer.json seems",
            "16 token ids",
            "18 tokens",
            "option tokenizer",
        ],
    );
    // Named, the first is still an error, and the second is something to look at.
    let named = |folder: &tempfile::TempDir| ImportOptions {
        tokenizer: Some(folder.path().join("tokenizer.json")),
        ..ImportOptions::default()
    };
    refused(large.path(), &named(&large), &["ids up to 18"]);
    let found = read(small.path(), &named(&small)).unwrap();
    let told = |finding: &String| finding.contains("16 token ids");
    assert!(found.findings.iter().any(told), "{:?}", found.findings);
}

#[test]
fn files_of_two_encoders_are_told() {
    let none = ImportOptions::default();
    let with = |files: &[(&str, &str)]| hub(&TEXT_FILES, &[&[POOLING, LENGTH], files].concat());
    let config = |rows: usize| format!("{{\"model_type\": \"bert\", \"vocab_size\": {rows}}}");
    read(with(&[("config.json", &config(18))]).path(), &none).unwrap();
    let other = with(&[("config.json", &config(30_522))]);
    refused(other.path(), &none, &["vocab_size 30522", "18 tokens"]);
    let marks = r#"{"cls_token": "[CLS]", "sep_token": {"content": "[SEP]"}, "pad_token": null}"#;
    read(with(&[("tokenizer_config.json", marks)]).path(), &none).unwrap();
    for marks in [
        r#"{"cls_token": "<s>"}"#,
        r#"{"cls_token": "[CLS]", "sep_token": {"content": "<s>", "lstrip": false}}"#,
    ] {
        let other = with(&[("tokenizer_config.json", marks)]);
        refused(other.path(), &none, &["\"<s>\" as", "two encoders"]);
        let named = ImportOptions {
            tokenizer: Some(testdata("tokenizer.json")),
            ..ImportOptions::default()
        };
        read(other.path(), &named).unwrap();
    }
}

#[test]
fn an_encoder_of_pictures_is_found() {
    let config = r#"{"architecture": "tiny", "pretrained_cfg": {"input_size": [3, 8, 8], "interpolation": "bicubic", "crop_pct": 0.5, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}}"#;
    let folder = hub(
        &[
            ("external.onnx", "model.onnx"),
            ("external.onnx.data", "external.onnx.data"),
        ],
        &[("config.json", config)],
    );
    let imported = read(folder.path(), &ImportOptions::default()).unwrap();
    let image = imported.spec.image.unwrap();
    assert_eq!(imported.dim, 4);
    assert_eq!(
        (image.preparation.size, image.preparation.resize),
        ([8, 8], Resize::ShortestSide(16))
    );
    assert_eq!(
        (image.preparation.interpolation, image.preparation.channels),
        (Interpolation::Bicubic, ChannelOrder::Rgb)
    );
    let names: Vec<&str> = imported
        .files
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(names, ["model.onnx", "external.onnx.data"]);
    // A graph alone: the size is the graph's own.
    let preset = |name: &str| ImportOptions {
        preparation: Some(PreparationChoice::Preset(name.to_owned(), None)),
        ..ImportOptions::default()
    };
    let image = read(&testdata("single.onnx"), &preset("clip"))
        .unwrap()
        .spec
        .image
        .unwrap();
    assert_eq!(
        (image.preparation.size, image.preparation.resize),
        ([8, 8], Resize::ShortestSide(8))
    );
    refused(
        &testdata("single.onnx"),
        &preset("tim"),
        &["timm, torchvision, clip"],
    );
}

#[test]
fn two_towers_are_found() {
    let processor = r#"{"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 8}, "crop_size": {"height": 8, "width": 8}, "do_center_crop": true, "resample": 3, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}"#;
    let folder = hub(
        &[
            ("towers.onnx", "onnx/model.onnx"),
            ("tokenizer.json", "tokenizer.json"),
        ],
        &[
            ("preprocessor_config.json", processor),
            ("tokenizer_config.json", r#"{"model_max_length": 16}"#),
        ],
    );
    let imported = read(folder.path(), &ImportOptions::default()).unwrap();
    let (image, text) = (imported.spec.image.unwrap(), imported.spec.text.unwrap());
    assert_eq!(
        (
            image.graph.output.as_str(),
            text.graph.output.as_str(),
            imported.dim
        ),
        ("image_embeds", "text_embeds", 4)
    );
    assert_eq!(text.max_tokens, 16);
    assert_eq!(imported.files.len(), 2);
}

#[test]
fn a_table_is_found() {
    let folder = hub(&TEXT_FILES[1..], &[LENGTH]);
    let table = folder.path().join("model.safetensors");
    fs::write(&table, crate::token_table::tests::file(18, None)).unwrap();
    let imported = read(folder.path(), &ImportOptions::default()).unwrap();
    assert_eq!(
        (imported.spec.kind, imported.dim),
        (EncoderKind::TokenTable, 2)
    );
    assert_eq!(
        imported.files[0],
        ("table.safetensors".to_owned(), table.clone())
    );
    // Weights of a network.
    fs::write(
        &table,
        crate::token_table::tests::file(18, None).split_off(3),
    )
    .unwrap();
    refused(
        folder.path(),
        &ImportOptions::default(),
        &["export the encoder to ONNX"],
    );
}

#[test]
fn texts_in_lower_case_need_a_tokenizer_that_ignores_case() {
    let lower = (
        "sentence_bert_config.json",
        r#"{"max_seq_length": 24, "do_lower_case": true}"#,
    );
    let folder = hub(&TEXT_FILES, &[POOLING, lower]);
    let options = ImportOptions::default();
    assert!(read(folder.path(), &options).is_ok());
    let tokenizer = folder.path().join("tokenizer.json");
    let text = fs::read_to_string(&tokenizer).unwrap();
    let cased = text.replace("\"lowercase\": true", "\"lowercase\": false");
    assert_ne!(cased, text);
    fs::write(&tokenizer, cased).unwrap();
    refused(folder.path(), &options, &["do_lower_case", "Lowercase"]);
}
