//! Errors of the libraries as Python's exceptions.

use std::io;

use perennial_bridge::{BridgeError, Side};
use perennial_core::{ItemIdError, NameError, SimilarityError, SimplexError, SpaceMismatch};
use perennial_eval::{BootstrapError, MatrixError, OutcomesError};
use perennial_formats::LabelError;
use perennial_upgrade::advise::AdviceError;
use perennial_upgrade::{DemandsError, MeasureError, SelectionError};
use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyMemoryError, PyValueError};
use pyo3::prelude::*;

create_exception!(
    perennial,
    PerennialError,
    PyException,
    "Something on disk is not what it should be: a bridge's folder that is damaged, of a later format, or no bridge; a run without its record."
);

/// Why a call fails. It is made without the interpreter's lock.
pub enum Failure {
    /// An argument: `ValueError`.
    Argument(String),
    /// Rows of one end of a bridge, or of both, which are arguments: `ValueError`.
    Rows(BridgeError),
    /// A file's content: `PerennialError`.
    Content(String),
    /// The operating system: `OSError`, or the kind of it that fits.
    System(io::Error),
    /// Too large a result: `MemoryError`.
    Memory(String),
    /// Raised by Python itself, such as `KeyboardInterrupt`.
    Raised(PyErr),
}

impl From<Failure> for PyErr {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Argument(message) => PyValueError::new_err(message),
            Failure::Rows(error) => PyValueError::new_err(error.to_string()),
            Failure::Content(message) => PerennialError::new_err(message),
            Failure::System(error) => error.into(),
            Failure::Memory(message) => PyMemoryError::new_err(message),
            Failure::Raised(error) => error,
        }
    }
}

impl From<PyErr> for Failure {
    fn from(error: PyErr) -> Self {
        Self::Raised(error)
    }
}

impl From<BridgeError> for Failure {
    fn from(error: BridgeError) -> Self {
        match error {
            BridgeError::Io(error) => Self::System(error),
            BridgeError::File { .. } | BridgeError::NotOurs { .. } => {
                Self::Content(error.to_string())
            }
            BridgeError::Rows { .. }
            | BridgeError::NoDirection { .. }
            | BridgeError::RowCounts { .. } => Self::Rows(error),
            other => Self::Argument(other.to_string()),
        }
    }
}

impl Failure {
    /// With the names of the arguments that hold the rows of a bridge's two ends, in place of those of the ends.
    pub fn of_arguments(self, [from, to]: [&str; 2]) -> Self {
        let Self::Rows(error) = self else {
            return self;
        };
        let name = |side: &Side| match side {
            Side::From => from,
            Side::To => to,
        };
        Self::Argument(match &error {
            BridgeError::Rows { side, source } => format!("{}: {source}", name(side)),
            BridgeError::NoDirection { side, row } => format!(
                "{}: row {row} equals the mean of its space, or the bridge maps it to 0, so it has no direction; drop it",
                name(side)
            ),
            BridgeError::RowCounts {
                from: rows,
                to: others,
            } => format!(
                "{rows} rows of {from} cannot be matched with {others} rows of {to}; give the same inputs in the same order"
            ),
            other => other.to_string(),
        })
    }
}

impl From<SelectionError> for Failure {
    fn from(error: SelectionError) -> Self {
        match error {
            SelectionError::Bridge(error) => error.into(),
            other => Self::Argument(other.to_string()),
        }
    }
}

impl From<AdviceError> for Failure {
    fn from(error: AdviceError) -> Self {
        match error {
            AdviceError::Bridge(error) => error.into(),
            other => Self::Argument(other.to_string()),
        }
    }
}

/// Errors that only arguments can cause.
macro_rules! argument_errors {
    ($($error:ty),+ $(,)?) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::Argument(error.to_string())
            }
        }
    )+};
}

argument_errors!(
    BootstrapError,
    DemandsError,
    ItemIdError,
    LabelError,
    MatrixError,
    MeasureError,
    NameError,
    OutcomesError,
    SimilarityError,
    SimplexError,
    SpaceMismatch,
    perennial_eval::MeasureError,
);
