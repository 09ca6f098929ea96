use axum::body::Body;
use axum::extract::{FromRequest, Multipart, Request};

use super::*;

fn headers(content_type: &str) -> HeaderMap {
    HeaderMap::from_iter([(CONTENT_TYPE, content_type.parse().unwrap())])
}

fn parts(boundary: &str, body: &[u8]) -> Result<Vec<Part>, &'static str> {
    let headers = headers(&format!("multipart/form-data; boundary={boundary}"));
    Parts::of(&headers, Bytes::copy_from_slice(body))?.collect()
}

fn part(name: &str, file_name: Option<&str>, content: &[u8]) -> Part {
    Part {
        name: name.to_owned(),
        file_name: file_name.map(str::to_owned),
        content: Bytes::copy_from_slice(content),
    }
}

#[test]
fn parts_are_pieces_of_the_body() {
    let body = Bytes::from_static(
        b"to be ignored\r\n--x  \r\ncontent-type: image/png\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a \\\"b\\\".png\"\r\n\r\n\
        \r\n-- x\r\n--y\r\n\r\n--x\r\ncontent-disposition: form-data; name=request\r\n\r\n{}\r\n--x\r\n\r\nno headers\r\n--x--\r\nto be ignored\r\n--x",
    );
    let range = body.as_ptr_range();
    let read = Parts::of(
        &headers("multipart/form-data; boundary=\"x\""),
        body.clone(),
    )
    .unwrap();
    let read: Vec<Part> = read.map(Result::unwrap).collect();
    let expected = [
        part("image", Some("a \"b\".png"), b"\r\n-- x\r\n--y\r\n"),
        part("request", None, b"{}"),
        part("", None, b"no headers"),
    ];
    assert_eq!(read, expected);
    for part in &read {
        assert!(range.contains(&part.content.as_ptr()));
    }
    assert_eq!(parts("x", b"--x--"), Ok(Vec::new()));
}

#[test]
fn broken_bodies_are_told_apart() {
    for (body, says) in [
        (&b""[..], "boundary"),
        (b"-x--", "boundary"),
        (b"--x", "line break"),
        (b"--x-", "line break"),
        (b"--xy\r\n\r\n\r\n--x--", "line break"),
        (b"--x\r\n", "headers"),
        (
            b"--x\r\ncontent-disposition: form-data; name=\"a\"\r\n",
            "headers",
        ),
        (
            b"--x\r\ncontent-disposition: form-data; name=\"a\"\r\n\r\nabc",
            "end with",
        ),
        (b"--x\r\n\r\nabc\n--x--", "end with"),
        (b"--x\r\n\r\nabc\r\n--x", "line break"),
    ] {
        let problem = parts("x", body).unwrap_err();
        assert!(problem.contains(says), "{problem}");
    }
    let long = [
        b"--x\r\na: ",
        &[b'a'; MAX_HEADERS][..],
        b"\r\n\r\n\r\n--x--",
    ]
    .concat();
    assert!(parts("x", &long).unwrap_err().contains("16384"));
    let body = || Bytes::from_static(b"--x--");
    for content_type in [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=\"x",
        &format!("multipart/form-data; boundary={}", "x".repeat(201)),
    ] {
        assert!(
            Parts::of(&headers(content_type), body()).is_err(),
            "{content_type}"
        );
    }
    // After a problem, nothing more.
    let body = Bytes::from_static(b"--x\r\n\r\nabc\r\n--x?");
    let mut parts = Parts::of(&headers("multipart/form-data; boundary=x"), body).unwrap();
    assert!(parts.next().unwrap().is_ok() && parts.next().unwrap().is_err());
    assert!(parts.next().is_none());
}

#[test]
fn parameters_are_read_as_clients_write_them() {
    for (header, expected) in [
        ("form-data; name=\"a\"", Some("a")),
        ("form-data;name=a;filename=b", Some("a")),
        (
            "form-data; filename=\"name=b; name=c\"; NAME = a",
            Some("a"),
        ),
        ("form-data; filename=\"\\\"; name=b\"; name=\"\"", Some("")),
        ("form-data; name=\"C:\\dir\\a\"", Some("C:\\dir\\a")),
        ("form-data; flag; name=\u{e4}", Some("\u{e4}")),
        ("form-data; name=\"a", None),
        ("form-data; name", None),
        ("form-data", None),
        ("", None),
    ] {
        assert_eq!(parameter(header, "name").as_deref(), expected, "{header}");
    }
}

/// Deterministic numbers.
fn random(state: &mut u64) -> u64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1);
    *state >> 33
}

/// As axum reads it.
async fn as_before(boundary: &str, body: &[u8]) -> Option<Vec<Part>> {
    let mut request = Request::new(Body::from(body.to_vec()));
    *request.headers_mut() = headers(&format!("multipart/form-data; boundary={boundary}"));
    let mut multipart = Multipart::from_request(request, &()).await.ok()?;
    let mut parts = Vec::new();
    while let Some(field) = multipart.next_field().await.ok()? {
        let name = field.name().unwrap_or_default().to_owned();
        let file_name = field.file_name().map(str::to_owned);
        let content = field.bytes().await.ok()?;
        parts.push(Part {
            name,
            file_name,
            content,
        });
    }
    Some(parts)
}

#[tokio::test]
async fn a_reader_of_streams_reads_the_same() {
    let mut state = 7;
    let pieces: [&[u8]; 8] = [
        b"\r\n",
        b"--",
        b"--ab",
        b"\r\n--a",
        b"\r",
        b"x",
        b"\r\n\r\n",
        b"\0\xff",
    ];
    for _ in 0..300 {
        let mut body = Vec::new();
        for number in 0..random(&mut state) % 4 {
            let head = match random(&mut state) % 3 {
                0 => format!(
                    "--abc\r\ncontent-disposition: form-data; name=\"n{number}\"; filename=\"f;{number}\"\r\n\r\n"
                ),
                1 => format!(
                    "--abc \t\r\ncontent-type: text/plain\r\nContent-Disposition: form-data; name=n{number}\r\n\r\n"
                ),
                _ => "--abc\r\ncontent-type: text/plain\r\n\r\n".to_owned(),
            };
            body.extend(head.as_bytes());
            for _ in 0..random(&mut state) % 6 {
                body.extend(pieces[(random(&mut state) % 8) as usize]);
            }
            body.extend(b"\r\n");
        }
        body.extend(b"--abc--\r\n");
        let read = parts("abc", &body).ok();
        assert!(read.is_some());
        assert_eq!(
            read,
            as_before("abc", &body).await,
            "{:?}",
            String::from_utf8_lossy(&body)
        );
        // Cut or changed, it is read or refused, and no more.
        let cut = &body[..random(&mut state) as usize % body.len()];
        let _ = parts("abc", cut);
        let place = random(&mut state) as usize % body.len();
        body[place] = random(&mut state) as u8;
        let _ = parts("abc", &body);
    }
}
