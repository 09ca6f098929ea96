//! Embeddings of two made-up encoders, as files of another program would hold them.

use std::fmt::Write;

use serde_json::json;

use crate::bench::Bench;

/// Classes of the made embeddings, as directions in 12 dimensions.
pub const CLASSES: usize = 6;
pub const OLD_DIM: usize = 12;

/// A number in [-1, 1] that depends on nothing but its arguments.
fn noise(seed: u64, row: usize, place: usize) -> f64 {
    let mut mixed = seed
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        .wrapping_add(row as u64 * 7919 + place as u64 * 104_729 + 1);
    for _ in 0..3 {
        mixed ^= mixed >> 31;
        mixed = mixed.wrapping_mul(0xBF58_476D_1CE4_E5B9);
    }
    (mixed >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}

/// What is behind an input: its class direction and its own detail.
fn input(seed: u64, row: usize) -> Vec<f64> {
    (0..OLD_DIM)
        .map(|place| {
            let class = f64::from(u8::from(place == row % CLASSES));
            class + 0.35 * noise(seed, row, place)
        })
        .collect()
}

/// Both encoders see the input with errors of their own; the old one's are larger. The new one has other axes.
pub fn embedding(encoder: &str, seed: u64, row: usize) -> Vec<f64> {
    let plain = input(seed, row);
    match encoder {
        "old" => (0..OLD_DIM)
            .map(|place| plain[place] + 0.75 * noise(seed + 1, row, place))
            .collect(),
        _ => (0..OLD_DIM)
            .map(|place| {
                let turned = (place * 5 + 3) % OLD_DIM;
                let sign = if place % 2 == 0 { 1.0 } else { -1.0 };
                sign * (plain[turned] + 0.25 * noise(seed + 2, row, turned))
            })
            .collect(),
    }
}

/// JSON lines with ids, labels and embeddings.
pub fn lines(encoder: &str, seed: u64, rows: usize, labels: bool) -> String {
    let mut text = String::new();
    for row in 0..rows {
        let mut line =
            json!({"id": format!("{seed}-{row}"), "embedding": embedding(encoder, seed, row)});
        if labels {
            line["label"] = json!(row % CLASSES);
        }
        writeln!(text, "{line}").unwrap();
    }
    text
}

/// Fit sets, queries and galleries of both encoders.
pub fn files() -> Bench {
    let bench = Bench::new();
    for encoder in ["old", "new"] {
        for (name, seed, rows, labels) in [
            ("fit", 10, 400, false),
            ("queries", 20, 300, true),
            ("gallery", 30, 300, true),
        ] {
            bench.write(
                &format!("{encoder}-{name}.jsonl"),
                &lines(encoder, seed, rows, labels),
            );
        }
    }
    bench
}
