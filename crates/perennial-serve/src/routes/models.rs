//! `GET /models` and `POST /models`.

mod upload;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use perennial_core::{EncoderKind, Modality, ModelVersion, Registry, RegistryError};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use self::upload::{MAX_FILES, UPLOAD_FIELDS, Upload};
use crate::authorize::{MayRead, MayWrite};
use crate::blocking::blocking;
use crate::body::{Format, Received};
use crate::config::Limits;
use crate::error::ApiError;
use crate::gallery::Gallery;
use crate::inference::Inference;
use crate::openapi::{Guarded, WithBody};
use crate::planning::Planning;
use crate::receive::BodyBudget;
use crate::trials::Trials;

/// All versions and aliases.
#[derive(Serialize, ToSchema)]
pub(crate) struct ModelsBody {
    /// The version that answers.
    live: Option<String>,
    /// The version that a rollback returns to.
    previous: Option<String>,
    /// Aliases and the versions that they point to.
    aliases: BTreeMap<String, String>,
    /// Oldest first.
    models: Vec<ModelBody>,
}

/// One version.
#[derive(Serialize, ToSchema)]
pub(crate) struct ModelBody {
    name: String,
    /// The version that it updates or replaces.
    parent: Option<String>,
    /// `pretrained`, `update`, `replacement` or `imported`.
    #[schema(value_type = String)]
    role: perennial_core::Role,
    method: String,
    /// What it was trained on.
    data: String,
    /// RFC 3339, UTC.
    created: String,
    dim: usize,
    /// What computes its embeddings: `network` for one that was trained here, `onnx` or `token_table` for encoders of other programs,
    /// `endpoint` for an embedding service that is asked over HTTP.
    encoder: &'static str,
    /// What it embeds: `image`, `text` or both.
    #[schema(value_type = Vec<String>)]
    accepts: &'static [Modality],
    /// Channels, height and width of the images that its network is given; null where it embeds texts alone.
    input: Option<[usize; 3]>,
    /// Vertices of the simplex that its embeddings were trained onto; null for a linear classifier, for encoders of other programs without a linear
    /// layer onto one, and where the embeddings are the features in front of that layer.
    simplex_vertices: Option<usize>,
    weights_sha256: String,
    /// Items in the gallery that it embedded.
    stored_items: u64,
}

impl ModelBody {
    fn new(version: ModelVersion, stored: &BTreeMap<String, u64>) -> Self {
        Self {
            encoder: match version.outside().map(|outside| outside.kind) {
                None => "network",
                Some(EncoderKind::Onnx) => "onnx",
                Some(EncoderKind::TokenTable) => "token_table",
                Some(EncoderKind::Endpoint) => "endpoint",
            },
            accepts: version.accepts(),
            input: input(&version),
            simplex_vertices: version.simplex_vertices(),
            stored_items: stored.get(&version.name).copied().unwrap_or(0),
            name: version.name,
            parent: version.parent,
            role: version.role,
            method: version.method,
            data: version.data,
            created: version.created,
            dim: version.dim,
            weights_sha256: version.weights_sha256,
        }
    }
}

/// Channels, height and width of the images that a version's network is given.
fn input(version: &ModelVersion) -> Option<[usize; 3]> {
    match version.network() {
        Some(network) => Some(network.architecture.input),
        None => {
            let preparation = &version.outside()?.image.as_ref()?.preparation;
            let [height, width] = preparation.size;
            Some([preparation.channels.count(), height, width])
        }
    }
}

/// A version in a registry folder that the service can read.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AddRequest {
    /// The registry's folder.
    #[schema(value_type = String)]
    path: PathBuf,
    /// A version or an alias in it.
    version: String,
    /// The version of this registry that it updates or replaces. Names of the other registry mean nothing here.
    parent: Option<String>,
}

/// An upload.
#[derive(ToSchema)]
#[allow(dead_code, reason = "describes a form")]
pub(crate) struct AddForm {
    /// The file `model.toml`.
    #[schema(value_type = String, format = Binary)]
    model: Vec<u8>,
    /// The file `weights.safetensors`, of a network that was trained here.
    #[schema(value_type = Option<String>, format = Binary)]
    weights: Option<Vec<u8>>,
    /// Of an encoder of another program: each file that `model.toml` lists, under the name that it has there.
    #[schema(value_type = Option<Vec<String>>, format = Binary)]
    file: Option<Vec<Vec<u8>>>,
    /// Settings, as JSON.
    request: Option<UploadRequest>,
}

/// Settings of an upload.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UploadRequest {
    /// The version of this registry that it updates or replaces.
    parent: Option<String>,
}

/// Lists versions and aliases.
#[utoipa::path(
    get,
    path = "/models",
    tag = "models",
    responses((status = 200, description = "Versions and aliases.", body = ModelsBody), Guarded),
    security(("key" = []))
)]
pub(crate) async fn list(
    _: MayRead,
    State(registry): State<Arc<Registry>>,
    State(gallery): State<Arc<Gallery>>,
    State(inference): State<Arc<Inference>>,
    State(planning): State<Arc<Planning>>,
) -> Result<Json<ModelsBody>, ApiError> {
    blocking(move || {
        let stored = gallery.stored();
        let models = registry.list()?;
        Ok(Json(ModelsBody {
            live: inference.live.current().map(|live| live.name().to_owned()),
            previous: planning.previous(),
            aliases: registry.aliases()?,
            models: models
                .into_iter()
                .map(|version| ModelBody::new(version, &stored.per_version))
                .collect(),
        }))
    })
    .await
}

/// Adds a version: from another registry's folder, or as an upload. It gets the next free name. It is tried first; a version
/// that cannot be loaded leaves nothing behind.
#[utoipa::path(
    post,
    path = "/models",
    tag = "models",
    request_body(content((AddRequest = "application/json"), (AddForm = "multipart/form-data"))),
    responses(
        (status = 201, description = "Published.", body = ModelBody),
        Guarded,
        WithBody
    ),
    security(("key" = []))
)]
pub(crate) async fn add(
    _: MayWrite,
    State(limits): State<Arc<Limits>>,
    State(budget): State<BodyBudget>,
    State(gallery): State<Arc<Gallery>>,
    State(trials): State<Arc<Trials>>,
    request: Request,
) -> Result<(StatusCode, Json<ModelBody>), ApiError> {
    let formats = [Format::Json, Format::Multipart];
    let limit = limits.model_bytes;
    let (format, received) = Received::read(&budget, request, &formats, limit).await?;
    let published = match format {
        Format::Json => {
            let request: AddRequest = received.json().await?;
            blocking(move || copy(&trials, &request, limit as u64)).await?
        }
        Format::Multipart => {
            let mut form = received.form(&UPLOAD_FIELDS, MAX_FILES).await?;
            let settings: UploadRequest = form.request().await?;
            blocking(move || add_uploaded(&trials, Upload::of(form.files)?, settings)).await?
        }
    };
    tracing::info!(version = published.name, "a model version was added");
    let body = ModelBody::new(published, &gallery.stored().per_version);
    Ok((StatusCode::CREATED, Json(body)))
}

fn copy(trials: &Trials, request: &AddRequest, limit: u64) -> Result<ModelVersion, ApiError> {
    let refused = |error: RegistryError| ApiError::unprocessable(error.to_string());
    let other = Registry::open(&request.path).map_err(refused)?;
    let version = other.get(&request.version).map_err(refused)?;
    if version.weights_bytes > limit {
        return Err(ApiError::unprocessable(format!(
            "{} has {} bytes of weights and other files; the limit is {}",
            version.name, version.weights_bytes, limit
        )));
    }
    let parent = request.parent.clone();
    let Some(outside) = version.outside() else {
        let weights = other.load_weights(&version).map_err(refused)?;
        let publish_in = |registry: &Registry, draft| registry.publish(draft, &weights);
        return trials.publish(version.draft(), publish_in, parent);
    };
    let folder = other.verified_folder(&version).map_err(refused)?;
    let files = outside.files.iter();
    let files: Vec<(String, PathBuf)> = files
        .map(|file| (file.name.clone(), folder.join(&file.name)))
        .collect();
    let publish_in = |registry: &Registry, draft| registry.publish_files(draft, &files);
    trials.publish(version.draft(), publish_in, parent)
}

fn add_uploaded(
    trials: &Trials,
    upload: Upload,
    settings: UploadRequest,
) -> Result<ModelVersion, ApiError> {
    let draft = upload.version.draft();
    if upload.version.outside().is_none() {
        let publish_in = |registry: &Registry, draft| registry.publish(draft, upload.weights());
        return trials.publish(draft, publish_in, settings.parent);
    }
    let folder = trials.registry.trial_folder()?;
    let files = upload.write(folder.path())?;
    let publish_in = |registry: &Registry, draft| registry.publish_files(draft, &files);
    trials.publish(draft, publish_in, settings.parent)
}
