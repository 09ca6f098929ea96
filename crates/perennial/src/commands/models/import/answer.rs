//! What `perennial models import` says of a checkpoint that became a version.

use std::path::Path;

use perennial_train::import::{Found, TOP_LEVEL};
use serde::Serialize;

/// Names of tensors that are left out, shown at most.
const SHOWN: usize = 3;

#[derive(Serialize)]
pub struct Answer<'a> {
    pub version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alias: Option<&'a str>,
    pub file: &'a Path,
    /// The dictionary that the weights were in; a dot for the top level.
    pub key: &'a str,
    pub tensors: usize,
    /// Whole numbers in the same dictionary, which no network uses.
    pub counters: usize,
    /// Tensors elsewhere in the file that are neither the network's nor an optimizer's.
    pub left_out: &'a [String],
    pub network: String,
    pub dim: usize,
    pub classes: Sourced<usize>,
    pub size: Sourced<usize>,
    pub mean: Sourced<[f32; 3]>,
    pub std: Sourced<[f32; 3]>,
    pub weights_sha256: &'a str,
}

/// A value and whether it was given or where it was read.
#[derive(Serialize)]
pub struct Sourced<T> {
    pub value: T,
    pub source: String,
}

impl<T> From<Found<T>> for Sourced<T> {
    fn from(Found { value, source }: Found<T>) -> Self {
        Self { value, source }
    }
}

/// A key as a place, for sentences.
pub fn place(key: &str) -> String {
    if key == TOP_LEVEL {
        "at its top level".to_owned()
    } else {
        format!("under the key {key}")
    }
}

/// The answer for people.
pub fn text(answer: &Answer<'_>) -> String {
    let mut lines = vec![
        format!(
            "{} from {}: {} tensors {}, dimension {}",
            answer.version,
            answer.file.display(),
            answer.tensors,
            place(answer.key),
            answer.dim
        ),
        format!("network: {}", answer.network),
        format!(
            "images:  {side}x{side} pixels ({}), mean {:?} ({}), std {:?} ({})",
            answer.size.source,
            answer.mean.value,
            answer.mean.source,
            answer.std.value,
            answer.std.source,
            side = answer.size.value,
        ),
        format!(
            "classes: {} ({})",
            answer.classes.value, answer.classes.source
        ),
    ];
    if !answer.left_out.is_empty() {
        let shown = &answer.left_out[..answer.left_out.len().min(SHOWN)];
        let more = match answer.left_out.len() - shown.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        lines.push(format!(
            "left out, not part of this network: {}{more}",
            shown.join(", ")
        ));
    }
    lines.join("\n")
}
