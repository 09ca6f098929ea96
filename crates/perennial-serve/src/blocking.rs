//! Blocking work of requests, off the threads that answer them.

use crate::error::ApiError;

/// Runs blocking work on a thread meant for it.
///
/// # Errors
/// Those of the work; 500 when it panics.
pub(crate) async fn blocking<T, F>(work: F) -> Result<T, ApiError>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, ApiError> + Send + 'static,
{
    // What the work logs carries the request's id.
    let span = tracing::Span::current();
    tokio::task::spawn_blocking(move || span.in_scope(work))
        .await
        .map_err(ApiError::internal)?
}
