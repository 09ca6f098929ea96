//! `perennial man`: manual pages.

use std::path::PathBuf;

use clap::CommandFactory;

use crate::exit_status::ExitStatus;
use crate::terminal::print;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Write the pages of all commands into a folder, instead of the first page to stdout
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<ExitStatus> {
    let command = crate::arguments::Arguments::command();
    match &arguments.out {
        Some(folder) => {
            fs_err::create_dir_all(folder)?;
            clap_mangen::generate_to(command, folder)?;
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(command).render(&mut page)?;
            print(&page)?;
        }
    }
    Ok(ExitStatus::Done)
}
