//! Keys that upstreams are shown.

use axum::http::{HeaderMap, HeaderValue, header};
use perennial_core::read_at_most;

use super::settings::UpstreamKey;
use crate::keys::Keys;

const MAX_KEY_BYTES: u64 = 4096;

/// What a key is sent as. It is never shown.
#[derive(Clone)]
pub(super) struct Secret(HeaderValue);

impl Secret {
    /// The key from where the settings say it is.
    ///
    /// # Errors
    /// The problem: a file or variable that cannot be read, or holds no key.
    pub(super) fn read(key: &UpstreamKey) -> Result<Self, String> {
        let text = match key {
            UpstreamKey::None | UpstreamKey::Client => String::new(),
            UpstreamKey::File(path) => {
                let bytes = read_at_most(path, MAX_KEY_BYTES).map_err(|error| error.to_string())?;
                String::from_utf8(bytes).map_err(|_| format!("{} is not text", path.display()))?
            }
            UpstreamKey::Variable(name) => std::env::var(name)
                .map_err(|_| format!("environment variable {name} is not set"))?,
        };
        let text = text.lines().next().unwrap_or_default().trim();
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!(
                "{key} holds no key of visible ASCII characters without spaces"
            ));
        }
        let mut value = HeaderValue::from_str(&format!("Bearer {text}"))
            .map_err(|_| format!("{key} holds a key that no header can carry"))?;
        value.set_sensitive(true);
        Ok(Self(value))
    }

    /// The value of the `authorization` header.
    pub(super) fn header(&self) -> HeaderValue {
        self.0.clone()
    }

    /// The words behind the scheme, to be cut out of what an upstream says.
    pub(super) fn text(&self) -> Option<&str> {
        let text = self.0.to_str().ok()?;
        Some(text.split_once(' ').map_or(text, |(_, key)| key))
    }
}

/// The client's `authorization` header, for upstreams that it is passed on to.
#[derive(Clone, Default)]
pub(crate) struct ClientKey(Option<Secret>);

impl ClientKey {
    /// The key of a request. A service with `keys` of its own never passes them on: there, the header holds one of them.
    pub(crate) fn of(keys: &Keys, headers: &HeaderMap) -> Self {
        let is_ours = !keys.is_empty();
        let value = headers.get(header::AUTHORIZATION).filter(|_| !is_ours);
        let value = value.cloned();
        Self(value.map(|mut value| {
            value.set_sensitive(true);
            Secret(value)
        }))
    }

    /// What is passed on, if anything.
    pub(super) fn secret(&self) -> Option<&Secret> {
        self.0.as_ref()
    }
}
