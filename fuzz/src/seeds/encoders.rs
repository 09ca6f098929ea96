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
