//! `perennial migrate export`.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use perennial_connect::migrate::{self, ExportReport, ExportRequest, Rows};
use perennial_core::SpaceId;
use perennial_formats::{prepare, read_judgements};
use serde::Serialize;

use super::database_arguments::{ColumnArguments, DatabaseArguments, RateArguments};
use super::database_gallery::right_items;
use super::failure::failed;
use super::follow::Follow;
use crate::exit_status::ExitStatus;
use crate::terminal::Terminal;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    database: DatabaseArguments,
    #[command(flatten)]
    columns: ColumnArguments,
    /// Column, or field of the payload, whose values become labels; a field within fields, or within a JSON column, as metadata.category
    #[arg(long, value_name = "COLUMN")]
    label_column: Option<String>,
    /// Only so many rows, chosen by the seed [default: all]
    #[arg(long, value_name = "N", conflicts_with = "pending")]
    sample: Option<u64>,
    /// Seed of the sample
    #[arg(long, default_value_t = 0, requires = "sample")]
    seed: i64,
    /// Relevance judgements: the items that they call right are written beside the sample, for measurements of item-like retrieval
    #[arg(long, value_name = "FILE", requires = "sample")]
    relevance: Option<PathBuf>,
    /// Only rows that this migration has no up-to-date copy of: what is to be embedded again
    #[arg(long, value_name = "NAME")]
    pending: Option<String>,
    /// Name of the vectors' space, for the file
    #[arg(long, value_name = "SPACE")]
    space: Option<SpaceId>,
    #[command(flatten)]
    rate: RateArguments,
    /// How long a server that is gone is tried again, counted from the last rows that came
    #[arg(long, value_name = "SECONDS", default_value_t = ExportRequest::PATIENCE.as_secs())]
    retry_seconds: u64,
    /// File to write; its ending chooses the format. Until all rows are there they lie in FILE.partial, from which the same command goes on where
    /// it ended early; a sample begins again
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Serialize)]
struct Answer<'a> {
    file: &'a PathBuf,
    #[serde(flatten)]
    report: ExportReport,
}

pub fn run(arguments: &Arguments, terminal: &Terminal) -> anyhow::Result<ExitStatus> {
    let (address, table) = arguments.database.index()?;
    let (output, format) = prepare(&arguments.out)?;
    let judgements = arguments.relevance.as_deref().map(read_judgements);
    let also = judgements.transpose()?.as_ref().map(right_items);
    let request = ExportRequest {
        table,
        key: arguments.columns.id_column.clone(),
        vector: arguments.columns.vector_column.clone(),
        label: arguments.label_column.clone(),
        space: arguments.space.clone(),
        rows: match (&arguments.pending, arguments.sample) {
            (Some(name), _) => Rows::Pending(name.clone()),
            (None, Some(count)) => Rows::Sample {
                count,
                seed: arguments.seed,
                also: also.unwrap_or_default(),
            },
            (None, None) => Rows::All,
        },
        rate: arguments.rate.rate,
        patience: Duration::from_secs(arguments.retry_seconds),
    };
    let mut follow = Follow::new(terminal, "exporting")?;
    let report =
        migrate::export(&address, &request, output, format, &mut follow).map_err(failed)?;
    follow.finish();
    if !format.entry().keeps_ids_and_labels {
        terminal.say(format_args!(
            "{format} keeps no ids; write npz, jsonl, csv, safetensors or Parquet to keep them"
        ));
    }
    let answer = Answer {
        file: &arguments.out,
        report,
    };
    terminal.result(&answer, |_| {
        let report = &answer.report;
        let mut text = format!(
            "{}: {} vectors of {} dimensions\n",
            answer.file.display(),
            report.rows,
            report.dim
        );
        if report.skipped.dimension > 0 {
            let _ = writeln!(
                text,
                "left out: {} vectors of other dimensions",
                report.skipped.dimension
            );
        }
        if report.without_label > 0 {
            let _ = writeln!(
                text,
                "left out: {} rows without a label",
                report.without_label
            );
        }
        text
    })?;
    Ok(ExitStatus::Done)
}
