//! `perennial migrate switch` and `rollback`.

use std::fmt::Write;
use std::time::Duration;

use perennial_connect::QualifiedName;
use perennial_connect::migrate::{self, SwitchRequest};

use super::database_arguments::{DatabaseArguments, NameArguments, table};
use super::failure::failed;
use crate::exit_status::ExitStatus;
use crate::terminal::Terminal;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    database: DatabaseArguments,
    #[command(flatten)]
    name: NameArguments,
    #[command(flatten)]
    view: ViewArguments,
    /// Rows that may lack an up-to-date copy
    #[arg(long, value_name = "N", default_value_t = 0)]
    allow_pending: u64,
}

#[derive(Debug, clap::Args)]
pub struct RollbackArguments {
    #[command(flatten)]
    database: DatabaseArguments,
    #[command(flatten)]
    name: NameArguments,
    #[command(flatten)]
    view: ViewArguments,
}

#[derive(Debug, clap::Args)]
struct ViewArguments {
    /// The view, or in Qdrant the alias, that applications read, made if it is not there [default: that of the last switch]
    #[arg(long, value_name = "VIEW", visible_alias = "alias", value_parser = table)]
    view: Option<QualifiedName>,
    /// Seconds to wait for sessions that read the view; an alias waits for nobody
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    lock_timeout: u32,
}

pub fn run(arguments: &Arguments, terminal: &Terminal) -> anyhow::Result<ExitStatus> {
    let Arguments {
        database,
        name,
        view,
        allow_pending,
    } = arguments;
    show(database, name, view, true, *allow_pending, terminal)
}

pub fn rollback(arguments: &RollbackArguments, terminal: &Terminal) -> anyhow::Result<ExitStatus> {
    let RollbackArguments {
        database,
        name,
        view,
    } = arguments;
    show(database, name, view, false, 0, terminal)
}

fn show(
    database: &DatabaseArguments,
    name: &NameArguments,
    view: &ViewArguments,
    to_new: bool,
    allow_pending: u64,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    let (address, table) = database.index()?;
    let request = SwitchRequest {
        table,
        name: name.name.clone(),
        view: view.view.clone(),
        to_new,
        allow_pending,
        lock_timeout: Duration::from_secs(view.lock_timeout.max(1).into()),
    };
    let report = migrate::switch(&address, &request).map_err(failed)?;
    terminal.result(&report, |_| {
        let mut text = format!("{} shows the {} vectors\n", report.view, report.shows);
        if let Some(hidden @ 1..) = report.standing.map(|standing| standing.uncopied()) {
            let _ = writeln!(
                text,
                "{hidden} rows have no new vector, and are not in it until it shows the old ones again"
            );
        }
        if let Some(late @ 1..) = report.late {
            let _ = writeln!(
                text,
                "warning: {late} points were written to the old vectors while the alias moved, and lack an up-to-date copy: roll back, run and \
                 switch again, at a quieter moment or with writes held back"
            );
        }
        text
    })?;
    Ok(ExitStatus::Done)
}
