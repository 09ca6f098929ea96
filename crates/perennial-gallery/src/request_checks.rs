//! What every store checks of a request before it works on it.

use std::collections::HashSet;

use perennial_core::SpaceId;

use crate::error::GalleryError;
use crate::filter::Filter;
use crate::item::{Item, ItemId, check_vector};
use crate::limits::{MAX_BATCH, MAX_DIM, MAX_LIMIT};
use crate::store::SearchRequest;

fn check_batch(found: usize) -> Result<(), GalleryError> {
    match found {
        0..=MAX_BATCH => Ok(()),
        _ => Err(GalleryError::BatchTooLarge { found }),
    }
}

fn check_limit(limit: usize) -> Result<(), GalleryError> {
    match limit {
        1..=MAX_LIMIT => Ok(()),
        _ => Err(GalleryError::InvalidLimit { limit }),
    }
}

/// Ids to be read or deleted.
///
/// # Errors
/// Too many, or one that cannot be stored.
pub fn check_ids(ids: &[ItemId]) -> Result<(), GalleryError> {
    check_batch(ids.len())?;
    Ok(ids.iter().try_for_each(ItemId::check)?)
}

/// Items to be stored; `dim_of` says what is known of a space's dimension. Whether new spaces have one dimension each remains to be seen.
///
/// # Errors
/// Too many, one that cannot be stored, or two of the same id.
pub fn check_items(
    items: &[Item],
    dim_of: impl Fn(&str) -> Option<usize>,
) -> Result<(), GalleryError> {
    check_batch(items.len())?;
    let mut seen = HashSet::with_capacity(items.len());
    for item in items {
        item.check(dim_of(&item.model_version))?;
        if !seen.insert(&item.id) {
            return Err(GalleryError::DuplicateId {
                id: item.id.clone(),
            });
        }
    }
    Ok(())
}

/// A filter by which items are to be deleted.
///
/// # Errors
/// An invalid filter, or one without condition that does not say that everything is meant.
pub fn check_delete_where(filter: &Filter) -> Result<(), GalleryError> {
    filter.check()?;
    if filter.is_empty() && !filter.everything {
        return Err(GalleryError::EmptyFilter);
    }
    Ok(())
}

/// A page to be read.
///
/// # Errors
/// An invalid id, limit or filter.
pub fn check_page(
    after: Option<&ItemId>,
    limit: usize,
    filter: &Filter,
) -> Result<(), GalleryError> {
    check_limit(limit)?;
    filter.check()?;
    Ok(after.map_or(Ok(()), ItemId::check)?)
}

/// A search; [`check_dim_of_space`] has the part that depends on what is stored.
///
/// # Errors
/// An invalid limit, filter or query, or too many of them.
pub fn check_search(request: &SearchRequest<'_>) -> Result<(), GalleryError> {
    let SearchRequest { queries, dim, .. } = *request;
    check_limit(request.limit)?;
    request.filter.check()?;
    if !(1..=MAX_DIM).contains(&dim) {
        return Err(GalleryError::UnsupportedDimension {
            what: "the queries".to_owned(),
            found: dim,
        });
    }
    check_batch(queries.len() / dim)?;
    let mut queries = queries.chunks(dim).enumerate();
    queries.try_for_each(|(at, query)| check_vector(query, Some(dim), || format!("query {at}")))
}

/// Whether the queries have the dimension of a space that they are to search.
///
/// # Errors
/// [`GalleryError::WrongDimension`].
pub fn check_dim_of_space(
    request: &SearchRequest<'_>,
    space: &SpaceId,
    expected: usize,
) -> Result<(), GalleryError> {
    if request.dim == expected {
        return Ok(());
    }
    Err(GalleryError::WrongDimension {
        what: format!("a query of the items of {space}"),
        found: request.dim,
        expected,
    })
}
