//! Why a request failed, as far as it matters for what is done next.

use crate::error::ConnectError;

/// The largest answer that is read.
pub(super) const MAX_ANSWER: u64 = 64 << 20;

/// Why a request failed.
pub(crate) enum Failure {
    /// The answer is larger than [`MAX_ANSWER`].
    TooLarge,
    /// The request names or holds more than the server takes at once, of which it may say how much that is.
    Split {
        most: Option<usize>,
        error: ConnectError,
    },
    /// A filter names a field without an index.
    Unindexed { key: String, error: ConnectError },
    /// Nothing is computed exactly.
    Inexact(ConnectError),
    /// What was asked for is not there.
    Missing(ConnectError),
    /// Anything else.
    Other(ConnectError),
}

impl From<Failure> for ConnectError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::TooLarge => Self::Value(format!(
                "an answer of more than {} MB for a single point",
                MAX_ANSWER >> 20
            )),
            Failure::Split { error, .. }
            | Failure::Unindexed { error, .. }
            | Failure::Inexact(error)
            | Failure::Missing(error)
            | Failure::Other(error) => error,
        }
    }
}
