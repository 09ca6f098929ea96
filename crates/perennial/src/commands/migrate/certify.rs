//! `perennial migrate certify`: `perennial certify` with rows of the database as the stored gallery.

use super::super::certify::{CertifyingArguments, certify};
use super::database_gallery::{DatabaseGallery, GalleryRowsArguments};
use crate::arguments::GlobalArguments;
use crate::exit_status::ExitStatus;
use crate::terminal::Terminal;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    gallery: GalleryRowsArguments,
    #[command(flatten)]
    certifying: CertifyingArguments,
}

pub fn run(
    arguments: &Arguments,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    let certifying = &arguments.certifying;
    let gallery = DatabaseGallery::new(&arguments.gallery, certifying.seed())?;
    certify(&gallery, certifying, global, terminal)
}
