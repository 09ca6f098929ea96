//! `POST /embed` of text-embeddings-inference, as a client.

use serde::Serialize;

use super::failure::Failure;
use super::request::{Asked, Embedded, TruncationDirection};
use super::rows::Rows;

#[derive(Serialize)]
struct Request<'a> {
    inputs: &'a [String],
    normalize: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    truncate: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    truncation_direction: Option<TruncationDirection>,
}

/// The body of a request.
pub(super) fn request(inputs: &[String], asked: &Asked) -> String {
    let request = Request {
        inputs,
        // What such a service does unless it is told otherwise.
        normalize: asked.normalize.unwrap_or(true),
        truncate: asked.truncate,
        truncation_direction: asked.truncation_direction,
    };
    serde_json::to_string(&request).expect("texts and flags are JSON")
}

/// The embeddings of an answer.
pub(super) fn read(body: &[u8], rows: &Rows) -> Result<Embedded, Failure> {
    let answer: Vec<Vec<f32>> = rows.parse(body)?;
    rows.count(answer.len())?;
    Ok(Embedded {
        vectors: rows.join(answer)?,
        tokens: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_arrays_of_arrays() {
        let rows = Rows::of(2, Some(2));
        let embedded = read(b"[[1,0],[0,2]]", &rows).unwrap();
        assert_eq!(embedded.vectors, [1.0, 0.0, 0.0, 2.0]);
        for body in [&b"[[1,0]]"[..], b"[[1,0],[1]]", b"{}", b"[1,2]"] {
            assert!(read(body, &rows).is_err());
        }
    }
}
