//! Encoders of other programs, from import to a search in a running service.

use std::path::Path;

use serde_json::{Value, json};

use crate::bench::{Bench, repository};
use crate::pictures::picture;
use crate::service::Service;

/// Copies a graph or tokenizer of the tests to a path in the bench.
pub fn copy(bench: &Bench, name: &str, to: &str) {
    let from = repository()
        .join("crates/perennial-encode/testdata")
        .join(name);
    let to = bench.path(to);
    std::fs::create_dir_all(to.parent().unwrap()).unwrap();
    std::fs::copy(from, to).unwrap();
}

/// A folder in the layout of a model hub with an encoder of texts.
pub fn text_encoder(bench: &Bench, folder: &str) {
    copy(bench, "text.onnx", &format!("{folder}/onnx/model.onnx"));
    copy(bench, "tokenizer.json", &format!("{folder}/tokenizer.json"));
    std::fs::create_dir_all(bench.path(folder).join("1_Pooling")).unwrap();
    bench.write(
        &format!("{folder}/1_Pooling/config.json"),
        r#"{"word_embedding_dimension": 6, "pooling_mode_cls_token": false, "pooling_mode_mean_tokens": true}"#,
    );
    bench.write(
        &format!("{folder}/sentence_bert_config.json"),
        r#"{"max_seq_length": 24, "do_lower_case": false}"#,
    );
}

/// A folder with two towers in one space.
fn towers(bench: &Bench, folder: &str) {
    copy(bench, "towers.onnx", &format!("{folder}/onnx/model.onnx"));
    copy(bench, "tokenizer.json", &format!("{folder}/tokenizer.json"));
    bench.write(
        &format!("{folder}/preprocessor_config.json"),
        r#"{"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 8}, "crop_size": {"height": 8, "width": 8}, "do_center_crop": true, "resample": 3, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}"#,
    );
    bench.write(
        &format!("{folder}/tokenizer_config.json"),
        r#"{"model_max_length": 16}"#,
    );
}

#[test]
fn what_an_import_lacks_is_named_as_the_option_that_says_it() {
    let bench = Bench::new();
    for name in ["text.onnx", "picture.onnx", "tokenizer.json"] {
        copy(&bench, name, name);
    }
    copy(&bench, "layers.onnx", "two/a.onnx");
    copy(&bench, "layers.onnx", "two/b.onnx");
    let import = |arguments: &[&str]| bench.run(&[&["models", "import"], arguments].concat());
    import(&["text.onnx"]).assert_wrong_usage(&["--output", "pooler_output"]);
    import(&["text.onnx", "--output", "last_hidden_state"])
        .assert_wrong_usage(&["--pooling (mean, cls or last-token)", "give its folder"]);
    import(&["picture.onnx"]).assert_wrong_usage(&["--preprocess (timm, clip", "give its folder"]);
    import(&["two"]).assert_wrong_usage(&["a.onnx, b.onnx", "--graph"]);
    // A pooling says that the output with one vector a token is meant.
    let pooled = [
        "text.onnx",
        "--pooling",
        "mean",
        "--tokenizer",
        "tokenizer.json",
        "--max-tokens",
        "24",
    ];
    let imported = import(&pooled);
    assert_eq!(imported.code, Some(0), "{imported:?}");
}

const TEXTS: &str = "key\tbody\nr\tred rose\nw\twhite rose\no\toak\nf\tthe fern of winter\n";

fn first(answer: &Value) -> &Value {
    &answer["hits"][0]["id"]
}

#[test]
fn an_encoder_of_texts_is_imported_embeds_is_stored_and_searched() {
    let bench = Bench::new();
    text_encoder(&bench, "encoder");
    let import = [
        "models",
        "import",
        "encoder",
        "--query-prefix",
        "query: ",
        "--alias",
        "live",
    ];
    let imported = bench.answer(&import);
    assert_eq!(imported["version"], "v0001");
    assert_eq!(
        (&imported["dim"], &imported["accepts"]),
        (&json!(6), &json!(["text"]))
    );
    let files: Vec<&str> = imported["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| file["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        files,
        ["model.onnx", "tokenizer.json", "canaries.safetensors"]
    );
    assert!(!bench.path("registry").read_dir().unwrap().any(|entry| {
        entry
            .unwrap()
            .file_name()
            .to_string_lossy()
            .starts_with(".trial")
    }));
    let list = bench.succeed(&["models", "list"]);
    assert!(list.contains("onnx") && list.contains("text"), "{list}");
    let model = bench.succeed(&["models", "show", "live"]);
    assert!(
        model.contains("format_version = 2") && model.contains("query_prefix = \"query: \""),
        "{model}"
    );

    bench.write("texts.tsv", TEXTS);
    let table = [
        "--table",
        "texts.tsv",
        "--text-column",
        "body",
        "--id-column",
        "key",
    ];
    let embed = |kind: &str, out: &str| {
        bench.answer(&[&["embed", "live", "--as", kind, "--out", out][..], &table].concat());
        bench.read(out)
    };
    let (documents, queries) = (embed("document", "d.jsonl"), embed("query", "q.jsonl"));
    assert_eq!(documents.lines().count(), 4);
    assert_ne!(documents, queries);

    // Empty texts are told before any work, all of them.
    bench.write("gaps.csv", "text\noak\n\"  \"\nelm\n\"\"\n");
    bench
        .run(&["embed", "live", "--table", "gaps.csv", "--out", "g.npy"])
        .assert_wrong_usage(&["the text is empty in row 1, 3 "]);
    assert!(!bench.path("g.npy.unfinished").exists());
    bench
        .run(&["gallery", "add", "--table", "gaps.csv"])
        .assert_wrong_usage(&["row 1: the text is empty"]);

    let stored = bench.answer(&[&["gallery", "add"][..], &table].concat());
    assert_eq!(
        (&stored["inserted"], &stored["items"]),
        (&json!(4), &json!(4))
    );
    // Documents have no prefix here, and a text is nearest to itself only by the same words.
    let found = bench.answer(&["gallery", "search", "--text", "oak", "--limit", "4"]);
    assert_eq!(found["hits"].as_array().unwrap().len(), 4);
    assert!(found["hits"][0]["payload"]["text"].is_string(), "{found}");
    let again = bench.answer(&[&["gallery", "add"][..], &table].concat());
    assert_eq!(again["replaced"], 4);
    picture(&bench, "photos/a.png", 1);
    bench
        .run(&["gallery", "add", "photos"])
        .assert_wrong_usage(&["v0001 embeds texts, not pictures"]);
    let ended = bench.run(&["gallery", "search", "photos/a.png"]);
    assert!(
        ended.stderr.contains("v0001 embeds texts, not pictures"),
        "{}",
        ended.stderr
    );

    let service = Service::start(&bench);
    let (status, answer) = service.call("POST", "search", &json!({"text": "oak", "limit": 4}));
    assert_eq!(status, 200, "{answer}");
    assert_eq!(first(&answer), first(&found));
    let request = json!({"input": ["oak"], "model": "live-query"});
    let (status, answer) = service.call("POST", "v1/embeddings", &request);
    assert_eq!(status, 200, "{answer}");
    let line: Value = serde_json::from_str(queries.lines().nth(2).unwrap()).unwrap();
    let pairs = answer["data"][0]["embedding"].as_array().unwrap().iter();
    for (served, embedded) in pairs.zip(line["embedding"].as_array().unwrap()) {
        let difference = served.as_f64().unwrap() - embedded.as_f64().unwrap();
        assert!(difference.abs() < 1e-5, "{difference}");
    }
    let sent = bench.answer(&[&["gallery", "add", "--server", service.url()][..], &table].concat());
    assert_eq!((&sent["replaced"], &sent["items"]), (&json!(4), &json!(4)));
}

#[test]
fn two_towers_find_pictures_by_text() {
    let bench = Bench::new();
    towers(&bench, "clip");
    bench.answer(&["models", "import", "clip", "--alias", "live"]);
    for (name, seed) in [("photos/a.png", 1), ("photos/b.jpg", 2)] {
        picture(&bench, name, seed);
    }
    let added = bench.answer(&["gallery", "add", "photos"]);
    assert_eq!(added["inserted"], 2);
    // The picture and its stored embedding were made in the same way.
    let own = bench.answer(&["gallery", "search", "photos/a.png", "--limit", "1"]);
    assert_eq!(first(&own), "a.png");
    assert!(own["hits"][0]["score"].as_f64().unwrap() > 0.9999, "{own}");
    let by_text = bench.answer(&["gallery", "search", "--text", "a red rose"]);
    assert_eq!(by_text["hits"].as_array().unwrap().len(), 2);
    let service = Service::start(&bench);
    let served = service
        .call("POST", "search", &json!({"text": "a red rose"}))
        .1;
    assert_eq!(first(&served), first(&by_text));
    let models = service.get("models");
    assert_eq!(models["models"][0]["accepts"], json!(["image", "text"]));
    picture(&bench, "photos/c.png", 3);
    let added = bench.answer(&["gallery", "add", "photos", "--server", service.url()]);
    assert_eq!(
        (&added["inserted"], &added["unchanged"]),
        (&json!(1), &json!(2))
    );
}

#[test]
fn a_graph_alone_needs_its_preparation_and_damage_is_noticed() {
    let bench = Bench::new();
    copy(&bench, "single.onnx", "lite.onnx");
    let ended = bench.run(&["models", "import", "lite.onnx"]);
    assert_ne!(ended.code, Some(0));
    assert!(ended.stderr.contains("preprocess"), "{}", ended.stderr);
    assert!(!bench.path("registry/v0001").exists());
    let imported = bench.answer(&[
        "models",
        "import",
        "lite.onnx",
        "--preprocess",
        "clip",
        "--origin",
        "a test graph",
    ]);
    assert_eq!(
        (&imported["version"], &imported["accepts"]),
        (&json!("v0001"), &json!(["image"]))
    );
    picture(&bench, "photos/a.png", 1);
    let folder = ["embed", "v0001", "--set", "folder:photos", "--out", "e"];
    assert_eq!(bench.answer(&folder)["dim"], 4);

    let graph = bench.path("registry/v0001/lite.onnx");
    let mut bytes = std::fs::read(&graph).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&graph, bytes).unwrap();
    let ended = bench.run(&folder);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("SHA-256"), "{}", ended.stderr);
    assert!(Path::new(&graph).exists());
}

#[test]
fn graphs_that_cannot_be_used_publish_nothing() {
    let bench = Bench::new();
    for (graph, part) in [
        ("unsupported.onnx", "operator"),
        ("old.onnx", "opset"),
        ("missing.onnx", "does not exist"),
    ] {
        if graph != "missing.onnx" {
            copy(&bench, graph, graph);
        }
        let ended = bench.run(&["models", "import", graph, "--preprocess", "timm"]);
        assert_ne!(ended.code, Some(0), "{graph}");
        assert!(ended.stderr.contains(part), "{graph}: {}", ended.stderr);
    }
    assert!(!bench.path("registry/v0001").exists());
}

#[test]
fn texts_are_embedded_again_from_what_the_items_hold() {
    let bench = Bench::new();
    text_encoder(&bench, "encoder");
    bench.succeed(&["models", "import", "encoder", "--alias", "live"]);
    bench.write("texts.tsv", TEXTS);
    let table = [
        "--table",
        "texts.tsv",
        "--text-column",
        "body",
        "--id-column",
        "key",
    ];
    bench.succeed(&[&["gallery", "add"][..], &table].concat());
    bench.succeed(&["models", "import", "encoder", "--document-prefix", "white "]);
    bench.succeed(&["models", "promote", "v0002", "--force"]);
    // A folder is needed for nothing: the items hold their texts.
    std::fs::create_dir(bench.path("empty")).unwrap();
    let backfill = |more: &[&str]| bench.answer(&[&["gallery", "backfill"], more].concat());
    let first = backfill(&["--originals", "empty", "--limit", "1"]);
    assert_eq!(
        (&first["done"], &first["failed"]),
        (&json!(1), &json!({})),
        "{first}"
    );
    let mut service = Service::start_with(&bench, &[], std::process::Stdio::null());
    let url = service.url().trim_end_matches('/').to_owned();
    let sent = backfill(&["--originals", "empty", "--limit", "1", "--server", &url]);
    assert_eq!(
        (&sent["done"], &sent["failed"]),
        (&json!(1), &json!({})),
        "{sent}"
    );
    let rest = backfill(&["--originals", "payload:text", "--server", &url]);
    assert_eq!(
        (&rest["done"], &rest["left"]),
        (&json!(2), &json!(0)),
        "{rest}"
    );
    service.stop();
    // The same as if they had been added by the new version.
    let embeddings = || {
        let found = bench.answer(&["gallery", "search", "--text", "oak", "--limit", "4"]);
        let hits = found["hits"].as_array().unwrap().iter();
        let scores = hits.map(|hit| (hit["id"].clone(), hit["score"].as_f64().unwrap()));
        scores.collect::<Vec<_>>()
    };
    let again = embeddings();
    let added = bench.answer(&[&["gallery", "add"][..], &table].concat());
    assert_eq!(added["replaced"], 4);
    for ((id, score), (wanted, expected)) in again.iter().zip(embeddings()) {
        assert_eq!(*id, wanted);
        assert!((score - expected).abs() < 1e-6, "{id}: {score} {expected}");
    }
}

#[test]
fn a_linear_layer_behind_an_imported_encoder_makes_a_version() {
    let bench = Bench::new();
    text_encoder(&bench, "encoder");
    bench.answer(&["models", "import", "encoder"]);
    let words = [
        "red rose",
        "white rose",
        "oak",
        "fern of winter",
        "green fern",
        "old oak",
    ];
    let mut table = "key\tbody\n".to_owned();
    for row in 0..60 {
        table.push_str(&format!("{row}\t{} {row}\n", words[row % 6]));
    }
    bench.write("texts.tsv", &table);
    let embed = |version: &str, out: &str| {
        bench.answer(&[
            "embed",
            version,
            "--table",
            "texts.tsv",
            "--text-column",
            "body",
            "--id-column",
            "key",
            "--out",
            out,
        ]);
        perennial_formats::read(&bench.path(out)).unwrap()
    };
    let plain = embed("v0001", "plain.jsonl");
    let labels: Vec<String> = (0..60).map(|row| (row % 6).to_string()).collect();
    bench.write("labels.txt", &labels.join("\n"));
    let fit = |more: &[&str]| {
        let fixed = [
            "fit-head",
            "plain.jsonl",
            "--labels",
            "labels.txt",
            "--vertices",
            "9",
        ];
        bench.answer(&[&fixed[..], more].concat())
    };
    let fitted = fit(&["--space", "v0001"]);
    assert_eq!(
        (&fitted["version"], &fitted["dim"], &fitted["from"]["dim"]),
        (&json!("v0002"), &json!(8), &json!(6))
    );
    let shown = bench.answer(&["models", "show", "v0002"]);
    assert_eq!(shown["encoder"]["head"]["inputs"], 6);
    assert_eq!(shown["encoder"]["head"]["classifier"]["vertices"], 9);
    let files: Vec<&str> = shown["encoder"]["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| file["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        files,
        [
            "model.onnx",
            "tokenizer.json",
            "head.safetensors",
            "canaries.safetensors"
        ]
    );
    let list = bench.succeed(&["models", "list"]);
    assert!(list.contains("simplex head"), "{list}");
    // Dimensions, then classes.
    let row = list.lines().find(|line| line.starts_with("v0002")).unwrap();
    let words: Vec<&str> = row.split_whitespace().collect();
    assert!(words.windows(2).any(|pair| pair == ["8", "6"]), "{list}");

    // What the version gives is what the layer makes of the encoder's embeddings.
    fit(&["--out", "layer"]);
    let apply = |input: &str, out: &str| {
        bench.succeed(&["bridge", "apply", "layer", input, "--out", out]);
        perennial_formats::read(&bench.path(out)).unwrap()
    };
    let (new, mapped) = (
        embed("v0002", "new.jsonl"),
        apply("plain.jsonl", "mapped.jsonl"),
    );
    assert_eq!((new.len(), new.dim(), plain.dim()), (60, 8, 6));
    let largest = new
        .vectors()
        .iter()
        .zip(mapped.vectors())
        .map(|(one, other)| (one - other).abs())
        .fold(0.0, f32::max);
    assert!(largest < 1e-5, "{largest}");

    // Another bridge behind it is multiplied in.
    bench.succeed(&[
        "bridge",
        "fit",
        "--from",
        "new.jsonl",
        "--from-space",
        "v0002",
        "--to",
        "plain.jsonl",
        "--to-space",
        "v0001",
        "--kind",
        "ridge",
        "--uncentred",
        "--out",
        "back",
    ]);
    let folded = bench.answer(&["bridge", "fold", "back", "v0002"]);
    assert_eq!(
        (&folded["version"], &folded["dim"]),
        (&json!("v0003"), &json!(6))
    );
    let shown = bench.answer(&["models", "show", "v0003"]);
    assert_eq!(shown["encoder"]["head"]["inputs"], 6);
    bench.succeed(&[
        "bridge",
        "apply",
        "back",
        "new.jsonl",
        "--out",
        "chained.jsonl",
    ]);
    let chained = perennial_formats::read(&bench.path("chained.jsonl")).unwrap();
    let through = embed("v0003", "through.jsonl");
    let largest = through
        .vectors()
        .iter()
        .zip(chained.vectors())
        .map(|(one, other)| (one - other).abs())
        .fold(0.0, f32::max);
    assert!(largest < 1e-4, "{largest}");

    // A damaged layer is noticed.
    let layer = bench.path("registry/v0002/head.safetensors");
    let mut bytes = std::fs::read(&layer).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&layer, bytes).unwrap();
    let ended = bench.run(&["models", "alias", "copy", "v0002"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let ended = bench.run(&[
        "embed",
        "v0002",
        "--table",
        "texts.tsv",
        "--text-column",
        "body",
        "--out",
        "x.npy",
    ]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("SHA-256"), "{}", ended.stderr);
    // So is a damaged file that another version would take over: it still loads, and its hash would be made anew.
    let mut tokenizer = bench.read("registry/v0001/tokenizer.json");
    tokenizer.push('\n');
    bench.write("registry/v0001/tokenizer.json", &tokenizer);
    let ended = bench.run(&[
        "fit-head",
        "plain.jsonl",
        "--labels",
        "labels.txt",
        "--vertices",
        "9",
        "--space",
        "v0001",
    ]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("tokenizer.json"), "{}", ended.stderr);
    assert!(!bench.path("registry/v0004").exists());
}
