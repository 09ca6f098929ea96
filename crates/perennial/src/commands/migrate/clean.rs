//! `perennial migrate clean`.

use perennial_connect::migrate;

use super::database_arguments::{DatabaseArguments, NameArguments};
use super::failure::failed;
use crate::exit_status::ExitStatus;
use crate::terminal::Terminal;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    database: DatabaseArguments,
    #[command(flatten)]
    name: NameArguments,
}

pub fn run(arguments: &Arguments, terminal: &Terminal) -> anyhow::Result<ExitStatus> {
    let Arguments { database, name } = arguments;
    let (address, table) = database.index()?;
    let report = migrate::clean(&address, &table, &name.name).map_err(failed)?;
    terminal.result(&report, |_| {
        let view = report.view.as_ref().map_or(String::new(), |view| {
            format!("; {view} stays and shows the old vectors")
        });
        format!("{} is removed{view}\n", report.dropped)
    })?;
    Ok(ExitStatus::Done)
}
