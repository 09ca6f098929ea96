//! Whether a request may do what it asks for: its key, and where it comes from.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};

use crate::error::{ApiError, Code};
use crate::keys::Scope;
use crate::service::Service;

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

impl FromRequestParts<Arc<Service>> for MayRead {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut Parts,
        service: &Arc<Service>,
    ) -> Result<Self, ApiError> {
        authorize(&parts.headers, service, Scope::Read).map(|()| Self)
    }
}

impl FromRequestParts<Arc<Service>> for MayWrite {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut Parts,
        service: &Arc<Service>,
    ) -> Result<Self, ApiError> {
        authorize(&parts.headers, service, Scope::Write)?;
        match service.config.read_only {
            true => Err(ApiError::read_only()),
            false => Ok(Self),
        }
    }
}

impl FromRequestParts<Arc<Service>> for MayWriteElsewhere {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut Parts,
        service: &Arc<Service>,
    ) -> Result<Self, ApiError> {
        authorize(&parts.headers, service, Scope::Write).map(|()| Self)
    }
}

impl FromRequestParts<Arc<Service>> for Rights {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut Parts,
        service: &Arc<Service>,
    ) -> Result<Self, ApiError> {
        authorize(&parts.headers, service, Scope::Read)?;
        Ok(Self {
            write: authorize(&parts.headers, service, Scope::Write),
            read_only: service.config.read_only,
        })
    }
}

fn authorize(headers: &HeaderMap, service: &Service, needed: Scope) -> Result<(), ApiError> {
    refuse_other_sites(headers, service, needed)?;
    let keys = service.transport.keys.load();
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
/// permission of ours to be sent.
fn refuse_other_sites(
    headers: &HeaderMap,
    service: &Service,
    needed: Scope,
) -> Result<(), ApiError> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text(header::HOST).unwrap_or_default();
    let open_on_loopback =
        service.transport.keys.load().is_empty() && service.config.listen.ip().is_loopback();
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
