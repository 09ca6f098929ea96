//! The web page, the OpenAPI document and its viewer: files inside the binary.

#[cfg(feature = "swagger")]
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::Path;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use utoipa::openapi::OpenApi;

const INDEX: &str = include_str!("../../static/index.html");

/// Name and content of a file below `/static/`.
macro_rules! assets {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../static/", $name)))),*]
    };
}

const ASSETS: &[(&str, &str)] = &assets![
    "answers.js",
    "api.js",
    "app.js",
    "backfill.js",
    "badges.js",
    "compare.js",
    "compatibility.js",
    "curve.js",
    "elements.js",
    "lineage.js",
    "measures.js",
    "refusals.js",
    "routes.js",
    "search.js",
    "style.css",
    "swap.js",
    "throughput.js",
    "tiles.js",
];

/// Nothing but our own files; images also from memory, for previews and thumbnails.
const PAGE_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; img-src 'self' data: blob:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
);

/// The viewer of the OpenAPI document writes style attributes.
#[cfg(feature = "swagger")]
const DOCS_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'",
);

#[cfg(not(feature = "swagger"))]
const NO_VIEWER: &str = r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Perennial: API</title>
<p>This build has no viewer of the API's description; build with <code>--features swagger</code> to have it here.</p>
<p><a href="/openapi.json">/openapi.json</a> is the description itself (OpenAPI), which any viewer reads.</p>
</html>
"#;

/// Adds the page, `/openapi.json` and `/docs`, none of which needs a key.
pub(crate) fn add<S>(router: Router<S>, document: OpenApi) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    let json: Bytes = document
        .to_json()
        .expect("the document has string keys and serialisable values")
        .into();
    router
        .route(
            "/",
            get(|| async { file("text/html; charset=utf-8", INDEX, PAGE_POLICY) }),
        )
        .route("/static/{name}", get(asset))
        .route(
            "/openapi.json",
            get(move || async move { file("application/json", json, PAGE_POLICY) }),
        )
        .route("/docs", get(|| async { Redirect::to("/docs/") }))
        .route("/docs/", get(|| async { docs("index.html") }))
        .route(
            "/docs/{name}",
            get(|Path(name): Path<String>| async move { docs(&name) }),
        )
}

async fn asset(Path(name): Path<String>) -> Response {
    let Some((name, content)) = ASSETS.iter().find(|(known, _)| *known == name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    file(content_type(name), *content, PAGE_POLICY)
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.') {
        Some((_, "js")) => "text/javascript; charset=utf-8",
        Some((_, "css")) => "text/css; charset=utf-8",
        Some((_, "html")) => "text/html; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(feature = "swagger")]
fn docs(name: &str) -> Response {
    let config = Arc::new(utoipa_swagger_ui::Config::from("/openapi.json"));
    match utoipa_swagger_ui::serve(name, config) {
        Ok(Some(found)) => file(&found.content_type, found.bytes.into_owned(), DOCS_POLICY),
        Ok(None) => StatusCode::NOT_FOUND.into_response(),
        Err(error) => {
            tracing::error!(%error, "the viewer of the OpenAPI document is broken");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// A note in place of the viewer.
#[cfg(not(feature = "swagger"))]
fn docs(name: &str) -> Response {
    match name {
        "index.html" => file("text/html; charset=utf-8", NO_VIEWER, PAGE_POLICY),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

fn file(content_type: &str, content: impl Into<Bytes>, policy: HeaderValue) -> Response {
    let content_type = HeaderValue::from_str(content_type)
        .unwrap_or(HeaderValue::from_static("application/octet-stream"));
    let headers: [(HeaderName, HeaderValue); 4] = [
        (header::CONTENT_TYPE, content_type),
        (header::CONTENT_SECURITY_POLICY, policy),
        (
            header::REFERRER_POLICY,
            HeaderValue::from_static("no-referrer"),
        ),
        // The files change with the binary, and nothing in their names says so.
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, content.into()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_folder_is_embedded() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/static");
        let mut names: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "index.html")
            .collect();
        names.sort();
        let embedded: Vec<&str> = ASSETS.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, embedded);
        assert!(
            embedded
                .iter()
                .all(|name| content_type(name).starts_with("text/"))
        );
    }
}
