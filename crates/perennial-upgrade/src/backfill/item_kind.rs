//! What items were made of: pictures or texts.

use std::collections::BTreeMap;

use perennial_core::{Modality, Registry};
use perennial_gallery::StoredItem;
use serde_json::{Map, Value};

/// The payload's key for an item's text, as `gallery add --table` writes it.
pub const TEXT: &str = "text";
/// The payload's key that says that [`TEXT`] holds the begin of a longer text only.
pub const TEXT_CUT: &str = "text_cut";
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
    let origin = payload.get(ORIGIN).and_then(Value::as_str)?;
    let cut = payload
        .get(TEXT_CUT)
        .is_some_and(|cut| cut != &Value::Bool(false));
    let text = payload.get(TEXT).and_then(Value::as_str);
    text.filter(|_| origin.starts_with(TABLE) && !cut)
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
