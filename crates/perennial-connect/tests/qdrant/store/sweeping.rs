//! Superseded points: they stay for those who read, and go in the end.

use perennial_gallery::{Filter, Snapshots, VectorStore};
use serde_json::json;

use super::stock::{assert_counted, gallery_name, head, open};
use crate::cluster::{Cluster, double};
use crate::double::Id;
use crate::items::{everything, items, marked};

/// Points of all spaces, whether they count or not.
fn points(cluster: &Cluster) -> usize {
    let state = cluster.inside().state();
    let prefix = format!("{}.", gallery_name(cluster));
    let spaces = state
        .collections
        .iter()
        .filter(|(name, _)| name.starts_with(&prefix));
    spaces.map(|(_, collection)| collection.points.len()).sum()
}

/// As if the time that superseded points stay had passed, and an hour since writers were killed.
fn let_time_pass(cluster: &Cluster) {
    let mut state = cluster.inside().state();
    let head = head(&mut state, cluster);
    if !head["state"]["sweep"].is_null() {
        head["state"]["sweep"]["at"] = json!(0);
    }
    for aborted in head["aborted"].as_array_mut().unwrap() {
        aborted["at"] = json!(0);
    }
}

#[test]
fn what_is_superseded_is_removed_after_a_while() {
    let Some(cluster) = double() else { return };
    let store = open(&cluster);
    for mark in 0..4 {
        store
            .upsert((0..50).map(|id| marked(id, mark)).collect())
            .unwrap();
    }
    assert_eq!(points(&cluster), 200);
    let_time_pass(&cluster);
    store.upsert(vec![marked(100, 0)]).unwrap();
    // What was superseded by the first generations can go; the rest waits from then on.
    let_time_pass(&cluster);
    store.upsert(vec![marked(100, 3)]).unwrap();
    assert_eq!(points(&cluster), 52);
    let_time_pass(&cluster);
    store.upsert(vec![marked(101, 3)]).unwrap();
    assert_eq!(points(&cluster), 52);
    assert_counted(&cluster);
    // Collections of spaces that are gone are dropped as well.
    store.delete_where(&Filter::everything()).unwrap();
    for _ in 0..2 {
        let_time_pass(&cluster);
        store.upsert(vec![marked(7, 2)]).unwrap();
        store.delete(&[7.into()]).unwrap();
    }
    let_time_pass(&cluster);
    store.upsert(vec![marked(7, 2)]).unwrap();
    let collections = cluster.inside().state().collections.len();
    assert!(collections <= 3, "{collections}");
    assert_eq!(everything(&store).len(), 1);
    assert_counted(&cluster);
}

#[test]
fn what_killed_writers_left_is_removed_in_the_end() {
    let Some(cluster) = double() else { return };
    let store = open(&cluster);
    store
        .upsert((0..20).map(|id| marked(id, 0)).collect())
        .unwrap();
    // A writer that was killed after all of its points and marks, before its commit.
    let suffix = {
        let mut state = cluster.inside().state();
        let head = head(&mut state, &cluster);
        head.insert("owner".to_owned(), json!("gone"));
        head.insert("open".to_owned(), json!(2));
        head["state"]["spaces"]["a"]["collection"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let collection = format!("{}.{suffix}", gallery_name(&cluster));
    {
        let mut state = cluster.inside().state();
        let points = &mut state.collections.get_mut(&collection).unwrap().points;
        for point in points.values_mut() {
            point.payload.insert("until".to_owned(), json!(2));
        }
        let (id, mut left) = points
            .iter()
            .next()
            .map(|(id, point)| (id.clone(), point.clone()))
            .unwrap();
        left.payload.insert("from".to_owned(), json!(2));
        left.payload.remove("until");
        let Id::Uuid(id) = id else { panic!("{id:?}") };
        let id = id.replacen("00000000-0001", "00000000-0002", 1);
        points.insert(Id::Uuid(id), left);
        state.collections.insert(
            format!("{}.2.0", gallery_name(&cluster)),
            Default::default(),
        );
    }
    assert_eq!(everything(&store).len(), 20);
    store.upsert(vec![marked(1, 1)]).unwrap();
    assert_eq!(everything(&store).len(), 20);
    assert_counted(&cluster);
    assert!(points(&cluster) > 21);
    let_time_pass(&cluster);
    store.upsert(vec![marked(2, 1)]).unwrap();
    let mut state = cluster.inside().state();
    assert_eq!(head(&mut state, &cluster)["aborted"], json!([]));
    assert!(
        !state
            .collections
            .contains_key(&format!("{}.2.0", gallery_name(&cluster)))
    );
    drop(state);
    assert_eq!(everything(&store).len(), 20);
    assert_counted(&cluster);
}

#[test]
fn a_snapshot_is_of_one_moment_however_much_is_written_and_removed() {
    let Some(cluster) = double() else { return };
    let (store, writer) = (open(&cluster), open(&cluster));
    let batch = |space: &str| items(700, space, 4);
    store.upsert(batch("v1")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                for space in ["v2", "v1"] {
                    writer.upsert(batch(space)).unwrap();
                    let_time_pass(&cluster);
                }
            }
        });
        for round in 0..4 {
            let path = folder.path().join(format!("{round}.snapshot"));
            assert_eq!(store.snapshot(&path).unwrap().items, 700);
            let mut spaces = std::collections::BTreeSet::new();
            let read = perennial_gallery::exchange::read_snapshot(
                &path,
                |_| Ok(()),
                |item| {
                    spaces.insert(item.model_version);
                    Ok(())
                },
            );
            read.unwrap();
            assert_eq!(spaces.len(), 1, "{spaces:?}");
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_counted(&cluster);
}
