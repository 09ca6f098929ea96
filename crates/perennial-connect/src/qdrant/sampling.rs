//! Seeded samples of a collection, by its ids alone.

use std::collections::BinaryHeap;

use perennial_core::checksum::short_hash;

use super::engine::Qdrant;
use super::point::Selection;
use super::point_id::PointId;
use crate::engine::Pace;
use crate::error::ConnectError;
use crate::observer::Silent;

/// Ids that are read at a time.
const AT_ONCE: usize = 4096;

impl Qdrant {
    /// The ids with the smallest hashes, in their order. Servers have no seeded samples, so all ids are read.
    pub(super) async fn sampled_ids(
        &self,
        collection: &str,
        selection: &Selection,
        count: u64,
        seed: i64,
    ) -> Result<Vec<PointId>, ConnectError> {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let mut pace = Pace::new(self.rate)?;
        let mut at_once = self.page_points(AT_ONCE);
        let mut from: Option<PointId> = None;
        let mut smallest = BinaryHeap::new();
        loop {
            let page = self.page(collection, selection, from.as_ref(), &mut at_once)?;
            let read = page.points.len();
            for point in page.points {
                let hash = short_hash(format!("{seed} {}", point.id).as_bytes());
                smallest.push((hash, point.id));
                if smallest.len() > count {
                    smallest.pop();
                }
            }
            pace.after(read, &Silent).await?;
            from = page.next_page_offset;
            if from.is_none() {
                break;
            }
        }
        let mut ids: Vec<PointId> = smallest.into_iter().map(|(_, id)| id).collect();
        ids.sort_unstable();
        Ok(ids)
    }
}
