//! Where an item came from: an item is never replaced by one of another origin.

use perennial_gallery::StoredItem;
use serde_json::Value;

use crate::exit_status::usage;

/// The payload's key for the set or table that an item came from.
pub const ORIGIN: &str = "set";

/// **Errors**: an item that is there already and came from elsewhere.
pub fn check_origin(item: &StoredItem, origin: &str) -> anyhow::Result<()> {
    let from = item.payload.get(ORIGIN).and_then(Value::as_str);
    if from == Some(origin) {
        return Ok(());
    }
    Err(usage(format!(
        "item {} is already in the gallery and was added from {}; adding {origin} would replace it; pass --prefix NAME to keep both",
        item.id,
        from.unwrap_or("elsewhere")
    )))
}
