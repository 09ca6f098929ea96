//! The command line as a client of a running service: addresses, keys, TLS trust, and errors with their remedy.

#[cfg_attr(not(feature = "tls"), path = "service_client/no_trust.rs")]
pub mod trust;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use perennial_serve::{KEY_VARIABLES, Scope};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::http::{Request, Response, StatusCode, Uri, header};
use ureq::{Agent, Body};

use crate::exit_status::{UsageError, gate_missed, usage};
use crate::interrupt::Interrupt;
use crate::running_service;
use crate::terminal::Terminal;

/// The largest answer that is read: as many hits as a service gives, each with the largest payload.
const MAX_ANSWER_BYTES: u64 = 64 << 20;
const CONNECT: Duration = Duration::from_secs(10);
/// Longer than a service takes for its longest requests: snapshots and swaps.
const ANSWER: Duration = Duration::from_secs(660);
/// For how long requests to a busy service are repeated.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long a service may ask to wait before it is asked again.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Which service to ask, and how.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Options for a running service")]
pub struct ServerArguments {
    /// Address of the running service, such as http://127.0.0.1:7700
    #[arg(long, global = true, value_name = "URL")]
    pub server: Option<String>,
    #[command(flatten)]
    pub access: AccessArguments,
}

/// Options of every command that talks to a service, wherever its address comes from.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct AccessArguments {
    /// API key of the service [default: PERENNIAL_WRITE_KEY; for read requests PERENNIAL_READ_KEY]
    #[arg(long, global = true, value_name = "KEY")]
    pub key: Option<String>,
    /// Additional CA certificates (PEM) to trust for the service's TLS certificate
    #[cfg_attr(
        not(feature = "tls"),
        doc = "(this build has no TLS; build with --features tls)"
    )]
    #[arg(long, global = true, env = "PERENNIAL_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
}

impl ServerArguments {
    /// A client of the service that is named, or else of the one that has the gallery of this folder open, which is told.
    pub fn client_beside(
        &self,
        gallery: &Path,
        terminal: &Terminal,
    ) -> anyhow::Result<Option<ServiceClient>> {
        if self.server.is_some() {
            return self.client();
        }
        let Some(url) = running_service::address(gallery) else {
            return Ok(None);
        };
        let client = ServiceClient::of(&url, &self.access)?;
        // Another program may have its number by now.
        if client.get("/livez").is_err() {
            return Ok(None);
        }
        terminal.say(format_args!(
            "asking the service at {url}, which has the gallery at {} open",
            gallery.display()
        ));
        Ok(Some(client))
    }

    /// A client of the service, where one is named.
    pub fn client(&self) -> anyhow::Result<Option<ServiceClient>> {
        let server = self.server.as_deref();
        server
            .map(|url| ServiceClient::of(url, &self.access))
            .transpose()
    }
}

/// A connection to one service.
pub struct ServiceClient {
    agent: Agent,
    /// Without a slash at its end.
    url: String,
    keys: ClientKeys,
}

/// A response of the service.
#[derive(Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub json: Value,
    /// How long to wait before asking again, where the service says so.
    pub retry_after: Option<Duration>,
    url: String,
}

/// The service rejected the request, or could not be reached.
#[derive(Debug)]
struct ServiceError(String);

impl std::fmt::Display for ServiceError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ServiceError {}

fn failed(text: String) -> anyhow::Error {
    ServiceError(text).into()
}

impl ServiceClient {
    /// A client of the service at an address. Nothing is sent yet.
    pub fn of(url: &str, access: &AccessArguments) -> anyhow::Result<Self> {
        let (url, uri) = address(url)?;
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            // Another method than the one asked for would follow a redirect.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .accept_encoding("identity")
            .user_agent(concat!("perennial/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(CONNECT))
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(ANSWER));
        if uri.host().is_some_and(is_loopback) {
            config = config.proxy(None);
        }
        if uri.scheme_str() == Some("https") {
            config = trust::secure(config, access.ca.as_deref())?;
        } else {
            trust::check(access.ca.as_deref())?;
        }
        Ok(Self {
            agent: config.build().into(),
            url,
            keys: ClientKeys::new(access.key.as_deref(), |name| std::env::var(name).ok())?,
        })
    }

    /// The service's address, without a slash at its end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Reads `path`, which begins with a slash.
    pub fn get(&self, path: &str) -> anyhow::Result<Reply> {
        self.ask("GET", path, None, Scope::Read)
    }

    /// Posts JSON with the read key.
    pub fn query(&self, path: &str, json: &Value) -> anyhow::Result<Reply> {
        self.ask("POST", path, Some(json), Scope::Read)
    }

    /// Posts JSON.
    pub fn post(&self, path: &str, json: &Value) -> anyhow::Result<Reply> {
        self.ask("POST", path, Some(json), Scope::Write)
    }

    /// Puts JSON.
    pub fn put(&self, path: &str, json: &Value) -> anyhow::Result<Reply> {
        self.ask("PUT", path, Some(json), Scope::Write)
    }

    /// Sends DELETE with a JSON body.
    pub fn delete(&self, path: &str, json: &Value) -> anyhow::Result<Reply> {
        self.ask("DELETE", path, Some(json), Scope::Write)
    }

    /// Posts JSON, and repeats the request while the service is busy and sends `Retry-After`. Only for idempotent requests.
    pub fn post_patiently(
        &self,
        path: &str,
        json: &Value,
        interrupt: Interrupt,
    ) -> anyhow::Result<Reply> {
        let begun = Instant::now();
        loop {
            let reply = self.post(path, json)?;
            let busy = matches!(reply.status, 429 | 503);
            let Some(wait) = reply.retry_after.filter(|_| busy) else {
                return Ok(reply);
            };
            if begun.elapsed() + wait > PATIENCE {
                return Ok(reply);
            }
            let until = Instant::now() + wait.min(LONGEST_WAIT);
            while Instant::now() < until {
                interrupt.check()?;
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }

    fn ask(
        &self,
        method: &str,
        path: &str,
        json: Option<&Value>,
        scope: Scope,
    ) -> anyhow::Result<Reply> {
        let url = format!("{}{path}", self.url);
        let mut request = Request::builder().method(method).uri(&url);
        let key = self.keys.of(scope);
        if let Some(key) = key {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", key.value));
        }
        let unusable = |error: ureq::http::Error| failed(format!("{url}: {error}"));
        let answer = match json {
            Some(json) => {
                let request = request.header(header::CONTENT_TYPE, "application/json");
                self.agent
                    .run(request.body(json.to_string()).map_err(unusable)?)
            }
            None => self.agent.run(request.body(()).map_err(unusable)?),
        };
        let answer = answer.map_err(|error| failed(unreachable(&url, &error)))?;
        let reply = read(&url, answer)?;
        self.refuse_without_right(&reply, key, scope)?;
        Ok(reply)
    }

    /// Turns a missing, unknown or insufficient key into an error that names the remedy.
    fn refuse_without_right(
        &self,
        reply: &Reply,
        key: Option<&ClientKey>,
        scope: Scope,
    ) -> anyhow::Result<()> {
        let variable = variable_of(scope);
        let advice = match (reply.status, key) {
            (401, None) => format!("it requires a key: set {variable}, or pass --key"),
            (401, Some(key)) => format!("it does not know the key of {}", key.origin),
            (403, Some(key)) if scope == Scope::Write => format!(
                "the key of {} does not allow this: set {variable}, or pass --key",
                key.origin
            ),
            _ => return Ok(()),
        };
        Err(usage(format!(
            "{} rejected the request: {advice}",
            reply.url
        )))
    }
}

impl Reply {
    /// The body of a successful response; a rejection becomes an error with the service's message.
    pub fn accepted(self) -> anyhow::Result<Value> {
        if (200..300).contains(&self.status) {
            return Ok(self.json);
        }
        let text = format!("{} rejected the request: {}", self.url, self.message());
        // The same exit codes as without a service.
        Err(match self.code() {
            Some("bad_request" | "not_found" | "unprocessable") => usage(text),
            Some("incompatible_version") => gate_missed(text),
            _ => failed(text),
        })
    }

    /// [`accepted`](Self::accepted), read as `T`.
    pub fn read<T: DeserializeOwned>(self) -> anyhow::Result<T> {
        let url = self.url.clone();
        serde_json::from_value(self.accepted()?).map_err(|error| failed(stranger(&url, &error)))
    }

    /// The kind of a refusal, such as `incompatible_version`.
    pub fn code(&self) -> Option<&str> {
        self.json["error"]["code"].as_str()
    }

    /// The message of a rejection.
    pub fn message(&self) -> &str {
        self.json["error"]["message"].as_str().unwrap_or_default()
    }
}

/// Reads an answer, and makes sure that a Perennial service gave it.
fn read(url: &str, mut answer: Response<Body>) -> anyhow::Result<Reply> {
    #[derive(Deserialize)]
    struct Refusal {
        #[serde(rename = "error")]
        _error: RefusalDetail,
    }
    #[derive(Deserialize)]
    struct RefusalDetail {
        #[serde(rename = "code")]
        _code: String,
        #[serde(rename = "message")]
        _message: String,
    }
    let status = answer.status();
    let text = |name| {
        let value = answer.headers().get(name)?;
        Some(value.to_str().ok()?.to_owned())
    };
    if status.is_redirection() {
        let target = text(header::LOCATION).unwrap_or_else(|| "another address".to_owned());
        return Err(usage(format!(
            "{url}: the response redirects and points to {target}; pass the address of the service itself as --server"
        )));
    }
    let retry_after = text(header::RETRY_AFTER)
        .and_then(|seconds| seconds.trim().parse().ok())
        .map(Duration::from_secs);
    let bytes = answer
        .body_mut()
        .with_config()
        .limit(MAX_ANSWER_BYTES)
        .read_to_vec()
        .map_err(|error| failed(unreachable(url, &error)))?;
    let json = serde_json::from_slice(&bytes).map_err(|error| by_stranger(url, status, &error))?;
    if !status.is_success() {
        Refusal::deserialize(&json).map_err(|error| by_stranger(url, status, &error))?;
    }
    Ok(Reply {
        status: status.as_u16(),
        json,
        retry_after,
        url: url.to_owned(),
    })
}

fn by_stranger(url: &str, status: StatusCode, error: &serde_json::Error) -> anyhow::Error {
    match status.as_u16() {
        502..=504 => failed(format!(
            "{url}: a proxy answers with status {status}; is the service behind it running?"
        )),
        200 => failed(stranger(url, error)),
        _ => failed(stranger(url, &format!("status {status}"))),
    }
}

fn stranger(url: &str, reason: &dyn std::fmt::Display) -> String {
    format!(
        "{url}: the response is not from a Perennial service of this version ({reason}); check --server"
    )
}

/// The remedy for a request without response.
fn unreachable(url: &str, error: &ureq::Error) -> String {
    let text = error.to_string();
    let kind = match error {
        ureq::Error::Io(error) => Some(error.kind()),
        _ => None,
    };
    let advice = match error {
        // A signer of the same name with another key gives a bad signature.
        _ if text.contains("UnknownIssuer")
            || text.contains("BadSignature")
            || text.contains("UnsupportedSignatureAlgorithmForPublicKey") =>
        {
            "the service's TLS certificate is signed by an unknown authority; pass the authority's certificate with --ca FILE"
                .to_owned()
        }
        _ if text.contains("NotValidForName") || text.contains("not valid for name") => {
            "the service's TLS certificate is for another host name; use that name in --server".to_owned()
        }
        _ if text.contains("invalid peer certificate: Expired") => {
            "the service's TLS certificate has expired; renew it on the server".to_owned()
        }
        _ if text.contains("CaUsedAsEndEntity") => {
            "the service's TLS certificate is that of an authority (CA:TRUE), as `openssl req -x509` makes it; make one with -addext \
             basicConstraints=critical,CA:FALSE, or one that the authority signs"
                .to_owned()
        }
        _ if text.contains("invalid peer certificate") => {
            format!("the service's TLS certificate is invalid ({text})")
        }
        _ if text.contains("InvalidContentType") => {
            "the server does not use TLS; write http:// in --server if that is intended".to_owned()
        }
        ureq::Error::HostNotFound => "the host name is unknown; check --server".to_owned(),
        ureq::Error::Timeout(_) => format!("no response in time ({text}); the service may be overloaded, or a firewall may block it"),
        _ if kind == Some(std::io::ErrorKind::ConnectionRefused) => {
            "nothing listens there; start the service with `perennial serve`, or check --server".to_owned()
        }
        ureq::Error::Protocol(_) => {
            format!("the response is not HTTP ({text}); check --server, and whether it must begin with https://")
        }
        _ => format!("{text}; check --server, and whether the service is running"),
    };
    format!("cannot reach {url}: {advice}")
}

/// An address that requests can be sent to, without a slash at its end.
fn address(text: &str) -> anyhow::Result<(String, Uri)> {
    let wrong = |problem: &str| {
        usage(format!(
            "--server {text}: {problem}; write an address such as http://127.0.0.1:7700"
        ))
    };
    let url = text.trim_end_matches('/');
    let uri: Uri = url.parse().map_err(|_| wrong("is not a URL"))?;
    match uri.scheme_str() {
        Some("http" | "https") => {}
        Some(_) => return Err(wrong("must begin with http:// or https://")),
        None => {
            return Err(usage(format!(
                "--server {text}: lacks http:// or https:// at its beginning"
            )));
        }
    }
    let authority = uri.authority().ok_or_else(|| wrong("has no host name"))?;
    if authority.as_str().contains('@') {
        return Err(wrong("must not hold a name or password; pass --key"));
    }
    if uri.query().is_some() || text.contains('#') {
        return Err(wrong("must not have a `?` or `#` part"));
    }
    Ok((url.to_owned(), uri))
}

/// A value in the query of an address.
pub fn query_value(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || address
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// The keys that a client may show.
struct ClientKeys {
    read: Option<ClientKey>,
    write: Option<ClientKey>,
}

#[derive(Clone)]
struct ClientKey {
    value: String,
    /// The option or variable that it came from.
    origin: &'static str,
}

impl ClientKeys {
    /// `--key` for everything; otherwise a variable for each scope, and the write key is also used for reading if there is no read key.
    fn new(
        argument: Option<&str>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, UsageError> {
        let from = |scope| {
            let origin = variable_of(scope);
            let value = variable(origin)?;
            Some(ClientKey { value, origin })
        };
        let given = argument.map(|value| ClientKey {
            value: value.to_owned(),
            origin: "--key",
        });
        let write = given.clone().or_else(|| from(Scope::Write));
        let read = given
            .or_else(|| from(Scope::Read))
            .or_else(|| write.clone());
        for key in [&read, &write].into_iter().flatten() {
            let usable = |byte: u8| byte.is_ascii_graphic();
            if key.value.is_empty() || !key.value.bytes().all(usable) {
                return Err(UsageError(format!(
                    "{}: a key must consist of visible ASCII characters without spaces",
                    key.origin
                )));
            }
        }
        Ok(Self { read, write })
    }

    fn of(&self, scope: Scope) -> Option<&ClientKey> {
        match scope {
            Scope::Read => self.read.as_ref(),
            Scope::Write => self.write.as_ref(),
        }
    }
}

/// The variable that holds the key of a scope, for a service and its clients alike.
fn variable_of(scope: Scope) -> &'static str {
    let of_scope = KEY_VARIABLES.iter().find(|(_, other)| *other == scope);
    of_scope.map_or("--key", |(name, _)| name)
}

#[cfg(test)]
mod tests;
