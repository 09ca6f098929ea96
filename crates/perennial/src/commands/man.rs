//! `perennial man`: manual pages.

use std::path::PathBuf;

use perennial_core::output::check_folder;
use perennial_core::{FileKind, Output};

use crate::exit_status::ExitStatus;
use crate::terminal::print;

/// A page that this command wrote.
const PAGE: FileKind = FileKind {
    name: "a manual page of this program",
    recognise: |head| {
        String::from_utf8_lossy(head)
            .lines()
            .any(|line| line.starts_with(".TH perennial"))
    },
};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Write the pages of all commands into a folder, instead of the first page to stdout
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// `command` is the whole command line.
pub fn run(arguments: &Arguments, command: clap::Command) -> anyhow::Result<ExitStatus> {
    match &arguments.out {
        Some(folder) => {
            check_folder(folder)?;
            // Made elsewhere first: pages of other programs may lie in the folder.
            let made = tempfile::tempdir()?;
            clap_mangen::generate_to(command, made.path())?;
            let mut pages = Vec::new();
            fs_err::create_dir_all(folder)?;
            for page in fs_err::read_dir(made.path())? {
                let page = page?;
                let output = Output::prepare_kind(folder.join(page.file_name()), PAGE)?;
                pages.push((output, fs_err::read(page.path())?));
            }
            for (output, page) in pages {
                output.commit(page)?;
            }
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(command).render(&mut page)?;
            print(&page)?;
        }
    }
    Ok(ExitStatus::Done)
}
