//! Ids of requests, by which a client finds what was logged of its own.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::{HeaderMap, HeaderName};

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const MAX_REQUEST_ID_BYTES: usize = 64;

/// Makes ids that are unique within and, by their random part, across processes.
pub(crate) struct RequestIds {
    process: u32,
    next: AtomicU64,
}

impl RequestIds {
    pub(crate) fn new() -> Self {
        // The standard library seeds its hash maps from the system's randomness.
        let random = RandomState::new().build_hasher().finish();
        Self {
            process: random as u32,
            next: AtomicU64::new(1),
        }
    }

    /// The client's own id, if it is harmless in logs, or a new one.
    pub(crate) fn of(&self, headers: &HeaderMap) -> String {
        let harmless = |id: &&str| {
            (1..=MAX_REQUEST_ID_BYTES).contains(&id.len())
                && id
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        };
        let given = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
        match given.filter(harmless) {
            Some(id) => id.to_owned(),
            None => {
                let number = self.next.fetch_add(1, Ordering::Relaxed);
                format!("{:08x}-{number:x}", self.process)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn harmless_ids_are_kept_and_others_replaced() {
        let ids = RequestIds::new();
        let of = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_static(value));
            ids.of(&headers)
        };
        assert_eq!(of("trace-1.a_B"), "trace-1.a_B");
        let (first, second) = (of("a b"), ids.of(&HeaderMap::new()));
        assert!(first != second && first.contains('-'));
    }
}
