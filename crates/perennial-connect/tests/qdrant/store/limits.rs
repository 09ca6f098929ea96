//! Limits of a server and of strict mode: galleries meet them by smaller requests and by waiting.

use std::time::{Duration, Instant};

use perennial_gallery::{GalleryError, ItemId, VectorStore};
use serde_json::json;

use super::stock::{assert_counted, open};
use crate::cluster::double;
use crate::double::{Fault, Kind};
use crate::items::{assert_marked, everything, marked};

#[test]
fn what_is_too_much_at_once_is_sent_in_parts_and_waited_for() {
    let Some(cluster) = double() else { return };
    {
        let mut state = cluster.inside().state();
        state.strict = json!({
            "enabled": true, "upsert_max_batchsize": 7, "max_query_limit": 20, "write_rate_limit": 60, "read_rate_limit": 40,
        });
        // Rates are those of a minute; here it is a second.
        state.minute = Some(Duration::from_secs(1));
    }
    let store = open(&cluster);
    for mark in 0..2 {
        let items = (0..100).map(|id| marked(id, mark)).collect();
        store.upsert(items).unwrap();
        let all = everything(&store);
        assert_eq!(all.len(), 100);
        assert_marked(&all);
        assert!(all.iter().all(|item| item.payload["mark"] == mark));
        assert_counted(&cluster);
    }
    let ids: Vec<ItemId> = (0..100).map(ItemId::from).collect();
    assert_eq!(store.get(&ids, true).unwrap().len(), 100);
}

#[test]
fn a_server_that_asks_to_wait_is_waited_for_unless_that_takes_too_long() {
    let Some(cluster) = double() else { return };
    let store = open(&cluster);
    let upsert = |mark: u64| store.upsert((0..10).map(|id| marked(id, mark)).collect());
    upsert(0).unwrap();
    // The points, and the commit.
    for place in ["points?wait", "points/payload?"] {
        cluster
            .inside()
            .fail(Fault::new(place, 0, Kind::Throttle(1)));
        let begun = Instant::now();
        upsert(1).unwrap();
        assert!(begun.elapsed() >= Duration::from_secs(1), "{place}");
        assert_counted(&cluster);
    }
    let later = Kind::Throttle(86_400);
    cluster.inside().fail(Fault::new("points?wait", 0, later));
    let begun = Instant::now();
    let refused = upsert(2).unwrap_err();
    assert!(matches!(refused, GalleryError::Busy { .. }), "{refused}");
    assert!(begun.elapsed() < Duration::from_secs(60));
    let all = everything(&store);
    assert!(all.len() == 10 && all.iter().all(|item| item.payload["mark"] == 1));
    assert_counted(&cluster);
}
