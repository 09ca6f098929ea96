//! Reading: items by id, pages and searches, each from one view of the gallery.

use super::EmbeddedGallery;
use super::query;
use super::writer::Command;
use crate::error::GalleryError;
use crate::filter::Filter;
use crate::id_key::{id_key, key_id};
use crate::item::{Hit, ItemId, StoredItem};
use crate::request_checks::{check_dim_of_space, check_ids, check_page, check_search};
use crate::store::{Page, SearchRequest};

/// Ids that one page looks at: beyond it, the page ends early, so that a rare filter does not hold up writers.
const PAGE_SCAN: usize = 20_000;

/// How often a read is repeated that met failed writes. Each repetition fails only if yet another write does during it.
const READ_ATTEMPTS: usize = 20;

impl EmbeddedGallery {
    /// Reads. A failed write, such as one on a full disk, makes the database refuse reads as well until the writer has opened it
    /// again: that is waited for.
    pub(super) fn steady<T>(
        &self,
        read: impl Fn() -> Result<T, GalleryError>,
    ) -> Result<T, GalleryError> {
        let mut result = read();
        for _ in 0..READ_ATTEMPTS {
            // The writer reopens a failed database before it answers.
            if !matches!(result, Err(GalleryError::Storage { .. }))
                || self.ask(Command::Read).is_err()
            {
                break;
            }
            result = read();
        }
        result
    }

    pub(super) fn read_items(
        &self,
        ids: &[ItemId],
        with_embeddings: bool,
    ) -> Result<Vec<StoredItem>, GalleryError> {
        check_ids(ids)?;
        let state = self.shared.state();
        let reader = state.reader()?;
        let mut items = Vec::new();
        for id in ids {
            if let Some(row) = reader.row(&id_key(id))? {
                items.extend(query::item(&state, row, with_embeddings)?);
            }
        }
        Ok(items)
    }

    pub(super) fn read_page(
        &self,
        after: Option<&ItemId>,
        limit: usize,
        filter: &Filter,
        with_embeddings: bool,
    ) -> Result<Page, GalleryError> {
        check_page(after, limit, filter)?;
        let state = self.shared.state();
        let reader = state.reader()?;
        let mut parts = Vec::with_capacity(state.partitions.len());
        for rows in state.partitions.values() {
            let allowed = query::allowed(&self.shared, &state, rows, None, filter)?;
            parts.push((rows, allowed));
        }
        let from = after.map_or_else(Vec::new, id_key);
        let mut page = Page::default();
        let ids = reader.ids.range::<&[u8]>(from.as_slice()..);
        for (seen, entry) in ids.map_err(|error| reader.storage(error))?.enumerate() {
            let (key, row) = entry.map_err(|error| reader.storage(error))?;
            if after.is_some() && key.value() == from.as_slice() {
                continue;
            }
            let may_pass = parts.iter().any(|(rows, allowed)| {
                let slot = rows.slot(row.value());
                slot.is_some_and(|slot| allowed.as_ref().is_none_or(|a| a.contains(slot)))
            });
            if may_pass
                && let Some(item) = query::item(&state, row.value(), with_embeddings)?
                && filter.matches_payload(&item.payload)
            {
                if page.items.len() == limit {
                    page.next = page.items.last().map(|item| item.id.clone());
                    break;
                }
                page.items.push(item);
            }
            if seen >= PAGE_SCAN {
                let last = key_id(key.value()).map_err(|problem| reader.corrupt(problem))?;
                page.next = Some(last);
                break;
            }
        }
        Ok(page)
    }

    pub(super) fn find(&self, request: &SearchRequest<'_>) -> Result<Vec<Vec<Hit>>, GalleryError> {
        check_search(request)?;
        let state = self.shared.state();
        for space in request.spaces {
            let shape = state.layout.home_of(space.as_str()).map(|(_, shape)| shape);
            if let Some(shape) = shape {
                check_dim_of_space(request, space, shape.dim())?;
            }
        }
        query::search(&self.shared, &state, request)
    }

    pub(super) fn find_mapped(
        &self,
        key: &str,
        request: &SearchRequest<'_>,
    ) -> Result<Vec<Vec<Hit>>, GalleryError> {
        check_search(request)?;
        query::search_mapped(&self.shared, &self.shared.state(), key, request)
    }
}
