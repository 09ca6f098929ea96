//! The outermost layer: request ids, admission, time limits, errors as JSON, one log line and one metric per request.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tracing::Instrument;

use crate::body::Receiving;
use crate::client_address;
use crate::client_limits::Exceeded;
use crate::config::ServeConfig;
use crate::durations::seconds;
use crate::error::{ApiError, Code, ErrorForm};
use crate::lifecycle::Lifecycle;
use crate::recent::Recent;
use crate::request_id::REQUEST_ID;
use crate::telemetry::Telemetry;
use crate::transport::Transport;

pub(crate) const MODEL_VERSION: HeaderName = HeaderName::from_static("x-model-version");

/// What is logged of a path; clients choose its length.
const MAX_LOGGED_PATH_BYTES: usize = 256;

/// Wraps every request.
pub(crate) async fn observe(
    State(config): State<Arc<ServeConfig>>,
    State(transport): State<Arc<Transport>>,
    State(telemetry): State<Arc<Telemetry>>,
    State(recent): State<Arc<Recent>>,
    State(lifecycle): State<Arc<Lifecycle>>,
    request: Request,
    next: Next,
) -> Response {
    let start = Instant::now();
    let id = transport.request_ids.of(request.headers());
    let method = method_name(request.method());
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "unmatched".to_owned(), |path| path.as_str().to_owned());
    let client = client(&config, &request);
    let path = request.uri().path();
    let form = ErrorForm::of_path(path);
    let path = path[..path.floor_char_boundary(MAX_LOGGED_PATH_BYTES)].to_owned();

    // Whatever is logged on the way belongs to this request. As severe as can be, so that no filter of levels drops the id.
    let span = tracing::error_span!("request", request_id = id);
    let admission = Admission {
        config: &config,
        transport: &transport,
        telemetry: &telemetry,
    };
    let response = admission
        .run(request, next, &route, client)
        .instrument(span)
        .await;
    let mut response = into_json_error(response, &id, form);
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response.headers_mut().insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    if lifecycle.is_draining() {
        // Proxies keep connections, and would send the next request into one that ends.
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }

    let took = start.elapsed();
    let status = response.status().as_u16();
    telemetry.request(method, &route, status, took);
    recent.answered(status >= 500);
    let model_version = response
        .headers()
        .get(MODEL_VERSION)
        .and_then(|version| version.to_str().ok())
        .unwrap_or_default();
    let latency_seconds = took.as_secs_f64();
    let client = client.map(tracing::field::display);
    macro_rules! log_line {
        ($level:ident) => {
            tracing::$level!(
                request_id = id,
                method,
                path,
                route,
                status,
                latency_seconds,
                model_version,
                client,
                "request"
            )
        };
    }
    match severity(&route, status) {
        Severity::Failure => log_line!(warn),
        Severity::Request => log_line!(info),
        Severity::Background => log_line!(debug),
    }
    response
}

/// The log level of a request.
#[derive(Debug, PartialEq, Eq)]
enum Severity {
    Failure,
    Request,
    /// Asked for again and again by machines: probes, scrapes, the page's files and the numbers that it shows.
    Background,
}

fn severity(route: &str, status: u16) -> Severity {
    match route {
        // That a service is not ready is logged where the reason is known, not at every question.
        "/healthz" | "/livez" | "/readyz" => Severity::Background,
        _ if status >= 500 => Severity::Failure,
        "/" | "/static/{name}" | "/docs" | "/docs/" | "/docs/{name}" | "/openapi.json"
        | "/metrics" | "/stats/live"
            if status < 400 =>
        {
            Severity::Background
        }
        _ => Severity::Request,
    }
}

/// The client's address, where the server that holds the router tells who is connected.
fn client(config: &ServeConfig, request: &Request) -> Option<IpAddr> {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>()?;
    let trusted = &config.trusted_proxies;
    Some(client_address::client(
        peer.0.ip(),
        request.headers(),
        trusted,
    ))
}

fn exceeded(telemetry: &Telemetry, exceeded: Exceeded, client: IpAddr) -> Response {
    match exceeded {
        Exceeded::Concurrent { limit } => {
            telemetry.limited_client("concurrent");
            ApiError::too_many(format!(
                "too many concurrent requests from {client} (limit {limit}); wait for responses before sending more"
            ))
        }
        Exceeded::Rate {
            per_second,
            retry_after,
        } => {
            telemetry.limited_client("per_second");
            ApiError::too_many(format!(
                "too many requests from {client} (limit {per_second} per second); send several items per request, or fewer requests"
            ))
            .retry_after(retry_after)
        }
    }
    .into_response()
}

/// What a request must pass before its handler.
struct Admission<'a> {
    config: &'a ServeConfig,
    transport: &'a Transport,
    telemetry: &'a Telemetry,
}

impl Admission<'_> {
    /// Runs a request within the concurrency limit and the time limit.
    async fn run(
        &self,
        mut request: Request,
        next: Next,
        route: &str,
        client: Option<IpAddr>,
    ) -> Response {
        // An overloaded service must still answer liveness probes.
        if matches!(route, "/healthz" | "/livez" | "/readyz" | "/metrics") {
            return next.run(request).await;
        }
        let _client_place = match client
            .map(|client| (client, self.transport.clients.admit(client, Instant::now())))
        {
            Some((client, Err(limit))) => return exceeded(self.telemetry, limit, client),
            Some((_, Ok(place))) => place,
            None => None,
        };
        let Ok(_place) = self.transport.in_flight.try_acquire() else {
            let limit = self.config.limits.in_flight;
            return ApiError::too_many(format!("too many concurrent requests (limit {limit})"))
                .into_response();
        };
        let timeouts = &self.config.timeouts;
        let limit = match (request.method(), route) {
            (
                &Method::POST,
                "/models" | "/snapshots" | "/gallery/compact" | "/aliases/live:rollback",
            )
            | (&Method::PUT, "/aliases/live") => timeouts.long_request_seconds,
            _ => timeouts.request_seconds,
        };
        let receiving = Receiving::default();
        request.extensions_mut().insert(receiving.clone());
        match tokio::time::timeout(seconds(limit), next.run(request)).await {
            Ok(response) => response,
            Err(_) if receiving.get() => ApiError::new(
                Code::RequestTimeout,
                format!("the body did not arrive within {limit} seconds; nothing was done"),
            )
            .into_response(),
            Err(_) => ApiError::new(
                Code::Timeout,
                format!(
                    "not finished within {limit} seconds; a write may still have been stored, read it back"
                ),
            )
            .into_response(),
        }
    }
}

/// Converts every error response to the same JSON form.
pub(crate) fn into_json_error(mut response: Response, id: &str, form: ErrorForm) -> Response {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return response;
    }
    let error = response
        .extensions_mut()
        .remove::<ApiError>()
        .unwrap_or_else(|| ApiError::of_status(status));
    let mut json = error.respond(id, form);
    for name in [header::ALLOW, MODEL_VERSION, header::CONNECTION] {
        if let Some(value) = response.headers_mut().remove(&name) {
            json.headers_mut().insert(name, value);
        }
    }
    json
}

/// Methods that clients invent must not become labels.
fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_that_ask_again_and_again_are_logged_for_debugging_only() {
        for (route, status, expected) in [
            ("/healthz", 200, Severity::Background),
            ("/readyz", 503, Severity::Background),
            ("/metrics", 200, Severity::Background),
            ("/metrics", 401, Severity::Request),
            ("/static/{name}", 200, Severity::Background),
            ("/static/{name}", 404, Severity::Request),
            ("/stats/live", 200, Severity::Background),
            ("/search", 200, Severity::Request),
            ("unmatched", 404, Severity::Request),
            ("/search", 503, Severity::Failure),
            ("/metrics", 500, Severity::Failure),
        ] {
            assert_eq!(severity(route, status), expected, "{route} {status}");
        }
    }
}
