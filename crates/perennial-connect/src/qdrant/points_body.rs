//! Points to be written, in as many requests as the server wants.

use serde::Deserialize;

use super::client::Client;
use super::failure::Failure;
use crate::error::ConnectError;

/// A body is sent once it has so many bytes. Servers take 32 MiB unless they are told otherwise.
const BODY: usize = 4 << 20;

/// What a server says of a write.
#[derive(Deserialize)]
pub(crate) struct Applied {
    pub(crate) status: String,
}

/// The JSON of points, one after the other, and where each begins.
#[derive(Default)]
pub(crate) struct Points {
    json: Vec<u8>,
    starts: Vec<usize>,
}

impl Points {
    /// Where the JSON of one more point is to be appended.
    pub(crate) fn next(&mut self) -> &mut Vec<u8> {
        self.starts.push(self.json.len());
        &mut self.json
    }

    /// Whether they fill a request.
    pub(crate) fn are_enough(&self, client: &Client) -> bool {
        self.json.len() >= BODY || self.starts.len() >= client.written.get()
    }

    /// Sends all, in as many requests as the server wants, and forgets them. What was accepted and not applied counts as not written.
    pub(crate) fn send(&mut self, client: &Client, path: &str) -> Result<(), Failure> {
        let mut from = 0;
        while from < self.starts.len() {
            let to = self
                .starts
                .len()
                .min(from.saturating_add(client.written.get()));
            let applied = client.ask::<Applied>("PUT", path, Some(&self.body(from, to)));
            match applied {
                Err(Failure::Split { most, error }) => {
                    if !client.written.refused(to - from, most) {
                        return Err(Failure::Other(error));
                    }
                }
                applied => {
                    applied_or(applied?).map_err(Failure::Other)?;
                    from = to;
                }
            }
        }
        self.json.clear();
        self.starts.clear();
        Ok(())
    }

    fn body(&self, from: usize, to: usize) -> Vec<u8> {
        let mut body = b"{\"points\":[".to_vec();
        for at in from..to {
            if at > from {
                body.push(b',');
            }
            let end = self.starts.get(at + 1).copied();
            body.extend_from_slice(&self.json[self.starts[at]..end.unwrap_or(self.json.len())]);
        }
        body.extend_from_slice(b"]}");
        body
    }
}

pub(super) fn applied_or(applied: Applied) -> Result<(), ConnectError> {
    match applied.status.as_str() {
        "completed" => Ok(()),
        other => Err(ConnectError::Connection {
            server: "the database".to_owned(),
            problem: format!("a write was not applied in time ({other})"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn bodies_hold_the_points_that_are_sent() {
        let mut points = Points::default();
        for id in 1..=4 {
            let point = format!(r#"{{"id":{id}}}"#);
            points.next().extend_from_slice(point.as_bytes());
        }
        for (from, to, wanted) in [
            (0, 1, vec![1]),
            (1, 4, vec![2, 3, 4]),
            (0, 4, vec![1, 2, 3, 4]),
        ] {
            let body: Value = serde_json::from_slice(&points.body(from, to)).unwrap();
            let ids = body["points"].as_array().unwrap().iter();
            let ids: Vec<u64> = ids.map(|point| point["id"].as_u64().unwrap()).collect();
            assert_eq!(ids, wanted);
        }
    }
}
