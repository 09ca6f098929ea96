//! API keys and their scopes: read and write.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use perennial_core::read_at_most;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use crate::error::{ApiError, Code, ServeError};
use crate::service::Service;

/// The variables that [`Keys::from_environment`] reads, with their scopes.
pub const KEY_VARIABLES: [(&str, Scope); 2] = [
    ("PERENNIAL_READ_KEY", Scope::Read),
    ("PERENNIAL_WRITE_KEY", Scope::Write),
];

/// Shorter keys can be guessed.
const MIN_KEY_BYTES: usize = 16;
const MAX_KEY_BYTES: usize = 256;
const MAX_FILE_BYTES: u64 = 1 << 20;
/// Every request compares with all keys, so their number is bounded.
const MAX_KEYS: usize = 1000;

/// What a key allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Embedding, searching, looking.
    Read,
    /// All of that, and changing items, models and aliases.
    Write,
}

/// The keys that clients may show, kept as hashes.
#[derive(Clone, Default)]
pub struct Keys {
    entries: Vec<(Scope, [u8; 32])>,
}

impl Keys {
    /// Whether there are no keys, so that requests need none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds a key of 16 to 256 visible ASCII characters. `origin` names where it came from, for the error.
    ///
    /// # Errors
    /// [`ServeError::Keys`] for a key that is too short, too long, or cannot be sent in a header.
    pub fn add(&mut self, scope: Scope, key: &str, origin: &str) -> Result<(), ServeError> {
        let refused = |problem: String| {
            Err(ServeError::Keys {
                origin: origin.to_owned(),
                problem,
            })
        };
        if !(MIN_KEY_BYTES..=MAX_KEY_BYTES).contains(&key.len())
            || !key.bytes().all(|byte| byte.is_ascii_graphic())
        {
            return refused(format!(
                "a key needs {MIN_KEY_BYTES} to {MAX_KEY_BYTES} visible ASCII characters, such as the output of `openssl rand -hex 32`"
            ));
        }
        if self.entries.len() == MAX_KEYS {
            return refused(format!("more than {MAX_KEYS} keys"));
        }
        self.entries.push((scope, Sha256::digest(key).into()));
        Ok(())
    }

    /// Reads keys from a file with one `read KEY` or `write KEY` per line; empty lines and lines from `#` on are skipped.
    ///
    /// # Errors
    /// [`ServeError::Keys`] for a file that cannot be read, holds no key, or has a line of another form.
    pub fn from_file(path: &Path) -> Result<Self, ServeError> {
        let origin = path.display().to_string();
        let refused = |problem: String| ServeError::Keys {
            origin: origin.clone(),
            problem,
        };
        let bytes =
            read_at_most(path, MAX_FILE_BYTES).map_err(|error| refused(error.to_string()))?;
        let text = String::from_utf8(bytes).map_err(|_| refused("is not UTF-8 text".to_owned()))?;
        let mut keys = Self::default();
        for (number, line) in (1..).zip(text.lines().map(str::trim)) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (scope, key) = match line.split_once(char::is_whitespace) {
                Some(("read", key)) => (Scope::Read, key.trim()),
                Some(("write", key)) => (Scope::Write, key.trim()),
                _ => {
                    let problem = format!("line {number}: expected `read KEY` or `write KEY`");
                    return Err(refused(problem));
                }
            };
            keys.add(scope, key, &format!("{origin}, line {number}"))?;
        }
        if keys.is_empty() {
            return Err(refused("holds no key; add a line `write KEY`".to_owned()));
        }
        warn_if_readable_by_others(path);
        Ok(keys)
    }

    /// Reads one key per scope from [`KEY_VARIABLES`]; none where no variable is set.
    ///
    /// # Errors
    /// [`ServeError::Keys`] for a variable that holds no usable key.
    pub fn from_environment() -> Result<Self, ServeError> {
        let mut keys = Self::default();
        for (variable, scope) in KEY_VARIABLES {
            if let Some(key) = std::env::var_os(variable) {
                keys.add(scope, &key.to_string_lossy(), variable)?;
            }
        }
        Ok(keys)
    }

    /// Joins two sets of keys.
    pub fn merge(&mut self, other: Self) {
        self.entries.extend(other.entries);
    }

    /// How many keys have a scope.
    pub fn count(&self, scope: Scope) -> usize {
        let of_scope = self.entries.iter().filter(|(of, _)| *of == scope);
        of_scope.count()
    }

    /// What a presented key allows. Takes the same time for every key, known or not.
    fn scope(&self, presented: &str) -> Option<Scope> {
        let digest: [u8; 32] = Sha256::digest(presented).into();
        let mut allowed = 0u8;
        for (scope, known) in &self.entries {
            let level = match scope {
                Scope::Read => 1,
                Scope::Write => 2,
            };
            let better = known.ct_eq(&digest) & Choice::from(u8::from(level > allowed));
            allowed = u8::conditional_select(&allowed, &level, better);
        }
        match allowed {
            0 => None,
            1 => Some(Scope::Read),
            _ => Some(Scope::Write),
        }
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({} of them)", self.entries.len())
    }
}

#[cfg(unix)]
fn warn_if_readable_by_others(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    if fs_err::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0) {
        tracing::warn!(
            path = %path.display(),
            "other users of this machine can read the key file; chmod 600 it"
        );
    }
}

#[cfg(not(unix))]
fn warn_if_readable_by_others(_: &Path) {}

/// Proof that the request may read.
pub(crate) struct MayRead;

/// Proof that the request may change the gallery, the registry and what is live.
pub(crate) struct MayWrite;

/// Proof that the request has the right to write, in a service that may only read its gallery: for what goes to other places.
pub(crate) struct MayWriteElsewhere;

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

    const READ: &str = "read-key-0123456789";
    const WRITE: &str = "write-key-0123456789";

    #[test]
    fn keys_have_scopes() {
        let mut keys = Keys::default();
        keys.add(Scope::Write, WRITE, "test").unwrap();
        keys.add(Scope::Read, READ, "test").unwrap();
        assert_eq!(keys.scope(READ), Some(Scope::Read));
        assert_eq!(keys.scope(WRITE), Some(Scope::Write));
        assert_eq!(keys.scope("write-key-012345678"), None);
        assert_eq!(keys.scope(""), None);
        // The same key with both scopes has the larger one.
        keys.add(Scope::Write, READ, "test").unwrap();
        assert_eq!(keys.scope(READ), Some(Scope::Write));
        assert!(!format!("{keys:?}").contains("0123"));
    }

    #[test]
    fn weak_keys_are_refused_without_being_repeated() {
        let mut keys = Keys::default();
        for key in ["", "short", "with space in it 123", &"k".repeat(257)] {
            let error = keys
                .add(Scope::Read, key, "PERENNIAL_READ_KEY")
                .unwrap_err();
            let text = error.to_string();
            assert!(text.starts_with("PERENNIAL_READ_KEY"), "{text}");
            assert!(key.len() < 2 || !text.contains(key), "{text}");
        }
    }

    #[test]
    fn files_are_read_line_by_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        std::fs::write(&path, format!("# team\nread {READ}\n\nwrite\t{WRITE}\n")).unwrap();
        assert_eq!(Keys::from_file(&path).unwrap().entries.len(), 2);
        for (content, says) in [
            ("", "holds no key"),
            ("admin 0123456789012345", "line 1"),
            ("read 0123456789012345\nwrite x", "line 2"),
        ] {
            std::fs::write(&path, content).unwrap();
            let error = Keys::from_file(&path).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        assert!(Keys::from_file(&folder.path().join("missing")).is_err());
    }

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
