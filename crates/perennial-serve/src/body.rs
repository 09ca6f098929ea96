//! Request bodies: bounded one by one and together, then parsed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::{Bytes, HttpBody as _};
use axum::extract::{FromRef, FromRequest, Request};
use axum::http::{HeaderMap, header};
use serde::de::DeserializeOwned;
use tokio::sync::OwnedSemaphorePermit;

use crate::blocking::blocking;
use crate::config::Limits;
use crate::error::ApiError;
use crate::images::EncodedImage;
use crate::multipart::{Part, Parts};
use crate::receive::{BodyBudget, ContentEncoding, receive};

/// Larger JSON is parsed on a blocking thread.
const PARSE_INLINE_BYTES: usize = 64 << 10;

/// A body in memory.
pub(crate) struct Received {
    headers: HeaderMap,
    bytes: Bytes,
}

/// The accepted content types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Multipart,
}

impl Received {
    /// Reads a body of at most `limit` bytes; a gzip body may not have more when it is decompressed, either.
    ///
    /// # Errors
    /// 415 for another content type than `formats` or an unknown content encoding, 413 for too many bytes, 429 when all requests
    /// together hold too many, 400 for damaged gzip data.
    pub(crate) async fn read(
        budget: &BodyBudget,
        request: Request,
        formats: &[Format],
        limit: usize,
    ) -> Result<(Format, Self), ApiError> {
        let format = format(request.headers())
            .filter(|format| formats.contains(format))
            .ok_or_else(|| unsupported(formats))?;
        let encoding = ContentEncoding::of(request.headers())?;
        let (parts, body) = request.into_parts();
        let receiving = parts.extensions.get::<Receiving>().cloned();
        let receiving = receiving.unwrap_or_default();
        receiving.set(true);
        let (bytes, share) = receive(budget, body, encoding, limit).await?;
        receiving.set(false);
        let received = Self {
            headers: parts.headers,
            bytes: Bytes::from_owner(Counted {
                bytes,
                _share: share,
            }),
        };
        Ok((format, received))
    }

    /// Parses the whole body as JSON.
    ///
    /// # Errors
    /// 400 for text that is no JSON, 422 for JSON of another form; the message names the key.
    pub(crate) async fn json<T: DeserializeOwned + Send + 'static>(&self) -> Result<T, ApiError> {
        parse(self.bytes.clone()).await
    }

    /// Takes a multipart body apart. Its files are pieces of the body, and keep the body's part of the budget.
    ///
    /// # Errors
    /// 400 for a broken body, 422 for a field that is neither expected nor allowed twice.
    pub(crate) async fn form(
        &self,
        files: &'static [&'static str],
        max_files: usize,
    ) -> Result<Form, ApiError> {
        let (headers, bytes) = (self.headers.clone(), self.bytes.clone());
        if bytes.len() <= PARSE_INLINE_BYTES {
            return Form::read(&headers, bytes, files, max_files);
        }
        blocking(move || Form::read(&headers, bytes, files, max_files)).await
    }
}

/// Bytes with their part of the budget, which is returned with the last piece of them.
struct Counted {
    bytes: Bytes,
    _share: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Whether a request's body is still arriving: a time limit that ends meanwhile is 408 and not 503.
#[derive(Clone, Default)]
pub(crate) struct Receiving(Arc<AtomicBool>);

impl Receiving {
    pub(crate) fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, receiving: bool) {
        self.0.store(receiving, Ordering::Relaxed);
    }
}

/// The multipart field with the JSON part of a request.
const REQUEST_FIELD: &str = "request";

/// One file of a multipart body.
pub(crate) struct FormFile {
    pub(crate) field: String,
    /// As the client calls it, which nothing may be trusted with.
    pub(crate) file_name: Option<String>,
    pub(crate) bytes: Bytes,
}

/// A multipart body.
#[derive(Default)]
pub(crate) struct Form {
    /// In order.
    pub(crate) files: Vec<FormFile>,
    request: Option<Bytes>,
}

impl Form {
    fn read(
        headers: &HeaderMap,
        bytes: Bytes,
        files: &[&str],
        max_files: usize,
    ) -> Result<Self, ApiError> {
        let broken = |problem: &str| ApiError::bad_request(format!("multipart body: {problem}"));
        let mut form = Self::default();
        for part in Parts::of(headers, bytes).map_err(broken)? {
            let Part {
                name,
                file_name,
                content,
            } = part.map_err(broken)?;
            if name == REQUEST_FIELD {
                if form.request.replace(content).is_some() {
                    return Err(ApiError::unprocessable("the field `request` occurs twice"));
                }
            } else if files.contains(&name.as_str()) {
                if form.files.len() == max_files {
                    return Err(ApiError::unprocessable(format!(
                        "more than {max_files} files in one request"
                    )));
                }
                form.files.push(FormFile {
                    field: name,
                    file_name,
                    bytes: content,
                });
            } else {
                return Err(ApiError::unprocessable(format!(
                    "unknown field {name:?}; known are `{REQUEST_FIELD}` and `{}`",
                    files.join("`, `")
                )));
            }
        }
        Ok(form)
    }

    /// The JSON of the field `request`; `{}` where it is absent.
    pub(crate) async fn request<T: DeserializeOwned + Send + 'static>(
        &mut self,
    ) -> Result<T, ApiError> {
        parse(self.request.take().unwrap_or(Bytes::from_static(b"{}"))).await
    }

    /// The files as images.
    pub(crate) fn images(&mut self) -> Vec<EncodedImage> {
        let files = std::mem::take(&mut self.files);
        files
            .into_iter()
            .map(|file| EncodedImage::Bytes(file.bytes))
            .collect()
    }

    /// The one image that a request must have.
    pub(crate) fn image(&mut self) -> Result<EncodedImage, ApiError> {
        let mut images = self.images();
        match (images.pop(), images.is_empty()) {
            (Some(image), true) => Ok(image),
            _ => Err(ApiError::unprocessable(
                "expected one field `image` with a file",
            )),
        }
    }
}

/// A JSON body of the usual size.
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<S, T> FromRequest<S> for JsonBody<T>
where
    S: Send + Sync,
    BodyBudget: FromRef<S>,
    Arc<Limits>: FromRef<S>,
    T: DeserializeOwned + Send + 'static,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let budget = BodyBudget::from_ref(state);
        let limit = <Arc<Limits>>::from_ref(state).body_bytes;
        let (_, received) = Received::read(&budget, request, &[Format::Json], limit).await?;
        received.json().await.map(Self)
    }
}

/// As [`JsonBody`], for a body that may be absent altogether.
pub(crate) struct OptionalJsonBody<T>(pub(crate) T);

impl<S, T> FromRequest<S> for OptionalJsonBody<T>
where
    S: Send + Sync,
    BodyBudget: FromRef<S>,
    Arc<Limits>: FromRef<S>,
    T: DeserializeOwned + Default + Send + 'static,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        if request.body().is_end_stream() {
            return Ok(Self(T::default()));
        }
        let JsonBody(body) = JsonBody::from_request(request, state).await?;
        Ok(Self(body))
    }
}

async fn parse<T: DeserializeOwned + Send + 'static>(bytes: Bytes) -> Result<T, ApiError> {
    if bytes.len() <= PARSE_INLINE_BYTES {
        return parse_now(&bytes);
    }
    blocking(move || parse_now(&bytes)).await
}

fn parse_now<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let parsed = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.inner();
        let message = if path == "." {
            inner.to_string()
        } else {
            format!("{path}: {inner}")
        };
        match inner.classify() {
            serde_json::error::Category::Data => ApiError::unprocessable(message),
            _ => ApiError::bad_request(message),
        }
    })?;
    deserializer
        .end()
        .map_err(|error| ApiError::bad_request(error.to_string()))?;
    Ok(parsed)
}

fn format(headers: &HeaderMap) -> Option<Format> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let media_type = value.split(';').next()?.trim();
    if media_type.eq_ignore_ascii_case("application/json") {
        Some(Format::Json)
    } else if media_type.eq_ignore_ascii_case("multipart/form-data") {
        Some(Format::Multipart)
    } else {
        None
    }
}

fn unsupported(formats: &[Format]) -> ApiError {
    let expected = if formats.contains(&Format::Multipart) {
        "application/json or multipart/form-data"
    } else {
        "application/json"
    };
    ApiError::new(
        crate::error::Code::UnsupportedMediaType,
        format!("send the body as {expected}"),
    )
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use serde::Deserialize;

    use super::*;
    use crate::error::Code;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Probe {
        #[allow(dead_code)]
        numbers: Vec<u32>,
    }

    #[test]
    fn syntax_is_400_and_meaning_422_with_the_key() {
        for (text, code, says) in [
            ("", Code::BadRequest, "EOF"),
            ("{\"numbers\":[1,", Code::BadRequest, "numbers"),
            ("{\"numbers\":[]} x", Code::BadRequest, "trailing"),
            ("{\"numbers\":[1,\"x\"]}", Code::Unprocessable, "numbers[1]"),
            ("{\"numbers\":[],\"other\":1}", Code::Unprocessable, "other"),
            ("[]", Code::Unprocessable, ""),
        ] {
            let error = parse_now::<Probe>(text.as_bytes()).unwrap_err();
            assert_eq!(error.code, code, "{text}: {error}");
            assert!(error.message.contains(says), "{text}: {error}");
        }
        // Deep nesting is an error, not a stack overflow.
        let deep = "[".repeat(100_000);
        assert!(parse_now::<serde_json::Value>(deep.as_bytes()).is_err());
    }

    #[tokio::test]
    async fn the_files_of_a_form_are_pieces_of_the_body_and_keep_its_part_of_the_budget() {
        let budget = BodyBudget::of(160 << 10);
        let content = vec![7u8; 100 << 10];
        let head = b"--x\r\ncontent-disposition: form-data; name=\"image\"\r\n\r\n";
        let body = [&head[..], &content, b"\r\n--x--\r\n"].concat();
        let read = || {
            let request = Request::builder()
                .header(header::CONTENT_TYPE, "multipart/form-data; boundary=x")
                .body(Body::from(body.clone()))
                .unwrap();
            Received::read(&budget, request, &[Format::Multipart], 1 << 20)
        };
        let (_, received) = read().await.unwrap();
        let form = received.form(&["image"], 1).await.unwrap();
        let file = form.files[0].bytes.clone();
        assert_eq!(file, content);
        assert!(received.bytes.as_ptr_range().contains(&file.as_ptr()));
        drop((received, form));
        let refused = read().await.err().unwrap();
        assert_eq!(refused.code, Code::TooManyRequests);
        drop(file);
        read().await.unwrap();
    }

    #[test]
    fn formats_are_told_apart() {
        let of = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, value.parse().unwrap());
            format(&headers)
        };
        assert_eq!(of("application/json; charset=utf-8"), Some(Format::Json));
        assert_eq!(
            of("multipart/form-data; boundary=x"),
            Some(Format::Multipart)
        );
        assert_eq!(of("text/plain"), None);
        assert_eq!(format(&HeaderMap::new()), None);
    }
}
