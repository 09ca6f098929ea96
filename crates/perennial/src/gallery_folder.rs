//! The gallery that a command works on.

use std::path::PathBuf;

use perennial_gallery::{EmbeddedGallery, GalleryConfig, GalleryError, SearchMode};

use crate::database_store::refuse_folder_of_database;
use crate::exit_status::usage;
use crate::running_service;

/// Options of every command that opens a gallery.
#[derive(Debug, clap::Args)]
pub struct GalleryArguments {
    /// Folder of the gallery; `gallery add`, `gallery restore` and `serve` create it where it does not exist
    #[arg(
        long,
        global = true,
        env = "PERENNIAL_GALLERY",
        default_value = "gallery",
        value_name = "DIR"
    )]
    pub gallery: PathBuf,
    /// Exact search: compare with every vector in f32
    #[arg(long)]
    pub exact: bool,
    /// Number of items of a space from which on it gets an approximate HNSW index; 0 disables it
    #[arg(long, value_name = "ITEMS", default_value_t = GalleryConfig::default().hnsw_from)]
    hnsw_from: usize,
}

impl GalleryArguments {
    /// The same from elsewhere than the command line; `hnsw_from` is 0 for never.
    pub fn new(gallery: PathBuf, exact: bool, hnsw_from: usize) -> Self {
        Self {
            gallery,
            exact,
            hnsw_from,
        }
    }

    fn config(&self) -> GalleryConfig {
        GalleryConfig {
            search: if self.exact {
                SearchMode::Exact
            } else {
                SearchMode::Int8
            },
            hnsw_from: match self.hnsw_from {
                0 => usize::MAX,
                items => items,
            },
            ..GalleryConfig::default()
        }
    }

    /// Opens the gallery, or makes an empty one.
    pub fn open(&self) -> anyhow::Result<EmbeddedGallery> {
        self.refuse_beside_database()?;
        EmbeddedGallery::open(&self.gallery, self.config()).map_err(|error| self.explained(error))
    }

    /// Opens a gallery that must be there already.
    pub fn open_existing(&self) -> anyhow::Result<EmbeddedGallery> {
        self.require()?;
        self.open()
    }

    /// Opens a gallery that must be there already, beside other readers, and writes nothing into its folder.
    pub fn open_read_only(&self) -> anyhow::Result<EmbeddedGallery> {
        self.require()?;
        EmbeddedGallery::open_read_only(&self.gallery, self.config())
            .map_err(|error| self.explained(error))
    }

    /// Opens a gallery for a service of its own, or makes an empty one.
    pub fn open_to_serve(&self, read_only: bool) -> anyhow::Result<EmbeddedGallery> {
        let opened = match read_only {
            true => {
                self.require()?;
                EmbeddedGallery::open_read_only(&self.gallery, self.config())
            }
            false => {
                self.refuse_beside_database()?;
                EmbeddedGallery::open(&self.gallery, self.config())
            }
        };
        opened.map_err(|error| match error {
            GalleryError::Locked { .. } => usage(format!(
                "the gallery at {} is in use by {}; stop that first, or name another --gallery",
                self.gallery.display(),
                match running_service::address(&self.gallery) {
                    Some(url) => format!("the service at {url}"),
                    None => "another process".to_owned(),
                }
            )),
            error => self.explained(error),
        })
    }

    /// Makes no empty gallery beside the one that a running service keeps in a database.
    fn refuse_beside_database(&self) -> anyhow::Result<()> {
        if EmbeddedGallery::exists(&self.gallery) {
            return Ok(());
        }
        let Some(url) = running_service::address(&self.gallery) else {
            return refuse_folder_of_database(&self.gallery);
        };
        Err(usage(format!(
            "the service at {url} keeps the gallery of {} in a database: pass --server {url}",
            self.gallery.display()
        )))
    }

    fn require(&self) -> anyhow::Result<()> {
        if EmbeddedGallery::exists(&self.gallery) {
            return Ok(());
        }
        self.refuse_beside_database()?;
        Err(usage(format!(
            "no gallery at {}; check --gallery, or create one with `perennial gallery add`",
            self.gallery.display()
        )))
    }

    /// Adds the remedy for a gallery that another process has open.
    fn explained(&self, error: GalleryError) -> anyhow::Error {
        match error {
            GalleryError::Locked { .. } => usage(format!(
                "the gallery at {} is in use by another process; {}",
                self.gallery.display(),
                match running_service::address(&self.gallery) {
                    Some(url) => format!("the service at {url} has it open: pass --server {url}"),
                    None =>
                        "if that is a service, pass --server URL; otherwise wait for it or stop it"
                            .to_owned(),
                }
            )),
            GalleryError::InvalidConfig { .. } => usage(error.to_string()),
            error => error.into(),
        }
    }
}
