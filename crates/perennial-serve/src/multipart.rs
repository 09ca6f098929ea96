//! Multipart bodies that are in memory: their parts are pieces of the body and no copies. Readers of streams, as axum's, copy every part at least once, so
//! that uploads of encoders would take several times the memory that was reserved for them.

use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;

/// The longest boundary that is accepted; RFC 2046 allows 70.
const MAX_BOUNDARY: usize = 200;
/// Bytes of the headers of one part.
const MAX_HEADERS: usize = 16 << 10;

/// The parts of a body, one after the other.
pub(crate) struct Parts {
    body: Bytes,
    /// A line break, two dashes and the boundary.
    delimiter: Vec<u8>,
    /// Behind the last delimiter that was read; nothing where the parts are over.
    next: Option<usize>,
}

/// One part of a body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Empty where it has none.
    pub(crate) name: String,
    pub(crate) file_name: Option<String>,
    pub(crate) content: Bytes,
}

impl Parts {
    /// The parts of a body with these headers.
    ///
    /// # Errors
    /// What is wrong: no boundary in `content-type`, or none in the body.
    pub(crate) fn of(headers: &HeaderMap, body: Bytes) -> Result<Self, &'static str> {
        let content_type = headers.get(CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok());
        let boundary = content_type
            .and_then(|value| parameter(value, "boundary"))
            .filter(|boundary| (1..=MAX_BOUNDARY).contains(&boundary.len()))
            .ok_or("content-type names no `boundary` of 1 to 200 characters")?;
        let delimiter = [b"\r\n--", boundary.as_bytes()].concat();
        let first = &delimiter[2..];
        let next = match body.starts_with(first) {
            true => Some(first.len()),
            false => find(&body, &delimiter).map(|at| at + delimiter.len()),
        };
        Ok(Self {
            next: Some(next.ok_or("it does not contain its boundary")?),
            body,
            delimiter,
        })
    }

    fn read(&mut self) -> Result<Option<Part>, &'static str> {
        let Some(at) = self.next.take() else {
            return Ok(None);
        };
        let rest = &self.body[at..];
        if rest.starts_with(b"--") {
            return Ok(None);
        }
        let padding = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t'));
        let line = at + padding.count();
        if !self.body[line..].starts_with(b"\r\n") {
            return Err("a boundary is not followed by a line break");
        }
        // A part without headers has its empty line right behind the boundary's.
        let headers = &self.body[line..self.body.len().min(line + MAX_HEADERS)];
        let end = find(headers, b"\r\n\r\n")
            .ok_or("the headers of a part do not end, or have more than 16384 bytes")?;
        let headers = headers.get(2..end).unwrap_or_default();
        let headers = String::from_utf8_lossy(headers);
        let disposition = headers.split("\r\n").find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let is_it = name.trim().eq_ignore_ascii_case("content-disposition");
            is_it.then_some(value)
        });
        let disposition = disposition.unwrap_or_default();
        let start = line + end + 4;
        let length = find(&self.body[start..], &self.delimiter)
            .ok_or("a part does not end with the boundary")?;
        self.next = Some(start + length + self.delimiter.len());
        Ok(Some(Part {
            name: parameter(disposition, "name").unwrap_or_default(),
            file_name: parameter(disposition, "filename"),
            content: self.body.slice(start..start + length),
        }))
    }
}

impl Iterator for Parts {
    type Item = Result<Part, &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

/// Where bytes occur first.
fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    let first = *wanted.first()?;
    let mut from = 0;
    loop {
        let at = from + bytes.get(from..)?.iter().position(|&byte| byte == first)?;
        if bytes[at..].starts_with(wanted) {
            return Some(at);
        }
        from = at + 1;
    }
}

/// A parameter behind the first value of a header, such as `form-data; name="image"`; in quotes, `\"` is a quote.
fn parameter(header: &str, wanted: &str) -> Option<String> {
    let (_, mut rest) = header.split_once(';')?;
    loop {
        rest = rest.trim_start_matches([';', ' ', '\t']);
        let end = rest.find(['=', ';'])?;
        let name = rest[..end].trim();
        let is_named = rest[end..].starts_with('=');
        rest = &rest[end + 1..];
        if !is_named {
            continue;
        }
        rest = rest.trim_start_matches([' ', '\t']);
        let value = match rest.strip_prefix('"') {
            Some(quoted) => {
                let (value, after) = unquoted(quoted)?;
                rest = after;
                value
            }
            None => {
                let end = rest.find(';').unwrap_or(rest.len());
                let value = rest[..end].trim().to_owned();
                rest = &rest[end..];
                value
            }
        };
        if name.eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
    }
}

/// What stands before the closing quote, and what follows it.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' if characters.next_if(|(_, next)| *next == '"').is_some() => value.push('"'),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests;
