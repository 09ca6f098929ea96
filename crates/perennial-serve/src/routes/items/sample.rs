//! A few items of every class: a first look at a gallery whose ids are sorted by class.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use perennial_core::SpaceId;
use perennial_gallery::{
    Filter, GalleryError, Hit, LabelFilter, SearchRequest, SpaceStats, StoredItem, VectorStore,
};

use crate::error::ApiError;

/// How long classes are looked for. A gallery of millions of items shows those that were found until then.
const BUDGET: Duration = Duration::from_millis(300);

/// Up to `limit` items, one of each class, then a second of each, and so on; items without a class come last. Of more classes
/// than `limit`, as many are shown.
///
/// The store has no list of its classes, so ranges of labels are searched for any item and split where one is found.
pub(super) fn of_classes(
    store: &dyn VectorStore,
    limit: usize,
    model_version: Option<String>,
) -> Result<Vec<StoredItem>, ApiError> {
    let begun = Instant::now();
    let all = Filter {
        model_versions: model_version.clone().map(|version| vec![version]),
        ..Filter::default()
    };
    let first = store.scroll(None, 1, &all, true)?.items.pop();
    let Some(embedding) = first.and_then(|item| item.embedding) else {
        return Ok(Vec::new());
    };
    // Any query finds any item of its dimension, if nothing is better.
    let mut groups: BTreeMap<usize, Vec<SpaceId>> = BTreeMap::new();
    for SpaceStats { space, items, .. } in store.spaces()? {
        if items > 0
            && model_version
                .as_ref()
                .is_none_or(|name| *name == space.id.as_str())
        {
            groups.entry(space.dim).or_default().push(space.id);
        }
    }
    let find = |labels: LabelFilter, limit: usize| -> Result<Vec<Hit>, GalleryError> {
        let filter = Filter {
            labels: Some(labels),
            ..all.clone()
        };
        let mut hits = Vec::new();
        for (&dim, spaces) in &groups {
            let mut query = vec![0.0; dim];
            match query.len() == embedding.len() {
                true => query.copy_from_slice(&embedding),
                false => query[0] = 1.0,
            }
            let found = store.search(&SearchRequest {
                spaces,
                queries: &query,
                dim,
                limit,
                filter: &filter,
                exact: true,
            });
            hits.extend(found?.pop().unwrap_or_default());
            if hits.len() >= limit {
                break;
            }
        }
        hits.truncate(limit);
        Ok(hits)
    };

    let mut labels = Vec::new();
    let mut ranges = VecDeque::from([(0, u32::MAX)]);
    while let Some((from, to)) = ranges.pop_front() {
        if labels.len() == limit || begun.elapsed() > BUDGET {
            break;
        }
        let range = LabelFilter {
            from: Some(from),
            to: Some(to),
            ..LabelFilter::default()
        };
        let found = find(range, 1)?.pop();
        let Some(label) = found.and_then(|hit| hit.label) else {
            continue;
        };
        labels.push(label);
        if label > from {
            ranges.push_back((from, label - 1));
        }
        if label < to {
            ranges.push_back((label + 1, to));
        }
    }
    labels.sort_unstable();

    let share = limit.div_ceil(labels.len().max(1));
    let mut classes = Vec::with_capacity(labels.len());
    for label in labels {
        classes.push(find(LabelFilter::any_of([label]), share)?.into_iter());
    }
    let mut items = Vec::with_capacity(limit);
    let mut left = true;
    while left && items.len() < limit {
        left = false;
        for class in &mut classes {
            if let Some(hit) = class.next() {
                left = true;
                items.push(stored(hit));
            }
        }
    }
    items.truncate(limit);
    if items.len() < limit {
        let page = store.scroll(None, limit, &all, false)?;
        let unlabelled = page.items.into_iter().filter(|item| item.label.is_none());
        let room = limit - items.len();
        items.extend(unlabelled.take(room));
    }
    Ok(items)
}

fn stored(hit: Hit) -> StoredItem {
    StoredItem {
        id: hit.id,
        embedding: None,
        model_version: hit.model_version,
        label: hit.label,
        payload: hit.payload,
    }
}
