//! The stored gallery that `certify` and `advise` measure on: a file on the command line, or rows of a database.

use std::path::{Path, PathBuf};

use anyhow::Context;
use perennial_core::SpaceId;
use perennial_formats::Judgements;

use crate::terminal::Terminal;
use crate::vector_argument::{VectorArgument, VectorLoader, Vectors};

/// An option that names a space, and the name where it is given.
pub type SpaceOption<'a> = (&'static str, Option<&'a SpaceId>);

/// Where the gallery that the old encoder embedded comes from.
pub trait StoredGallery {
    /// Reads it. Items that the judgements call right are in it, where they are stored at all.
    fn load(
        &self,
        loader: &VectorLoader<'_>,
        space: SpaceOption<'_>,
        judgements: Option<&Judgements>,
    ) -> anyhow::Result<Vectors>;

    /// Brings the same items of both galleries together, where one of them may hold more than the other.
    fn meet(&self, _old: &mut Vectors, _new: &mut Vectors, _: &Terminal) -> anyhow::Result<()> {
        Ok(())
    }

    /// A file of labels, row by row.
    fn labels_file(&self) -> Option<&Path> {
        None
    }

    /// How many items the whole gallery has, where more than were loaded.
    fn items(&self) -> Option<u64> {
        None
    }

    /// What gives it labels, for messages.
    fn labels_option(&self) -> &'static str;
}

/// The stored gallery in a file.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Evaluation set")]
pub struct GalleryArguments {
    /// Gallery embedded by the old encoder: what is stored; a file, or VERSION@SET:SPLIT
    #[arg(long, value_name = "FILE")]
    old_gallery: VectorArgument,
    /// Class of each gallery item, where the gallery files have no labels
    #[arg(long, value_name = "FILE")]
    gallery_labels: Option<PathBuf>,
}

impl StoredGallery for GalleryArguments {
    fn load(
        &self,
        loader: &VectorLoader<'_>,
        space: SpaceOption<'_>,
        _: Option<&Judgements>,
    ) -> anyhow::Result<Vectors> {
        loader
            .load(&self.old_gallery, space)
            .context("--old-gallery")
    }

    fn labels_file(&self) -> Option<&Path> {
        self.gallery_labels.as_deref()
    }

    fn labels_option(&self) -> &'static str {
        "--gallery-labels FILE"
    }
}
