//! What a service answers while its gallery is opened and its model is loaded, which may take minutes: that it is alive, and that it is not ready.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::get;
use axum_server::Handle;
use tokio::task::JoinHandle;

use crate::error::{ApiError, ErrorForm};
use crate::port::Port;
use crate::request_id::{REQUEST_ID, RequestIds};
use crate::request_log::into_json_error;
use crate::routes::health;

/// How long the last of these answers may take when the service has started.
const LAST_ANSWERS: Duration = Duration::from_millis(100);

/// Answers until it is [ended](Self::end) or dropped.
pub(crate) struct Starting {
    handle: Handle<SocketAddr>,
    answers: JoinHandle<()>,
}

impl Starting {
    /// Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// Where the system does not give the listener once more.
    pub(crate) fn begin(port: &Port) -> std::io::Result<Self> {
        let handle = Handle::new();
        let answers = port.answer(router(), handle.clone())?;
        let answers = tokio::spawn(async move {
            if let Err(error) = answers.await {
                tracing::error!(%error, "requests during the start are not answered");
            }
        });
        Ok(Self { handle, answers })
    }

    /// Takes no more connections, and waits a moment for answers that are on their way.
    pub(crate) async fn end(mut self) {
        self.handle.graceful_shutdown(Some(LAST_ANSWERS));
        // What failed is logged.
        let _ = (&mut self.answers).await;
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        self.answers.abort();
    }
}

fn router() -> Router {
    let ids = Arc::new(RequestIds::new());
    Router::new()
        .route("/healthz", get(health::healthz))
        .route("/livez", get(health::livez))
        .fallback(not_yet)
        .layer(from_fn_with_state(ids, with_id))
}

/// Every other request comes too early.
async fn not_yet() -> ApiError {
    ApiError::unavailable(
        "the service is starting: its gallery is opened and its model loaded; ask again",
    )
    .retry_after(Duration::from_secs(1))
}

/// Gives an answer its id and its form.
async fn with_id(State(ids): State<Arc<RequestIds>>, request: Request, next: Next) -> Response {
    let id = ids.of(request.headers());
    let form = ErrorForm::of_path(request.uri().path());
    let mut response = into_json_error(next.run(request).await, &id, form);
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, id);
    }
    // The next request of this client may find the service started.
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}
