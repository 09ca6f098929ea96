//! Where the originals of stored items lie, and why one cannot be used.

use std::path::PathBuf;
use std::sync::Arc;

use perennial_gallery::StoredItem;
use serde::{Deserialize, Serialize};

use super::folder::FolderOriginals;
use super::template::UrlTemplate;

/// Why an item was not embedded again. It is kept as it is, and not tried again until that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureReason {
    /// The item's payload does not say where its original is.
    NoSource,
    /// There is no such picture any more.
    Gone,
    /// The place is outside of what may be read.
    Refused,
    /// The place does not answer.
    Unreachable,
    /// It is there and cannot be read, or is too large.
    Unreadable,
    /// It is no picture that can be decoded.
    Undecodable,
    /// It is another picture than the one that was stored.
    OtherPicture,
    /// The live version has no embedding for it.
    NoEmbedding,
}

impl FailureReason {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::NoSource,
        Self::Gone,
        Self::Refused,
        Self::Unreachable,
        Self::Unreadable,
        Self::Undecodable,
        Self::OtherPicture,
        Self::NoEmbedding,
    ];

    /// Its name in JSON and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoSource => "no_source",
            Self::Gone => "gone",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Unreadable => "unreadable",
            Self::Undecodable => "undecodable",
            Self::OtherPicture => "other_picture",
            Self::NoEmbedding => "no_embedding",
        }
    }
}

/// The reason for one item, with what was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{}: {detail}", reason.name())]
pub struct Failure {
    /// The kind.
    pub reason: FailureReason,
    /// What was found, for people.
    pub detail: String,
}

impl Failure {
    /// A failure with a text of bounded length.
    pub fn new(reason: FailureReason, detail: impl Into<String>) -> Self {
        const MAX_CHARACTERS: usize = 300;
        let mut detail: String = detail.into();
        if let Some((end, _)) = detail.char_indices().nth(MAX_CHARACTERS) {
            detail.truncate(end);
        }
        Self { reason, detail }
    }
}

/// A place with the originals of stored items. Calls block, and may come from several threads.
pub trait Originals: Send + Sync {
    /// The file of an item's picture.
    ///
    /// # Errors
    /// [`Failure`]: there is none, or it cannot be read within the limits.
    fn fetch(&self, item: &StoredItem) -> Result<Vec<u8>, Failure>;
}

/// Gets a file from an `http` or `https` address. The binary implements it, so that neither this crate nor the service knows an HTTP client.
pub trait Download: Send + Sync {
    /// Reads at most `max_bytes` from an address, within a time limit and without following redirects.
    ///
    /// # Errors
    /// [`FailureReason::Gone`] for status 404 and 410, [`FailureReason::Unreachable`] for an address that does not answer in time, is busy or
    /// fails, [`FailureReason::Unreadable`] for everything else.
    fn get(&self, url: &str, max_bytes: u64) -> Result<Vec<u8>, Failure>;
}

/// Where the originals of a backfill lie.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OriginalsSource {
    /// A folder of pictures; the payload's `file` is the path below it, as `gallery add` writes it.
    Folder(PathBuf),
    /// An address with `{id}` or `{payload.KEY}` in it.
    Url(String),
    /// None: the client sends them.
    Pushed,
}

impl OriginalsSource {
    /// From one word of a command line: an address if it has a scheme, otherwise a folder.
    pub fn of_argument(argument: &str) -> Self {
        match argument.contains("://") {
            true => Self::Url(argument.to_owned()),
            false => Self::Folder(PathBuf::from(argument)),
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
    fn fetch(&self, item: &StoredItem) -> Result<Vec<u8>, Failure> {
        let url = self.template.address(item)?;
        self.download.get(&url, self.max_bytes)
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
        for reason in FailureReason::ALL {
            assert_eq!(serde_json::json!(reason), reason.name());
        }
        // Nothing can fetch an address here.
        assert!(url.open(None, 10).is_err());
        assert!(OriginalsSource::Pushed.open(None, 10).unwrap().is_none());
        assert!(
            OriginalsSource::of_argument("no such folder")
                .open(None, 10)
                .is_err()
        );
    }

    #[test]
    fn details_are_bounded() {
        let failure = Failure::new(FailureReason::Gone, "ü".repeat(1000));
        assert_eq!(failure.detail.chars().count(), 300);
    }
}
