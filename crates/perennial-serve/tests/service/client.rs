//! HTTP by hand, so that tests can say exactly what goes over the wire.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

#[derive(Clone, Default)]
pub struct Call {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Announced instead of the body's own length.
    pub announced: Option<u64>,
}

pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Call {
    pub fn new(method: &str, path: &str) -> Self {
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            ..Self::default()
        }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn key(self, key: &str) -> Self {
        self.header("authorization", &format!("Bearer {key}"))
    }

    pub fn json(self, body: &Value) -> Self {
        self.text("application/json", &body.to_string())
    }

    pub fn text(mut self, content_type: &str, body: &str) -> Self {
        self.body = body.as_bytes().to_vec();
        self.header("content-type", content_type)
    }

    /// Files and JSON as a form.
    pub fn form(self, fields: &[(&str, &[u8])]) -> Self {
        let fields = fields
            .iter()
            .map(|(field, content)| (*field, "f", *content));
        self.named_form(&fields.collect::<Vec<_>>())
    }

    /// The same, with the files' names behind those of the fields.
    pub fn named_form(mut self, fields: &[(&str, &str, &[u8])]) -> Self {
        for (field, name, content) in fields {
            let head = format!(
                "--x\r\ncontent-disposition: form-data; name=\"{field}\"; filename=\"{name}\"\r\n\r\n"
            );
            self.body.extend(head.as_bytes());
            self.body.extend(*content);
            self.body.extend(b"\r\n");
        }
        self.body.extend(b"--x--\r\n");
        self.header("content-type", "multipart/form-data; boundary=x")
    }

    fn head(&self) -> String {
        let mut head = format!(
            "{} {} HTTP/1.1\r\nconnection: close\r\n",
            self.method, self.path
        );
        if !self.headers.iter().any(|(name, _)| name == "host") {
            head.push_str("host: localhost\r\n");
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let length = self.announced.unwrap_or(self.body.len() as u64);
        if length > 0 {
            head.push_str(&format!("content-length: {length}\r\n"));
        }
        head.push_str("\r\n");
        head
    }

    pub fn send(&self, address: SocketAddr) -> Answer {
        self.send_over(&mut connect(address))
    }

    pub fn send_over(&self, stream: &mut (impl Read + Write)) -> Answer {
        stream.write_all(self.head().as_bytes()).unwrap();
        // A server that has seen enough may close before it has read everything.
        let _ = stream.write_all(&self.body);
        Answer::read(stream)
    }
}

pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    stream
}

impl Answer {
    pub fn read(stream: &mut impl Read) -> Self {
        let mut bytes = Vec::new();
        // A reset after the answer is the answer's end as well.
        let _ = stream.read_to_end(&mut bytes);
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no answer: {:?}", String::from_utf8_lossy(&bytes)));
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let mut lines = head.lines();
        let status = lines
            .next()
            .unwrap()
            .split(' ')
            .nth(1)
            .unwrap()
            .parse()
            .unwrap();
        let headers = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        Self {
            status,
            headers,
            body: bytes[end + 4..].to_vec(),
        }
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("{}: {}", self.status, String::from_utf8_lossy(&self.body)))
    }

    /// The JSON of an answer that must be of this status.
    pub fn expect(&self, status: u16) -> Value {
        let text = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status, status, "{text}");
        assert!(self.headers.contains_key("x-request-id"));
        if status < 400 {
            return self.json();
        }
        let json = self.json();
        let error = &json["error"];
        assert!(
            error["code"].is_string() && error["message"].is_string(),
            "{json}"
        );
        assert_eq!(error["request_id"], self.headers["x-request-id"].as_str());
        assert_eq!(
            matches!(status, 429 | 503),
            self.headers.contains_key("retry-after")
        );
        json
    }

    /// The code of an error that must be of this status.
    pub fn code(&self, status: u16) -> String {
        self.expect(status)["error"]["code"]
            .as_str()
            .unwrap()
            .to_owned()
    }
}
