//! Errors of databases as this program's exit codes have them.

use perennial_connect::ConnectError;

use crate::exit_status::{InterruptedError, gate_missed, usage};

/// The error with its exit code.
pub fn failed(error: ConnectError) -> anyhow::Error {
    match error {
        ConnectError::Usage(text) | ConnectError::State(text) | ConnectError::Busy(text) => {
            usage(text)
        }
        ConnectError::Refused(text) => gate_missed(text),
        ConnectError::NotCertified(refused) => gate_missed(refused.to_string()),
        ConnectError::Interrupted => InterruptedError.into(),
        ConnectError::Format(error) => error.into(),
        ConnectError::Set(error) => error.into(),
        ConnectError::Bridge(error) => error.into(),
        ConnectError::Io(error) => error.into(),
        other => other.into(),
    }
}
