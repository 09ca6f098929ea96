//! Errors: the answers to clients, and the reasons why a service cannot start.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use perennial_core::RegistryError;
use perennial_gallery::GalleryError;
use serde::Serialize;
use serde_json::Value;
use thiserror::Error;
use utoipa::ToSchema;

/// Why the service could not start or had to stop.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServeError {
    /// A setting that cannot work.
    #[error("setting {key}: {problem}")]
    Config {
        /// The key, with its table.
        key: Cow<'static, str>,
        /// What is wrong with it.
        problem: String,
    },
    /// A setting that cannot work now, and may later without being changed.
    #[error("setting {key}: {problem}")]
    NotYet {
        /// The key, with its table.
        key: Cow<'static, str>,
        /// What is lacking.
        problem: String,
    },
    /// Keys that cannot be used.
    #[error("{origin}: {problem}")]
    Keys {
        /// The file or the variable.
        origin: String,
        /// What is wrong, without the key itself.
        problem: String,
    },
    /// A certificate or private key that cannot be used.
    #[error("{}: {problem}", path.display())]
    Tls {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The address is in use or not an address of this machine.
    #[error(
        "cannot listen on {address}: {source}; choose another address or stop the other program"
    )]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// The live version cannot be used.
    #[error("the live version {version} cannot be served: {problem}; promote another version")]
    Live {
        /// Its name.
        version: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The registry cannot be read.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The gallery cannot be read or flushed.
    #[error(transparent)]
    Gallery(#[from] GalleryError),
    /// The listener failed while serving.
    #[error("serving stopped: {0}")]
    Io(#[from] std::io::Error),
    /// A part of the service ended before its time.
    #[error("an internal task ended: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// The kinds of errors, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// 400: no JSON, no multipart, or no such parameter.
    BadRequest,
    /// 401: no key, or one that is not known.
    Unauthorized,
    /// 403: a key without the right to write, or a request that another web site made.
    Forbidden,
    /// 403: the service only reads; no key changes that.
    ReadOnly,
    /// 404: no such path, item or version.
    NotFound,
    /// 404: a request for embeddings named a model that does not answer here.
    ModelNotFound,
    /// 405: the path exists, the method does not.
    MethodNotAllowed,
    /// 408: the body did not arrive within the time limit.
    RequestTimeout,
    /// 409: a version that is not certified compatible with what is stored.
    IncompatibleVersion,
    /// 409: a model version did not pass the checks of a swap.
    CheckFailed,
    /// 409: not possible in the current state.
    Conflict,
    /// 413: more bytes than allowed.
    PayloadTooLarge,
    /// 415: neither JSON nor multipart, or compressed in another way than with gzip.
    UnsupportedMediaType,
    /// 422: understood, but not usable.
    Unprocessable,
    /// 429: too much at once; `Retry-After` says when to come back.
    TooManyRequests,
    /// 500: a defect of the service.
    Internal,
    /// 502: an upstream, or the embedding service behind a version, cannot be reached, fails, or answers nonsense.
    UpstreamFailed,
    /// 504: an upstream, or the embedding service behind a version, did not answer in time.
    UpstreamTimeout,
    /// 503: not possible now, such as writes on a full disk; `Retry-After` says when to come back.
    Unavailable,
    /// 503: the time limit was reached; a write may still have happened.
    Timeout,
}

impl Code {
    /// The HTTP status of the code.
    pub fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden | Self::ReadOnly => StatusCode::FORBIDDEN,
            Self::NotFound | Self::ModelNotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::IncompatibleVersion | Self::CheckFailed | Self::Conflict => StatusCode::CONFLICT,
            Self::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Unprocessable => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::UpstreamFailed => StatusCode::BAD_GATEWAY,
            Self::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::Unavailable | Self::Timeout => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The `type` that a client of OpenAI's protocol reads.
    fn openai_type(self) -> &'static str {
        match self {
            Self::Unauthorized => "authentication_error",
            Self::Forbidden | Self::ReadOnly => "permission_error",
            Self::TooManyRequests => "rate_limit_error",
            code if code.status().is_server_error() => "server_error",
            _ => "invalid_request_error",
        }
    }

    /// The code for a response that did not come from a handler.
    fn of(status: StatusCode) -> Self {
        match status {
            StatusCode::UNAUTHORIZED => Self::Unauthorized,
            StatusCode::FORBIDDEN => Self::Forbidden,
            StatusCode::NOT_FOUND => Self::NotFound,
            StatusCode::METHOD_NOT_ALLOWED => Self::MethodNotAllowed,
            StatusCode::REQUEST_TIMEOUT => Self::RequestTimeout,
            StatusCode::CONFLICT => Self::Conflict,
            StatusCode::PAYLOAD_TOO_LARGE => Self::PayloadTooLarge,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Self::UnsupportedMediaType,
            StatusCode::UNPROCESSABLE_ENTITY => Self::Unprocessable,
            StatusCode::TOO_MANY_REQUESTS => Self::TooManyRequests,
            StatusCode::BAD_GATEWAY => Self::UpstreamFailed,
            StatusCode::SERVICE_UNAVAILABLE => Self::Unavailable,
            StatusCode::GATEWAY_TIMEOUT => Self::UpstreamTimeout,
            status if status.is_client_error() => Self::BadRequest,
            _ => Self::Internal,
        }
    }
}

/// The body of every answer that is an error.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorBody {
    /// The error.
    pub error: ErrorDetail,
}

/// One error.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorDetail {
    /// Its kind.
    pub code: Code,
    /// The problem and the remedy, for people.
    pub message: String,
    /// The answer's `x-request-id`, which the log repeats.
    pub request_id: String,
    /// More, depending on the code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<Value>,
    /// Only below `/v1`: the kind of the error as OpenAI names it.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<&'static str>,
    /// Only below `/v1`: the key of the request that is wrong, or null.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub param: Option<Value>,
}

/// The form of errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorForm {
    /// Everywhere else.
    Own,
    /// Below `/v1`: the same, with what clients of OpenAI's protocol read as well.
    OpenAi,
}

impl ErrorForm {
    pub(crate) fn of_path(path: &str) -> Self {
        match path.starts_with("/v1/") {
            true => Self::OpenAi,
            false => Self::Own,
        }
    }
}

/// An error on its way to the client. The request id joins it in the outermost layer.
#[derive(Debug, Clone, Error)]
#[error("{message}")]
pub(crate) struct ApiError {
    pub(crate) code: Code,
    pub(crate) message: String,
    pub(crate) details: Option<Value>,
    /// Seconds after which to try again, where they are known.
    pub(crate) retry_after: Option<u64>,
}

/// Seconds after which a refused client may try again: enough for any queue of the service to empty.
const RETRY_SOON: HeaderValue = HeaderValue::from_static("1");
/// The same where the gallery's database is busy.
const BUSY_DATABASE: Duration = Duration::from_secs(2);
/// The same for conditions that an operator must resolve first.
const RETRY_LATER: HeaderValue = HeaderValue::from_static("10");

impl ApiError {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            details: None,
            retry_after: None,
        }
    }

    /// With the time after which to try again, in whole seconds and at least one.
    pub(crate) fn retry_after(self, time: Duration) -> Self {
        let seconds = time.as_secs() + u64::from(time.subsec_nanos() > 0);
        Self {
            retry_after: Some(seconds.max(1)),
            ..self
        }
    }

    /// Whether it is only a matter of time until the same succeeds, and of no more.
    pub(crate) fn is_passing(&self) -> bool {
        match self.code {
            Code::TooManyRequests => true,
            Code::Unavailable => self.retry_after.is_some(),
            _ => false,
        }
    }

    pub(crate) fn with_details(self, details: Value) -> Self {
        Self {
            details: Some(details),
            ..self
        }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(Code::BadRequest, message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(Code::NotFound, message)
    }

    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(Code::Conflict, message)
    }

    pub(crate) fn too_large(message: impl Into<String>) -> Self {
        Self::new(Code::PayloadTooLarge, message)
    }

    pub(crate) fn unprocessable(message: impl Into<String>) -> Self {
        Self::new(Code::Unprocessable, message)
    }

    pub(crate) fn too_many(message: impl Into<String>) -> Self {
        Self::new(Code::TooManyRequests, message)
    }

    pub(crate) fn read_only() -> Self {
        Self::new(
            Code::ReadOnly,
            "this service only reads (`read_only`); send changes to the service that writes this gallery",
        )
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(Code::Unavailable, message)
    }

    /// An internal error: the reason goes to the log, not to the client.
    pub(crate) fn internal(reason: impl std::fmt::Display) -> Self {
        tracing::error!(%reason, "a request failed");
        Self::new(
            Code::Internal,
            "the request failed inside the service; the log has the reason under this request id",
        )
    }

    /// The message for a response that did not come from a handler.
    pub(crate) fn of_status(status: StatusCode) -> Self {
        let code = Code::of(status);
        let message = match code {
            Code::NotFound => "unknown path; GET /openapi.json lists all paths",
            Code::MethodNotAllowed => "the path does not support this method; see the allow header",
            Code::Internal => {
                "the request failed inside the service; the log has the reason under this request id"
            }
            _ => status
                .canonical_reason()
                .unwrap_or("the request was refused"),
        };
        Self::new(code, message)
    }

    /// The error as JSON, with the headers that go with it.
    pub(crate) fn respond(self, request_id: &str, form: ErrorForm) -> Response {
        let code = self.code;
        let param = self
            .details
            .as_ref()
            .and_then(|details| details.get("param"));
        let (kind, param) = match form {
            ErrorForm::Own => (None, None),
            ErrorForm::OpenAi => (
                Some(code.openai_type()),
                Some(param.cloned().unwrap_or(Value::Null)),
            ),
        };
        let body = ErrorBody {
            error: ErrorDetail {
                code,
                message: self.message,
                request_id: request_id.to_owned(),
                details: self.details,
                kind,
                param,
            },
        };
        let mut response = (code.status(), axum::Json(body)).into_response();
        let headers = response.headers_mut();
        match code {
            Code::TooManyRequests | Code::Timeout => {
                headers.insert(header::RETRY_AFTER, RETRY_SOON);
            }
            Code::Unavailable => {
                headers.insert(header::RETRY_AFTER, RETRY_LATER);
            }
            Code::Unauthorized => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.code.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<GalleryError> for ApiError {
    fn from(error: GalleryError) -> Self {
        match error {
            error if error.is_invalid_input() => Self::unprocessable(error.to_string()),
            GalleryError::IdentityMismatch { .. } | GalleryError::IdentityDimension { .. } => {
                Self::conflict(error.to_string())
            }
            GalleryError::Compacting | GalleryError::NotOffered { .. } => {
                Self::conflict(error.to_string())
            }
            GalleryError::ReadOnly { .. } => Self::read_only(),
            GalleryError::NotMapped { .. } => Self::unavailable(error.to_string()),
            GalleryError::NoSpace { needed, free, .. } => Self::unavailable(format!(
                "not enough free disk space to compact: about {needed} bytes are needed, {free} are free; nothing was changed"
            )),
            GalleryError::Storage { .. }
            | GalleryError::File { .. }
            | GalleryError::Full
            | GalleryError::Closed => {
                tracing::error!(%error, "a gallery operation failed");
                Self::unavailable(
                    "the gallery's storage is full or fails; nothing of this request was stored, and what was stored before stays readable",
                )
            }
            GalleryError::Busy { .. } => {
                tracing::warn!(%error, "a gallery operation was not begun");
                Self::unavailable(
                    "the gallery's database is busy with other requests; nothing of this one was begun, send it again later",
                )
                .retry_after(BUSY_DATABASE)
            }
            GalleryError::Database { .. } => {
                tracing::error!(%error, "a gallery operation failed");
                Self::unavailable(
                    "the gallery's database cannot be reached, or refuses; send the request again: whether anything of it was stored is not known",
                )
            }
            error => Self::internal(error),
        }
    }
}

impl From<RegistryError> for ApiError {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::Unknown { name, versions, .. } => {
                let known = if versions.is_empty() {
                    "the registry holds no version yet".to_owned()
                } else {
                    format!("the registry holds {}", versions.join(", "))
                };
                Self::not_found(format!("no model version {name:?}; {known}"))
            }
            error => Self::internal(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_a_code_of_that_status() {
        for status in [
            400, 401, 403, 404, 405, 408, 409, 413, 415, 422, 429, 500, 502, 503, 504,
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(ApiError::of_status(status).code.status(), status);
        }
        assert_eq!(ApiError::of_status(StatusCode::GONE).code, Code::BadRequest);
    }

    #[test]
    fn a_database_that_fails_is_not_named_to_clients() {
        let error = ApiError::from(GalleryError::Database {
            server: "db.internal:5432/shop".to_owned(),
            problem: "role ann may not".to_owned(),
        });
        assert_eq!(error.code, Code::Unavailable);
        assert!(!error.message.contains("db.internal") && !error.message.contains("role"));
    }

    #[test]
    fn a_busy_database_asks_to_come_back() {
        let error = ApiError::from(GalleryError::Busy {
            server: "db.internal:5432/shop".to_owned(),
            problem: "64 writes are waiting already".to_owned(),
        });
        assert!(!error.message.contains("db.internal"), "{error}");
        assert!(error.is_passing() && !ApiError::unavailable("a full disk").is_passing());
        let answer = error.respond("id", ErrorForm::Own);
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(answer.headers().contains_key(header::RETRY_AFTER));
    }

    #[test]
    fn storage_failures_do_not_reveal_paths_to_clients() {
        let error = ApiError::from(GalleryError::Storage {
            path: "/srv/secret/gallery.redb".into(),
            problem: "no space left".to_owned(),
        });
        assert_eq!(error.code, Code::Unavailable);
        assert!(!error.message.contains("secret"), "{error}");
    }
}
