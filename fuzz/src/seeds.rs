//! The seeds: what they are made of, and that every target takes them.

mod encoders;
mod mutations;
mod text_files;
mod upgrades;
mod upstreams;

use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use perennial_core::{Embeddings, ItemId, ModelVersion, Output, SpaceId};
use perennial_data::ImageSet;
use perennial_formats::{Format, Label, VectorSet, write_embeddings};
use perennial_gallery::{
    EmbeddedGallery, Filter, GalleryConfig, LabelFilter, SimplexIdentity, Snapshots as _,
    StoreSpace, VectorStore,
};
use serde_json::{Value, json};

use self::encoders::{hub_folder_seeds, onnx_seeds};
use self::text_files::{list_seeds, slot_seeds};
use self::upgrades::{bridge_seeds, certificate_seeds};
use self::upstreams::upstream_seeds;
use crate::gallery::filtered_items;
use crate::http::model_toml;
use crate::images::idx_files;
use crate::*;

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("seeds")
        .join(target)
}

/// A target's seeds, in the order of their names.
fn stored(target: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder(target))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() > 1, "{target} has no seeds");
    files
}

/// Runs a target on its seeds: those whose names start with `refused` must be, all others must not.
fn check<T: Target>(target: &str) {
    let mut tested = T::new();
    for file in stored(target) {
        let accepted = tested.run(&std::fs::read(&file).unwrap());
        let refused = file
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with("refused");
        assert_eq!(accepted, !refused, "{}", file.display());
    }
}

fn check_mutated<T: Target>(target: &str) {
    let seeds: Vec<Vec<u8>> = stored(target)
        .iter()
        .map(|file| std::fs::read(file).unwrap())
        .collect();
    mutations::run::<T>(target, &seeds);
}

/// Two tests for each target.
mod each {
    use super::*;

    macro_rules! seeds_pass {
        ($($name:ident: $target:ty,)*) => {
            $(
                #[test]
                fn $name() {
                    check::<$target>(stringify!($name));
                }
            )*

            /// On changed seeds.
            mod mutated {
                use super::*;

                $(
                    #[test]
                    fn $name() {
                        check_mutated::<$target>(stringify!($name));
                    }
                )*
            }
        };
    }

    seeds_pass! {
        aliases: Aliases,
        bridge: BridgeFolder,
        certificate: Certificates,
        columns: Columns,
        compatibility: Compatibility,
        csv: Csv,
        embeddings: EmbeddingsFile,
        filter: Filters,
        gallery_record: Records,
        http: Http,
        hub_folder: HubFolder,
        idx: Idx,
        image: Image,
        image_lists: ImageLists,
        jsonl: Jsonl,
        judgements: RelevanceJudgements,
        labelled_records: LabelledRecords,
        model_toml: ModelToml,
        npy: Npy,
        npz: Npz,
        onnx: Onnx,
        preparation: Preparation,
        safetensors: Safetensors,
        slots: Slots,
        snapshot: Snapshots,
        upstream_answers: UpstreamAnswers,
    }
}

#[test]
fn every_binary_has_seeds() {
    let targets = Path::new(env!("CARGO_MANIFEST_DIR")).join("targets");
    for target in std::fs::read_dir(targets).unwrap() {
        let name = target.unwrap().path().file_stem().unwrap().to_owned();
        assert!(folder(name.to_str().unwrap()).is_dir(), "{name:?}");
    }
}

/// Writes all seeds anew.
#[test]
#[ignore = "changes fuzz/seeds"]
fn write_seeds() {
    let seeds = [
        ("aliases", alias_seeds()),
        ("bridge", bridge_seeds()),
        ("certificate", certificate_seeds()),
        ("columns", column_seeds()),
        ("compatibility", compatibility_seeds()),
        ("csv", csv_seeds()),
        ("embeddings", embeddings_seeds()),
        ("filter", filter_seeds()),
        ("gallery_record", record_seeds()),
        ("http", http_seeds()),
        ("hub_folder", hub_folder_seeds()),
        ("idx", idx_seeds()),
        ("image", image_seeds()),
        ("image_lists", list_seeds()),
        ("jsonl", jsonl_seeds()),
        ("judgements", judgement_seeds()),
        ("labelled_records", labelled_record_seeds()),
        ("model_toml", model_seeds()),
        ("npy", npy_seeds()),
        ("npz", vector_seeds(Format::Npz)),
        ("onnx", onnx_seeds()),
        ("preparation", preparation_seeds()),
        ("safetensors", vector_seeds(Format::Safetensors)),
        ("slots", slot_seeds()),
        ("snapshot", snapshot_seeds()),
        ("upstream_answers", upstream_seeds()),
    ];
    for (target, files) in seeds {
        let folder = folder(target);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        for (name, bytes) in files {
            std::fs::write(folder.join(name), bytes).unwrap();
        }
    }
}

type Seeds = Vec<(&'static str, Vec<u8>)>;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut file = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    file.write_all(bytes).unwrap();
    file.finish().unwrap()
}

fn labelled_record_seeds() -> Seeds {
    let file = |kind: u8, labels: &[&[u8]]| {
        let mut bytes = vec![kind];
        for (shade, label) in (1..).zip(labels) {
            bytes.extend_from_slice(label);
            bytes.extend([shade; 3072]);
        }
        bytes
    };
    vec![
        ("cifar10", file(0, &[&[7], &[9]])),
        ("cifar100_fine", file(1, &[&[19, 99]])),
        ("cifar100_coarse", file(2, &[&[19, 99]])),
        ("tiny_imagenet", file(3, &[&[199, 0]])),
        ("refused_cut", file(0, &[&[7]])[..3000].to_vec()),
        ("refused_label", file(3, &[&[0, 1]])),
    ]
}

fn idx_seeds() -> Seeds {
    let set = ImageSet::new("seed", [1, 2, 3], (0..12).collect(), vec![9, 0], 10).unwrap();
    let (images, labels) = idx_files(&set);
    let pair = |images: &[u8], labels: &[u8]| {
        [&(images.len() as u16).to_le_bytes(), images, labels].concat()
    };
    vec![
        ("plain", pair(&images, &labels)),
        ("compressed", pair(&gzip(&images), &gzip(&labels))),
        ("refused_swapped", pair(&labels, &images)),
        ("refused_cut", pair(&images[..20], &labels)),
    ]
}

fn array(descr: &str, fortran: &str, shape: &str, values: &[u8]) -> Vec<u8> {
    let header =
        format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n");
    let length = (header.len() as u16).to_le_bytes();
    [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), values].concat()
}

fn npy_seeds() -> Seeds {
    vec![
        ("matrix", array("<f4", "False", "(2, 3)", &[0x3f; 24])),
        ("doubles", array(">f8", "False", "(1, 2)", &[0; 16])),
        ("transposed", array("<f2", "True", "(2, 2)", &[1; 8])),
        ("refused_nan", array("<f4", "False", "(1, 1)", &[0xff; 4])),
        (
            "refused_objects",
            array("|O", "False", "(1, 1)", b"\x80\x04."),
        ),
    ]
}

fn column_seeds() -> Seeds {
    let text = |text: &str| text.as_bytes().to_vec();
    vec![
        ("numbers", array("|i1", "False", "(3,)", &[1, 2, 255])),
        ("texts", array("<U1", "False", "(2,)", b"a\0\0\0b\0\0\0")),
        ("bytes", array("|S2", "False", "(2,)", b"a\0bc")),
        ("lines", text("cat\n-3\n\"7\"\n")),
        ("table", text("id;label\n1;a\n2;b\n")),
        ("objects", text("{\"id\":1,\"label\":\"a\"}\n")),
        ("refused_floats", array("<f4", "False", "(1,)", &[0; 4])),
        ("refused_binary", vec![0, 1, 2]),
    ]
}

fn csv_seeds() -> Seeds {
    let text = |text: &str| text.as_bytes().to_vec();
    vec![
        (
            "arrays",
            text("id,label,embedding,payload\n1,a,\"[0.5,1]\",\"{\"\"k\"\":1}\"\n"),
        ),
        (
            "columns",
            text("\tid\te0\te1\tcolour\n0\tx\t1\t-2e-3\tred\n"),
        ),
        ("refused_hole", text("e0,e2\n1,2\n")),
        ("refused_quote", text("id,embedding\n1,\"[1\n")),
    ]
}

fn jsonl_seeds() -> Seeds {
    let text = |text: &str| text.as_bytes().to_vec();
    vec![
        (
            "full",
            text("{\"id\":\"a\",\"embedding\":[0.5,1],\"label\":-1,\"payload\":{\"k\":[null]}}\n"),
        ),
        (
            "vectors",
            text("\u{feff}{\"vector\":[1e-3]}\n\n{\"values\":[2]}"),
        ),
        (
            "refused_length",
            text("{\"vector\":[1]}\n{\"vector\":[1,2]}\n"),
        ),
        ("refused_cut", text("{\"vector\":[1")),
    ]
}

fn judgement_seeds() -> Seeds {
    let text = |text: &str| text.as_bytes().to_vec();
    vec![
        ("trec", text("q1 0 d1 2\n7 Q0 d2 0\n")),
        ("beir", text("query-id\tcorpus-id\tscore\nq1\td1\t1\n")),
        ("csv", text("grade,query,item\n1.0,a,\"b\"\n")),
        (
            "jsonl",
            text("{\"query\":1,\"item\":\"x\",\"grade\":-1}\n{\"query\":1,\"item\":2}\n"),
        ),
        ("refused_grades", text("q 0 d 1\nq 0 d 2\n")),
        ("refused_layout", text("a b\n")),
    ]
}

/// Files of our own writing: numbers, and texts that look like numbers.
fn vector_seeds(format: Format) -> Seeds {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("seed");
    let file = |ids: [ItemId; 2], labels: [Label; 2]| {
        let set = VectorSet::new(2, vec![0.6, 0.8, 3.0, 0.0])
            .and_then(|set| set.with_ids(ids.to_vec()))
            .and_then(|set| set.with_labels(labels.to_vec()))
            .unwrap()
            .with_space(Some(SpaceId::new("a space").unwrap()));
        crate::vectors::write(&path, format, &set);
        std::fs::read(&path).unwrap()
    };
    let numbers = file(
        [1.into(), u64::MAX.into()],
        [Label::from(3_i64), Label::from(-4_i64)],
    );
    let texts = file([1.into(), "12".into()], ["a b".into(), "3".into()]);
    vec![
        ("refused_cut", numbers[..numbers.len() - 1].to_vec()),
        ("numbers", numbers),
        ("texts", texts),
    ]
}

fn image_seeds() -> Seeds {
    let pixels: Vec<u8> = (0..3 * 12 * 9).map(|i| (i * 5) as u8).collect();
    let rgb = image::RgbImage::from_raw(12, 9, pixels).unwrap();
    let image = image::DynamicImage::from(rgb);
    let encoded = |image: &image::DynamicImage, format| {
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    };
    let (png, jpeg) = (image::ImageFormat::Png, image::ImageFormat::Jpeg);
    let gif = encoded(&image, image::ImageFormat::Gif);
    let webp = encoded(&image, image::ImageFormat::WebP);
    let tiff = encoded(&image, image::ImageFormat::Tiff);
    vec![
        // Made by other encoders: libjpeg-turbo, ImageMagick, cwebp.
        (
            "progressive.jpg",
            include_bytes!("../../crates/perennial-data/testdata/progressive.jpg").to_vec(),
        ),
        (
            "restart.jpg",
            include_bytes!("../../crates/perennial-data/testdata/restart.jpg").to_vec(),
        ),
        (
            "cmyk.jpg",
            include_bytes!("../../crates/perennial-data/testdata/cmyk.jpg").to_vec(),
        ),
        (
            "lossy.webp",
            include_bytes!("../../crates/perennial-data/testdata/lossy.webp").to_vec(),
        ),
        ("rgb.bmp", encoded(&image, image::ImageFormat::Bmp)),
        ("refused_cut.gif", gif[..gif.len() - 1].to_vec()),
        ("rgb.gif", gif),
        ("refused_cut.webp", webp[..webp.len() - 3].to_vec()),
        ("rgb.webp", webp),
        ("refused_cut.tif", tiff[..tiff.len() - 9].to_vec()),
        ("rgb.tif", tiff),
        ("rgb.png", encoded(&image, png)),
        ("rgba.png", encoded(&image.to_rgba8().into(), png)),
        ("grey.png", encoded(&image.to_luma8().into(), png)),
        ("deep.png", encoded(&image.to_rgb16().into(), png)),
        ("rgb.jpg", encoded(&image, jpeg)),
        ("grey.jpg", encoded(&image.to_luma8().into(), jpeg)),
        ("refused_cut.jpg", encoded(&image, jpeg)[..300].to_vec()),
        (
            "refused_side.png",
            encoded(&image::DynamicImage::new_luma8(1025, 1), png),
        ),
    ]
}

fn preparation_seeds() -> Seeds {
    let seed = |json: &str| [b"\x06\x0b", json.as_bytes()].concat();
    vec![
        (
            "clip",
            seed(
                r#"{"size":{"shortest_edge":12},"crop_size":{"height":9,"width":7},"do_center_crop":true,"resample":3,"image_mean":[0.48,0.46,0.41],"image_std":[0.27,0.26,0.28],"rescale_factor":4e-3}"#,
            ),
        ),
        (
            "convnext",
            seed(
                r#"{"size":8,"crop_pct":0.875,"image_processor_type":"ConvNextImageProcessor","do_normalize":false}"#,
            ),
        ),
        (
            "timm",
            seed(
                r#"{"pretrained_cfg":{"input_size":[1,16,16],"crop_pct":0.95,"interpolation":"lanczos","mean":[0.5],"std":[0.2]}}"#,
            ),
        ),
        (
            "squash",
            seed(
                r#"{"input_size":[3,5,8],"crop_mode":"squash","crop_pct":1,"interpolation":"nearest"}"#,
            ),
        ),
        (
            "refused_key",
            seed(r#"{"size":8,"resample":2,"do_pad":true}"#),
        ),
        ("refused_cut", seed(r#"{"size":8"#)),
    ]
}

fn embeddings_seeds() -> Seeds {
    let file = |labels: Option<Vec<u32>>| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seed");
        let vectors = vec![0.6, 0.8, 1.0, 0.0];
        let embeddings = Embeddings::new("v0001", 2, vectors, vec![1, 2], labels).unwrap();
        write_embeddings(&embeddings, Output::prepare(&path).unwrap()).unwrap();
        std::fs::read(&path).unwrap()
    };
    let plain = file(None);
    vec![
        ("labels", file(Some(vec![3, 4]))),
        ("refused_cut", plain[..plain.len() - 1].to_vec()),
        ("no_labels", plain),
    ]
}

/// The description of an encoder of another program.
const OUTSIDE: &str = include_str!("../../crates/perennial-core/testdata/outside.toml");

fn model_seeds() -> Seeds {
    let text = model_toml(b"3");
    let version = ModelVersion::from_toml(&text).unwrap();
    let linear = text
        .replace("\"simplex\"", "\"linear\"")
        .replace("vertices = 4\nvertex_end = \"front\"\n", "")
        .replace("\"v0001\"", "\"v0003\"\nparent = \"v0002\"");
    vec![
        ("written", version.to_toml().into_bytes()),
        ("linear", linear.into_bytes()),
        (
            "refused_format",
            text.replace("format_version = 1", "format_version = 3")
                .into_bytes(),
        ),
        ("outside", OUTSIDE.as_bytes().to_vec()),
        (
            "refused_outside_file",
            OUTSIDE
                .replace("\"tokenizer.json\"", "\"../tokenizer.json\"")
                .into_bytes(),
        ),
    ]
}

fn alias_seeds() -> Seeds {
    vec![
        ("two", b"live = \"v0002\"\nprevious = \"v0001\"\n".to_vec()),
        ("dangling", b"live = 'v0009' # \\\n".to_vec()),
        ("refused_name", b"\"../live\" = \"v0001\"\n".to_vec()),
        ("refused_table", b"[live]\nname = \"v0001\"\n".to_vec()),
    ]
}

fn compatibility_seeds() -> Seeds {
    let probes = |name: &str| json!({"name": name, "count": 10, "sha256": "ab".repeat(32)});
    let record = |cross_test: f64| {
        json!({
            "query_version": "v0002", "gallery_version": "v0001", "self_test": 0.7237, "cross_test": cross_test,
            "margin": cross_test - 0.7237, "interval": {"low": -0.0036, "high": 1e-300},
            "queries": probes("q"), "gallery": probes("g"), "tie_rule": "strict", "verdict": "compatible",
            "created": "2026-11-22T21:35:00Z",
        })
    };
    let file = |schema: u32, records: &[Value]| {
        json!({"schema_version": schema, "records": records})
            .to_string()
            .into_bytes()
    };
    vec![
        ("none", file(1, &[])),
        ("one", file(1, &[record(0.75)])),
        ("repeated", file(1, &[record(0.1), record(0.3)])),
        ("refused_schema", file(2, &[])),
    ]
}

fn filter_seeds() -> Seeds {
    let labels = Filter {
        labels: Some(LabelFilter {
            any_of: Some(vec![1, 5]),
            from: Some(1),
            to: Some(4),
        }),
        ..Filter::default()
    };
    vec![
        ("nothing", b"{}".to_vec()),
        ("labels", serde_json::to_vec(&labels).unwrap()),
        ("payload", br#"{"payload":{"side":"left","n":1}}"#.to_vec()),
        ("all", br#"{"model_versions":["v0002"],"labels":{"from":0},"payload":{"side":"left"},"ids":["1",18446744073709551615]}"#.to_vec()),
        ("empty_conditions", br#"{"ids":[],"labels":{"any_of":[]},"model_versions":[],"payload":{}}"#.to_vec()),
        ("empty_labels", br#"{"labels":{}}"#.to_vec()),
        ("refused_null", br#"{"ids":null}"#.to_vec()),
        ("refused_everything", br#"{"everything":true}"#.to_vec()),
    ]
}

fn snapshot_file(items: Vec<perennial_gallery::Item>, vertices: Option<usize>) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let gallery = EmbeddedGallery::open(folder.path(), GalleryConfig::default()).unwrap();
    if let Some(vertices) = vertices {
        let space = StoreSpace {
            id: SpaceId::new("v0001").unwrap(),
            dim: vertices - 1,
            simplex: Some(SimplexIdentity { vertices }),
        };
        gallery.create_space(&space).unwrap();
    }
    gallery.upsert(items).unwrap();
    let path = folder.path().join("snapshot");
    gallery.snapshot(&path).unwrap();
    std::fs::read(&path).unwrap()
}

const DIGEST_BYTES: usize = 32;

fn snapshot_seeds() -> Seeds {
    let whole = snapshot_file(filtered_items(), Some(3));
    let with = |kind: u8, file: &[u8]| [&[kind], file].concat();
    let unsealed = |file: &[u8]| with(1, &file[..file.len() - DIGEST_BYTES]);
    let empty = snapshot_file(Vec::new(), None);
    let mut several = filtered_items();
    several.push(perennial_gallery::Item {
        id: "text".into(),
        embedding: vec![0.0, 0.6, 0.8],
        model_version: "text".to_owned(),
        ..several[0].clone()
    });
    let several = snapshot_file(several, Some(3));
    let old = include_bytes!("../../crates/perennial-gallery/testdata/format-1.snapshot");
    // A version name twice and a dimension that no vector has: both once passed.
    let header = |text: &str| {
        let length = (text.len() as u32).to_le_bytes();
        let start: &[u8] = b"perennial gallery\n\x01\0\0\0";
        with(1, &[start, &length, text.as_bytes()].concat())
    };
    let header_2 = |text: &str| {
        let mut seed = header(text);
        seed[1 + b"perennial gallery\n".len()] = 2;
        seed
    };
    vec![
        ("empty", unsealed(&empty)),
        ("items", unsealed(&whole)),
        ("items_of_format_1", with(0, old)),
        ("items_of_several_dimensions", unsealed(&several)),
        ("items_as_written", with(0, &whole)),
        ("refused_damaged", with(0, &whole[..whole.len() - 1])),
        (
            "refused_dim",
            header(r#"{"items":0,"dim":16385,"identity":null,"versions":[]}"#),
        ),
        (
            "refused_partition",
            header_2(
                r#"{"items":0,"spaces":[{"name":"a","partition":1}],"partitions":[{"dim":2,"simplex":null}]}"#,
            ),
        ),
        (
            "refused_versions",
            header(r#"{"items":0,"dim":2,"identity":null,"versions":["a","a"]}"#),
        ),
    ]
}

fn record_seeds() -> Seeds {
    let record = |id: &[u8], payload: &[u8], label: Option<u32>| {
        let mut bytes = vec![1];
        bytes.extend(1u32.to_le_bytes());
        bytes.push(u8::from(label.is_some()));
        bytes.extend(label.unwrap_or(0).to_le_bytes());
        bytes.extend((id.len() as u16).to_le_bytes());
        bytes.extend(id);
        bytes.extend((payload.len() as u32).to_le_bytes());
        bytes.extend(payload);
        bytes.extend([0.6f32, 0.8].iter().flat_map(|value| value.to_le_bytes()));
        bytes
    };
    vec![
        ("number", record(b"\0\0\0\0\0\0\0\0\x07", b"{}", None)),
        (
            "text",
            record(b"\x01cat", br#"{"n":[1,2.5,null]}"#, Some(3)),
        ),
        ("refused_payload", record(b"\x01cat", b"[]", Some(3))),
        ("refused_id", record(b"\x02cat", b"{}", None)),
    ]
}

fn http_seeds() -> Seeds {
    let json = |line: &str, body: Value| {
        format!("{line}\ncontent-type: application/json\n\n{body}").into_bytes()
    };
    let form = |line: &str, fields: &[(&str, &[u8])]| {
        let mut bytes =
            format!("{line}\ncontent-type: multipart/form-data; boundary=x\n\n").into_bytes();
        for (name, content) in fields {
            let head = format!(
                "--x\r\ncontent-disposition: form-data; name=\"{name}\"; filename=\"f\"\r\n\r\n"
            );
            bytes.extend([head.as_bytes(), content, b"\r\n"].concat());
        }
        bytes.extend(b"--x--\r\n");
        bytes
    };
    let get = |path: &str| format!("GET {path}\n\n").into_bytes();
    let png = perennial_encode::encode_png(&[90; 27], [3, 3, 3]).unwrap();
    let base64 = |bytes: &[u8]| {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode(bytes)
    };
    let item = json!({
        "id": "a", "embedding": [0.6, 0.8, 0.0], "model_version": "v0001", "label": 3, "payload": {"n": 1},
    });
    let mut then = json("PUT /gallery/items", item.clone());
    then.extend(b"\n%%\n");
    then.extend(get("/gallery/items/a?embedding=true"));
    let model = model_toml(b"3");
    let huge = model.replace("[3, 4, 4]", "[3, 16384, 16384]");
    let huge = form(
        "POST /models",
        &[("model", huge.as_bytes()), ("weights", b"3")],
    );
    let upload = form(
        "POST /models",
        &[
            ("model", model.as_bytes()),
            ("weights", b"3"),
            ("request", br#"{"parent":"v0001"}"#),
        ],
    );
    let gzip = |body: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(body).unwrap();
        let head = "POST /search\ncontent-type: application/json\ncontent-encoding: gzip\n\n";
        [head.as_bytes(), &encoder.finish().unwrap()].concat()
    };
    let compressed = gzip(b"{\"id\":1}");
    vec![
        (
            "refused_search_gzip_cut",
            compressed[..compressed.len() - 5].to_vec(),
        ),
        ("search_gzip", compressed),
        (
            "search_vector",
            json(
                "POST /search",
                json!({"embedding": [0.6, 0.8, 0.0], "limit": 2, "exact": true}),
            ),
        ),
        (
            "search_id",
            json(
                "POST /search",
                json!({"id": 1, "filter": {"labels": {"from": 2}, "payload": {"n": 2}}}),
            ),
        ),
        (
            "search_version",
            json(
                "POST /search",
                json!({"embedding": [0, 0, 1], "model_version": "v0002", "force": true}),
            ),
        ),
        (
            "search_image",
            json("POST /search", json!({"image": base64(&png)})),
        ),
        (
            "search_form",
            form(
                "POST /search",
                &[("request", b"{\"limit\":1}"), ("image", &png)],
            ),
        ),
        (
            "embed",
            json("POST /embed", json!({"images": [base64(&png)]})),
        ),
        ("put_item", json("PUT /gallery/items", item.clone())),
        ("put_then_get", then),
        (
            "put_batch",
            json(
                "POST /gallery/items:batch",
                json!({"items": [item, {"id": 4, "image": base64(&png)}], "force": false}),
            ),
        ),
        (
            "delete_ids",
            json("DELETE /gallery/items", json!({"ids": [1, "b"]})),
        ),
        (
            "delete_filter",
            json(
                "DELETE /gallery/items",
                json!({"filter": {"model_versions": ["v0001"]}}),
            ),
        ),
        (
            "list",
            get("/gallery/items?after=%221%22&limit=2&embeddings=true&model_version=v0001&label=2"),
        ),
        ("get_item", get("/gallery/items/2?embedding=true")),
        ("gallery", get("/gallery/stats")),
        ("models", get("/models")),
        ("upload", upload),
        (
            "move_live",
            json(
                "PUT /aliases/live",
                json!({"version": "v0002", "force": false, "dry_run": false}),
            ),
        ),
        ("compatibility", get("/compatibility")),
        ("snapshot", b"POST /snapshots\n\n".to_vec()),
        ("metrics", get("/metrics")),
        ("page", get("/")),
        (
            "refused_copy",
            json(
                "POST /models",
                json!({"path": "/nowhere", "version": "v0001", "parent": null}),
            ),
        ),
        (
            "refused_rollback",
            b"POST /aliases/live:rollback\n\n".to_vec(),
        ),
        (
            "refused_version",
            json("PUT /aliases/live", json!({"version": "v0009"})),
        ),
        ("refused_upload", huge),
        ("refused_path", get("/nowhere")),
    ]
}
