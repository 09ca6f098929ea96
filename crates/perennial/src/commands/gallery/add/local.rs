//! The gallery in a folder, with a version of the registry.

use anyhow::Context;
use perennial_encode::{Input, Picture, Prepared};
use perennial_gallery::{
    EmbeddedGallery, Filter, Item, ItemId, Maintenance, StoredItem, Upserted, VectorStore,
};
use perennial_upgrade::LoadedModel;
use serde_json::{Map, json};

use super::admission::Admission;
use super::destination::{Content, Destination, NewPicture, StoredPicture, keys};
use crate::embedding::batch;

/// Items of one page while the gallery is looked through.
const PAGE: usize = 500;

/// Opened for one command.
pub struct Local<'a> {
    gallery: &'a EmbeddedGallery,
    model: LoadedModel,
    admission: Admission<'a>,
}

impl<'a> Local<'a> {
    pub fn new(gallery: &'a EmbeddedGallery, model: LoadedModel, admission: Admission<'a>) -> Self {
        Self {
            gallery,
            model,
            admission,
        }
    }
}

impl Destination for Local<'_> {
    fn model_version(&self) -> &str {
        self.model.name()
    }

    fn batch(&self) -> usize {
        batch(&self.model.version)
    }

    fn content(&self, _: &[u8], picture: &Picture) -> anyhow::Result<Content> {
        let prepared = self.model.prepare(Input::Decoded(picture))?;
        Ok(Content::Prepared(prepared))
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
        let mut prepared: Vec<Prepared> = Vec::with_capacity(pictures.len());
        let mut items: Vec<Item> = Vec::with_capacity(pictures.len());
        let name = self.model.name();
        for picture in pictures {
            let Content::Prepared(ready) = picture.content else {
                anyhow::bail!("{}: was not prepared for {name}", picture.id);
            };
            prepared.push(ready);
            items.push(Item {
                id: ItemId::Text(picture.id),
                embedding: Vec::new(),
                model_version: name.to_owned(),
                label: picture.label,
                payload: picture.payload,
            });
        }
        let embeddings = self.model.encode(&prepared);
        let embeddings = embeddings.with_context(|| format!("{name} on a batch of pictures"))?;
        let rows = embeddings.chunks_exact(self.model.version.dim);
        for (item, row) in items.iter_mut().zip(rows) {
            item.embedding = row.to_vec();
        }
        let stored = self.gallery.upsert(items)?;
        self.admission.written();
        Ok(stored)
    }

    fn delete(&self, ids: &[String]) -> anyhow::Result<usize> {
        Ok(self.gallery.delete(&texts(ids))?)
    }

    fn finish(&self) -> anyhow::Result<u64> {
        self.gallery.flush()?;
        let stats = self.gallery.stats()?;
        if stats.per_version.contains_key(self.model.name()) {
            self.admission.written();
        }
        Ok(stats.items)
    }
}

fn texts(ids: &[String]) -> Vec<ItemId> {
    ids.iter().cloned().map(ItemId::Text).collect()
}

fn known(item: StoredItem) -> StoredPicture {
    let id = item.id.to_string();
    StoredPicture::new(id, item.model_version, item.label, &item.payload)
}
