//! Backfill: items of other spaces are embedded again by the live version, where their originals can be fetched.
//!
//! - [`Queue`]: which items come next ([`Order`]), from what the gallery holds and what searches found ([`Retrievals`]).
//! - [`OriginalsSource`], [`Originals`]: where the originals lie, and why one cannot be used ([`Failure`]).
//! - [`ItemKinds`], [`Original`]: whether an item was a picture or a text, and its original for an encoder of one or both.
//! - [`Unanswered`], [`FirstOriginals`]: whether the place of the originals is away, or the wrong one.
//! - [`replace_unchanged`]: the write. An item that changed since it was read is left alone.
//! - [`StopRule`], [`Curve`], [`Expectation`]: how far a backfill goes, and what it is expected to bring.
//! - [`BackfillRecord`]: settings, failures and progress, in a file of the gallery's folder. What is left to do is in no file: it is the
//!   items of other spaces that the gallery holds.
//!
//! The service and the command line run the same rules; neither the network nor the encoder is known here.

mod curve;
mod expectation;
mod failure;
mod folder;
mod item_kind;
mod order;
mod original;
mod originals;
mod outcome;
mod pace;
mod place;
mod queue;
mod record;
mod replacement;
mod retrievals;
mod source;
mod stop;
mod stored_hash;
mod template;

pub use curve::{Curve, CurvePoint};
pub use expectation::Expectation;
pub use failure::{Failure, FailureReason};
pub use folder::FolderOriginals;
pub use item_kind::{ItemKinds, TEXT, TEXT_CUT, held_text, kind_word, looks_cut};
pub use order::Order;
pub use original::Original;
pub use originals::{Answer, Download, Found, Originals};
pub use outcome::Outcome;
pub use pace::next_items_at;
pub use place::{
    Asked, FAILURES_WITHOUT_SUCCESS, FirstOriginals, PlaceAway, Unanswered, place_answered,
};
pub use queue::Queue;
pub use record::{BackfillRecord, BackfillSettings, BackfillState, RecordError};
pub use replacement::{Reembedded, Replaced, prepared_of, replace_unchanged};
pub use retrievals::{Retrieval, Retrievals};
pub use source::{OriginalsSource, UrlOriginals};
pub use stop::{Progress, StopRule};
pub use template::UrlTemplate;
