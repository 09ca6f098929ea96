//! An item's original as it was found, and which encoder it is for.

use perennial_core::Modality;
use perennial_encode::{Kind, kind};
use perennial_gallery::StoredItem;

use super::failure::{Failure, FailureReason};
use super::item_kind::{held_text, kind_word};
use super::originals::{Answer, Found, Originals};
use super::stored_hash::stored_sha256;

/// An item's original.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Original {
    /// The file of a picture.
    Picture(Vec<u8>),
    /// A text that was fetched, or sent by a client.
    Text(String),
    /// A text that the item itself holds.
    Held(String),
}

impl Original {
    /// Finds an item's original for an encoder that `accepts` pictures, texts or both. `kind` is what the item was made of, as far as that is known.
    /// What the encoder cannot embed is not asked for, nor is a text that the item holds.
    ///
    /// # Errors
    /// [`FailureReason::OtherModality`], [`FailureReason::Undecodable`] for a text that is not UTF-8, and those of the place.
    pub fn find(
        item: &StoredItem,
        kind: Option<Modality>,
        accepts: &[Modality],
        place: &dyn Originals,
    ) -> Result<Self, Failure> {
        if let Some(kind) = kind {
            check(kind, accepts)?;
        }
        if accepts.contains(&Modality::Text)
            && kind != Some(Modality::Image)
            && let Some(text) = held_text(&item.payload)
        {
            return Ok(Self::Held(text.to_owned()));
        }
        match place.fetch(item)? {
            Found::File(file) => Self::of_file(file, kind, accepts),
            Found::Answer(answer) => Self::of_answer(item, answer, kind, accepts),
            Found::Text(text) => check(Modality::Text, accepts).map(|()| Self::Held(text)),
        }
    }

    /// What a server answered. A page that says why there is no original comes with status 200 from many of them, and is a text like any
    /// other: unless the item's SHA-256 tells what is right, only a plain text is used as one.
    fn of_answer(
        item: &StoredItem,
        answer: Answer,
        kind: Option<Modality>,
        accepts: &[Modality],
    ) -> Result<Self, Failure> {
        let declared = answer.content_type.as_deref().unwrap_or_default();
        let declared = declared.split(';').next().unwrap_or_default();
        let declared = declared.trim().to_ascii_lowercase();
        // A picture that is damaged is no text either.
        let meant = declared.starts_with("image/").then_some(Modality::Image);
        let original = Self::of_file(answer.file, kind.or(meant), accepts)?;
        match &original {
            Self::Text(text) if stored_sha256(item).is_none() => {
                check_plain(text, &declared).map(|()| original)
            }
            _ => Ok(original),
        }
    }

    /// A file that was fetched or sent. Its content decides where nothing else does.
    ///
    /// # Errors
    /// As for [`find`](Self::find).
    pub fn of_file(
        file: Vec<u8>,
        kind: Option<Modality>,
        accepts: &[Modality],
    ) -> Result<Self, Failure> {
        let kind = match (kind, accepts) {
            (Some(kind), _) => kind,
            // What is no picture is a damaged one then.
            (None, [Modality::Image]) => Modality::Image,
            (None, _) => found_kind(&file),
        };
        check(kind, accepts)?;
        if kind != Modality::Text {
            return Ok(Self::Picture(file));
        }
        match String::from_utf8(file) {
            Ok(text) if !text.contains('\0') => Ok(Self::Text(text)),
            _ => Err(Failure::new(
                FailureReason::Undecodable,
                "it is no text in UTF-8",
            )),
        }
    }
}

/// Types of content that say nothing.
const UNTYPED: [&str; 3] = ["", "application/octet-stream", "binary/octet-stream"];
/// What pages of servers begin with, in lower case.
const PAGE: [&str; 2] = ["<!doctype html", "<html"];

/// Whether what a server answered can be an item's text, by its type of content, in lower case and without parameters, and by its begin.
fn check_plain(text: &str, declared: &str) -> Result<(), Failure> {
    let plain = declared.starts_with("text/") && declared != "text/html";
    let begin = text.trim_start_matches('\u{feff}').trim_start().as_bytes();
    let is_page = |page: &&str| {
        let begin = begin.get(..page.len());
        begin.is_some_and(|begin| begin.eq_ignore_ascii_case(page.as_bytes()))
    };
    let what = match PAGE.iter().any(is_page) {
        true => "a page in HTML",
        false if plain || UNTYPED.contains(&declared) => return Ok(()),
        false => declared,
    };
    let problem = format!(
        "the server answered with {what}, no plain text; if that is the original, store its `sha256` with the item"
    );
    Err(Failure::new(FailureReason::Undecodable, problem))
}

/// By its first bytes.
fn found_kind(file: &[u8]) -> Modality {
    match kind(file) {
        Kind::Unknown => Modality::Text,
        Kind::Decoded(_) | Kind::Other(_) => Modality::Image,
    }
}

fn check(kind: Modality, accepts: &[Modality]) -> Result<(), Failure> {
    if accepts.contains(&kind) {
        return Ok(());
    }
    let other: Vec<String> = accepts
        .iter()
        .map(|kind| format!("{}s", kind_word(*kind)))
        .collect();
    let problem = format!(
        "it is a {}, and the live version embeds {}",
        kind_word(kind),
        other.join(" and ")
    );
    Err(Failure::new(FailureReason::OtherModality, problem))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use serde_json::{Value, json};

    use super::*;
    use Modality::{Image, Text};

    /// A place that counts how often it is asked.
    struct Place(Found, AtomicUsize);

    impl Originals for Place {
        fn fetch(&self, _: &StoredItem) -> Result<Found, Failure> {
            self.1.fetch_add(1, Ordering::SeqCst);
            Ok(self.0.clone())
        }
    }

    fn item(payload: Value) -> StoredItem {
        StoredItem {
            id: 1.into(),
            model_version: "v0001".to_owned(),
            label: None,
            payload: payload.as_object().unwrap().clone(),
            embedding: None,
        }
    }

    /// What is found, and how often the place was asked.
    fn find(
        payload: Value,
        kind: Option<Modality>,
        accepts: &[Modality],
        found: &[u8],
    ) -> (Result<Original, FailureReason>, usize) {
        ask(payload, kind, accepts, Found::File(found.to_owned()))
    }

    fn ask(
        payload: Value,
        kind: Option<Modality>,
        accepts: &[Modality],
        found: Found,
    ) -> (Result<Original, FailureReason>, usize) {
        let place = Place(found, AtomicUsize::new(0));
        let found = Original::find(&item(payload), kind, accepts, &place);
        (
            found.map_err(|failure| failure.reason),
            place.1.into_inner(),
        )
    }

    #[test]
    fn what_cannot_be_embedded_is_not_asked_for() {
        let text = b"a text";
        for (kind, accepts) in [(Image, Text), (Text, Image)] {
            let (found, asked) = find(json!({"file": "a"}), Some(kind), &[accepts], text);
            assert_eq!((found, asked), (Err(FailureReason::OtherModality), 0));
        }
        let held = json!({"set": "table:a.csv", "text": "held"});
        let (found, asked) = find(held.clone(), Some(Text), &[Text], text);
        assert_eq!((found, asked), (Ok(Original::Held("held".to_owned())), 0));
        // A part of the text is not the text, and a caption is not the picture.
        let cut = json!({"set": "table:a.csv", "text": "he…", "text_cut": true});
        for payload in [cut, json!({"text": "by somebody else"})] {
            let (found, asked) = find(payload, Some(Text), &[Text], text);
            assert_eq!((found, asked), (Ok(Original::Text("a text".to_owned())), 1));
        }
        let (found, _) = find(held, Some(Image), &[Image, Text], text);
        assert_eq!(found, Ok(Original::Picture(text.to_vec())));
    }

    #[test]
    fn the_page_of_a_server_is_no_text_of_an_item() {
        let ask = |payload: Value, accepts: &[Modality], declared: &str, file: &str| {
            let answer = Answer {
                file: file.into(),
                content_type: Some(declared.to_owned()).filter(|declared| !declared.is_empty()),
            };
            ask(payload, None, accepts, Found::Answer(answer)).0
        };
        let (both, page) = (
            [Image, Text],
            "\n<!DOCTYPE html><title>Please log in</title>",
        );
        for accepts in [&both[..], &[Text]] {
            for (declared, file) in [
                ("text/html; charset=utf-8", page),
                ("text/html", "Not here"),
                ("application/json", "{\"error\":\"not here\"}"),
                // Whatever the server says.
                ("text/plain", page),
                ("", "<HTML><body>"),
            ] {
                let found = ask(json!({}), accepts, declared, file);
                assert_eq!(found, Err(FailureReason::Undecodable), "{declared} {file}");
            }
            for declared in [
                "",
                "Text/Plain; charset=utf-8",
                "text/markdown",
                "binary/octet-stream",
            ] {
                let found = ask(json!({}), accepts, declared, "a < b");
                assert_eq!(found, Ok(Original::Text("a < b".to_owned())), "{declared}");
            }
            // It is compared with the item's hash afterwards.
            let known = ask(json!({"sha256": "00"}), accepts, "text/html", page);
            assert_eq!(known, Ok(Original::Text(page.to_owned())));
        }
        let damaged = |accepts: &[Modality]| ask(json!({}), accepts, "image/png", "cut off");
        assert_eq!(damaged(&both), Ok(Original::Picture(b"cut off".to_vec())));
        assert_eq!(damaged(&[Text]), Err(FailureReason::OtherModality));
    }

    #[test]
    fn the_content_decides_where_nothing_else_does() {
        let png = perennial_encode::encode_png(&[7; 3 * 4], [3, 2, 2]).unwrap();
        let both = [Image, Text];
        let of = |file: &[u8], accepts: &[Modality]| {
            let found = Original::of_file(file.to_vec(), None, accepts);
            found.map_err(|failure| failure.reason)
        };
        assert_eq!(of(&png, &both), Ok(Original::Picture(png.clone())));
        assert_eq!(of(b"a", &both), Ok(Original::Text("a".to_owned())));
        assert_eq!(of(b"\xff\xfe", &both), Err(FailureReason::Undecodable));
        assert_eq!(of(b"a\0b", &both), Err(FailureReason::Undecodable));
        assert_eq!(of(&png, &[Text]), Err(FailureReason::OtherModality));
        // It was to be a picture, and is decoded as one.
        assert_eq!(of(b"a", &[Image]), Ok(Original::Picture(b"a".to_vec())));
    }
}
