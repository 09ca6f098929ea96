//! What items were made of: pictures or texts.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use perennial_core::{Modality, Registry};
use perennial_gallery::StoredItem;
use serde_json::{Map, Value};

/// The payload's key for an item's text, as `gallery add --table` writes it.
pub const TEXT: &str = "text";
/// The payload's key that says that [`TEXT`] holds the begin of a longer text only.
pub const TEXT_CUT: &str = "text_cut";
/// The lengths of texts, in bytes with the `…` at their end, to which earlier releases cut them without [`TEXT_CUT`].
const CUT_BYTES: RangeInclusive<usize> = 682..=685;
/// The payload's key for where an item came from, and what it begins with for a table of texts.
const ORIGIN: &str = "set";
const TABLE: &str = "table:";
/// Keys of payloads that only pictures have.
const PICTURE: [&str; 3] = ["width", "height", "thumbnail"];

/// What the versions of some items embed.
#[derive(Debug, Clone, Default)]
pub struct ItemKinds(BTreeMap<String, Vec<Modality>>);

impl ItemKinds {
    /// Looks the items' versions up. Those of encoders that do not run here are not known.
    pub fn of<'a>(registry: &Registry, items: impl IntoIterator<Item = &'a StoredItem>) -> Self {
        let mut versions = BTreeMap::new();
        for item in items {
            if !versions.contains_key(&item.model_version) {
                let accepts = registry.get(&item.model_version);
                let accepts =
                    accepts.map_or_else(|_| Vec::new(), |version| version.accepts().to_vec());
                versions.insert(item.model_version.clone(), accepts);
            }
        }
        Self(versions)
    }

    /// Whether an item's version is known to embed nothing of what another one `accepts`.
    pub fn embeds_none_of(&self, item: &StoredItem, accepts: &[Modality]) -> bool {
        let own = self.0.get(&item.model_version);
        own.is_some_and(|own| !own.is_empty() && !own.iter().any(|kind| accepts.contains(kind)))
    }

    /// What an item was made of: by its version, where that embeds one kind only, otherwise by its payload. `None` where neither tells.
    pub fn kind(&self, item: &StoredItem) -> Option<Modality> {
        match self.0.get(&item.model_version).map(Vec::as_slice) {
            Some(&[one]) => Some(one),
            _ if PICTURE.iter().any(|key| item.payload.contains_key(*key)) => Some(Modality::Image),
            _ => held_text(&item.payload).map(|_| Modality::Text),
        }
    }
}

/// The whole text of an item that `gallery add --table` stored, if its payload holds it.
pub fn held_text(payload: &Map<String, Value>) -> Option<&str> {
    let text = payload.get(TEXT).and_then(Value::as_str);
    text.filter(|_| is_of_table(payload) && !is_cut(payload))
}

fn is_of_table(payload: &Map<String, Value>) -> bool {
    let origin = payload.get(ORIGIN).and_then(Value::as_str);
    origin.is_some_and(|origin| origin.starts_with(TABLE))
}

/// Whether [`TEXT`] is the begin of a longer text: the payload says so, or it is as an earlier release of `gallery add --table` cut it.
pub(super) fn is_cut(payload: &Map<String, Value>) -> bool {
    match (payload.get(TEXT_CUT), payload.get(TEXT)) {
        (Some(cut), _) => cut != &Value::Bool(false),
        (None, Some(Value::String(text))) => is_of_table(payload) && looks_cut(text),
        (None, _) => false,
    }
}

/// Whether a text is as long, and ends, as those that earlier releases cut. A whole text that does is stored with [`TEXT_CUT`] as `false`.
pub fn looks_cut(text: &str) -> bool {
    CUT_BYTES.contains(&text.len()) && text.ends_with('…')
}

/// The word for a kind in messages.
pub fn kind_word(kind: Modality) -> &'static str {
    match kind {
        Modality::Image => "picture",
        Modality::Text => "text",
        Modality::Audio => "sound",
        Modality::Other => "thing of another kind",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_text_that_an_earlier_release_cut_is_not_whole() {
        let payload = |text: &str, cut: Value| {
            let mut payload = json!({"set": "table:a.csv", "text": text});
            if !cut.is_null() {
                payload[TEXT_CUT] = cut;
            }
            payload.as_object().unwrap().clone()
        };
        // Cut at a character's begin: after 682 bytes or up to three before.
        for bytes in 679..=682 {
            let text = format!("{}…", "a".repeat(bytes));
            assert_eq!(held_text(&payload(&text, Value::Null)), None, "{bytes}");
            assert_eq!(held_text(&payload(&text, json!(true))), None);
            let whole = payload(&text, json!(false));
            assert_eq!(held_text(&whole), Some(text.as_str()));
        }
        for text in [
            "short…".to_owned(),
            "a".repeat(684),
            format!("{}…", "a".repeat(700)),
        ] {
            assert_eq!(held_text(&payload(&text, Value::Null)), Some(text.as_str()));
        }
        // Of other programs nothing is known.
        let other = json!({"text": format!("{}…", "a".repeat(682))});
        assert!(!is_cut(other.as_object().unwrap()));
    }
}
