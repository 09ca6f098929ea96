//! The keys of clients, for upstreams that they are passed on to.

use std::sync::Arc;

use axum::extract::{FromRef, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use perennial_encode::endpoint::Secret;

use crate::error::ApiError;
use crate::keys::Keys;
use crate::transport::Transport;

/// The client's `authorization` header.
#[derive(Clone, Default)]
pub(crate) struct ClientKey(Option<Secret>);

impl ClientKey {
    /// The key of a request. A service with `keys` of its own never passes them on: there, the header holds one of them.
    fn of(keys: &Keys, headers: &HeaderMap) -> Self {
        let is_ours = !keys.is_empty();
        let value = headers.get(header::AUTHORIZATION).filter(|_| !is_ours);
        Self(value.cloned().map(Secret::of_header))
    }

    /// What is passed on, if anything.
    pub(super) fn secret(&self) -> Option<&Secret> {
        self.0.as_ref()
    }
}

impl<S> FromRequestParts<S> for ClientKey
where
    S: Send + Sync,
    Arc<Transport>: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let keys = <Arc<Transport>>::from_ref(state).keys.load_full();
        Ok(Self::of(&keys, &parts.headers))
    }
}
