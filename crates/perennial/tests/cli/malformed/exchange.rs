//! One request over a connection of its own, and what came back.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// Bytes for the wire, and how to treat them.
pub struct Request {
    pub kind: &'static str,
    pub bytes: Vec<u8>,
    pub end: End,
}

/// How a client behaves once it has sent its bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The request is whole: the answer is awaited.
    Whole,
    /// Something may be missing: after a moment, the client says that nothing follows.
    Cut,
    /// The client is gone at once.
    Gone,
}

pub enum Outcome {
    /// A status and the answer's head.
    Answer(u16, String),
    /// Closed without an answer.
    Closed,
    /// Neither an answer nor an end.
    Silence,
    /// The client did not wait.
    Left,
}

/// Longer than any time limit of the service.
const PATIENCE: Duration = Duration::from_secs(60);
const MOMENT: Duration = Duration::from_millis(150);

pub fn address(url: &str) -> SocketAddr {
    let url = url.trim_start_matches("http://").trim_end_matches('/');
    url.parse().unwrap()
}

pub fn exchange(url: &str, request: &Request) -> Outcome {
    let mut stream = TcpStream::connect(address(url)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    // The service may have seen enough before everything is sent.
    let _ = stream.write_all(&request.bytes);
    let mut answer = Vec::new();
    match request.end {
        End::Gone => return Outcome::Left,
        End::Cut => {
            stream.set_read_timeout(Some(MOMENT)).unwrap();
            if read(&mut stream, &mut answer) {
                return Outcome::of(&answer);
            }
            let _ = stream.shutdown(Shutdown::Write);
        }
        End::Whole => {}
    }
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    if read(&mut stream, &mut answer) {
        Outcome::of(&answer)
    } else {
        Outcome::Silence
    }
}

/// Reads to the end; false where none came in time.
fn read(stream: &mut TcpStream, answer: &mut Vec<u8>) -> bool {
    match stream.read_to_end(answer) {
        Ok(_) => true,
        Err(error) => !matches!(
            error.kind(),
            std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
        ),
    }
}

impl Outcome {
    fn of(answer: &[u8]) -> Self {
        let text = String::from_utf8_lossy(answer);
        let text = text
            .strip_prefix("HTTP/1.1 100 Continue\r\n\r\n")
            .unwrap_or(&text);
        let head = text.split("\r\n\r\n").next().unwrap_or_default();
        let status = head.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5));
        match status.and_then(|status| status.parse().ok()) {
            Some(status) => Self::Answer(status, head.to_lowercase()),
            None if answer.is_empty() => Self::Closed,
            None => Self::Answer(999, head.to_owned()),
        }
    }

    pub fn name(&self) -> String {
        match self {
            Self::Answer(status, _) => status.to_string(),
            Self::Closed => "closed".to_owned(),
            Self::Silence => "silence".to_owned(),
            Self::Left => "left".to_owned(),
        }
    }

    /// What is wrong with it: a failure of the service, unless it says when to come back.
    pub fn problem(&self) -> Option<String> {
        match self {
            Self::Answer(503, head) if head.contains("\r\nretry-after: ") => None,
            Self::Answer(status, head) if *status >= 500 => Some(head.clone()),
            Self::Silence => Some("neither an answer nor an end".to_owned()),
            _ => None,
        }
    }
}
