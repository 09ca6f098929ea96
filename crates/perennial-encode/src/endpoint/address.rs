//! The address of an embedding service.

use ureq::http::Uri;

const FORM: &str = "write an address such as https://host.example/v1";

/// An address that can be asked.
#[derive(Debug, Clone)]
pub struct Address {
    uri: Uri,
}

impl Address {
    /// Takes an address apart: `http` or `https`, a host, and neither a password nor a query, which would show up in logs.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(url: &str) -> Result<Self, String> {
        let uri: Uri = url.parse().map_err(|_| format!("is not a URL; {FORM}"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(format!("must begin with http:// or https://; {FORM}"));
        }
        if uri.scheme_str() == Some("https") && !cfg!(feature = "tls") {
            let problem = "this build has no TLS; build with --features tls (or full)";
            return Err(problem.to_owned());
        }
        let authority = uri.authority().ok_or(format!("has no host name; {FORM}"))?;
        if authority.as_str().contains('@') {
            return Err("must not hold a name or password; set `key`".to_owned());
        }
        if uri.query().is_some() || url.contains('#') {
            return Err(format!("must not have a `?` or `#` part; {FORM}"));
        }
        Ok(Self { uri })
    }

    /// Host and port, as they are in the address.
    pub fn host(&self) -> &str {
        self.uri.authority().map_or("", |found| found.as_str())
    }

    /// Whether it is on this machine, so that no proxy leads there.
    pub(super) fn is_local(&self) -> bool {
        let host = self.uri.host().unwrap_or_default();
        let address = host.trim_start_matches('[').trim_end_matches(']');
        host.eq_ignore_ascii_case("localhost")
            || address
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_scheme_and_a_host_and_no_secrets() {
        let address = Address::parse("http://127.0.0.1:8080/v1").unwrap();
        assert_eq!(address.host(), "127.0.0.1:8080");
        assert!(address.is_local());
        for local in ["http://[::1]:80", "http://LOCALHOST/v1"] {
            assert!(Address::parse(local).unwrap().is_local(), "{local}");
        }
        assert!(!Address::parse("http://a.example/v1").unwrap().is_local());
        for url in [
            "",
            "127.0.0.1:8080",
            "ftp://host",
            "/v1",
            "http://a:b@host/v1",
            "http://host/v1?x=1",
            "http://host/v1#x",
        ] {
            assert!(Address::parse(url).is_err(), "{url}");
        }
    }
}
