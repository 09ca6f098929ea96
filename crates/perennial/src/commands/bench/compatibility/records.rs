//! Where the records of finished runs are: in the runs' folders, and in a folder of their own, which outlasts them, such as under version control.

use std::path::{Path, PathBuf};

use super::plan::{Plan, Run};
use super::record::Record;

/// The record's name in a run's folder.
const FILE: &str = "benchmark.json";

/// Where a run's record is in the run's folder.
fn in_run(run: &Run) -> PathBuf {
    run.work.folder.join(FILE)
}

/// Where a run's record is in the folder of records.
fn kept(folder: &Path, run: &Run) -> PathBuf {
    folder.join(format!("{}.json", run.work.config.name))
}

/// The record of a run; `None` where it is not there yet, or where the description now asks for other tests.
///
/// # Errors
/// Names the file: it is damaged, of another run, or of a run with other settings.
pub fn find(run: &Run, plan: &Plan) -> anyhow::Result<Option<Record>> {
    if let Some(folder) = &plan.records
        && let Some(record) = Record::read(&kept(folder, run), run, plan)?
    {
        return Ok(Some(record));
    }
    Record::read(&in_run(run), run, plan)
}

/// Writes a record to the run's folder and to that of the records.
pub fn write(record: &Record, run: &Run, plan: &Plan) -> anyhow::Result<()> {
    record.write(&in_run(run))?;
    copy(record, run, plan)
}

/// Writes a record to the folder of the records where that has none of the run.
pub fn keep(record: &Record, run: &Run, plan: &Plan) -> anyhow::Result<()> {
    match &plan.records {
        Some(folder) if Record::read(&kept(folder, run), run, plan)?.is_none() => {
            copy(record, run, plan)
        }
        _ => Ok(()),
    }
}

fn copy(record: &Record, run: &Run, plan: &Plan) -> anyhow::Result<()> {
    let Some(folder) = &plan.records else {
        return Ok(());
    };
    fs_err::create_dir_all(folder)?;
    record.write(&kept(folder, run))
}
