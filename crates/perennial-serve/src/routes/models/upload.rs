//! An uploaded version: its description, and its weights or files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use axum::body::Bytes;
use perennial_core::{EncoderKind, ModelVersion, OutsideEncoder, sha256_hex};

use crate::body::FormFile;
use crate::error::ApiError;

/// The fields of an upload's files.
pub(super) const UPLOAD_FIELDS: [&str; 3] = ["model", "weights", "file"];
/// Files of an upload, `model.toml` included. Graphs with their tensors in files of their own are the ones with most.
pub(super) const MAX_FILES: usize = 1024;
const MAX_MODEL_TOML_BYTES: usize = 1 << 20;

/// What was sent, complete and with the hashes of `model.toml`.
pub(super) struct Upload {
    pub(super) version: ModelVersion,
    content: Content,
}

enum Content {
    Weights(Bytes),
    /// In the order of `model.toml`, whose names were checked when it was read.
    Files(Vec<(String, Bytes)>),
}

impl Upload {
    /// Reads what was sent. Nothing is written.
    ///
    /// # Errors
    /// 422 for files that are missing, doubled, not listed, or other ones than `model.toml` says.
    pub(super) fn of(sent: Vec<FormFile>) -> Result<Self, ApiError> {
        let (mut model, mut weights, mut files) = (None, None, Vec::new());
        for FormFile {
            field,
            file_name,
            bytes,
        } in sent
        {
            let place = match field.as_str() {
                "model" => &mut model,
                "weights" => &mut weights,
                _ => {
                    files.push((file_name, bytes));
                    continue;
                }
            };
            if place.replace(bytes).is_some() {
                return Err(refused(format!("{field}: occurs twice")));
            }
        }
        let model = model.ok_or_else(|| {
            refused(
                "expected the field `model` (model.toml), and beside it `weights` (weights.safetensors), or for an encoder of another program \
                 a field `file` for each of its files",
            )
        })?;
        let version = described(&model)?;
        // Whoever may send requests here must not choose which host this machine asks, and which of its keys or files that host is shown.
        let kind = version.outside().map(|outside| outside.kind);
        if kind == Some(EncoderKind::Endpoint) {
            return Err(refused(
                "model: is an embedding service, which cannot be uploaded, since it names an address and a key of this machine; \
                 import it there with `perennial models import --endpoint URL`",
            ));
        }
        let content = match (version.outside(), weights) {
            (None, Some(weights)) if files.is_empty() => {
                check(
                    "weights",
                    &weights,
                    version.weights_bytes,
                    &version.weights_sha256,
                )?;
                Content::Weights(weights)
            }
            (None, _) => {
                return Err(refused(
                    "model: has a network that was trained here; send its weights.safetensors as `weights`, and no `file`",
                ));
            }
            (Some(_), Some(_)) => {
                return Err(refused(
                    "model: is the encoder of another program; send its files as `file`, each with its name, and no `weights`",
                ));
            }
            (Some(outside), None) => Content::Files(listed(outside, files)?),
        };
        Ok(Self { version, content })
    }

    /// The weights of a network that was trained here.
    pub(super) fn weights(&self) -> &[u8] {
        match &self.content {
            Content::Weights(weights) => weights,
            Content::Files(_) => &[],
        }
    }

    /// Writes the files of an encoder of another program into an empty folder. Gives their names and paths.
    ///
    /// # Errors
    /// 500 for a folder that cannot be written.
    pub(super) fn write(&self, folder: &Path) -> Result<Vec<(String, PathBuf)>, ApiError> {
        let Content::Files(files) = &self.content else {
            return Ok(Vec::new());
        };
        let mut written = Vec::with_capacity(files.len());
        for (name, content) in files {
            let path = folder.join(name);
            std::fs::write(&path, content).map_err(ApiError::internal)?;
            written.push((name.clone(), path));
        }
        Ok(written)
    }
}

fn described(model: &[u8]) -> Result<ModelVersion, ApiError> {
    if model.len() > MAX_MODEL_TOML_BYTES {
        return Err(refused("model: too large for a model.toml"));
    }
    let text = std::str::from_utf8(model).map_err(|_| refused("model: is not UTF-8 text"))?;
    ModelVersion::from_toml(text).map_err(|error| refused(format!("model: {error}")))
}

/// The files that `model.toml` lists, each of which must have been sent once, and no other.
fn listed(
    outside: &OutsideEncoder,
    sent: Vec<(Option<String>, Bytes)>,
) -> Result<Vec<(String, Bytes)>, ApiError> {
    let mut by_name = BTreeMap::new();
    for (name, bytes) in sent {
        let Some(name) = name else {
            return Err(refused(
                "file: has no file name; send each file under the name that model.toml lists",
            ));
        };
        if by_name.insert(name.clone(), bytes).is_some() {
            return Err(refused(format!("file: {} was sent twice", shown(&name))));
        }
    }
    let mut files = Vec::with_capacity(outside.files.len());
    for file in &outside.files {
        let Some(bytes) = by_name.remove(&file.name) else {
            return Err(refused(format!(
                "file: {} is missing, which model.toml lists",
                file.name
            )));
        };
        check(&file.name, &bytes, file.bytes, &file.sha256)?;
        files.push((file.name.clone(), bytes));
    }
    match by_name.keys().next() {
        None => Ok(files),
        Some(other) => Err(refused(format!(
            "file: {} is not listed in model.toml",
            shown(other)
        ))),
    }
}

fn check(what: &str, content: &[u8], bytes: u64, sha256: &str) -> Result<(), ApiError> {
    if content.len() as u64 == bytes && sha256_hex(content) == sha256 {
        return Ok(());
    }
    Err(refused(format!(
        "{what}: size or SHA-256 differs from model.toml; the file was damaged in transit"
    )))
}

/// The start of a name that a client sent.
fn shown(name: &str) -> String {
    format!("{:?}", name.chars().take(100).collect::<String>())
}

fn refused(problem: impl Into<String>) -> ApiError {
    ApiError::unprocessable(problem)
}
