//! Answers of upstreams.

use super::Seeds;

/// The first byte of a seed: protocol, number of inputs, and whether the whole answer follows or its body.
fn kind(tei: bool, inputs: u8, whole: bool) -> u8 {
    u8::from(tei) | ((inputs - 1) << 1) | (u8::from(whole) << 3)
}

pub(super) fn upstream_seeds() -> Seeds {
    let openai = |inputs, body: &str| [&[kind(false, inputs, false)], body.as_bytes()].concat();
    let tei = |inputs, body: &str| [&[kind(true, inputs, false)], body.as_bytes()].concat();
    let whole = |tei, text: &str| [&[kind(tei, 1, true)], text.as_bytes()].concat();
    let error = |status: &str, headers: &str, body: &str| {
        let length = body.len();
        whole(
            false,
            &format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{body}"),
        )
    };
    vec![
        (
            "openai",
            openai(
                1,
                r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.6,-8e-1]}],"model":"m","usage":{"prompt_tokens":3,"total_tokens":3}}"#,
            ),
        ),
        (
            "openai_in_another_order",
            openai(
                2,
                r#"{"data":[{"index":1,"embedding":[0,1]},{"index":0,"embedding":[1,0]}],"usage":null}"#,
            ),
        ),
        (
            "openai_without_numbers",
            openai(
                2,
                r#"{"data":[{"embedding":[0,1]},{"embedding":[1e-40,0]}]}"#,
            ),
        ),
        ("tei", tei(2, "[[1,0],[0.5,2]]")),
        (
            "chunks",
            whole(
                true,
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n[[1,0\r\n2\r\n]]\r\n0\r\n\r\n",
            ),
        ),
        (
            "until_it_closes",
            whole(true, "HTTP/1.0 200 OK\r\n\r\n[[3,4]]"),
        ),
        (
            "refused_number",
            openai(1, r#"{"data":[{"index":1,"embedding":[0,1]}]}"#),
        ),
        (
            "refused_infinite",
            openai(1, r#"{"data":[{"index":0,"embedding":[1e39,NaN]}]}"#),
        ),
        ("refused_length", tei(1, "[[0,0]]")),
        ("refused_count", tei(3, "[[1,0],[0.5,2]]")),
        ("refused_dimension", tei(1, "[[1]]")),
        ("refused_page", tei(1, "<!DOCTYPE html><html></html>")),
        (
            "refused_key",
            error(
                "401 Unauthorized",
                "",
                r#"{"error":{"message":"Incorrect API key provided","type":"invalid_request_error","code":"invalid_api_key"}}"#,
            ),
        ),
        (
            "refused_input",
            error(
                "413 Payload Too Large",
                "",
                r#"{"error":"inputs must have less than 512 tokens","error_type":"Validation"}"#,
            ),
        ),
        (
            "refused_for_now",
            error(
                "429 Too Many Requests",
                "retry-after: 18446744073709551615\r\n",
                r#"{"detail":"slow\u0000 down"}"#,
            ),
        ),
        (
            "refused_redirect",
            error(
                "307 Temporary Redirect",
                "location: http://127.0.0.1:1/\r\n",
                "",
            ),
        ),
        (
            "refused_cut",
            whole(
                false,
                "HTTP/1.1 200 OK\r\ncontent-length: 9000\r\n\r\n{\"data\":[",
            ),
        ),
        ("refused_protocol", whole(false, "SSH-2.0-OpenSSH_9.6\r\n")),
    ]
}
