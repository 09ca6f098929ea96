//! Addresses of originals: a template with the item's id or values of its payload.

use perennial_gallery::{ItemId, StoredItem};
use serde_json::Value;

use super::failure::{Failure, FailureReason};

/// The largest template and the largest value put into it, in bytes.
const MAX_BYTES: usize = 2048;

/// An address such as `https://pictures.example/{id}` or `https://pictures.example/{payload.file}?size=full`.
///
/// Placeholders stand behind the host only, and their values are percent-encoded but for `/`, so that no payload chooses another
/// host or climbs out of the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlTemplate {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Id,
    Payload(String),
}

impl UrlTemplate {
    /// Reads a template.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let refused = |problem: String| Err(format!("originals.url {text:?}: {problem}"));
        if text.len() > MAX_BYTES {
            return Err(format!("originals.url: has more than {MAX_BYTES} bytes"));
        }
        let rest = ["http://", "https://"]
            .iter()
            .find_map(|scheme| text.strip_prefix(scheme));
        let Some(rest) = rest else {
            return refused("must begin with http:// or https://".to_owned());
        };
        if let Some(bad) = text.chars().find(|c| !c.is_ascii_graphic() || *c == '#') {
            return refused(format!("{bad:?} must be percent-encoded"));
        }
        let host = rest.split(['/', '?']).next().unwrap_or_default();
        if host.is_empty() || host.contains(['{', '}', '@', '\\']) {
            return refused("needs a host without user name, password and placeholders".to_owned());
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let Some((name, after)) = after.split_once('}') else {
                return refused("has a `{` without its `}`".to_owned());
            };
            parts.push(Part::Text(before.to_owned()));
            parts.push(match name.strip_prefix("payload.") {
                Some(key) if !key.is_empty() => Part::Payload(key.to_owned()),
                None if name == "id" => Part::Id,
                _ => {
                    return refused(format!(
                        "{{{name}}} is unknown; known are {{id}} and {{payload.KEY}}"
                    ));
                }
            });
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        if parts.len() == 1 {
            return refused("needs {id} or {payload.KEY}".to_owned());
        }
        Ok(Self { parts })
    }

    /// The address of an item's original.
    ///
    /// # Errors
    /// [`FailureReason::NoSource`] where the payload lacks a value, [`FailureReason::Refused`] for a value that would change the path.
    pub fn address(&self, item: &StoredItem) -> Result<String, Failure> {
        let mut url = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => url.push_str(text),
                Part::Id => match &item.id {
                    ItemId::Number(number) => url.push_str(&number.to_string()),
                    ItemId::Text(text) => push_encoded(&mut url, text)?,
                },
                Part::Payload(key) => match item.payload.get(key) {
                    Some(Value::String(text)) => push_encoded(&mut url, text)?,
                    Some(Value::Number(number)) => push_encoded(&mut url, &number.to_string())?,
                    _ => {
                        let problem = format!("the payload has no text or number under `{key}`");
                        return Err(Failure::new(FailureReason::NoSource, problem));
                    }
                },
            }
        }
        Ok(url)
    }
}

fn push_encoded(url: &mut String, value: &str) -> Result<(), Failure> {
    let climbs = value
        .split(['/', '\\'])
        .any(|part| matches!(part, "." | ".."));
    if value.is_empty() || value.len() > MAX_BYTES || climbs || value.starts_with('/') {
        let start: String = value.chars().take(60).collect();
        let problem = format!("{start:?} cannot be a part of an address");
        return Err(Failure::new(FailureReason::Refused, problem));
    }
    for byte in value.bytes() {
        match byte {
            b'/' | b'-' | b'.' | b'_' | b'~' => url.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => url.push(char::from(byte)),
            byte => url.push_str(&format!("%{byte:02X}")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn item(id: impl Into<ItemId>) -> StoredItem {
        let payload = json!({"file": "cats/ü 1.png", "n": 7, "up": "../x", "list": [], "none": "", "root": "/etc"});
        StoredItem {
            id: id.into(),
            model_version: "v0001".to_owned(),
            label: None,
            payload: payload.as_object().unwrap().clone(),
            embedding: None,
        }
    }

    #[test]
    fn values_are_put_in_and_encoded() {
        let of =
            |template: &str, id: ItemId| UrlTemplate::parse(template).unwrap().address(&item(id));
        assert_eq!(
            of("https://h/{id}.png", 12.into()).unwrap(),
            "https://h/12.png"
        );
        assert_eq!(
            of("http://h:8080/a/{payload.file}?n={payload.n}&v=1", 1.into()).unwrap(),
            "http://h:8080/a/cats/%C3%BC%201.png?n=7&v=1"
        );
        // What would be another host, a query or a fragment stays a part of the path.
        assert_eq!(
            of("https://h/{id}", "a?b#c@d:e&f%".into()).unwrap(),
            "https://h/a%3Fb%23c%40d%3Ae%26f%25"
        );
        for (template, reason) in [
            ("https://h/{payload.up}", FailureReason::Refused),
            ("https://h/{payload.none}", FailureReason::Refused),
            ("https://h/{payload.root}", FailureReason::Refused),
            ("https://h/{payload.list}", FailureReason::NoSource),
            ("https://h/{payload.missing}", FailureReason::NoSource),
        ] {
            assert_eq!(
                of(template, 1.into()).unwrap_err().reason,
                reason,
                "{template}"
            );
        }
        for id in ["..", "a/../b", "a\\..\\b", "/etc"] {
            assert!(of("https://h/{id}", id.into()).is_err(), "{id}");
        }
    }

    #[test]
    fn templates_that_cannot_be_meant_are_refused() {
        for template in [
            "",
            "h/{id}",
            "ftp://h/{id}",
            "file:///{id}",
            "https://{id}/x",
            "https://h{payload.x}/{id}",
            "https:///{id}",
            "https://user:password@h/{id}",
            "https://h/x",
            "https://h/{",
            "https://h/{ID}",
            "https://h/{payload.}",
            "https://h/{id} x",
            "https://h/{id}#x",
            "https://h?{",
        ] {
            assert!(UrlTemplate::parse(template).is_err(), "{template}");
        }
        assert!(UrlTemplate::parse(&format!("https://h/{{id}}{}", "x".repeat(3000))).is_err());
    }
}
