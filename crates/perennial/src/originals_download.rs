//! Originals behind `http` and `https` addresses, for a backfill.

use std::path::Path;
use std::time::Duration;

use perennial_upgrade::backfill::{Answer, Download, Failure, FailureReason};
use ureq::Agent;
use ureq::http::header::CONTENT_TYPE;

use crate::service_client::trust;

/// From the first byte that is sent to the last one that is received.
const TIME: Duration = Duration::from_secs(10);

/// A client that follows no redirects: the address that was named, and no other, is asked.
pub struct OriginalsDownload(Agent);

impl OriginalsDownload {
    /// A client that trusts this machine's CA certificates and those in the file that `PERENNIAL_CA` names.
    pub fn new() -> anyhow::Result<Self> {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .accept_encoding("identity")
            .user_agent(concat!("perennial/", env!("CARGO_PKG_VERSION")))
            .timeout_global(Some(TIME));
        if cfg!(feature = "tls") {
            let ca = std::env::var_os("PERENNIAL_CA");
            config = trust::secure(config, ca.as_deref().map(Path::new))?;
        }
        Ok(Self(config.build().into()))
    }
}

impl Download for OriginalsDownload {
    fn get(&self, url: &str, max_bytes: u64) -> Result<Answer, Failure> {
        let of_transport = |error: ureq::Error| {
            let reason = match &error {
                ureq::Error::BodyExceedsLimit(_) | ureq::Error::BadUri(_) => {
                    FailureReason::Unreadable
                }
                _ => FailureReason::Unreachable,
            };
            Failure::new(reason, error.to_string())
        };
        let mut answer = self.0.get(url).call().map_err(of_transport)?;
        let status = answer.status();
        let reason = match status.as_u16() {
            200 => {
                let declared = answer.headers().get(CONTENT_TYPE);
                let content_type = declared
                    .and_then(|declared| declared.to_str().ok())
                    .map(str::to_owned);
                let body = answer.body_mut().with_config().limit(max_bytes);
                let file = body.read_to_vec().map_err(of_transport)?;
                return Ok(Answer { file, content_type });
            }
            404 | 410 => FailureReason::Gone,
            408 | 429 | 500.. => FailureReason::Unreachable,
            _ => FailureReason::Unreadable,
        };
        Err(Failure::new(
            reason,
            format!("the answer has status {status}"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    /// Answers one request, and returns the address.
    fn answering(answer: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        });
        format!("http://{address}/a.png")
    }

    #[test]
    fn answers_become_files_or_reasons() {
        let client = OriginalsDownload::new().unwrap();
        let file = answering(
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 4\r\n\r\nfile",
        );
        let answer = client.get(&file, 4).unwrap();
        assert_eq!(answer.file, b"file");
        assert_eq!(answer.content_type.as_deref(), Some("text/plain"));
        for (answer, reason) in [
            (
                "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
                FailureReason::Gone,
            ),
            (
                "HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n",
                FailureReason::Unreachable,
            ),
            (
                "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n",
                FailureReason::Unreadable,
            ),
            (
                "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/secret\r\ncontent-length: 0\r\n\r\n",
                FailureReason::Unreadable,
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nlarge",
                FailureReason::Unreadable,
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfi",
                FailureReason::Unreachable,
            ),
            ("nonsense\r\n\r\n", FailureReason::Unreachable),
        ] {
            let failure = client.get(&answering(answer), 4).unwrap_err();
            assert_eq!(failure.reason, reason, "{answer}: {failure}");
        }
        let closed = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let failure = client.get(&format!("http://{closed}/"), 4).unwrap_err();
        assert_eq!(failure.reason, FailureReason::Unreachable, "{failure}");
    }
}
