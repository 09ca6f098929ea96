//! Originals are fetched a few at once.

use perennial_core::Modality;
use perennial_gallery::StoredItem;
use perennial_upgrade::backfill::{Failure, ItemKinds, Original, Originals};

/// Originals that are fetched at once.
const FETCHES: usize = 4;

/// An item, and its original or why there is none.
pub(crate) type Fetched = (StoredItem, Result<Original, Failure>);

/// Fetches originals for an encoder of what it `accepts`, a few at once; blocks. Items are left out once `go_on` says no.
pub(crate) fn fetch(
    originals: &dyn Originals,
    items: Vec<StoredItem>,
    kinds: &ItemKinds,
    accepts: &[Modality],
    go_on: &(dyn Fn() -> bool + Sync),
) -> Vec<Fetched> {
    let mut shares: Vec<Vec<StoredItem>> = Vec::new();
    let share = items.len().div_ceil(FETCHES).max(1);
    let mut items = items.into_iter().peekable();
    while items.peek().is_some() {
        shares.push(items.by_ref().take(share).collect());
    }
    std::thread::scope(|scope| {
        let threads: Vec<_> = shares
            .into_iter()
            .map(|share| {
                scope.spawn(move || {
                    let mut fetched = Vec::with_capacity(share.len());
                    for item in share {
                        if !go_on() {
                            break;
                        }
                        let kind = kinds.kind(&item);
                        let original = Original::find(&item, kind, accepts, originals);
                        fetched.push((item, original));
                    }
                    fetched
                })
            })
            .collect();
        // A panic of a source costs its share of this step; the items stay in the gallery and come again.
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap_or_default())
            .collect()
    })
}
