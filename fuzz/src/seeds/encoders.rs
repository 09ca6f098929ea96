//! Graphs of other programs, and what lies beside them.

use super::Seeds;
use crate::encoders::{BESIDE, SEPARATOR};

const TESTDATA: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../crates/perennial-encode/testdata/"
);

fn testdata(name: &str) -> Vec<u8> {
    std::fs::read(format!("{TESTDATA}{name}")).unwrap()
}

pub(super) fn onnx_seeds() -> Seeds {
    let text = testdata("text.onnx");
    let mut outside = testdata("external.onnx");
    // The same length, so that nothing else changes.
    let name = b"external.onnx.data";
    let place = outside.windows(name.len()).position(|part| part == name);
    outside[place.unwrap()..][..name.len()].copy_from_slice(b"../../etc/password");
    vec![
        ("dynamic", testdata("dynamic.onnx")),
        ("external", testdata("external.onnx")),
        ("picture", testdata("picture.onnx")),
        ("text", text.clone()),
        ("towers", testdata("towers.onnx")),
        ("unknown_operator", testdata("unsupported.onnx")),
        ("refused_cut", text[..text.len() - 7].to_vec()),
        ("refused_huge", testdata("huge.onnx")),
        ("refused_opset", testdata("old.onnx")),
        ("refused_outside", outside),
        ("refused_pickle", b"\x80\x02}q\x00.".to_vec()),
        (
            "refused_without_a_graph",
            b"\x08\x08\x42\x02\x10\x11".to_vec(),
        ),
    ]
}

/// Files by name, in the order that the target expects.
fn folder(kind: u8, files: &[(&str, &str)]) -> Vec<u8> {
    let tokenizer = String::from_utf8(testdata("tokenizer.json")).unwrap();
    let content = |name: &str| {
        let given = files.iter().find(|(file, _)| *file == name);
        match given {
            Some((_, content)) => (*content).to_owned(),
            None if name == "tokenizer.json" => tokenizer.clone(),
            None => String::new(),
        }
    };
    let parts: Vec<Vec<u8>> = BESIDE.map(|name| content(name).into_bytes()).to_vec();
    [vec![kind], parts.join(SEPARATOR)].concat()
}

pub(super) fn hub_folder_seeds() -> Seeds {
    const MEAN: (&str, &str) = (
        "1_Pooling/config.json",
        r#"{"word_embedding_dimension": 6, "pooling_mode_cls_token": false, "pooling_mode_mean_tokens": true}"#,
    );
    const LENGTH: (&str, &str) = (
        "sentence_bert_config.json",
        r#"{"max_seq_length": 24, "do_lower_case": false}"#,
    );
    const PICTURES: (&str, &str) = (
        "preprocessor_config.json",
        r#"{"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 8}, "crop_size": {"height": 8, "width": 8}, "do_center_crop": true, "resample": 3, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}"#,
    );
    const TOKENS: (&str, &str) = ("tokenizer_config.json", r#"{"model_max_length": 16}"#);
    vec![
        ("text", folder(0, &[MEAN, LENGTH])),
        (
            "text_with_prompts",
            folder(
                0,
                &[
                    MEAN,
                    TOKENS,
                    (
                        "config_sentence_transformers.json",
                        r#"{"prompts": {"query": "query: ", "document": "white "}, "default_prompt_name": "query"}"#,
                    ),
                    (
                        "modules.json",
                        r#"[{"idx": 0, "type": "sentence_transformers.models.Transformer"}, {"idx": 1, "type": "sentence_transformers.models.Pooling"}]"#,
                    ),
                ],
            ),
        ),
        ("towers", folder(1, &[PICTURES, TOKENS])),
        (
            "refused_pooling",
            folder(
                0,
                &[
                    (
                        "1_Pooling/config.json",
                        r#"{"pooling_mode_max_tokens": true}"#,
                    ),
                    LENGTH,
                ],
            ),
        ),
        (
            "refused_step",
            folder(
                0,
                &[
                    MEAN,
                    LENGTH,
                    (
                        "modules.json",
                        r#"[{"type": "sentence_transformers.models.Dense"}]"#,
                    ),
                ],
            ),
        ),
        ("refused_length", folder(0, &[MEAN])),
        (
            "refused_tokenizer",
            folder(0, &[("tokenizer.json", "{}"), MEAN, LENGTH]),
        ),
        ("refused_without_pictures", folder(1, &[TOKENS])),
    ]
}

/// A safetensors file: its header, and as many bytes as that needs.
fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    [
        &(header.len() as u64).to_le_bytes(),
        header.as_bytes(),
        data,
    ]
    .concat()
}

fn floats(count: usize) -> Vec<u8> {
    let values = (0..count).map(|value| value as f32 / 8.0 - 1.0);
    values.flat_map(f32::to_le_bytes).collect()
}

pub(super) fn token_table_seeds() -> Seeds {
    let table = |element: &str, shape: &str, bytes: usize| {
        format!(r#"{{"table":{{"dtype":"{element}","shape":{shape},"data_offsets":[0,{bytes}]}}}}"#)
    };
    let whole = safetensors(&table("F32", "[18,2]", 144), &floats(36));
    vec![
        ("f32", whole.clone()),
        (
            "f16",
            safetensors(&table("F16", "[18,3]", 108), &[0x3c; 108]),
        ),
        (
            "bf16",
            safetensors(&table("BF16", "[20,1]", 40), &[0x3f; 40]),
        ),
        (
            "beside_a_vector",
            safetensors(
                r#"{"table":{"dtype":"F32","shape":[18,2],"data_offsets":[0,144]},"norm":{"dtype":"F32","shape":[1],"data_offsets":[144,148]}}"#,
                &floats(37),
            ),
        ),
        ("refused_cut", whole[..whole.len() - 1].to_vec()),
        (
            "refused_rows",
            safetensors(&table("F32", "[17,2]", 136), &floats(34)),
        ),
        (
            "refused_of_another",
            safetensors(&table("F32", "[90,1]", 360), &floats(90)),
        ),
        (
            "refused_element",
            safetensors(&table("I8", "[18,2]", 36), &[1; 36]),
        ),
        (
            "refused_weights",
            safetensors(
                r#"{"table":{"dtype":"F32","shape":[18,2],"data_offsets":[0,144]},"weights":{"dtype":"F32","shape":[1],"data_offsets":[144,148]}}"#,
                &floats(37),
            ),
        ),
    ]
}

pub(super) fn tokenizer_seeds() -> Seeds {
    let whole = include_bytes!("../../../crates/perennial-encode/testdata/tokenizer.json");
    let model = |model: &str| format!(r#"{{"version":"1.0","added_tokens":[],"model":{model}}}"#);
    let with = |rest: &str, model: &str| {
        format!(r#"{{"version":"1.0","added_tokens":[],{rest},"model":{model}}}"#).into_bytes()
    };
    let words = r#"{"type":"WordLevel","vocab":{"[UNK]":0,"red":1,"rose":2},"unk_token":"[UNK]"}"#;
    let pairs = r#"{"type":"BPE","vocab":{"r":0,"e":1,"d":2,"re":3,"red":4,"?":5},"merges":["r e","re d"],"unk_token":"?"}"#;
    let pieces = r#"{"type":"Unigram","unk_id":0,"vocab":[["<unk>",0.0],["red",-1.5],["ro",-2.0],["se",-2.5]]}"#;
    let spaces = r#""pre_tokenizer":{"type":"Whitespace"}"#;
    let beyond = r#"{"type":"WordLevel","vocab":{"[UNK]":0,"red":18},"unk_token":"[UNK]"}"#;
    let marks: Vec<_> = vec![r#"{"SpecialToken":{"id":"[UNK]","type_id":0}}"#; 15];
    let marks = marks.join(",");
    let many_marks = format!(
        r#""post_processor":{{"type":"TemplateProcessing","single":[{marks},{{"Sequence":{{"id":"A","type_id":0}}}}],"pair":[],"special_tokens":{{"[UNK]":{{"id":"[UNK]","ids":[0],"tokens":["[UNK]"]}}}}}}"#
    );
    vec![
        ("word_piece", whole.to_vec()),
        ("word_level", with(spaces, words)),
        ("byte_pairs", with(spaces, pairs)),
        (
            "bytes",
            with(
                r#""pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true}"#,
                pairs,
            ),
        ),
        (
            "unigram",
            with(
                r#""normalizer":{"type":"Sequence","normalizers":[{"type":"NFKC"},{"type":"Lowercase"}]},"pre_tokenizer":{"type":"Metaspace","replacement":"_","prepend_scheme":"always","split":true}"#,
                pieces,
            ),
        ),
        (
            "pattern",
            with(
                r#""pre_tokenizer":{"type":"Split","pattern":{"Regex":"[a-z]+(?=r)|\\s+"},"behavior":"Isolated","invert":false}"#,
                words,
            ),
        ),
        ("refused_cut", whole[..whole.len() / 2].to_vec()),
        ("refused_ids", with(spaces, beyond)),
        ("refused_marks", with(&many_marks, words)),
        (
            "refused_kind",
            model(r#"{"type":"Other","vocab":{}}"#).into_bytes(),
        ),
        (
            "refused_empty",
            model(r#"{"type":"WordLevel","vocab":{},"unk_token":"[UNK]"}"#).into_bytes(),
        ),
    ]
}

pub(super) fn head_seeds() -> Seeds {
    let layer = |name: &str, shape: &str| {
        format!(r#"{{"{name}":{{"dtype":"F32","shape":{shape},"data_offsets":[0,72]}}}}"#)
    };
    let whole = safetensors(&layer("fc1.weight", "[3,6]"), &floats(18));
    let mut infinite = whole.clone();
    let end = infinite.len();
    infinite[end - 4..].copy_from_slice(&f32::INFINITY.to_le_bytes());
    vec![
        ("layer", whole.clone()),
        (
            "zeros",
            safetensors(&layer("fc1.weight", "[3,6]"), &[0; 72]),
        ),
        ("refused_cut", whole[..end - 1].to_vec()),
        ("refused_infinite", infinite),
        (
            "refused_name",
            safetensors(&layer("fc1.bias", "[3,6]"), &floats(18)),
        ),
        (
            "refused_shape",
            safetensors(&layer("fc1.weight", "[6,3]"), &floats(18)),
        ),
    ]
}

pub(super) fn canary_seeds() -> Seeds {
    let file = |format: &str, tensors: &str, data: &[u8]| {
        let header = format!(
            r#"{{"__metadata__":{{"format":"{format}","format_version":"2"}},"embeddings":{{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}},{tensors}}}"#
        );
        safetensors(&header, data)
    };
    let tensors = r#""image_0":{"dtype":"U8","shape":[3],"data_offsets":[16,19]},"text_1":{"dtype":"U8","shape":[3],"data_offsets":[19,22]}"#;
    let data = [&floats(4), &b"\x89PNoak"[..]].concat();
    let whole = file("perennial-canaries", tensors, &data);
    let not_finite = [&f32::NAN.to_le_bytes()[..], &data[4..]].concat();
    let no_text = [&data[..19], &b"\xff\xfe\xfd"[..]].concat();
    vec![
        ("picture_and_text", whole.clone()),
        ("refused_cut", whole[..whole.len() - 1].to_vec()),
        ("refused_format", file("perennial-probes", tensors, &data)),
        (
            "refused_missing",
            file(
                "perennial-canaries",
                &tensors.replace("text_1", "text_7"),
                &data,
            ),
        ),
        (
            "refused_not_finite",
            file("perennial-canaries", tensors, &not_finite),
        ),
        (
            "refused_not_utf8",
            file("perennial-canaries", tensors, &no_text),
        ),
    ]
}
