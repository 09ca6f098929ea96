//! The hash of an item's original, as it was when the item was stored.

use perennial_gallery::StoredItem;
use serde_json::Value;

/// The payload's key, as `gallery add` writes it.
const SHA256: &str = "sha256";

/// The SHA-256 of the original, in hexadecimal digits; `None` where the payload has none.
pub(super) fn stored_sha256(item: &StoredItem) -> Option<&str> {
    item.payload.get(SHA256).and_then(Value::as_str)
}
