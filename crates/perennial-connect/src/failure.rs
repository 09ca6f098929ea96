//! What can go wrong inside an operation: a request that is refused, or a database that fails.

use perennial_gallery::GalleryError;

use crate::error::ConnectError;

#[derive(Debug)]
pub(crate) enum Failure {
    /// The request is at fault; the connection is as good as before.
    Refused(GalleryError),
    /// The database or the way to it is.
    Database(ConnectError),
}

impl From<GalleryError> for Failure {
    fn from(error: GalleryError) -> Self {
        Self::Refused(error)
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        Self::Database(error)
    }
}

#[cfg(feature = "pgvector")]
impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error.into())
    }
}

/// A value in the database that is not what this program stores.
pub(crate) fn damaged(problem: impl std::fmt::Display) -> Failure {
    Failure::Database(ConnectError::State(format!(
        "the gallery was changed by another program: {problem}"
    )))
}

impl Failure {
    /// Whether the same may succeed after a while.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Refused(_) => false,
            Self::Database(error) => error.may_pass(),
        }
    }

    pub(crate) fn into_gallery(self, server: &str) -> GalleryError {
        let problem = match self {
            Self::Refused(error) => return error,
            // Whatever it had begun does not count.
            Self::Database(error @ ConnectError::Throttled { .. }) => {
                return GalleryError::Busy {
                    server: server.to_owned(),
                    problem: error.to_string(),
                };
            }
            Self::Database(ConnectError::Connection { problem, .. }) => problem,
            Self::Database(error) => error.to_string(),
        };
        GalleryError::Database {
            server: server.to_owned(),
            problem,
        }
    }
}
