//! What the inputs of endpoints are: pictures or texts. Both arrive as strings.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use perennial_core::Modality;
use perennial_encode::Kind;

/// How a data URL of a picture begins.
const DATA_URL: &str = "data:image/";
/// Characters of base64 whose bytes tell a picture's format. A text that is as long and holds nothing else is none that somebody wrote.
const HEAD: usize = 32;

/// The kinds of a request's inputs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Kinds {
    pictures: bool,
    texts: bool,
}

impl Kinds {
    /// Those that occur.
    pub(crate) fn of(inputs: &[String]) -> Self {
        let mut kinds = Self::default();
        for input in inputs {
            match kind_of(input) {
                Modality::Image => kinds.pictures = true,
                _ => kinds.texts = true,
            }
        }
        kinds
    }

    /// Whether an encoder that accepts these kinds embeds all of the inputs.
    pub(super) fn are_among(self, accepts: &[Modality]) -> bool {
        (!self.pictures || accepts.contains(&Modality::Image))
            && (!self.texts || accepts.contains(&Modality::Text))
    }

    /// For messages.
    pub(super) fn words(self) -> &'static str {
        match (self.pictures, self.texts) {
            (true, true) => "pictures and texts",
            (true, false) => "pictures",
            _ => "texts",
        }
    }
}

/// A picture, as a data URL or as the base64 of its file, or a text.
pub(super) fn kind_of(input: &str) -> Modality {
    let input = input.trim_ascii_start();
    let start = input.get(..DATA_URL.len());
    if start.is_some_and(|start| start.eq_ignore_ascii_case(DATA_URL)) {
        return Modality::Image;
    }
    let head = input.as_bytes().get(..HEAD);
    let head = head.and_then(|head| BASE64_STANDARD.decode(head).ok());
    match head.map(|head| perennial_encode::kind(&head)) {
        None | Some(Kind::Unknown) => Modality::Text,
        Some(Kind::Decoded(_) | Kind::Other(_)) => Modality::Image,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_told_from_texts() {
        let png = perennial_encode::encode_png(&[7; 3 * 64], [3, 8, 8]).unwrap();
        let file = BASE64_STANDARD.encode(png);
        for picture in [
            file.clone(),
            format!(" {file}"),
            format!("data:image/png;base64,{file}"),
            "DATA:image/jpeg;base64,".to_owned(),
        ] {
            assert_eq!(kind_of(&picture), Modality::Image, "{picture}");
        }
        for text in [
            "",
            "a red rose",
            "iVBORw0KGgo",
            &"a".repeat(100),
            &"größe ".repeat(30),
        ] {
            assert_eq!(kind_of(text), Modality::Text, "{text}");
        }
        let both = Kinds::of(&[file, "a".to_owned()]);
        assert!(both.are_among(&[Modality::Text, Modality::Image]));
        assert!(!both.are_among(&[Modality::Text]) && !both.are_among(&[Modality::Image]));
    }
}
