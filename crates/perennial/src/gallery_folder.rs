//! The gallery that a command works on.

use std::path::PathBuf;

use perennial_gallery::{EmbeddedGallery, GalleryConfig, GalleryError, SearchMode};
use serde::Deserialize;

use crate::exit_status::usage;

/// Options of every command that opens a gallery.
#[derive(Debug, clap::Args)]
pub struct GalleryArguments {
    /// Folder of the gallery; made where it does not exist
    #[arg(
        long,
        global = true,
        env = "PERENNIAL_GALLERY",
        default_value = "gallery",
        value_name = "DIR"
    )]
    pub gallery: PathBuf,
    /// Compare with every vector in full precision
    #[arg(long)]
    pub exact: bool,
    /// Build an approximate index from so many items on; 0 for never
    #[arg(long, value_name = "ITEMS", default_value_t = GalleryConfig::default().hnsw_from)]
    hnsw_from: usize,
}

impl GalleryArguments {
    /// Opens the gallery, or makes an empty one.
    pub fn open(&self) -> anyhow::Result<EmbeddedGallery> {
        let config = GalleryConfig {
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
        };
        EmbeddedGallery::open(&self.gallery, config).map_err(|error| match error {
            GalleryError::Locked { .. } => {
                anyhow::anyhow!("{error}; {}", service_advice(&self.gallery))
            }
            error => error.into(),
        })
    }

    /// Opens a gallery that must be there already.
    pub fn open_existing(&self) -> anyhow::Result<EmbeddedGallery> {
        if !EmbeddedGallery::exists(&self.gallery) {
            return Err(usage(format!(
                "no gallery at {}; check --gallery, or fill one with `perennial gallery add`",
                self.gallery.display()
            )));
        }
        self.open()
    }
}

/// What a running service writes into its gallery's folder.
const SERVICE_FILE: &str = "service.toml";
const MAX_SERVICE_FILE_BYTES: u64 = 4096;

/// How to reach the service that holds a gallery, if it is one that does.
fn service_advice(gallery: &std::path::Path) -> String {
    #[derive(Deserialize)]
    struct Service {
        url: String,
    }
    let path = gallery.join(SERVICE_FILE);
    let service = perennial_core::read_at_most(&path, MAX_SERVICE_FILE_BYTES)
        .ok()
        .and_then(|bytes| toml::from_str::<Service>(&String::from_utf8(bytes).ok()?).ok());
    match service {
        Some(Service { url }) => format!("the service at {url} holds it: add --server {url}"),
        None => "if that is a running service, name its address with --server URL".to_owned(),
    }
}
