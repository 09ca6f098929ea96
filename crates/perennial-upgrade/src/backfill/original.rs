//! An item's original as it was found, and which encoder it is for.

use perennial_core::Modality;
use perennial_encode::{Kind, kind};
use perennial_gallery::StoredItem;

use super::failure::{Failure, FailureReason};
use super::item_kind::{held_text, kind_word};
use super::originals::{Found, Originals};

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
            Found::Text(text) => check(Modality::Text, accepts).map(|()| Self::Held(text)),
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
        let text = String::from_utf8(file);
        text.map(Self::Text)
            .map_err(|_| Failure::new(FailureReason::Undecodable, "it is no text in UTF-8"))
    }
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
        let place = Place(Found::File(found.to_owned()), AtomicUsize::new(0));
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
        assert_eq!(of(&png, &[Text]), Err(FailureReason::OtherModality));
        // It was to be a picture, and is decoded as one.
        assert_eq!(of(b"a", &[Image]), Ok(Original::Picture(b"a".to_vec())));
    }
}
