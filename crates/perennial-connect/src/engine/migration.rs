//! What a database knows about a migration.

use crate::qualified_name::QualifiedName;

/// Where copies come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A bridge, with the certificate that allows it; both by hash.
    Bridge {
        /// The bridge.
        bridge: String,
        /// The certificate.
        certificate: String,
    },
    /// Files of vectors.
    Files,
}

impl Origin {
    /// From the hashes of a bridge and its certificate, where there are any.
    pub(crate) fn of(bridge: Option<String>, certificate: Option<String>) -> Self {
        match (bridge, certificate) {
            (Some(bridge), Some(certificate)) => Self::Bridge {
                bridge,
                certificate,
            },
            _ => Self::Files,
        }
    }

    /// The hashes of bridge and certificate.
    pub(crate) fn hashes(&self) -> (Option<&str>, Option<&str>) {
        match self {
            Self::Bridge {
                bridge,
                certificate,
            } => (Some(bridge), Some(certificate)),
            Self::Files => (None, None),
        }
    }
}

/// A migration as the database knows it.
#[derive(Debug, Clone)]
pub(crate) struct Migration<K> {
    pub(crate) name: String,
    /// The column of the key; empty where rows have no columns.
    pub(crate) key: String,
    /// The column of vectors, or the name of the vector.
    pub(crate) vector: String,
    /// Where the copies are.
    pub(crate) copies: QualifiedName,
    pub(crate) dim: usize,
    pub(crate) origin: Origin,
    /// Whether every row had its turn once.
    pub(crate) first_pass_done: bool,
    /// Where the first pass goes on.
    pub(crate) place: Option<K>,
    /// The file that was read last, by hash, and how many rows of it are done.
    pub(crate) file: Option<(String, u64)>,
    /// The view that was switched, and whether it shows the copies.
    pub(crate) view: Option<(QualifiedName, bool)>,
}

/// What is noted about a migration beside the rows that are written.
#[derive(Debug, Clone)]
pub(crate) enum Progress<K> {
    /// Nothing but the number of rows: a later pass.
    Rows,
    /// Where the first pass goes on.
    Place(K),
    /// The first pass is over.
    FirstPass,
    /// Rows of a file that are done.
    File {
        /// The file, by hash.
        sha256: String,
        /// Rows from its start.
        rows: u64,
    },
}
