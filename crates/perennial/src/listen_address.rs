//! Where a service listens: an IP address and a port, and what to write instead of anything else.

use std::fmt;
use std::net::SocketAddr;

use serde::de::{Deserializer, Error, Visitor};

/// Reads `HOST:PORT`.
///
/// # Errors
/// What is expected, and what was probably meant.
pub fn parse(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        let meant = match meant(text) {
            Some(meant) => format!("; write {meant}"),
            None => String::new(),
        };
        format!(
            "expected an IP address and a port, such as 127.0.0.1:7700 (this machine alone) or 0.0.0.0:7700 (all of its networks), got {text:?}{meant}"
        )
    })
}

/// A port alone, an address alone, and the name of this machine.
fn meant(text: &str) -> Option<String> {
    let local = text.strip_prefix("localhost").unwrap_or(text);
    if let Ok(port) = local.strip_prefix(':').unwrap_or(local).parse::<u16>() {
        return Some(format!("127.0.0.1:{port}"));
    }
    if text == "localhost" {
        return Some("127.0.0.1:7700".to_owned());
    }
    let address = text
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse()
        .ok()?;
    Some(SocketAddr::new(address, 7700).to_string())
}

/// The same from a configuration.
///
/// # Errors
/// As [`parse`].
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    struct Address;

    impl Visitor<'_> for Address {
        type Value = SocketAddr;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an IP address and a port, such as \"127.0.0.1:7700\"")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<SocketAddr, E> {
            parse(text).map_err(E::custom)
        }

        fn visit_i64<E: Error>(self, port: i64) -> Result<SocketAddr, E> {
            self.visit_str(&port.to_string())
        }
    }

    deserializer.deserialize_any(Address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_host_and_a_port() {
        for text in ["127.0.0.1:7700", "0.0.0.0:0", "[::1]:80"] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
        for (text, meant) in [
            ("7700", Some("127.0.0.1:7700")),
            (":80", Some("127.0.0.1:80")),
            ("localhost:99", Some("127.0.0.1:99")),
            ("localhost", Some("127.0.0.1:7700")),
            ("10.0.0.1", Some("10.0.0.1:7700")),
            ("::1", Some("[::1]:7700")),
            ("[::1]", Some("[::1]:7700")),
            ("example.org:80", None),
            ("70000", None),
            ("127.0.0.1:70000", None),
            ("", None),
        ] {
            let error = parse(text).unwrap_err();
            assert!(
                error.contains("127.0.0.1:7700 (this machine alone)"),
                "{error}"
            );
            let advice = error.split_once("; write ").map(|(_, advice)| advice);
            assert_eq!(advice, meant, "{error}");
        }
    }
}
