//! What can go wrong with a bridge.

use std::fmt;
use std::io;
use std::path::PathBuf;

use perennial_core::{SimilarityError, SpaceMismatch};
use thiserror::Error;

/// The two ends of a bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The space that the bridge leads from.
    From,
    /// The space that the bridge leads to.
    To,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::From => "from",
            Side::To => "to",
        })
    }
}

/// A bridge cannot be fitted, applied, read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BridgeError {
    /// A row without a direction, or values that are no whole rows.
    #[error("`{side}` embeddings: {source}")]
    Rows {
        /// The end of the bridge that the rows belong to.
        side: Side,
        /// The row and its problem.
        source: SimilarityError,
    },
    /// Rows of both sides were to be matched one to one.
    #[error(
        "{from} rows of `from` cannot be matched with {to} rows of `to`; give the same inputs in the same order"
    )]
    RowCounts {
        /// Rows of `from`.
        from: usize,
        /// Rows of `to`.
        to: usize,
    },
    /// No rows at all.
    #[error("there are no pairs to fit on")]
    NoPairs,
    /// Longer vectors than any bridge has.
    #[error("`{side}` embeddings have {dim} dimensions; a bridge has at most {most}")]
    TooManyDimensions {
        /// The end of the bridge.
        side: Side,
        /// Dimensions given.
        dim: usize,
        /// The most that are possible.
        most: usize,
    },
    /// The matrices of a fit do not fit into memory.
    #[error(
        "{recipe}: fitting a map from {from} to {to} dimensions takes about {megabytes} MB of memory, which is not there; use a larger machine, the \
         kind centring, or embeddings of fewer dimensions"
    )]
    Memory {
        /// The recipe.
        recipe: String,
        /// Dimensions of the source.
        from: usize,
        /// Dimensions of the target.
        to: usize,
        /// What the matrices take.
        megabytes: u64,
    },
    /// Labels and rows do not correspond.
    #[error("`{side}` embeddings: {labels} labels for {rows} rows")]
    LabelCount {
        /// The end of the bridge.
        side: Side,
        /// Rows given.
        rows: usize,
        /// Labels given.
        labels: usize,
    },
    /// Labels are to match the two sides, but do not.
    #[error(
        "only {shared} classes have embeddings on both sides; at least 2 are needed, with the same labels on both sides"
    )]
    TooFewClasses {
        /// Classes on both sides.
        shared: usize,
    },
    /// A row that centring or the map turns into a vector without a direction.
    #[error(
        "`{side}` embeddings: row {row} equals the mean of its space, or the bridge maps it to 0, so it has no direction; drop it"
    )]
    NoDirection {
        /// The end of the bridge.
        side: Side,
        /// Position of the row, from 0.
        row: usize,
    },
    /// The embeddings are not of the space that is needed.
    #[error("`{side}` end of the bridge: {source}")]
    Space {
        /// The end of the bridge.
        side: Side,
        /// What differs.
        source: SpaceMismatch,
    },
    /// Embeddings of the target were given where those of the source belong.
    #[error(
        "these look like embeddings of {to}, the target of the bridge, and not of {from}, its source: their mean is {to_distance:.3} from the \
         target's and {from_distance:.3} from the source's; give embeddings of the source, or use the bridge of the other direction"
    )]
    WrongDirection {
        /// The source.
        from: String,
        /// The target.
        to: String,
        /// Distance between the mean of the rows and that of the source.
        from_distance: f64,
        /// Distance between the mean of the rows and that of the target.
        to_distance: f64,
    },
    /// A recipe's text or one of its values.
    #[error("recipe {recipe:?}: {problem}")]
    Recipe {
        /// The recipe given.
        recipe: String,
        /// The problem and the remedy.
        problem: String,
    },
    /// A weight outside of [0, 1].
    #[error(
        "the weight of a dual query is {weight}; it must be from 0 (the bridged query alone) to 1 (the old query alone)"
    )]
    Weight {
        /// The weight given.
        weight: f64,
    },
    /// The fit does not determine a map.
    #[error("{recipe}: {problem}")]
    Undetermined {
        /// The recipe.
        recipe: String,
        /// The problem and the remedy.
        problem: String,
    },
    /// What was asked for does not exist for this bridge.
    #[error("a bridge of kind {kind} {problem}")]
    Unsupported {
        /// The kind of the bridge.
        kind: String,
        /// The problem and the remedy.
        problem: String,
    },
    /// The second bridge of a chain expects rows that the first does not give.
    #[error("the bridges cannot be chained: {problem}")]
    Chain {
        /// The problem and the remedy.
        problem: String,
    },
    /// A file of a bridge's folder is not what it must be.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The problem and the remedy.
        problem: String,
    },
    /// The folder to write to holds something else.
    #[error("{} exists and is not a bridge; it is not overwritten: name another, or remove it first", path.display())]
    NotOurs {
        /// The path given.
        path: PathBuf,
    },
    /// An error of the operating system; it names the file.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl BridgeError {
    /// The row that the error names, for finding the lowest of several.
    pub(crate) fn row(&self) -> usize {
        match self {
            BridgeError::NoDirection { row, .. }
            | BridgeError::Rows {
                source: SimilarityError::Zero { row } | SimilarityError::NonFinite { row },
                ..
            } => *row,
            _ => 0,
        }
    }
}
