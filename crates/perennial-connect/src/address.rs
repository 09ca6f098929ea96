//! Where an index is: in which of the databases that this build knows.

use std::fmt;

use crate::error::ConnectError;
#[cfg(feature = "pgvector")]
use crate::postgres::PostgresAddress;
#[cfg(feature = "qdrant")]
use crate::qdrant::QdrantAddress;
use crate::qualified_name::QualifiedName;

/// The address of a database: `postgres://USER@HOST:PORT/DATABASE?sslmode=require` with the feature `pgvector`, `qdrant://HOST:PORT/COLLECTION`
/// or `qdrants://…` (TLS) with the feature `qdrant`.
///
/// Neither [`Debug`] nor [`Display`](fmt::Display) shows a user, a password or a key.
#[derive(Clone)]
pub struct Address(Place);

/// An address by its database.
#[derive(Clone)]
pub(crate) enum Place {
    #[cfg(feature = "pgvector")]
    Postgres(PostgresAddress),
    #[cfg(feature = "qdrant")]
    Qdrant(QdrantAddress),
}

impl Address {
    /// Reads a URL that may hold a password, as it stands in a file or in the environment.
    ///
    /// # Errors
    /// [`ConnectError::Usage`], which does not repeat the text.
    pub fn new(url: &str) -> Result<Self, ConnectError> {
        Self::read(url, false)
    }

    /// Reads a URL of the command line, which every user of the machine can see in the list of processes.
    ///
    /// # Errors
    /// Those of [`new`](Self::new), and a URL with a password.
    pub fn without_password(url: &str) -> Result<Self, ConnectError> {
        Self::read(url, true)
    }

    fn read(url: &str, public: bool) -> Result<Self, ConnectError> {
        let url = url.trim();
        // What a build does not know is refused with what it knows; PostgreSQL's errors say how to write its own URL.
        let place = match url.split_once("://").map(|(scheme, _)| scheme) {
            #[cfg(feature = "qdrant")]
            Some("qdrant" | "qdrants") => Place::Qdrant(QdrantAddress::new(url)?),
            #[cfg(not(feature = "qdrant"))]
            Some("qdrant" | "qdrants") => {
                return Err(ConnectError::Usage(
                    "this build knows no Qdrant; build with --features qdrant".to_owned(),
                ));
            }
            #[cfg(feature = "pgvector")]
            _ if public => Place::Postgres(PostgresAddress::without_password(url)?),
            #[cfg(feature = "pgvector")]
            _ => Place::Postgres(PostgresAddress::new(url)?),
            #[cfg(not(feature = "pgvector"))]
            _ => {
                let _ = public;
                return Err(ConnectError::Usage(
                    "the database's URL cannot be read; write qdrant://HOST:PORT/COLLECTION, or build with --features pgvector for PostgreSQL \
                     (the URL is not shown, since it may hold a password)"
                        .to_owned(),
                ));
            }
        };
        Ok(Self(place))
    }

    /// Takes a secret for an address that has none, from the variable of the environment that belongs to the database: `PGPASSWORD`, or
    /// `QDRANT_API_KEY`.
    ///
    /// # Errors
    /// [`ConnectError::Usage`] for a key that cannot be sent.
    pub fn with_secret(
        self,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ConnectError> {
        Ok(Self(match self.0 {
            #[cfg(feature = "pgvector")]
            Place::Postgres(address) => {
                Place::Postgres(address.or_password(environment("PGPASSWORD")))
            }
            #[cfg(feature = "qdrant")]
            Place::Qdrant(address) => {
                Place::Qdrant(address.with_key(environment("QDRANT_API_KEY"))?)
            }
        }))
    }

    /// The address as a URL, without user, password and key.
    pub fn url(&self) -> String {
        let scheme = match &self.0 {
            #[cfg(feature = "pgvector")]
            Place::Postgres(_) => "postgres",
            #[cfg(feature = "qdrant")]
            Place::Qdrant(address) => address.scheme(),
        };
        format!("{scheme}://{self}")
    }

    /// The collection that the address names; nothing for a database whose tables are named beside the address.
    pub fn collection(&self) -> Option<QualifiedName> {
        match &self.0 {
            #[cfg(feature = "pgvector")]
            Place::Postgres(_) => None,
            #[cfg(feature = "qdrant")]
            Place::Qdrant(address) => Some(QualifiedName::from(address.collection())),
        }
    }

    /// The address, where it is that of a PostgreSQL.
    #[cfg(feature = "pgvector")]
    pub(crate) fn postgres(&self) -> Option<&PostgresAddress> {
        match &self.0 {
            Place::Postgres(address) => Some(address),
            #[cfg(feature = "qdrant")]
            Place::Qdrant(_) => None,
        }
    }

    /// The address, where it is that of a Qdrant.
    #[cfg(feature = "qdrant")]
    pub(crate) fn qdrant(&self) -> Option<&QdrantAddress> {
        match &self.0 {
            #[cfg(feature = "pgvector")]
            Place::Postgres(_) => None,
            Place::Qdrant(address) => Some(address),
        }
    }

    pub(crate) fn place(&self) -> &Place {
        &self.0
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            #[cfg(feature = "pgvector")]
            Place::Postgres(address) => address.fmt(f),
            #[cfg(feature = "qdrant")]
            Place::Qdrant(address) => address.fmt(f),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}
