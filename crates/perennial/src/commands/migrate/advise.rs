//! `perennial migrate advise`: `perennial advise` with rows of the database as the stored gallery.

use super::super::advise::{AskingArguments, advise};
use super::database_gallery::{DatabaseGallery, GalleryRowsArguments};
use crate::arguments::GlobalArguments;
use crate::exit_status::ExitStatus;
use crate::terminal::Terminal;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    gallery: GalleryRowsArguments,
    #[command(flatten)]
    asking: AskingArguments,
}

pub fn run(
    arguments: &Arguments,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    let asking = &arguments.asking;
    let gallery = DatabaseGallery::new(&arguments.gallery, asking.seed())?;
    advise(&gallery, asking, global, terminal)
}
