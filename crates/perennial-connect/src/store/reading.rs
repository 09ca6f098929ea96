//! Items by id, pages, and samples.

use std::collections::HashMap;

use perennial_core::SpaceId;
use perennial_gallery::id_key::id_key;
use perennial_gallery::{Filter, ItemId, Page, StoredItem};

use super::filter::Conditions;
use super::row;
use super::session::Session;
use super::spaces::Spaces;
use crate::failure::Failure;
use crate::pairs::place;

/// The items of these ids, in this order.
pub(super) fn items(
    session: &Session,
    ids: &[ItemId],
    with_embeddings: bool,
) -> Result<Vec<StoredItem>, Failure> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let spaces = Spaces::read(session)?;
    let keys: Vec<Vec<u8>> = ids.iter().map(id_key).collect();
    let columns = row::columns(with_embeddings);
    let rows = session.query(
        &format!("SELECT {columns} FROM perennial_items WHERE key = ANY($1)"),
        &[&keys],
    )?;
    let mut found: HashMap<&[u8], _> = HashMap::with_capacity(rows.len());
    for row in &rows {
        found.insert(row::key(row)?, row);
    }
    // An id may be asked for more than once.
    let in_order = keys.iter().filter_map(|key| found.get(key.as_slice()));
    in_order
        .map(|row| row::item(row, &spaces, with_embeddings))
        .collect()
}

/// Items in the order of their keys, which is that of their ids.
pub(super) fn page(
    session: &Session,
    after: Option<&ItemId>,
    limit: usize,
    filter: &Filter,
    with_embeddings: bool,
) -> Result<Page, Failure> {
    let spaces = Spaces::read(session)?;
    let mut conditions = Conditions::after(1);
    if let Some(after) = after {
        conditions.add("key > {}", id_key(after));
    }
    conditions.filter(filter, &spaces);
    let columns = row::columns(with_embeddings);
    let (condition, one_more) = (conditions.sql(), limit as i64 + 1);
    let rows = session.query(
        &format!("SELECT {columns} FROM perennial_items{condition} ORDER BY key LIMIT $1"),
        &conditions.parameters(&[&one_more]),
    )?;
    let items = rows.iter().take(limit);
    let items = items.map(|row| row::item(row, &spaces, with_embeddings));
    let items = items.collect::<Result<Vec<StoredItem>, Failure>>()?;
    let next = items.last().filter(|_| rows.len() > limit);
    Ok(Page {
        next: next.map(|last| last.id.clone()),
        items,
    })
}

/// The vectors that follow a place, drawn by the seed, in the random order of a space, from its start again at its end.
pub(super) fn sample(
    session: &Session,
    space: &SpaceId,
    limit: usize,
    seed: u64,
) -> Result<Vec<f32>, Failure> {
    let spaces = Spaces::read(session)?;
    let Some(known) = spaces.get(space.as_str()) else {
        return Ok(Vec::new());
    };
    let start = place(&seed.to_le_bytes());
    let mut vectors = Vec::new();
    let mut wanted = limit.min(i64::MAX as usize) as i64;
    for comparison in [">=", "<"] {
        if wanted == 0 {
            break;
        }
        let rows = session.query(
            &format!(
                "SELECT embedding FROM perennial_items WHERE space = $1 AND place {comparison} $2 ORDER BY place, key LIMIT $3"
            ),
            &[&known.number, &start, &wanted],
        )?;
        for row in &rows {
            row::vector(row, 0, &mut vectors)?;
        }
        wanted -= rows.len() as i64;
    }
    Ok(vectors)
}
