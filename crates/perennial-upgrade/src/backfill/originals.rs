//! Places with the originals of stored items.

use perennial_gallery::StoredItem;

use super::failure::Failure;

/// What a place gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A file.
    File(Vec<u8>),
    /// What a server answered.
    Answer(Answer),
    /// A text that the item itself holds.
    Text(String),
}

/// What a server answers with status 200: the file that was asked for, or a page that says why it is not there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// The body.
    pub file: Vec<u8>,
    /// What the server says that it is, as in the header of this name.
    pub content_type: Option<String>,
}

/// A place with the originals of stored items. Calls block, and may come from several threads.
pub trait Originals: Send + Sync {
    /// The file of an item's picture or text.
    ///
    /// # Errors
    /// [`Failure`]: there is none, or it cannot be read within the limits.
    fn fetch(&self, item: &StoredItem) -> Result<Found, Failure>;
}

/// Gets a file from an `http` or `https` address. The binary implements it, so that neither this crate nor the service knows an HTTP client.
pub trait Download: Send + Sync {
    /// Reads at most `max_bytes` from an address, within a time limit and without following redirects.
    ///
    /// # Errors
    /// [`FailureReason::Gone`](super::FailureReason::Gone) for status 404 and 410, [`Unreachable`](super::FailureReason::Unreachable) for an address that does not answer in time, is busy or
    /// fails, [`Unreadable`](super::FailureReason::Unreadable) for everything else.
    fn get(&self, url: &str, max_bytes: u64) -> Result<Answer, Failure>;
}
