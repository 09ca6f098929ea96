//! Reading: items by id and pages, each from one view of the gallery, and searches, whose queries are each answered from one.

use super::EmbeddedGallery;
use super::conditions::Conditions;
use super::query;
use super::view::View;
use super::writer::Command;
use crate::error::GalleryError;
use crate::filter::Filter;
use crate::id_key::{id_key, key_id};
use crate::item::{Hit, ItemId, StoredItem};
use crate::request_checks::{check_ids, check_page, check_search};
use crate::store::{Page, SearchRequest};

/// Ids that one page looks at: beyond it, the page ends early, so that a rare filter does not keep its caller waiting.
const PAGE_SCAN: usize = 20_000;
/// Ids of a page that are compared with conditions at a time, for which writers wait.
const PAGE_CHUNK: usize = 1024;

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
        let view = View::of(&self.shared.state())?;
        let mut items = Vec::new();
        for id in ids {
            if let Some(row) = view.reader().row(&id_key(id))? {
                items.extend(view.item(row, with_embeddings)?);
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
        let conditions = Conditions::new(filter, None);
        let view = View::of(&self.shared.state())?;
        let reader = view.reader();
        let from = after.map_or_else(Vec::new, id_key);
        let mut ids = reader.ids_from(&from)?;
        let mut page = Page::default();
        let (mut seen, mut chunk) = (0, limit + 1);
        loop {
            let entries = ids.by_ref().take(chunk.min(PAGE_CHUNK));
            let entries = entries.collect::<Result<Vec<(Vec<u8>, u64)>, GalleryError>>()?;
            if entries.is_empty() {
                return Ok(page);
            }
            chunk = chunk.saturating_mul(4);
            let may_pass = self.may_pass(&conditions, &entries);
            for ((key, row), may_pass) in entries.into_iter().zip(may_pass) {
                let at = seen;
                seen += 1;
                if after.is_some() && key == from {
                    continue;
                }
                if may_pass
                    && let Some(item) = view.item_that_passes(row, with_embeddings, &conditions)?
                {
                    if page.items.len() == limit {
                        page.next = page.items.last().map(|item| item.id.clone());
                        return Ok(page);
                    }
                    page.items.push(item);
                }
                if at >= PAGE_SCAN {
                    let last = key_id(&key).map_err(|problem| reader.corrupt(problem))?;
                    page.next = Some(last);
                    return Ok(page);
                }
            }
        }
    }

    /// Which of some items, by the keys of their ids and their rows, memory does not rule out. A row that is gone from memory, or not there yet, is
    /// for its record to decide.
    fn may_pass(&self, conditions: &Conditions<'_>, entries: &[(Vec<u8>, u64)]) -> Vec<bool> {
        if conditions.are_none() {
            return vec![true; entries.len()];
        }
        let state = self.shared.state();
        let applied = conditions.of_rows(&state);
        let may_pass = |(key, row): &(Vec<u8>, u64)| {
            conditions.id_passes(key)
                && state.find(*row).is_none_or(|(rows, slot)| {
                    let (segment, at) = rows.place(slot);
                    applied.passes(segment, at)
                })
        };
        entries.iter().map(may_pass).collect()
    }

    pub(super) fn find(&self, request: &SearchRequest<'_>) -> Result<Vec<Vec<Hit>>, GalleryError> {
        check_search(request)?;
        query::search(&self.shared, request, None)
    }

    pub(super) fn find_mapped(
        &self,
        key: &str,
        request: &SearchRequest<'_>,
    ) -> Result<Vec<Vec<Hit>>, GalleryError> {
        check_search(request)?;
        query::search(&self.shared, request, Some(key))
    }
}
