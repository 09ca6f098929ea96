//! What can go wrong with an embedding service, and what is said about it.

use std::time::Duration;

use serde::Deserialize;
use ureq::http::StatusCode;

use crate::service_failure::ServiceFailure;

/// What is repeated of a service's own words.
const MAX_WORDS: usize = 300;
/// The most of a whole problem: what a parser says may repeat an answer to its end.
const MAX_PROBLEM: usize = 600;

/// A request to an embedding service that has no usable answer.
#[derive(Debug, Clone)]
pub struct Failure {
    kind: ServiceFailure,
    problem: String,
    /// Whether the same request may succeed when it is sent again.
    may_pass: bool,
    retry_after: Option<Duration>,
}

impl Failure {
    fn new(kind: ServiceFailure, problem: impl Into<String>) -> Self {
        Self {
            kind,
            problem: problem.into(),
            may_pass: false,
            retry_after: None,
        }
    }

    /// An answer that is not what the protocol promises. It would be the same again.
    pub fn nonsense(problem: impl Into<String>) -> Self {
        Self::new(ServiceFailure::Failed, problem)
    }

    /// No answer within the time limit.
    pub(super) fn timed_out(seconds: f64) -> Self {
        Self::new(
            ServiceFailure::TimedOut,
            format!("did not answer within {seconds} seconds"),
        )
    }

    /// All places for requests to it were taken for the whole time limit.
    pub fn busy(places: usize) -> Self {
        Self::new(
            ServiceFailure::Busy,
            format!("is busy: {places} requests to it are in flight already; try again later"),
        )
    }

    /// A connection that failed, an answer that ended early, or one that is no HTTP.
    pub(super) fn of_transport(error: &ureq::Error, seconds: f64, most: u64) -> Self {
        let timed_out = |error: &std::io::Error| error.kind() == std::io::ErrorKind::TimedOut;
        match error {
            ureq::Error::Timeout(_) => Self::timed_out(seconds),
            ureq::Error::Io(error) if timed_out(error) => Self::timed_out(seconds),
            ureq::Error::BodyExceedsLimit(_) => Self::nonsense(format!(
                "sent an answer of more than {most} bytes, which is more than these inputs need"
            )),
            ureq::Error::HostNotFound => Self {
                may_pass: true,
                ..Self::nonsense("has an unknown host name; check the setting `url`")
            },
            ureq::Error::Protocol(_) => Self::nonsense(format!(
                "does not answer in HTTP ({error}); check the setting `url`"
            )),
            ureq::Error::Io(io) if io.kind() == std::io::ErrorKind::ConnectionRefused => Self {
                may_pass: true,
                ..Self::nonsense("refuses connections; is it running?")
            },
            error => Self {
                may_pass: true,
                ..Self::nonsense(format!("cannot be reached: {error}"))
            },
        }
    }

    /// An answer whose status is no success. `own_key` says whether the key was the client's own.
    pub(super) fn of_status(
        status: StatusCode,
        location: Option<&str>,
        body: &[u8],
        secret: Option<&str>,
        own_key: bool,
        retry_after: Option<Duration>,
    ) -> Self {
        let words = words(body, secret);
        let says = match words.is_empty() {
            true => String::new(),
            false => format!(": {words}"),
        };
        let text = format!("answered with status {}{says}", status.as_u16());
        match status.as_u16() {
            300..=399 => Self::nonsense(format!(
                "redirects to {}; set its `url` to the address itself",
                location.unwrap_or("another address")
            )),
            401 | 403 if own_key => {
                Self::new(ServiceFailure::ClientKey, format!("refused the key{says}"))
            }
            401 | 403 => Self::nonsense(format!(
                "refused the key that it is shown{says}; check the setting `key`"
            )),
            400 | 413 | 422 => {
                Self::new(ServiceFailure::Inputs, format!("refused the input{says}"))
            }
            429 => Self {
                may_pass: true,
                retry_after,
                ..Self::new(ServiceFailure::Busy, text)
            },
            500..=599 => Self {
                may_pass: true,
                retry_after,
                ..Self::nonsense(text)
            },
            _ => Self::nonsense(text),
        }
    }

    /// Of which kind it is.
    pub fn kind(&self) -> ServiceFailure {
        self.kind
    }

    /// What happened, as the end of a sentence that begins with the service's name.
    pub fn problem(&self) -> &str {
        // Cut here and not before: of a key at the cut, the first letters would be left where only whole keys are taken out.
        let mut letters = self.problem.char_indices();
        let end = letters.nth(MAX_PROBLEM).map(|(end, _)| end);
        &self.problem[..end.unwrap_or(self.problem.len())]
    }

    /// When to send the request again, where the service says so.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    pub(super) fn may_pass(&self) -> bool {
        self.may_pass
    }

    /// Without the key, which a service can repeat anywhere in its answer.
    pub(super) fn without(mut self, secret: Option<&str>) -> Self {
        if let Some(secret) = secret.filter(|secret| !secret.is_empty()) {
            self.problem = self.problem.replace(secret, "[key]");
        }
        self
    }
}

/// What a service says about an error, in any of the usual forms, without the key and at most a few hundred characters.
fn words(body: &[u8], secret: Option<&str>) -> String {
    #[derive(Deserialize)]
    struct Said {
        #[serde(default, alias = "detail", alias = "message")]
        error: serde_json::Value,
    }
    let said = serde_json::from_slice::<Said>(body).map(|said| said.error);
    let text = match said {
        Ok(serde_json::Value::String(text)) => text,
        Ok(value) => match value["message"].as_str() {
            Some(text) => text.to_owned(),
            None => return String::new(),
        },
        // A page of a proxy says nothing that helps.
        Err(_) => return String::new(),
    };
    let text = match secret.filter(|secret| !secret.is_empty()) {
        Some(secret) => text.replace(secret, "[key]"),
        None => text,
    };
    text.chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .take(MAX_WORDS)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_short_and_without_the_key() {
        for body in [
            r#"{"error":{"message":"bad key sk-1 given\nhere","code":1}}"#,
            r#"{"error":"bad key sk-1 given\nhere","error_type":"x"}"#,
            r#"{"detail":"bad key sk-1 given\nhere"}"#,
            r#"{"message":"bad key sk-1 given\nhere"}"#,
        ] {
            let said = words(body.as_bytes(), Some("sk-1"));
            assert_eq!(said, "bad key [key] given here", "{body}");
        }
        assert_eq!(words(b"<html>", None), "");
        assert_eq!(words(b"[1]", None), "");
        let long = format!("{{\"error\":\"{}\"}}", "x".repeat(10_000));
        assert_eq!(words(long.as_bytes(), None).len(), MAX_WORDS);
    }

    #[test]
    fn problems_are_short_and_without_the_key() {
        let long = Failure::nonsense("ü".repeat(10_000));
        assert_eq!(long.problem().chars().count(), MAX_PROBLEM);
        let echo = Failure::nonsense("sent \"sk-1\"").without(Some("sk-1"));
        assert_eq!(echo.problem(), "sent \"[key]\"");
        assert_eq!(Failure::nonsense("x").without(Some("")).problem(), "x");
        let before = "x".repeat(MAX_PROBLEM - 5);
        let cut = Failure::nonsense(format!("{before}sk-not-to-be-seen"));
        let cut = cut.without(Some("sk-not-to-be-seen"));
        assert_eq!(cut.problem(), format!("{before}[key]"));
    }

    #[test]
    fn statuses_mean_what_a_client_can_do() {
        let of = |status: u16, own_key| {
            let status = StatusCode::from_u16(status).unwrap();
            Failure::of_status(status, None, b"", None, own_key, None)
        };
        for (status, kind, may_pass) in [
            (302, ServiceFailure::Failed, false),
            (400, ServiceFailure::Inputs, false),
            (401, ServiceFailure::Failed, false),
            (404, ServiceFailure::Failed, false),
            (429, ServiceFailure::Busy, true),
            (500, ServiceFailure::Failed, true),
            (503, ServiceFailure::Failed, true),
        ] {
            let failure = of(status, false);
            assert_eq!(
                (failure.kind, failure.may_pass),
                (kind, may_pass),
                "{status}"
            );
        }
        assert_eq!(of(401, true).kind, ServiceFailure::ClientKey);
        assert_eq!(of(500, false).problem(), "answered with status 500");
    }
}
