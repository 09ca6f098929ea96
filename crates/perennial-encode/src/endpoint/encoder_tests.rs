use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use perennial_core::EndpointApi;

use super::*;
use crate::service_failure::ServiceFailure;

/// A service that answers every request with what `answer` makes of its inputs, until the process ends.
fn service(answer: impl Fn(&[String]) -> String + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, answer) = (stream.unwrap(), Arc::clone(&answer));
            std::thread::spawn(move || {
                let inputs = inputs(&mut stream);
                let response = answer(&inputs);
                let _ = stream.write_all(response.as_bytes());
            });
        }
    });
    address
}

/// The inputs of one request.
fn inputs(stream: &mut impl Read) -> Vec<String> {
    let (mut request, mut byte) = (Vec::new(), [0]);
    while !request.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        request.push(byte[0]);
    }
    let head = String::from_utf8(request).unwrap().to_lowercase();
    let length = head.split("content-length: ").nth(1).unwrap();
    let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let list = body.get("input").or(body.get("inputs")).unwrap();
    serde_json::from_value(list.clone()).unwrap()
}

fn response(status: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
}

/// The number of letters of each text, and its first letter.
fn rows(inputs: &[String]) -> String {
    let row = |text: &String| {
        let first = text.chars().next().unwrap();
        format!("[{}, {}, 3]", text.len(), u32::from(first))
    };
    let rows: Vec<String> = inputs.iter().map(row).collect();
    response("200 OK", &format!("[{}]", rows.join(",")))
}

fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint {
        retries: 0,
        timeout_seconds: 20.0,
        ..Endpoint::new(EndpointApi::Tei, format!("http://{address}"), "letters")
    }
}

fn prepared(encoder: &EndpointEncoder, text: &str, input_type: InputType) -> Prepared {
    encoder.prepare(Input::Text { text, input_type }).unwrap()
}

#[test]
fn many_texts_are_embedded_in_their_order() {
    let address = service(rows);
    let endpoint = Endpoint {
        inputs_per_request: 2,
        max_in_flight: 3,
        query_prefix: "q".to_owned(),
        document_prefix: "d".to_owned(),
        ..endpoint(address)
    };
    assert_eq!(EndpointEncoder::dimension(&endpoint).unwrap(), 3);
    let encoder = EndpointEncoder::new("v0001", 3, &endpoint).unwrap();
    assert_eq!(encoder.batches_elsewhere(), Some(3));
    let many = Endpoint {
        max_in_flight: 200,
        ..endpoint.clone()
    };
    let many = EndpointEncoder::new("v0001", 3, &many).unwrap();
    assert_eq!(many.batches_elsewhere(), Some(MAX_BATCHES));
    let texts: Vec<String> = (1..12).map(|length| "x".repeat(length)).collect();
    let mut batch: Vec<Prepared> = texts
        .iter()
        .map(|text| prepared(&encoder, text, InputType::Document))
        .collect();
    batch.push(prepared(&encoder, "query", InputType::Query));
    let embeddings = encoder.encode(&batch).unwrap();
    let unit = |length: f32, first: char| {
        let row = [length, u32::from(first) as f32, 3.0];
        let norm = row.iter().map(|value| value * value).sum::<f32>().sqrt();
        row.map(|value| value / norm)
    };
    for (number, row) in embeddings.chunks_exact(3).enumerate() {
        let expected = match texts.get(number) {
            Some(text) => unit(text.len() as f32 + 1.0, 'd'),
            None => unit(6.0, 'q'),
        };
        for (one, other) in row.iter().zip(expected) {
            assert!((one - other).abs() < 1e-6, "{number}: {row:?}");
        }
    }
    assert_eq!(embeddings.len(), 36);
}

#[test]
fn what_a_service_does_wrong_is_named_with_its_host() {
    for (status, body, kind, says) in [
        ("500 Broken", "{}", ServiceFailure::Failed, "status 500"),
        ("401 No", "{}", ServiceFailure::Failed, "setting `key`"),
        (
            "413 Long",
            "{}",
            ServiceFailure::Inputs,
            "refused the input",
        ),
        ("429 Slow", "{}", ServiceFailure::Busy, "status 429"),
        ("302 There", "{}", ServiceFailure::Failed, "redirects"),
        ("200 OK", "[[1, 2]]", ServiceFailure::Failed, "2 dimensions"),
        ("200 OK", "[]", ServiceFailure::Failed, "0 embeddings"),
        ("200 OK", "[[0, 0, 0]]", ServiceFailure::Failed, "length 0"),
        ("200 OK", "<html>", ServiceFailure::Failed, "HTML"),
    ] {
        let address = service(move |_| response(status, body));
        let encoder = EndpointEncoder::new("v0001", 3, &endpoint(address)).unwrap();
        let input = prepared(&encoder, "a", InputType::Query);
        let error = encoder.encode(&[input]).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(says), "{status}: {text}");
        assert!(text.contains(&address.to_string()), "{text}");
        let EncodeError::Service { failure, .. } = &error else {
            panic!("{error:?}");
        };
        assert_eq!(*failure, kind, "{status}");
        let alone = kind == ServiceFailure::Inputs;
        assert_eq!(error.may_concern_one_input(), alone);
    }
    // Nobody listens there any more.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = gone.local_addr().unwrap();
    drop(gone);
    let problem = EndpointEncoder::dimension(&endpoint(address)).unwrap_err();
    assert!(problem.contains("refuses connections"), "{problem}");
    assert!(problem.contains(&format!("http://{address}")), "{problem}");
}

#[test]
fn longer_answers_than_the_inputs_need_are_not_read() {
    let address = service(|_| response("200 OK", &"[".repeat(4 << 20)));
    let encoder = EndpointEncoder::new("v0001", 3, &endpoint(address)).unwrap();
    let input = prepared(&encoder, "a", InputType::Query);
    let error = encoder.encode(&[input]).unwrap_err().to_string();
    assert!(error.contains("more than"), "{error}");
}

#[test]
fn a_failed_part_fails_the_batch() {
    let address = service(|inputs| match inputs[0].as_str() {
        "bad" => response("400 No", r#"{"error": "too long"}"#),
        _ => rows(inputs),
    });
    let endpoint = Endpoint {
        inputs_per_request: 1,
        ..endpoint(address)
    };
    let encoder = EndpointEncoder::new("v0001", 3, &endpoint).unwrap();
    let batch = ["a", "b", "bad", "c"].map(|text| prepared(&encoder, text, InputType::Query));
    let error = encoder.encode(&batch).unwrap_err().to_string();
    assert!(error.contains("refused the input: too long"), "{error}");
    assert_eq!(encoder.encode(&batch[..2]).unwrap().len(), 6);
}

#[test]
fn other_inputs_and_settings_are_refused() {
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    let encoder = EndpointEncoder::new("v0001", 3, &endpoint(address)).unwrap();
    let (pixels, shape) = (&[0][..], [1, 1, 1]);
    assert!(encoder.prepare(Input::Pixels { pixels, shape }).is_err());
    let text = Input::Text {
        text: " ",
        input_type: InputType::Query,
    };
    assert!(encoder.prepare(text).is_err());
    let tokens = Prepared {
        values: Values::Tokens(vec![1]),
    };
    assert!(matches!(
        encoder.encode(&[tokens]),
        Err(EncodeError::Prepared { input: 0, .. })
    ));
    type Change = fn(&mut Endpoint);
    let cases: [(&str, Change); 3] = [
        ("url", |e| e.url = "ftp://host".to_owned()),
        ("url", |e| e.url = "http://name:s3cret@host".to_owned()),
        ("key", |e| {
            e.key = perennial_core::EndpointKey::File("/no/such/file".into());
        }),
    ];
    for (key, change) in cases {
        let mut changed = endpoint(address);
        change(&mut changed);
        let Err(problem) = EndpointEncoder::new("v0001", 3, &changed) else {
            panic!("{key} was accepted");
        };
        assert!(
            problem.starts_with(&format!("encoder.endpoint: {key} ")),
            "{problem}"
        );
        assert!(!problem.contains("s3cret"), "{problem}");
    }
}
