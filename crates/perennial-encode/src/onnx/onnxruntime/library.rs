//! The one library of onnxruntime that a program loads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::LoadDynamicError;
use ort::environment::{Environment, GlobalThreadPoolOptions};
use ort::logging::LogLevel;

use crate::library_error::LibraryError;

/// A library in use.
struct Library {
    /// The path without symbolic links.
    file: PathBuf,
    environment: Environment,
    /// Name and version.
    name: String,
}

/// Stays loaded: its threads and what other libraries keep of it cannot be taken back.
static LOADED: Mutex<Option<Library>> = Mutex::new(None);

/// Loads the library, if it is not loaded yet, and says what it is.
///
/// # Errors
/// See [`LibraryError`].
pub(crate) fn open(file: &Path) -> Result<String, LibraryError> {
    with(file, |library| library.name.clone())
}

/// The library's environment: its threads, shared by all graphs.
///
/// # Errors
/// See [`LibraryError`].
pub(super) fn environment(file: &Path) -> Result<Environment, LibraryError> {
    with(file, |library| library.environment.clone())
}

fn with<T>(file: &Path, use_it: impl FnOnce(&Library) -> T) -> Result<T, LibraryError> {
    // A whole path, so that the system searches nowhere.
    let missing = |problem: String| LibraryError::Missing {
        file: file.to_owned(),
        problem,
    };
    let whole = fs_err::canonicalize(file).map_err(|error| missing(error.kind().to_string()))?;
    if !whole.is_file() {
        return Err(missing("it is no file".to_owned()));
    }
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    match &*loaded {
        Some(library) if library.file == whole => Ok(use_it(library)),
        Some(library) => Err(LibraryError::Second {
            file: file.to_owned(),
            loaded: library.file.clone(),
        }),
        None => Ok(use_it(loaded.insert(Library::load(whole)?))),
    }
}

impl Library {
    fn load(file: PathBuf) -> Result<Self, LibraryError> {
        let not_started = |problem: String| LibraryError::NotStarted {
            file: file.clone(),
            problem,
        };
        let start = || -> Result<Environment, LibraryError> {
            let environment = ort::init_from(&file).map_err(|error| refused(&file, error))?;
            let started = || {
                // As many as the rest of the program uses. Idle threads sleep: others have work, such as decoding pictures.
                let threads = GlobalThreadPoolOptions::default()
                    .with_intra_threads(rayon::current_num_threads())?
                    .with_inter_threads(1)?
                    .with_spin_control(false)?;
                environment
                    .with_name("perennial")
                    .with_telemetry(false)
                    .with_global_thread_pool(threads)
                    .build()
            };
            let environment =
                started().map_err(|error: ort::Error| not_started(error.to_string()))?;
            environment.set_log_level(LogLevel::Fatal);
            Ok(environment)
        };
        // What does not answer as onnxruntime does is met by panics of `ort`.
        let environment = catch_unwind(AssertUnwindSafe(start)).unwrap_or_else(|_| {
            Err(not_started(
                "it does not answer as onnxruntime does".to_owned(),
            ))
        })?;
        let version = ort::util::probe(&file).map_or(String::new(), |minor| format!(" 1.{minor}"));
        Ok(Self {
            name: format!("onnxruntime{version} ({})", file.display()),
            environment,
            file,
        })
    }
}

fn refused(file: &Path, error: LoadDynamicError) -> LibraryError {
    let file = file.to_owned();
    match error {
        LoadDynamicError::Dlopen { error, .. } => LibraryError::NotLoaded {
            file,
            problem: std::error::Error::source(&error)
                .map_or_else(|| error.to_string(), |source| source.to_string()),
        },
        LoadDynamicError::MissingApi { .. } => LibraryError::Other { file },
        LoadDynamicError::InvalidVersionString => LibraryError::NotStarted {
            file,
            problem: "its version is no text".to_owned(),
        },
        LoadDynamicError::BadVersion { version_str, .. } => LibraryError::TooOld {
            file,
            found: version_str,
            needed: ort::MINOR_VERSION,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_library_is_refused_with_both_versions() {
        let file = Path::new("/opt/libonnxruntime.so.1.16.3");
        let error = LoadDynamicError::BadVersion {
            version_str: "1.16.3".to_owned(),
            path: file.to_owned(),
        };
        let error = refused(file, error);
        assert!(matches!(error, LibraryError::TooOld { needed: 17, .. }));
        let said = error.to_string();
        assert!(
            said.contains("onnxruntime 1.16.3") && said.contains("1.17"),
            "{said}"
        );
    }
}
