//! Where a collection is. The key stays in here.

use std::fmt;

use ureq::http::{HeaderValue, Uri};

use crate::error::ConnectError;

/// The port of the REST interface.
const PORT: u16 = 6333;
/// The longest name of a collection that servers take.
const MAX_COLLECTION: usize = 255;

/// A collection's address: `qdrant://HOST:PORT/COLLECTION`, or `qdrants://…` with TLS.
///
/// Neither [`Debug`] nor [`Display`](fmt::Display) shows the key.
#[derive(Clone)]
pub(crate) struct QdrantAddress {
    /// Scheme, host and port for HTTP.
    base: String,
    host: String,
    port: u16,
    tls: bool,
    collection: String,
    key: Option<HeaderValue>,
}

impl QdrantAddress {
    /// Reads a URL. A key has no place in it.
    ///
    /// # Errors
    /// [`ConnectError::Usage`], which does not repeat the text.
    pub(crate) fn new(url: &str) -> Result<Self, ConnectError> {
        let problem = |why: &str| {
            ConnectError::Usage(format!(
                "the collection's URL cannot be read: {why}; write qdrant://HOST:PORT/COLLECTION, or qdrants:// for TLS, with the API key in \
                 QDRANT_API_KEY (the URL is not shown, since it may hold a key)"
            ))
        };
        let (tls, rest) = match url.trim().split_once("://") {
            Some(("qdrant", rest)) => (false, rest),
            Some(("qdrants", rest)) => (true, rest),
            _ => return Err(problem("it has another scheme")),
        };
        let (place, collection) = rest
            .split_once('/')
            .ok_or_else(|| problem("it names no collection"))?;
        if place.contains('@') {
            return Err(problem("it holds a key or a user"));
        }
        if collection.contains(['?', '#']) {
            return Err(problem("it has options, and there are none"));
        }
        let collection = decoded(collection).ok_or_else(|| problem("its name is not UTF-8"))?;
        if collection.is_empty()
            || collection.len() > MAX_COLLECTION
            || collection
                .chars()
                .any(|c| c.is_control() || "/\\<>:\"|?*".contains(c))
        {
            return Err(problem("no collection can have such a name"));
        }
        let scheme = if tls { "https" } else { "http" };
        let uri: Uri = format!("{scheme}://{place}/")
            .parse()
            .map_err(|_| problem("it has no host"))?;
        let host = uri.host().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| problem("it has no host"))?.to_owned();
        let port = match place.strip_prefix(&*host) {
            Some("") => PORT,
            Some(rest) => rest
                .strip_prefix(':')
                .and_then(|port| port.parse().ok())
                .ok_or_else(|| problem("its port is no number"))?,
            None => return Err(problem("it has no host")),
        };
        Ok(Self {
            base: format!("{scheme}://{host}:{port}"),
            host,
            port,
            tls,
            collection,
            key: None,
        })
    }

    /// Takes a key.
    ///
    /// # Errors
    /// [`ConnectError::Usage`] for a key that no header can carry; it does not repeat the key.
    pub(crate) fn with_key(mut self, key: Option<String>) -> Result<Self, ConnectError> {
        let Some(key) = key.filter(|key| !key.trim().is_empty()) else {
            return Ok(self);
        };
        let mut value = HeaderValue::from_str(key.trim()).map_err(|_| {
            ConnectError::Usage(
                "QDRANT_API_KEY holds a key with characters that cannot be sent; give visible ASCII characters without spaces"
                    .to_owned(),
            )
        })?;
        value.set_sensitive(true);
        self.key = Some(value);
        Ok(self)
    }

    /// The collection.
    pub(crate) fn collection(&self) -> &str {
        &self.collection
    }

    /// That of its URL.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.tls { "qdrants" } else { "qdrant" }
    }

    pub(super) fn base(&self) -> &str {
        &self.base
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn tls(&self) -> bool {
        self.tls
    }

    pub(super) fn key(&self) -> Option<&HeaderValue> {
        self.key.as_ref()
    }
}

impl fmt::Display for QdrantAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}/{}", self.host, self.port, self.collection)
    }
}

/// A part of a URL with its percent signs resolved.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let digits = after.get(..2).filter(|_| *first == b'%');
        let code = digits
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        match code {
            Some(code) => {
                bytes.push(code);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

/// A name as a part of a URL.
pub(super) fn encoded(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                text.push(char::from(byte));
            }
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_host_port_and_collection() {
        let address = QdrantAddress::new("qdrant://db.example/items%20of%20the%20shop").unwrap();
        assert_eq!(address.base(), "http://db.example:6333");
        assert_eq!(address.collection(), "items of the shop");
        assert_eq!(encoded(address.collection()), "items%20of%20the%20shop");
        let address = QdrantAddress::new("qdrants://[::1]:7000/items").unwrap();
        assert_eq!(address.base(), "https://[::1]:7000");
        assert_eq!(address.to_string(), "[::1]:7000/items");
    }

    #[test]
    fn what_may_be_a_secret_is_never_shown() {
        for url in [
            "qdrant://s3cret@db/items",
            "qdrant://:s3cret@db/items",
            "qdrant://db/items?api-key=s3cret",
            "qdrant://db",
            "qdrant://db/",
            "qdrant:///items",
            "qdrant://db:s3cret/items",
            "qdrant://db/a/b",
            "http://db/s3cret",
        ] {
            let error = QdrantAddress::new(url).err().unwrap().to_string();
            assert!(!error.contains("s3cret"), "{error}");
            assert!(error.contains("QDRANT_API_KEY"), "{error}");
        }
        let address = QdrantAddress::new("qdrant://db/items").unwrap();
        let error = address.clone().with_key(Some("s3\ncret".to_owned()));
        let error = error.err().unwrap().to_string();
        assert!(!error.contains("s3"), "{error}");
        let keyed = address.with_key(Some("s3cret".to_owned())).unwrap();
        assert!(keyed.key().unwrap().is_sensitive());
        assert!(!keyed.to_string().contains("s3cret"));
    }
}
