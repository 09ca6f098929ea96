//! An embedding service on this machine that counts letters.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

#[derive(Default)]
pub struct State {
    dim: usize,
    pub gone: AtomicBool,
    /// Another model answers.
    pub drifted: AtomicBool,
    /// It answers nothing until this is over.
    pub hangs: AtomicBool,
    /// It refuses texts with this word, and goes away after that.
    pub refuses: Mutex<Option<&'static str>>,
    pub requests: AtomicUsize,
    pub keys: Mutex<Vec<String>>,
}

/// A service of OpenAI's form that counts letters. It ends with the process.
pub struct Endpoint {
    pub address: SocketAddr,
    pub state: Arc<State>,
}

impl Endpoint {
    pub fn start(dim: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            dim,
            ..State::default()
        });
        let seen = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, state) = (stream.unwrap(), Arc::clone(&seen));
                std::thread::spawn(move || state.answer(stream));
            }
        });
        Self { address, state }
    }

    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }
}

impl State {
    fn answer(&self, mut stream: TcpStream) {
        if self.gone.load(Ordering::SeqCst) {
            return;
        }
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            if stream.read_exact(&mut byte).is_err() {
                return;
            }
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let header = |name: &str| {
            let lines = head.lines();
            let mut found = lines.filter_map(|line| line.split_once(": "));
            let found = found.find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.trim().to_owned())
        };
        let length: usize = header("content-length").unwrap().parse().unwrap();
        let mut body = vec![0; length];
        stream.read_exact(&mut body).unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        self.requests.fetch_add(1, Ordering::SeqCst);
        let key = header("authorization").unwrap_or_default();
        self.keys.lock().unwrap().push(key);
        while self.hangs.load(Ordering::SeqCst) {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let refuses = *self.refuses.lock().unwrap();
        if refuses.is_some_and(|word| body["input"].to_string().contains(word)) {
            self.gone.store(true, Ordering::SeqCst);
            let refusal = "HTTP/1.1 400 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            let _ = stream.write_all(refusal.as_bytes());
            return;
        }
        let drift = f64::from(u8::from(self.drifted.load(Ordering::SeqCst)));
        let inputs = body["input"].as_array().unwrap().iter();
        let rows: Vec<Value> = inputs
            .enumerate()
            .map(|(index, text)| {
                json!({"index": index, "embedding": embedding(text.as_str().unwrap(), self.dim, drift)})
            })
            .collect();
        let answer = json!({"data": rows, "usage": {"prompt_tokens": 1}}).to_string();
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{answer}",
            answer.len()
        );
    }
}

/// How many bytes of a text leave each remainder.
pub fn embedding(text: &str, dim: usize, drift: f64) -> Vec<f64> {
    let mut counts = vec![1.0; dim];
    counts[0] += drift;
    for byte in text.bytes() {
        counts[usize::from(byte) % dim] += 1.0;
    }
    counts
}
