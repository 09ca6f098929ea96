//! The kinds of places that the originals of a backfill can lie in.

use std::path::PathBuf;
use std::sync::Arc;

use perennial_gallery::StoredItem;
use serde::{Deserialize, Serialize};

use super::failure::Failure;
use super::folder::FolderOriginals;
use super::originals::{Download, Originals};
use super::template::UrlTemplate;

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
