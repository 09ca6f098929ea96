//! Exit codes, and which error leads to which.

use std::fmt;
use std::process::ExitCode;

use perennial_bridge::BridgeError;
use perennial_core::{OutputError, RegistryError};
use perennial_data::DataError;
#[cfg(feature = "fetch")]
use perennial_data::FetchError;
use perennial_encode::PrepareError;
use perennial_eval::MatrixError;
use perennial_formats::{FormatError, VectorSetError};
use perennial_gallery::GalleryError;
use perennial_serve::ServeError;
use perennial_train::TrainError;
use perennial_train::head::HeadError;
use perennial_upgrade::{
    AdviceError, BridgeRegistryError, MeasureError, RouteError, SelectionError,
};

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// All went well.
    Done,
    /// A failure that is not caused by the arguments.
    Failed,
    /// The arguments or the configuration are invalid, or name something that does not exist.
    WrongUsage,
    /// A measured value is below its threshold, or a certificate is missing.
    GateMissed,
    /// Ctrl-C.
    Interrupted,
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(match status {
            ExitStatus::Done => 0,
            ExitStatus::Failed => 1,
            ExitStatus::WrongUsage => 2,
            ExitStatus::GateMissed => 3,
            ExitStatus::Interrupted => 130,
        })
    }
}

/// Wrong usage; the text names the argument and the remedy.
#[derive(Debug)]
pub struct UsageError(pub String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

/// An [`anyhow::Error`] that ends the program with [`ExitStatus::WrongUsage`].
pub fn usage(text: impl Into<String>) -> anyhow::Error {
    UsageError(text.into()).into()
}

/// A gate that refused; the text names the reason and the remedy.
#[derive(Debug)]
pub struct GateError(pub String);

impl fmt::Display for GateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for GateError {}

/// An [`anyhow::Error`] that ends the program with [`ExitStatus::GateMissed`].
pub fn gate_missed(text: impl Into<String>) -> anyhow::Error {
    GateError(text.into()).into()
}

/// Work that stopped because of Ctrl-C; whatever it had finished is on disk, and running it again uses that.
#[derive(Debug)]
pub struct InterruptedError;

impl fmt::Display for InterruptedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for InterruptedError {}

impl ExitStatus {
    /// The status of a failed command.
    pub fn of(error: &anyhow::Error) -> Self {
        if error.chain().any(|cause| cause.is::<InterruptedError>()) {
            Self::Interrupted
        } else if error.chain().any(|cause| cause.is::<GateError>()) {
            Self::GateMissed
        } else if error.chain().any(is_wrong_usage) {
            Self::WrongUsage
        } else {
            Self::Failed
        }
    }
}

/// A folder or file that a download cannot go to.
#[cfg(feature = "fetch")]
fn is_wrong_destination(cause: &(dyn std::error::Error + 'static)) -> bool {
    matches!(
        cause.downcast_ref(),
        Some(FetchError::Folder(_) | FetchError::NotAnArchive { .. })
    )
}

#[cfg(not(feature = "fetch"))]
fn is_wrong_destination(_: &(dyn std::error::Error + 'static)) -> bool {
    false
}

fn is_wrong_usage(cause: &(dyn std::error::Error + 'static)) -> bool {
    cause.is::<UsageError>()
        || cause.downcast_ref().is_some_and(is_wrong_training)
        || cause.downcast_ref().is_some_and(is_wrong_head)
        || cause.is::<OutputError>()
        || matches!(
            cause.downcast_ref(),
            Some(ServeError::Config { .. } | ServeError::Keys { .. } | ServeError::Tls { .. })
        )
        || matches!(
            cause.downcast_ref(),
            Some(GalleryError::InvalidLimit { .. })
        )
        || matches!(cause.downcast_ref(), Some(PrepareError::Modality { .. }))
        || is_wrong_destination(cause)
        || cause.is::<MatrixError>()
        || cause.downcast_ref().is_some_and(is_wrong_file)
        || cause.is::<VectorSetError>()
        || cause.is::<BridgeError>()
        || cause.is::<RouteError>()
        || cause.downcast_ref().is_some_and(is_wrong_measurement)
        || matches!(
            cause.downcast_ref(),
            Some(BridgeRegistryError::Unknown { .. } | BridgeRegistryError::Bridge(_))
        )
        || match cause.downcast_ref() {
            Some(SelectionError::TooFewPairs { .. } | SelectionError::Bridge(_)) => true,
            Some(SelectionError::Measure(error)) => is_wrong_measurement(error),
            _ => false,
        }
        || match cause.downcast_ref() {
            Some(AdviceError::Bridge(_)) => true,
            Some(AdviceError::Measure(error)) => is_wrong_measurement(error),
            _ => false,
        }
        || cause.downcast_ref().is_some_and(is_wrong_data_name)
        || cause.downcast_ref().is_some_and(is_wrong_version_name)
}

fn is_wrong_training(error: &TrainError) -> bool {
    match error {
        TrainError::Config { .. }
        | TrainError::Device { .. }
        | TrainError::Instructions(_)
        | TrainError::Version { .. }
        | TrainError::RunFolder { .. }
        | TrainError::Simplex(_) => true,
        TrainError::Data(error) => is_wrong_data_name(error),
        TrainError::Registry(error) => is_wrong_version_name(error),
        _ => false,
    }
}

/// Features, labels and options that no layer can be trained with.
fn is_wrong_head(error: &HeadError) -> bool {
    match error {
        HeadError::Train(error) => is_wrong_training(error),
        HeadError::Diverged { .. } | HeadError::Interrupted => false,
        _ => true,
    }
}

/// Embeddings and bridges that do not fit one another.
fn is_wrong_measurement(error: &MeasureError) -> bool {
    matches!(error, MeasureError::Route(_))
}

/// A file that is missing or has the wrong content, but not a disk that is full.
fn is_wrong_file(error: &FormatError) -> bool {
    match error {
        FormatError::Io(error) => error.kind() == std::io::ErrorKind::NotFound,
        _ => true,
    }
}

fn is_wrong_data_name(error: &DataError) -> bool {
    matches!(
        error,
        DataError::Missing { .. }
            | DataError::NotAFile { .. }
            | DataError::UnknownSet { .. }
            | DataError::UnknownSplit { .. }
            | DataError::Invalid { .. }
    )
}

fn is_wrong_version_name(error: &RegistryError) -> bool {
    matches!(
        error,
        RegistryError::NoFolder { .. }
            | RegistryError::Unknown { .. }
            | RegistryError::DanglingAlias { .. }
            | RegistryError::AliasName { .. }
            | RegistryError::Space { .. }
            | RegistryError::Slots { .. }
    )
}

/// An error and its causes as one line, without repeating what a message already says about its cause.
pub fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let message = cause.to_string();
        if line.contains(&message) {
            continue;
        }
        if !line.is_empty() {
            line.push_str(": ");
        }
        line.push_str(&message);
    }
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn a_cause_below_a_context_decides() {
        let error = Err::<(), _>(usage("key `a` is unknown"))
            .context("experiment.toml")
            .unwrap_err();
        assert_eq!(ExitStatus::of(&error), ExitStatus::WrongUsage);
        assert_eq!(one_line(&error), "experiment.toml: key `a` is unknown");
    }

    #[test]
    fn what_arguments_cannot_prevent_is_a_failure() {
        let error = anyhow::Error::new(std::io::Error::other("disk full"));
        assert_eq!(ExitStatus::of(&error), ExitStatus::Failed);
        let missing = TrainError::Data(DataError::Missing {
            path: "train.bin".into(),
            remedy: "fetch it".into(),
        });
        assert_eq!(ExitStatus::of(&missing.into()), ExitStatus::WrongUsage);
    }

    #[test]
    fn lines_are_joined_and_repetitions_dropped() {
        let error = anyhow::anyhow!("inner\nproblem").context("outer: inner\nproblem");
        assert_eq!(one_line(&error), "outer: inner problem");
    }
}
