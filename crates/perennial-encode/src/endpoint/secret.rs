//! Keys that embedding services are shown.

use perennial_core::{EndpointKey, read_at_most};
use ureq::http::HeaderValue;

const MAX_KEY_BYTES: u64 = 4096;

/// What a key is sent as. It is never shown.
#[derive(Clone)]
pub struct Secret(HeaderValue);

impl Secret {
    /// The key from where the settings say it is; none where none is needed.
    ///
    /// # Errors
    /// The problem: a file or variable that cannot be read, or holds no key.
    pub(super) fn read(key: &EndpointKey) -> Result<Option<Self>, String> {
        let text = match key {
            EndpointKey::None => return Ok(None),
            EndpointKey::File(path) => {
                let bytes = read_at_most(path, MAX_KEY_BYTES).map_err(|error| error.to_string())?;
                String::from_utf8(bytes).map_err(|_| format!("{} is not text", path.display()))?
            }
            EndpointKey::Variable(name) => std::env::var(name)
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
        Ok(Some(Self(value)))
    }

    /// A whole `authorization` header, to be passed on.
    pub fn of_header(mut header: HeaderValue) -> Self {
        header.set_sensitive(true);
        Self(header)
    }

    /// The value of the `authorization` header.
    pub(super) fn header(&self) -> HeaderValue {
        self.0.clone()
    }

    /// The words behind the scheme, to be cut out of what a service says.
    pub(super) fn text(&self) -> Option<&str> {
        let text = self.0.to_str().ok()?;
        Some(text.split_once(' ').map_or(text, |(_, key)| key))
    }
}
