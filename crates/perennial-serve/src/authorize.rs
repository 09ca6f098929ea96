//! Whether a request may do what it asks for: its key, and where it comes from.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{FromRef, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};

use crate::config::ServeConfig;
use crate::error::{ApiError, Code};
use crate::keys::Scope;
use crate::transport::Transport;

/// Proof that the request may read.
pub(crate) struct MayRead;

/// Proof that the request may change the gallery, the registry and what is live.
pub(crate) struct MayWrite;

/// Proof that the request has the right to write, in a service that may only read its gallery: for what goes to other places.
pub(crate) struct MayWriteElsewhere;

/// Proof that the request may read, with what else it may do.
pub(crate) struct Rights {
    /// Why it has no right to write, if that is so.
    write: Result<(), ApiError>,
    read_only: bool,
}

impl Rights {
    /// Whether it may change the gallery, the registry and what is live, as [`MayWrite`] has it.
    ///
    /// # Errors
    /// 403 otherwise.
    pub(crate) fn write(&self) -> Result<(), ApiError> {
        self.write.clone()?;
        match self.read_only {
            true => Err(ApiError::read_only()),
            false => Ok(()),
        }
    }

    /// The same where the gallery stays as it is, as [`MayWriteElsewhere`] has it.
    ///
    /// # Errors
    /// 403 otherwise.
    pub(crate) fn write_elsewhere(&self) -> Result<(), ApiError> {
        self.write.clone()
    }
}

impl<S> FromRequestParts<S> for MayRead
where
    S: Send + Sync,
    Arc<ServeConfig>: FromRef<S>,
    Arc<Transport>: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        authorize(parts, state, Scope::Read).map(|()| Self)
    }
}

impl<S> FromRequestParts<S> for MayWrite
where
    S: Send + Sync,
    Arc<ServeConfig>: FromRef<S>,
    Arc<Transport>: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        authorize(parts, state, Scope::Write)?;
        match <Arc<ServeConfig>>::from_ref(state).read_only {
            true => Err(ApiError::read_only()),
            false => Ok(Self),
        }
    }
}

impl<S> FromRequestParts<S> for MayWriteElsewhere
where
    S: Send + Sync,
    Arc<ServeConfig>: FromRef<S>,
    Arc<Transport>: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        authorize(parts, state, Scope::Write).map(|()| Self)
    }
}

impl<S> FromRequestParts<S> for Rights
where
    S: Send + Sync,
    Arc<ServeConfig>: FromRef<S>,
    Arc<Transport>: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        authorize(parts, state, Scope::Read)?;
        Ok(Self {
            write: authorize(parts, state, Scope::Write),
            read_only: <Arc<ServeConfig>>::from_ref(state).read_only,
        })
    }
}

fn authorize<S>(parts: &Parts, state: &S, needed: Scope) -> Result<(), ApiError>
where
    Arc<ServeConfig>: FromRef<S>,
    Arc<Transport>: FromRef<S>,
{
    let headers = &parts.headers;
    let transport = <Arc<Transport>>::from_ref(state);
    let keys = transport.keys.load();
    let listens_on_loopback = <Arc<ServeConfig>>::from_ref(state)
        .listen
        .ip()
        .is_loopback();
    refuse_other_sites(headers, keys.is_empty() && listens_on_loopback, needed)?;
    if keys.is_empty() {
        return Ok(());
    }
    let presented = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, key)| key.trim());
    match presented.and_then(|key| keys.scope(key)) {
        Some(scope) if scope >= needed => Ok(()),
        Some(_) => Err(ApiError::new(
            Code::Forbidden,
            "this key has read scope only; send one with write scope",
        )),
        None => Err(ApiError::new(
            Code::Unauthorized,
            "send a valid key as `authorization: Bearer KEY`",
        )),
    }
}

/// Keeps web pages of other sites away: a browser on this machine reaches loopback on their behalf, and some requests need no
/// permission of ours to be sent. `open_on_loopback`: without keys, and only for this machine.
fn refuse_other_sites(
    headers: &HeaderMap,
    open_on_loopback: bool,
    needed: Scope,
) -> Result<(), ApiError> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text(header::HOST).unwrap_or_default();
    if open_on_loopback && !is_local(host) {
        return Err(ApiError::new(
            Code::Forbidden,
            format!(
                "host {host:?} is not this machine; a service without keys accepts requests to localhost only"
            ),
        ));
    }
    let origin = text(header::ORIGIN).filter(|_| needed == Scope::Write);
    match origin.map(|origin| {
        origin
            .split_once("://")
            .map_or("", |(_, authority)| authority)
    }) {
        Some(authority) if authority != host => Err(ApiError::new(
            Code::Forbidden,
            "a page of another site made this request; only this service's own page may write",
        )),
        _ => Ok(()),
    }
}

/// Whether a `Host` header names this machine.
fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_hosts() {
        for host in [
            "localhost",
            "localhost:7700",
            "127.0.0.1:1",
            "[::1]:7700",
            "LOCALHOST",
        ] {
            assert!(is_local(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil:80",
        ] {
            assert!(!is_local(host), "{host}");
        }
    }
}
