//! HTTP/1.1 as far as a client of JSON needs it, one thread a connection, with faults.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use super::State;
use super::routes::{Answer, answer};

/// Something that goes wrong with a request whose line contains a text, after some that go well.
#[derive(Debug, Clone)]
pub struct Fault {
    pub at: &'static str,
    pub after: u32,
    pub kind: Kind,
}

#[derive(Debug, Clone)]
pub enum Kind {
    /// The connection breaks before the request has an effect.
    Break,
    /// The request has its effect, and the connection breaks before the answer.
    LoseAnswer,
    /// Only half of the points are written, and an error is the answer.
    Half,
    /// An error.
    Status(u16),
    /// A refusal that says after how many seconds to come again.
    Throttle(u32),
    /// An answer that is another one than Qdrant's.
    Say(&'static str),
    /// The server hangs for a while, and then says that it was too slow.
    Delay(Duration),
    /// The request is on its way for a while, and then has its effect.
    Late(Duration),
    /// Others write this just before the request has its effect.
    WriteBefore(fn(&mut State)),
    /// The request has its effect, and then others write this before the answer.
    WriteAfter(fn(&mut State)),
}

impl Fault {
    pub fn new(at: &'static str, after: u32, kind: Kind) -> Self {
        Self { at, after, kind }
    }
}

pub struct Listener {
    pub port: u16,
    over: Arc<AtomicBool>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    pub fn start(port: u16, state: Arc<Mutex<State>>) -> Self {
        let socket = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let port = socket.local_addr().unwrap().port();
        let over = Arc::new(AtomicBool::new(false));
        let streams: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let (ended, open) = (Arc::clone(&over), Arc::clone(&streams));
        let thread = std::thread::spawn(move || {
            for stream in socket.incoming() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                open.lock().unwrap().push(stream.try_clone().unwrap());
                let (state, ended) = (Arc::clone(&state), Arc::clone(&ended));
                std::thread::spawn(move || {
                    let shut = stream.try_clone();
                    // A client that goes away is none of the server's business.
                    let _ = serve(stream, &state, &ended);
                    if let Ok(stream) = shut {
                        let _ = stream.shutdown(Shutdown::Both);
                    }
                });
            }
        });
        Self {
            port,
            over,
            streams,
            thread: Some(thread),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for stream in self.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn serve(stream: TcpStream, state: &Mutex<State>, over: &AtomicBool) -> std::io::Result<()> {
    // An answer in pieces would wait for the client's delayed acknowledgement, 40 ms each time.
    stream.set_nodelay(true)?;
    let mut out = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let (mut length, mut key) = (0, None);
        loop {
            let mut header = String::new();
            reader.read_line(&mut header)?;
            let Some((name, value)) = header.trim_end().split_once(':') else {
                break;
            };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().unwrap(),
                "api-key" => key = Some(value.trim().to_owned()),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let mut parts = line.split_whitespace();
        let (Some(method), Some(target)) = (parts.next(), parts.next()) else {
            return Ok(());
        };
        if over.load(Ordering::Relaxed) {
            return Ok(());
        }
        let body = match body.is_empty() {
            true => Value::Null,
            false => serde_json::from_slice(&body).unwrap(),
        };
        let most = state.lock().unwrap().largest_body;
        if most.is_some_and(|most| length > most) {
            // As a proxy says it.
            let refusal = "HTTP/1.1 413 X\r\ncontent-length: 9\r\n\r\ntoo large";
            out.write_all(refusal.as_bytes())?;
            continue;
        }
        let Some(reply) = with_faults(state, method, target, key.as_deref(), body) else {
            return Ok(());
        };
        let text = &reply.body;
        let answer = format!(
            "HTTP/1.1 {} X\r\n{}content-type: application/json\r\ncontent-length: {}\r\n\r\n{text}",
            reply.status,
            reply.retry_after(),
            text.len()
        );
        // In one piece: the rest would wait until the client has confirmed the first one.
        out.write_all(answer.as_bytes())?;
    }
}

pub struct Reply {
    status: u16,
    body: String,
    retry_after: Option<u32>,
}

impl Reply {
    fn retry_after(&self) -> String {
        let header = |seconds| format!("retry-after: {seconds}\r\n");
        self.retry_after.map(header).unwrap_or_default()
    }
}

/// The answer to a request; nothing where the connection breaks.
fn with_faults(
    shared: &Mutex<State>,
    method: &str,
    target: &str,
    key: Option<&str>,
    mut body: Value,
) -> Option<Reply> {
    let line = format!("{method} {target}");
    let mut state = shared.lock().unwrap();
    state.log.push(line.clone());
    let mut fault = None;
    for at in 0..state.faults.len() {
        if !line.contains(state.faults[at].at) {
            continue;
        }
        if state.faults[at].after == 0 {
            fault = Some(state.faults.remove(at).kind);
        } else {
            state.faults[at].after -= 1;
        }
        break;
    }
    let error = |status: u16| Reply {
        status,
        body: json!({"status": {"error": "a fault that was injected"}, "time": 0.0}).to_string(),
        retry_after: None,
    };
    let mut after = None;
    match fault {
        None => {}
        Some(Kind::WriteBefore(write)) => write(&mut state),
        Some(Kind::WriteAfter(write)) => after = Some(write),
        Some(Kind::Break) => return None,
        Some(Kind::Status(status)) => return Some(error(status)),
        Some(Kind::Throttle(seconds)) => {
            return Some(Reply {
                retry_after: Some(seconds),
                ..error(429)
            });
        }
        Some(Kind::Say(body)) => {
            return Some(Reply {
                status: 200,
                body: body.to_owned(),
                retry_after: None,
            });
        }
        Some(Kind::LoseAnswer) => {
            answer(&mut state, method, target, &body);
            return None;
        }
        Some(Kind::Half) => {
            if let Some(points) = body["points"].as_array_mut() {
                points.truncate(points.len() / 2);
            }
            answer(&mut state, method, target, &body);
            return Some(error(500));
        }
        Some(Kind::Delay(time)) => {
            drop(state);
            std::thread::sleep(time);
            return Some(error(503));
        }
        Some(Kind::Late(time)) => {
            drop(state);
            std::thread::sleep(time);
            state = shared.lock().unwrap();
        }
    }
    if let Some(wanted) = &state.key
        && key != Some(wanted)
    {
        return Some(Reply {
            status: 401,
            body: "Must provide an API key or an Authorization bearer token".to_owned(),
            retry_after: None,
        });
    }
    let Answer {
        status,
        result,
        retry_after,
    } = answer(&mut state, method, target, &body);
    if let Some(write) = after {
        write(&mut state);
    }
    let body = match status {
        200 => json!({"result": result, "status": "ok", "time": 0.0}),
        _ => json!({"status": {"error": result}, "time": 0.0}),
    };
    Some(Reply {
        status,
        body: body.to_string(),
        retry_after,
    })
}
