//! The kinds of places that the originals of a backfill can lie in.

use std::path::PathBuf;
use std::sync::Arc;

use perennial_gallery::StoredItem;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::failure::{Failure, FailureReason};
use super::folder::FolderOriginals;
use super::item_kind::{TEXT, is_cut};
use super::originals::{Download, Found, Originals};
use super::template::UrlTemplate;

/// Where the originals of a backfill lie.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OriginalsSource {
    /// A folder of pictures or texts; the payload's `file` is the path below it, as `gallery add` writes it.
    Folder(PathBuf),
    /// An address with `{id}` or `{payload.KEY}` in it.
    Url(String),
    /// The items themselves hold their texts, under this key of the payload.
    Payload(String),
    /// None: the client sends them.
    Pushed,
}

impl OriginalsSource {
    /// From one word of a command line: an address if it has a scheme, a key after `payload:`, otherwise a folder.
    pub fn of_argument(argument: &str) -> Self {
        match argument.strip_prefix("payload:") {
            _ if argument.contains("://") => Self::Url(argument.to_owned()),
            Some(key) => Self::Payload(key.to_owned()),
            None => Self::Folder(PathBuf::from(argument)),
        }
    }

    /// Opens the source; `None` where the client sends the originals. `max_bytes` bounds each of them.
    ///
    /// # Errors
    /// What is wrong with the folder or the address, in words.
    pub fn open(
        &self,
        download: Option<&Arc<dyn Download>>,
        max_bytes: u64,
    ) -> Result<Option<Arc<dyn Originals>>, String> {
        match self {
            Self::Folder(folder) => Ok(Some(Arc::new(FolderOriginals::open(folder, max_bytes)?))),
            Self::Url(template) => {
                let template = UrlTemplate::parse(template)?;
                let Some(download) = download else {
                    return Err("originals.url: this service cannot fetch addresses".to_owned());
                };
                Ok(Some(Arc::new(UrlOriginals {
                    template,
                    download: Arc::clone(download),
                    max_bytes,
                })))
            }
            Self::Payload(key) if key.is_empty() => {
                Err("originals.payload: name a key of the payload".to_owned())
            }
            Self::Payload(key) => Ok(Some(Arc::new(PayloadOriginals(key.clone())))),
            Self::Pushed => Ok(None),
        }
    }
}

/// Originals behind addresses.
pub struct UrlOriginals {
    template: UrlTemplate,
    download: Arc<dyn Download>,
    max_bytes: u64,
}

impl Originals for UrlOriginals {
    fn fetch(&self, item: &StoredItem) -> Result<Found, Failure> {
        let url = self.template.address(item)?;
        self.download.get(&url, self.max_bytes).map(Found::Answer)
    }
}

/// Texts under a key of the payload.
struct PayloadOriginals(String);

impl Originals for PayloadOriginals {
    fn fetch(&self, item: &StoredItem) -> Result<Found, Failure> {
        let key = self.0.as_str();
        let missing = |what: &str| {
            let problem = format!("the payload {what} under `{key}`");
            Err(Failure::new(FailureReason::NoSource, problem))
        };
        if key == TEXT && is_cut(&item.payload) {
            return missing("holds only the begin of the text");
        }
        match item.payload.get(key) {
            Some(Value::String(text)) => Ok(Found::Text(text.clone())),
            _ => missing("has no text"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_and_json_name_the_source() {
        let url = OriginalsSource::of_argument("https://host/{id}");
        assert_eq!(
            serde_json::to_string(&url).unwrap(),
            r#"{"url":"https://host/{id}"}"#
        );
        let folder = OriginalsSource::of_argument("pictures");
        assert_eq!(
            serde_json::to_string(&folder).unwrap(),
            r#"{"folder":"pictures"}"#
        );
        assert_eq!(
            serde_json::to_string(&OriginalsSource::Pushed).unwrap(),
            r#""pushed""#
        );
        let payload = OriginalsSource::of_argument("payload:body");
        assert_eq!(
            serde_json::to_string(&payload).unwrap(),
            r#"{"payload":"body"}"#
        );
        assert!(
            OriginalsSource::of_argument("payload:")
                .open(None, 10)
                .is_err()
        );
        // Nothing can fetch an address here.
        assert!(url.open(None, 10).is_err());
        assert!(OriginalsSource::Pushed.open(None, 10).unwrap().is_none());
        assert!(
            OriginalsSource::of_argument("no such folder")
                .open(None, 10)
                .is_err()
        );
    }
}
