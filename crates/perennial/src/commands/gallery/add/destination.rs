//! The interface that [`super::folder`] needs of a gallery, local or behind a service.

use perennial_encode::{Picture, Prepared};
use perennial_gallery::Upserted;
use serde_json::{Map, Value};

/// Keys of the payload of an item that is a picture of a folder.
///
/// `file`, `class`, `width`, `height` and `thumbnail` are for search results; `root` and `sha256` identify the item when the folder
/// is added again.
pub mod keys {
    /// Path below the folder, with `/` between the parts.
    pub const FILE: &str = "file";
    /// The first folder of [`FILE`]; absent for a picture in the folder itself.
    pub const CLASS: &str = "class";
    /// Columns of the upright picture.
    pub const WIDTH: &str = "width";
    /// Rows of the upright picture.
    pub const HEIGHT: &str = "height";
    /// A small JPEG as data URL.
    pub const THUMBNAIL: &str = "thumbnail";
    /// The folder: its absolute path on the machine that added it, or the name given with `--root`.
    pub const ROOT: &str = "root";
    /// SHA-256 of the file, in hexadecimal digits.
    pub const SHA256: &str = "sha256";
}

/// A picture that is new or changed, ready to be embedded and stored.
#[derive(Clone, Debug)]
pub struct NewPicture {
    /// The item's id, a text.
    pub id: String,
    /// The number of its class.
    pub label: Option<u32>,
    /// See [`keys`].
    pub payload: Map<String, Value>,
    /// What the destination made of the picture.
    pub content: Content,
}

/// A picture as a destination takes it.
#[derive(Clone, Debug)]
pub enum Content {
    /// Ready for the encoder.
    Prepared(Prepared),
    /// An image file.
    File(Vec<u8>),
}

/// A stored item, as far as its folder needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPicture {
    /// The item's id; a numeric id is given as its digits and never belongs to a folder.
    pub id: String,
    /// The version that embedded it.
    pub model_version: String,
    /// The number of its class.
    pub label: Option<u32>,
    /// [`keys::ROOT`]; `None` for an item that was stored in another way.
    pub root: Option<String>,
    /// [`keys::FILE`].
    pub file: Option<String>,
    /// [`keys::CLASS`].
    pub class: Option<String>,
    /// [`keys::SHA256`].
    pub sha256: Option<String>,
}

impl StoredPicture {
    /// From the fields and the payload of an item.
    pub fn new(
        id: String,
        model_version: String,
        label: Option<u32>,
        payload: &Map<String, Value>,
    ) -> Self {
        let text = |key: &str| payload.get(key).and_then(Value::as_str).map(str::to_owned);
        Self {
            id,
            model_version,
            label,
            root: text(keys::ROOT),
            file: text(keys::FILE),
            class: text(keys::CLASS),
            sha256: text(keys::SHA256),
        }
    }
}

/// A gallery that pictures are added to: the one in a folder ([`super::local::Local`]), or one behind a service.
///
/// Calls come from one thread, in any order, but for [`content`](Self::content), which is called from many. Every write is durable when it returns, so that interrupted work can be
/// continued. No call gets more than [`MAX_CALL`] items or ids.
pub trait Destination: Sync {
    /// The version that embeds new items. It does not change while one command runs; a destination whose version
    /// changes meanwhile fails in [`store`](Self::store).
    fn model_version(&self) -> &str;

    /// Pictures that are made ready at once.
    fn batch(&self) -> usize;

    /// Makes a picture ready for [`store`](Self::store). Gets the file and what it was decoded to.
    ///
    /// **Errors**: what the destination's version cannot be given.
    fn content(&self, file: &[u8], picture: &Picture) -> anyhow::Result<Content>;

    /// Calls `each` for every item whose payload has this [`keys::ROOT`], in any order.
    fn stored_from(
        &self,
        root: &str,
        each: &mut dyn FnMut(StoredPicture) -> anyhow::Result<()>,
    ) -> anyhow::Result<()>;

    /// The items that have one of these text ids, of any origin; ids without an item are absent.
    fn stored_as(&self, ids: &[String]) -> anyhow::Result<Vec<StoredPicture>>;

    /// Embeds and stores pictures, each in the place of an item of the same id if there is one: all of them or none.
    fn store(&self, pictures: Vec<NewPicture>) -> anyhow::Result<Upserted>;

    /// Deletes items with these text ids and says how many there were.
    fn delete(&self, ids: &[String]) -> anyhow::Result<usize>;

    /// Waits until everything is durable, and counts the gallery's items.
    fn finish(&self) -> anyhow::Result<u64>;
}

/// The most items or ids in one call.
pub const MAX_CALL: usize = 512;
