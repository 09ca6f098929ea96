//! What can go wrong with a database that others own.

#[cfg(feature = "pgvector")]
use std::error::Error;
use std::io;
use std::time::Duration;

use perennial_bridge::BridgeError;
use perennial_formats::{FormatError, VectorSetError};
use perennial_upgrade::MappedRefused;
use thiserror::Error as ThisError;
#[cfg(feature = "pgvector")]
use tokio_postgres::error::SqlState;

/// An operation on a database that failed. No message holds a password.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum ConnectError {
    /// The address, a name or an option cannot be used; the message says what to write instead.
    #[error("{0}")]
    Usage(String),
    /// The database is not as the operation needs it: a table that is missing, a name that is taken, a right that lacks.
    #[error("{0}")]
    State(String),
    /// Another process works at the same migration.
    #[error("{0}")]
    Busy(String),
    /// What was asked for must not be done now: rows are missing, a check failed.
    #[error("{0}")]
    Refused(String),
    /// No certificate allows it.
    #[error(transparent)]
    NotCertified(#[from] MappedRefused),
    /// The server answered with an error.
    #[error("the database refused: {message}")]
    Server {
        /// Its message, with detail and hint.
        message: String,
        /// The five characters of SQLSTATE, or the three of a status of HTTP.
        code: String,
    },
    /// The server is asked more often than it, or what stands before it, allows.
    #[error("the database asks to wait: {message}")]
    Throttled {
        /// Its message.
        message: String,
        /// How long, where it says so.
        after: Option<Duration>,
    },
    /// The server cannot be reached, or the connection broke.
    #[error("{server}: {problem}")]
    Connection {
        /// Host, port and database.
        server: String,
        /// The problem.
        problem: String,
    },
    /// A value that the database sent is not what its type says.
    #[error("the database sent {0}")]
    Value(String),
    /// Ctrl-C. What was finished is in the database, and running again continues there.
    #[error("interrupted")]
    Interrupted,
    /// A file of vectors.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// Vectors that do not belong together.
    #[error(transparent)]
    Set(#[from] VectorSetError),
    /// A bridge that cannot be read or applied.
    #[error(transparent)]
    Bridge(#[from] BridgeError),
    /// A file or the machine.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The longest wait that a server may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

impl ConnectError {
    /// Whether the same may succeed after a while: the server restarts, the network is gone, or a lock was not free.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Connection { .. } => true,
            Self::Throttled { after, .. } => after.is_none_or(|after| after <= LONGEST_WAIT),
            Self::Server { code, .. } => {
                // Connection exceptions, shutdown and start of the server, memory and connections (not a full disk, which stays full),
                // deadlocks, and locks that were not free in time.
                ["08", "57P", "530", "532", "533"]
                    .iter()
                    .any(|class| code.starts_with(class))
                    || ["40001", "40P01", "55P03"].contains(&code.as_str())
                    // Of HTTP: every trouble of the server's own, and a timeout.
                    || code.len() == 3 && code.starts_with('5')
                    || code == "408"
            }
            _ => false,
        }
    }
}

#[cfg(feature = "pgvector")]
impl From<tokio_postgres::Error> for ConnectError {
    fn from(error: tokio_postgres::Error) -> Self {
        if let Some(answer) = error.as_db_error() {
            let parts = [
                Some(answer.message()),
                answer.detail(),
                answer.hint(),
                remedy(answer.code()),
            ];
            let parts: Vec<&str> = parts.into_iter().flatten().collect();
            return Self::Server {
                message: parts.join("; "),
                code: answer.code().code().to_owned(),
            };
        }
        let mut problem = error.to_string();
        if let Some(cause) = error.source() {
            let cause = cause.to_string();
            if !problem.contains(&cause) {
                problem = format!("{problem}: {cause}");
            }
        }
        if problem.starts_with("error performing TLS handshake") {
            return Self::Usage(format!(
                "{problem}; the server's certificate is always verified: name a file with the CA in SSL_CERT_FILE, or use sslmode=disable where the \
                 network can be trusted"
            ));
        }
        let broken = error.is_closed()
            || error.source().is_some_and(|cause| {
                cause.is::<io::Error>() || cause.is::<tokio::time::error::Elapsed>()
            })
            || problem.starts_with("error connecting")
            || problem.starts_with("error communicating");
        if broken {
            return Self::Connection {
                server: "the database".to_owned(),
                problem,
            };
        }
        Self::Value(format!("something unexpected: {problem}"))
    }
}

/// What to do about the errors that every user meets.
#[cfg(feature = "pgvector")]
fn remedy(code: &SqlState) -> Option<&'static str> {
    if *code == SqlState::INSUFFICIENT_PRIVILEGE {
        return Some(
            "the role needs SELECT on the table and CREATE on its schema, and must see all rows where policies hide some; ask the database's owner, or \
             connect as another role",
        );
    }
    if *code == SqlState::LOCK_NOT_AVAILABLE {
        return Some("another session holds a lock; try again when it is done");
    }
    (*code == SqlState::DISK_FULL)
        .then_some("free space on the server and run again; what was finished is kept")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::ConnectError;

    #[test]
    fn what_passes_by_itself_is_told_from_what_does_not() {
        let passes = |code: &str| {
            let error = ConnectError::Server {
                message: String::new(),
                code: code.to_owned(),
            };
            error.may_pass()
        };
        // A lost connection, a server that stops, no memory, no connection left, a deadlock; over HTTP the server's own trouble.
        for code in ["08006", "57P01", "53200", "53300", "40P01", "503", "408"] {
            assert!(passes(code), "{code}");
        }
        // A full disk, a configured limit, no right, a missing table; over HTTP what was asked wrongly.
        for code in ["53100", "53400", "42501", "42P01", "404"] {
            assert!(!passes(code), "{code}");
        }
        let throttled = |seconds| ConnectError::Throttled {
            message: String::new(),
            after: Some(Duration::from_secs(seconds)),
        };
        assert!(throttled(60).may_pass() && !throttled(3600).may_pass());
        // Whether another process may be waited for depends on what came before.
        assert!(!ConnectError::Busy(String::new()).may_pass());
    }
}
