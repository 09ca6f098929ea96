//! Published encoders against their reference runtimes. `experiments/encoders/export.py FOLDER` makes them; without `PERENNIAL_ENCODERS=FOLDER`
//! nothing is compared. With `PERENNIAL_ONNXRUNTIME=FILE` as well, in a build with the feature `onnxruntime`, each runs in both runtimes.
#![cfg(feature = "onnx")]
#![allow(clippy::unwrap_used)]

use std::path::Path;

use perennial_core::EncoderFile;
use perennial_encode::import::{self, ImportOptions};
use perennial_encode::{Encoder, GraphRuntime, Input, InputType, OutsideModel, Prepared, Values};
use safetensors::SafeTensors;

/// Encoders, and by how much a value of a unit vector may differ from the reference's. The last product of the dynamic graph is rounded to
/// 8 bits, and a last bit before it can move a value to the next step.
const ENCODERS: [(&str, f32); 7] = [
    ("lite0", 2e-6),
    ("lite2", 2e-6),
    ("minilm", 2e-6),
    ("minilm-int8", 2e-6),
    ("minilm-dynamic", 2e-2),
    ("wordllama", 2e-6),
    ("sface", 2e-6),
];

fn floats(tensors: &SafeTensors<'_>, name: &str) -> Option<(Vec<usize>, Vec<f32>)> {
    let tensor = tensors.tensor(name).ok()?;
    let values = tensor
        .data()
        .as_chunks()
        .0
        .iter()
        .map(|&value| f32::from_le_bytes(value));
    Some((tensor.shape().to_vec(), values.collect()))
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(&a, &b)| f64::from(a) * f64::from(b))
        .sum()
}

#[test]
fn published_encoders_give_the_embeddings_of_their_reference_runtimes() {
    let Some(encoders) = std::env::var_os("PERENNIAL_ENCODERS") else {
        eprintln!(
            "skipped: PERENNIAL_ENCODERS does not name the folder that experiments/encoders/export.py writes"
        );
        return;
    };
    let mut runtimes = vec![GraphRuntime::Rten];
    if let Some(library) = std::env::var_os("PERENNIAL_ONNXRUNTIME")
        && cfg!(feature = "onnxruntime")
    {
        runtimes.push(GraphRuntime::Onnxruntime(library.into()));
    }
    let mut compared = 0;
    for (name, tolerance) in ENCODERS {
        let folder = Path::new(&encoders).join(name);
        if !folder.is_dir() {
            eprintln!("{name}: skipped, as {} is not there", folder.display());
            continue;
        }
        for runtime in &runtimes {
            compare(name, &folder, tolerance, runtime);
            compared += 1;
        }
    }
    assert!(
        compared > 0,
        "no encoder in {}",
        Path::new(&encoders).display()
    );
}

fn compare(name: &str, folder: &Path, tolerance: f32, runtime: &GraphRuntime) {
    // Only the table has no file that says how long a text may be.
    let max_tokens = (name == "wordllama").then_some(512);
    let started = std::time::Instant::now();
    let imported = import::read(
        folder,
        &ImportOptions {
            max_tokens,
            runtime: runtime.clone(),
            ..ImportOptions::default()
        },
    )
    .unwrap();
    let published = tempfile::tempdir().unwrap();
    let mut spec = imported.spec;
    for (file, source) in &imported.files {
        let bytes = std::fs::copy(source, published.path().join(file)).unwrap();
        spec.files.push(EncoderFile {
            name: file.clone(),
            sha256: String::new(),
            bytes,
        });
    }
    let import = started.elapsed();
    let started = std::time::Instant::now();
    let model = OutsideModel::load(name, imported.dim, &spec, published.path(), runtime).unwrap();
    let load = started.elapsed();
    let content = std::fs::read(folder.join("reference.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&content).unwrap();
    let (shape, expected) = floats(&tensors, "embeddings").unwrap();
    assert_eq!(shape[1], imported.dim);
    let batch: Vec<Prepared> = match floats(&tensors, "pixels") {
        Some((pixels, values)) => {
            let one = pixels[1..].iter().product();
            values
                .chunks_exact(one)
                .map(|values| Prepared {
                    values: Values::Pixels(values.to_vec()),
                })
                .collect()
        }
        None => {
            let texts = std::fs::read(folder.join("reference-texts.json")).unwrap();
            let texts: Vec<String> = serde_json::from_slice(&texts).unwrap();
            let input = |text| Input::Text {
                text,
                input_type: InputType::Document,
            };
            texts
                .iter()
                .map(|text| model.prepare(input(text)).unwrap())
                .collect()
        }
    };
    assert_eq!(shape[0], batch.len());
    let together = model.encode(&batch).unwrap();
    let alone: Vec<f32> = batch
        .iter()
        .flat_map(|input| model.encode(std::slice::from_ref(input)).unwrap())
        .collect();
    let largest = |a: &[f32], b: &[f32]| {
        a.iter()
            .zip(b)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max)
    };
    let rows = together
        .chunks_exact(imported.dim)
        .zip(expected.chunks_exact(imported.dim));
    let lowest = rows.map(|(a, b)| cosine(a, b)).fold(1.0, f64::min);
    let (difference, batched) = (largest(&together, &expected), largest(&together, &alone));
    eprintln!(
        "{name} in {}: {} values, largest difference {difference:.1e}, lowest cosine {lowest:.8}; in a batch and alone {batched:.1e}; \
             import {import:.1?}, load {load:.1?}",
        runtime.open().unwrap(),
        imported.dim
    );
    assert!(difference <= tolerance, "{name}: {difference:e}");
    assert!(batched <= 2e-6, "{name}: {batched:e}");
}
