//! The log filter. It is checked before it is used, since a misspelt filter would silently hide events.

use std::ffi::OsStr;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tracing::Level;
use tracing_subscriber::filter::{LevelFilter, Targets};

use crate::exit_status::usage;

/// The variable that holds a filter for any command.
pub const LOG_VARIABLE: &str = "PERENNIAL_LOG";

/// The HTTP client. At the level `trace` it writes whole requests, with the keys in them, so that level is never reached.
const HTTP_CLIENT: [&str; 2] = ["ureq", "ureq_proto"];

/// A checked filter: levels for everything and for single targets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LogFilter(String);

impl LogFilter {
    /// The filter of the environment; `None` where the variable is not set or empty.
    pub fn from_environment() -> anyhow::Result<Option<Self>> {
        Self::from_variable(std::env::var_os(LOG_VARIABLE).as_deref())
    }

    fn from_variable(value: Option<&OsStr>) -> anyhow::Result<Option<Self>> {
        match value.map(OsStr::to_string_lossy) {
            Some(text) if !text.trim().is_empty() => text
                .parse()
                .map(Some)
                .map_err(|error| usage(format!("environment variable {LOG_VARIABLE}: {error}"))),
            _ => Ok(None),
        }
    }

    /// The filter that tracing takes.
    pub fn targets(&self) -> Targets {
        let wanted: Targets = self.0.parse().expect("it was parsed before");
        let mut targets = Targets::new();
        if let Some(level) = wanted.default_level() {
            targets = targets.with_default(level);
        }
        for target in HTTP_CLIENT {
            if wanted.would_enable(target, &Level::TRACE) {
                targets = targets.with_target(target, LevelFilter::DEBUG);
            }
        }
        targets.with_targets(wanted.iter().map(|(target, level)| {
            match HTTP_CLIENT.iter().any(|client| target.starts_with(client)) {
                true => (target.to_owned(), level.min(LevelFilter::DEBUG)),
                false => (target.to_owned(), level),
            }
        }))
    }
}

impl FromStr for LogFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is not a log filter; write a level (off, error, warn, info, debug, trace), or TARGET=LEVEL for a part of \
                 the program, separated by commas, such as warn,perennial_serve=debug"
            )
        };
        let mut parts = Vec::new();
        for part in text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
        {
            // tracing reads a single word that is not a level as a target, and then logs only that target.
            let (target, level) = part.rsplit_once('=').unwrap_or(("", part));
            let is_level = !level.is_empty() && level.parse::<LevelFilter>().is_ok();
            let is_target = target
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_:-.".contains(&byte));
            if !is_level || !is_target || part.parse::<Targets>().is_err() {
                return Err(wrong());
            }
            parts.push(part);
        }
        if parts.is_empty() {
            return Err(wrong());
        }
        Ok(Self(parts.join(",")))
    }
}

impl TryFrom<String> for LogFilter {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<LogFilter> for String {
    fn from(filter: LogFilter) -> Self {
        filter.0
    }
}

impl fmt::Display for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_with_keys_are_never_written() {
        for text in ["trace", "warn,ureq=trace", "ureq_proto::client=trace,trace"] {
            let targets = text.parse::<LogFilter>().unwrap().targets();
            for target in ["ureq", "ureq::run", "ureq_proto::client::call"] {
                assert!(
                    !targets.would_enable(target, &Level::TRACE),
                    "{text} {target}"
                );
            }
        }
        let targets = "trace".parse::<LogFilter>().unwrap().targets();
        assert!(targets.would_enable("perennial_serve", &Level::TRACE));
        let targets = "warn,perennial=debug"
            .parse::<LogFilter>()
            .unwrap()
            .targets();
        assert!(targets.would_enable("perennial::x", &Level::DEBUG));
        assert!(!targets.would_enable("ureq", &Level::INFO));
    }

    #[test]
    fn levels_and_targets_are_taken() {
        for text in [
            "off",
            "WARN",
            "info,perennial_serve=debug",
            "warn, perennial=trace ,",
            "perennial_gallery::embedded=debug",
        ] {
            text.parse::<LogFilter>().unwrap().targets();
        }
        assert_eq!(
            "warn, a=info".parse::<LogFilter>().unwrap().to_string(),
            "warn,a=info"
        );
    }

    #[test]
    fn what_tracing_would_misunderstand_is_refused() {
        for text in [
            "loud",
            "inof",
            "info,perennial_serve",
            "perennial_serve=verbose",
            "perennial_serve:debug",
            "info;perennial=debug",
            "=",
            ",",
            "perennial==debug=",
            "[request{request_id=7}]=debug",
        ] {
            let error = text.parse::<LogFilter>().unwrap_err();
            assert!(error.contains(&format!("{text:?}")), "{error}");
            assert!(error.contains("warn,perennial_serve=debug"), "{error}");
        }
    }

    #[test]
    fn an_empty_variable_says_nothing_and_a_wrong_one_is_named() {
        let of = |text: &str| LogFilter::from_variable(Some(OsStr::new(text)));
        assert!(of("").unwrap().is_none() && of(" ").unwrap().is_none());
        assert!(LogFilter::from_variable(None).unwrap().is_none());
        let error = of("debugg").unwrap_err().to_string();
        assert!(
            error.contains(LOG_VARIABLE) && error.contains("debugg"),
            "{error}"
        );
    }
}
