//! `metrics.jsonl`: one line per finished epoch.

use std::path::{Path, PathBuf};

use crate::TrainError;
use crate::checkpoint::Progress;
use crate::observer::EpochRecord;

fn path_in(folder: &Path) -> PathBuf {
    folder.join("metrics.jsonl")
}

/// Adds a line.
pub(crate) fn append(folder: &Path, record: &EpochRecord) -> Result<(), TrainError> {
    use std::io::Write;
    let mut file = fs_err::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path_in(folder))?;
    let mut line = serde_json::to_vec(record).map_err(std::io::Error::from)?;
    line.push(b'\n');
    file.write_all(&line)?;
    Ok(())
}

/// Largest log that is read; an epoch's record has some hundred bytes.
const MAX_LOG_BYTES: u64 = 1 << 30;

/// Drops records of epochs that a resumed run will do again, and a torn last line.
pub(crate) fn truncate(folder: &Path, progress: &Progress) -> Result<(), TrainError> {
    let path = path_in(folder);
    if !path.exists() {
        return Ok(());
    }
    let text = perennial_core::read_text_at_most(&path, MAX_LOG_BYTES)?;
    let kept: String = text
        .lines()
        .filter(|line| {
            serde_json::from_str::<EpochRecord>(line)
                .is_ok_and(|record| (record.task, record.epoch) < (progress.task, progress.epoch))
        })
        .flat_map(|line| [line, "\n"])
        .collect();
    if kept != text {
        perennial_core::write_atomically(&path, kept)?;
    }
    Ok(())
}
