//! All routes, and what wraps them. The OpenAPI document comes from the same table.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::response::IntoResponse;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::openapi::head;
use crate::request_log;
use crate::routes::{
    aliases, backfill, compaction, compatibility, embed, health, items, models, openai_embeddings,
    openai_models, page, search, snapshots, stats,
};
use crate::service::{Parts, Service};

/// Every documented route.
pub(crate) fn documented() -> OpenApiRouter<Parts> {
    OpenApiRouter::with_openapi(head())
        .routes(routes!(embed::embed))
        .routes(routes!(openai_embeddings::embeddings))
        .routes(routes!(openai_models::list))
        .routes(routes!(search::search))
        .routes(routes!(items::put, items::delete, items::list))
        .routes(routes!(items::put_batch))
        .routes(routes!(items::get))
        .routes(routes!(stats::gallery))
        .routes(routes!(compaction::compact))
        .routes(routes!(backfill::start, backfill::status, backfill::cancel))
        .routes(routes!(backfill::pause))
        .routes(routes!(backfill::resume))
        .routes(routes!(backfill::pushing::waiting))
        .routes(routes!(backfill::pushing::push))
        .routes(routes!(stats::live))
        .routes(routes!(models::list, models::add))
        .routes(routes!(aliases::move_live))
        .routes(routes!(aliases::roll_back))
        .routes(routes!(compatibility::compatibility))
        .routes(routes!(snapshots::create, snapshots::list))
        .routes(routes!(health::healthz))
        .routes(routes!(health::livez))
        .routes(routes!(health::readyz))
        .routes(routes!(health::info))
        .routes(routes!(health::metrics))
}

/// The service's OpenAPI document.
pub fn openapi() -> OpenApi {
    documented().into_openapi()
}

/// The whole application.
pub(crate) fn build(service: Arc<Service>) -> Router {
    let parts = Parts(service);
    let (router, document) = documented().split_for_parts();
    page::add(router, document)
        .fallback(|| async { StatusCode::NOT_FOUND.into_response() })
        .method_not_allowed_fallback(|| async { StatusCode::METHOD_NOT_ALLOWED.into_response() })
        // Bodies are bounded where they are read, by limits that differ from route to route.
        .layer(DefaultBodyLimit::disable())
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(parts.clone(), request_log::observe))
        .with_state(parts)
}

fn panicked(panic: Box<dyn std::any::Any + Send>) -> axum::response::Response {
    let message = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    tracing::error!(panic = message, "a handler panicked");
    StatusCode::INTERNAL_SERVER_ERROR.into_response()
}
