//! OpenAI's `POST /embeddings`, as a client.

use serde::{Deserialize, Serialize};

use super::failure::Failure;
use super::request::Embedded;
use super::rows::Rows;

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    input: &'a [String],
    /// Every server of this protocol knows it; base64 is an extension of some.
    encoding_format: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<usize>,
}

/// The body of a request.
pub(super) fn request(model: &str, inputs: &[String], dimensions: Option<usize>) -> String {
    let request = Request {
        model,
        input: inputs,
        encoding_format: "float",
        dimensions,
    };
    serde_json::to_string(&request).expect("texts and numbers are JSON")
}

#[derive(Deserialize)]
struct Answer {
    data: Vec<Entry>,
    #[serde(default)]
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Entry {
    index: Option<usize>,
    embedding: Vec<f32>,
}

#[derive(Deserialize)]
struct Usage {
    #[serde(default)]
    prompt_tokens: u64,
}

/// The embeddings of an answer, in the order of the inputs.
pub(super) fn read(body: &[u8], rows: &Rows) -> Result<Embedded, Failure> {
    let Answer { mut data, usage } = rows.parse(body)?;
    rows.count(data.len())?;
    if data.iter().any(|entry| entry.index.is_some()) {
        data.sort_by_key(|entry| entry.index);
        let in_order = (0..).zip(&data);
        if in_order
            .into_iter()
            .any(|(place, entry)| entry.index != Some(place))
        {
            return Err(Failure::nonsense(
                "numbers its embeddings otherwise than 0, 1, 2 and so on",
            ));
        }
    }
    Ok(Embedded {
        vectors: rows.join(data.into_iter().map(|entry| entry.embedding))?,
        tokens: usage.map_or(0, |usage| usage.prompt_tokens),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_put_in_order() {
        let rows = Rows::of(2, Some(2));
        let body = br#"{"object":"list","model":"m","usage":{"prompt_tokens":5,"total_tokens":5},
            "data":[{"index":1,"embedding":[0,1]},{"index":0,"embedding":[1,0]}]}"#;
        let read = read(body, &rows).unwrap();
        assert_eq!((read.vectors, read.tokens), (vec![1.0, 0.0, 0.0, 1.0], 5));
    }

    #[test]
    fn wrong_answers_say_what_is_wrong() {
        let rows = Rows::of(2, Some(2));
        let two = |first: &str, second: &str| format!(r#"{{"data":[{first},{second}]}}"#);
        let good = r#"{"index":0,"embedding":[1,0]}"#;
        for (body, says) in [
            (r#"{"data":[]}"#.to_owned(), "0 embeddings for 2 inputs"),
            (two(good, r#"{"index":1,"embedding":[1]}"#), "1 dimensions"),
            (two(good, good), "numbers"),
            (two(good, r#"{"embedding":[1,0]}"#), "numbers"),
            (two(good, r#"{"index":1,"embedding":[NaN,0]}"#), "NaN"),
            (two(good, r#"{"index":1,"embedding":[null,0]}"#), "null"),
            (two(good, r#"{"index":1,"embedding":[1e39,0]}"#), "infinite"),
            (two(good, r#"{"index":1,"embedding":[0,0]}"#), "length 0"),
            ("<!DOCTYPE html><html>".to_owned(), "HTML"),
            (String::new(), "empty"),
            ("{}".to_owned(), "data"),
        ] {
            let failure = read(body.as_bytes(), &rows).map(|_| ()).unwrap_err();
            assert!(
                failure.problem().contains(says),
                "{body}: {}",
                failure.problem()
            );
        }
    }
}
