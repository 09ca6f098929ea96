//! The gallery in a folder, with a version of the registry.

use anyhow::Context;
use perennial_core::{Encoder, ModelVersion};
use perennial_gallery::{
    EmbeddedGallery, Filter, Item, ItemId, Maintenance, StoredItem, Upserted, VectorStore,
};
use perennial_train::TrainedEncoder;
use serde_json::{Map, json};

use super::destination::{Destination, NewPicture, StoredPicture, keys};
use crate::embedding::Preparation;

/// Items of one page while the gallery is looked through.
const PAGE: usize = 500;

/// Opened for one command.
pub struct Local<'a> {
    gallery: &'a EmbeddedGallery,
    encoder: TrainedEncoder,
    preparation: Preparation,
    version: ModelVersion,
}

impl<'a> Local<'a> {
    /// **Errors**: a version that takes no square images.
    pub fn new(
        gallery: &'a EmbeddedGallery,
        encoder: TrainedEncoder,
        version: ModelVersion,
    ) -> anyhow::Result<Self> {
        let preparation = Preparation::of(&version)?;
        Ok(Self {
            gallery,
            encoder,
            preparation,
            version,
        })
    }
}

impl Destination for Local<'_> {
    fn model_version(&self) -> &str {
        &self.version.name
    }

    fn side(&self) -> usize {
        self.preparation.side()
    }

    fn stored_from(
        &self,
        root: &str,
        each: &mut dyn FnMut(StoredPicture) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let filter = Filter {
            payload: Some(Map::from_iter([(keys::ROOT.to_owned(), json!(root))])),
            ..Filter::default()
        };
        let mut after = None;
        loop {
            let page = self.gallery.scroll(after.as_ref(), PAGE, &filter, false)?;
            for item in page.items {
                each(known(item))?;
            }
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    fn stored_as(&self, ids: &[String]) -> anyhow::Result<Vec<StoredPicture>> {
        let items = self.gallery.get(&texts(ids), false)?;
        Ok(items.into_iter().map(known).collect())
    }

    fn store(&self, pictures: Vec<NewPicture>) -> anyhow::Result<Upserted> {
        let mut pixels = Vec::new();
        for picture in &pictures {
            self.preparation.append(&picture.square, &mut pixels);
        }
        let name = &self.version.name;
        let embeddings = self
            .encoder
            .encode(&pixels)
            .with_context(|| format!("{name} on a batch of pictures"))?;
        let rows = embeddings.chunks_exact(self.version.dim);
        let items = pictures.into_iter().zip(rows).map(|(picture, row)| Item {
            id: ItemId::Text(picture.id),
            embedding: row.to_vec(),
            model_version: name.clone(),
            label: picture.label,
            payload: picture.payload,
        });
        Ok(self.gallery.upsert(items.collect())?)
    }

    fn delete(&self, ids: &[String]) -> anyhow::Result<usize> {
        Ok(self.gallery.delete(&texts(ids))?)
    }

    fn finish(&self) -> anyhow::Result<u64> {
        self.gallery.flush()?;
        Ok(self.gallery.stats()?.items)
    }
}

fn texts(ids: &[String]) -> Vec<ItemId> {
    ids.iter().cloned().map(ItemId::Text).collect()
}

fn known(item: StoredItem) -> StoredPicture {
    let id = item.id.to_string();
    StoredPicture::new(id, item.model_version, item.label, &item.payload)
}
