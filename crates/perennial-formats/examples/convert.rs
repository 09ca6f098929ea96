//! Converts a file of vectors: `convert IN OUT`. The ending of OUT says into which format.

use std::path::PathBuf;
use std::process::ExitCode;

use perennial_formats::{FormatError, Header, create, open, prepare};

fn main() -> ExitCode {
    let mut paths = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(input), Some(output), None) = (paths.next(), paths.next(), paths.next()) else {
        eprintln!("usage: convert IN OUT");
        return ExitCode::from(2);
    };
    match convert(&input, &output) {
        Ok(rows) => {
            println!("{rows} rows");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn convert(input: &std::path::Path, output: &std::path::Path) -> Result<u64, FormatError> {
    let mut reader = open(input)?;
    let (output, format) = prepare(output)?;
    // A reader's number of rows is what the file promises; without it the writer counts for itself.
    let header = Header {
        rows: None,
        ..reader.header().clone()
    };
    let mut writer = create(output, format, &header)?;
    let mut rows = 0;
    while let Some(batch) = reader.next(4096)? {
        for lost in format.left_out(&batch) {
            if rows == 0 {
                eprintln!("{format} does not keep {lost}");
            }
        }
        rows += batch.len() as u64;
        writer.write(&batch)?;
    }
    writer.finish()?;
    Ok(rows)
}
