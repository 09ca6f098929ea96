//! Whether the files that one run writes are different ones.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use perennial_core::Output;

use crate::exit_status::usage;

/// Two results in one file, or one where unfinished rows are kept, would destroy one another.
pub fn check_apart(
    output: &Output,
    rows: Option<&Output>,
    unfinished: Option<&Path>,
) -> anyhow::Result<()> {
    let Some(rows) = rows else {
        return Ok(());
    };
    let place_of_rows = rows.file().map(place);
    if output.path() == rows.path()
        || place_of_rows.is_some() && output.file().map(place) == place_of_rows
    {
        return Err(usage(
            "--out and --rows name the same file; name two different files",
        ));
    }
    match unfinished {
        Some(unfinished) if Some(place(unfinished)) == place_of_rows => Err(usage(format!(
            "--rows names {}, where the rows that are done are kept until the result is complete; name another file",
            unfinished.display()
        ))),
        _ => Ok(()),
    }
}

/// A file by its folder without links and its name, in whatever way a path leads there.
fn place(path: &Path) -> (Option<PathBuf>, Option<OsString>) {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let name = path.file_name().map(ToOwned::to_owned);
    (fs_err::canonicalize(folder).ok(), name)
}
