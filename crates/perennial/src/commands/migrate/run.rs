//! `perennial migrate run`.

use std::fmt::Write;
use std::path::PathBuf;

use clap::ArgGroup;
use perennial_connect::ConnectError;
use perennial_connect::migrate::{self, RunReport, RunRequest, Source};

use super::database_arguments::{ColumnArguments, DatabaseArguments, NameArguments, RateArguments};
use super::failure::failed;
use super::follow::Follow;
use super::mapped_arguments::MappedArguments;
use super::standing_text::standing_text;
use crate::arguments::GlobalArguments;
use crate::exit_status::{ExitStatus, gate_missed, usage};
use crate::terminal::Terminal;

#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("copies").required(true).args(["side_by_side", "mapped"]))]
pub struct Arguments {
    #[command(flatten)]
    database: DatabaseArguments,
    #[command(flatten)]
    columns: ColumnArguments,
    #[command(flatten)]
    name: NameArguments,
    #[command(flatten)]
    rate: RateArguments,
    /// Build no index of the new vectors, or do not wait for Qdrant's [default: one like that of the old vectors]
    #[arg(long)]
    no_index: bool,
    /// File of vectors by id, embedded again by the new encoder; one of several, in any order
    #[arg(long, value_name = "FILE")]
    side_by_side: Option<PathBuf>,
    #[command(flatten)]
    mapped: MappedArguments,
}

pub fn run(
    arguments: &Arguments,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    let (address, table) = arguments.database.index()?;
    let bridge = arguments.mapped.bridge(global)?;
    let permission = match &bridge {
        Some(bridge) => {
            let allowed = arguments.mapped.permission(bridge, global)?;
            let (_, permission) = allowed.ok_or_else(|| {
                gate_missed(
                    "mapped copies need a certificate: measure with `perennial migrate certify --route mapped --bridge --record`, or pass one with \
                     --certificate",
                )
            })?;
            Some(permission)
        }
        None => None,
    };
    if let Some(permission) = &permission {
        let doubt = if permission.undecided {
            "warning: "
        } else {
            ""
        };
        terminal.say(format_args!("{doubt}{}", permission.basis));
    }
    let source = match (&bridge, &permission, &arguments.side_by_side) {
        (Some(bridge), Some(permission), _) => Source::Mapped { bridge, permission },
        (_, _, Some(path)) => Source::File(path.clone()),
        _ => return Err(usage("pass --mapped BRIDGE or --side-by-side FILE")),
    };
    let request = RunRequest {
        table,
        key: arguments.columns.id_column.clone(),
        vector: arguments.columns.vector_column.clone(),
        name: arguments.name.name.clone(),
        source,
        rate: arguments.rate.rate,
        index: !arguments.no_index,
    };
    let mut follow = Follow::new(terminal, "copying")?;
    let report = migrate::run(&address, &request, &mut follow).map_err(|error| {
        if matches!(error, ConnectError::Interrupted) {
            terminal.say("what was copied is kept; run the same command again to continue");
        }
        failed(error)
    })?;
    follow.finish();
    terminal.result(&report, |_| text(&report))?;
    Ok(ExitStatus::Done)
}

fn text(report: &RunReport) -> String {
    let mut text = format!(
        "{}: {} copies of {} dimensions written in {:.1} s ({:.0}/s), {} of them late; {} removed\n",
        report.copies,
        report.written,
        report.dim,
        report.seconds,
        report.rows_per_second,
        report.late,
        report.removed
    );
    let skipped = &report.skipped;
    if skipped.total() > 0 {
        let _ = writeln!(
            text,
            "left out: {} vectors of another dimension, {} without a direction",
            skipped.dimension, skipped.direction
        );
    }
    if report.unknown_ids > 0 {
        let _ = writeln!(
            text,
            "left out: {} rows of the file whose id is not in the database",
            report.unknown_ids
        );
    }
    if let Some(seconds) = report.index_seconds {
        let _ = writeln!(text, "index built in {seconds:.1} s");
    }
    text + &standing_text(&report.standing)
}
