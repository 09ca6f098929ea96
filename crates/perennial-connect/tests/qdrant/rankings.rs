//! What the cluster answers, by each way that it can be searched.

use std::path::PathBuf;

use perennial_connect::migrate::{Queries, Rankings, RankingsRequest, SearchWay, rankings};
use perennial_connect::{ConnectError, Silent};
use perennial_core::ItemId;
use perennial_formats::{Header, Label, VectorSet, create, prepare};
use serde_json::{Value, json};

use crate::cluster::{Cluster, cluster, double};
use crate::double::{Fault, Id, Kind, State};
use crate::spaces::{from_file, run_quietly};

const POINTS: u64 = 60;

/// The old encoder's embedding: values that depend on nothing but id and place, so that no two rows are alike.
fn old_of(id: u64) -> Vec<f32> {
    (0..8u64)
        .map(|at| {
            let mut mixed = (id * 8 + at).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            for _ in 0..3 {
                mixed ^= mixed >> 31;
                mixed = mixed.wrapping_mul(0xBF58_476D_1CE4_E5B9);
            }
            (mixed >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}

/// The new encoder's embedding: the old one's values in another order and five more.
fn new_of(id: u64) -> Vec<f32> {
    let old = old_of(id);
    (0..13).map(|at| old[(at * 3 + 1) % 8]).collect()
}

fn file(folder: &tempfile::TempDir, ids: std::ops::RangeInclusive<u64>) -> PathBuf {
    let path = folder.path().join(format!("from-{}.npz", ids.start()));
    let (output, format) = prepare(&path).unwrap();
    let header = Header {
        dim: 13,
        rows: None,
        space: None,
        format,
    };
    let mut writer = create(output, format, &header).unwrap();
    let set = VectorSet::new(13, ids.clone().flat_map(new_of).collect()).unwrap();
    writer
        .write(&set.with_ids(ids.map(ItemId::Number).collect()).unwrap())
        .unwrap();
    writer.finish().unwrap();
    path
}

fn asked(cluster: &Cluster) -> Rankings {
    asked_for(cluster, 1..=POINTS)
}

/// The answers to the queries that these points are.
fn asked_for(cluster: &Cluster, ids: std::ops::RangeInclusive<u64>) -> Rankings {
    let labels = [Label::Text("item 3".to_owned()), Label::Number(3)];
    asked_by(cluster, ids, &labels).unwrap()
}

fn asked_by(
    cluster: &Cluster,
    ids: std::ops::RangeInclusive<u64>,
    labels: &[Label],
) -> Result<Rankings, ConnectError> {
    let old: Vec<f32> = ids.clone().flat_map(old_of).collect();
    let new: Vec<f32> = ids.flat_map(new_of).collect();
    let request = RankingsRequest {
        table: cluster.table(),
        key: None,
        vector: None,
        name: "new".to_owned(),
        label: Some("title".to_owned()),
        labels,
        k: 10,
        old: Queries {
            vectors: &old,
            dim: 8,
        },
        new: Queries {
            vectors: &new,
            dim: 13,
        },
        to_old: None,
        mapped: None,
    };
    rankings(&cluster.address(), &request, &mut Silent)
}

fn found_first(found: &Rankings, way: SearchWay) -> usize {
    let ranking = found.rankings.iter().find(|one| one.way == way).unwrap();
    let each = (1..).zip(&ranking.hits);
    each.filter(|(id, hits)| {
        hits.first().is_some_and(|hit| {
            hit.id == ItemId::Number(*id) && hit.label == Some(Label::Text(format!("item {id}")))
        })
    })
    .count()
}

#[test]
fn both_collections_are_searched_and_merged_until_all_points_have_a_copy() {
    let cluster = cluster();
    cluster.create(&json!({"size": 8, "distance": "Cosine"}));
    let points: Vec<Value> = (1..=POINTS)
        .map(|id| json!({"id": id, "vector": old_of(id), "payload": {"title": format!("item {id}")}}))
        .collect();
    cluster.upsert(&cluster.name, &points);
    let folder = tempfile::tempdir().unwrap();
    // Nearly all points have a copy, so more hits must be asked for until enough have none.
    run_quietly(&cluster, &from_file(&cluster, &file(&folder, 11..=POINTS))).unwrap();
    let found = asked(&cluster);
    let ways: Vec<SearchWay> = found.rankings.iter().map(|one| one.way).collect();
    assert_eq!(ways, [SearchWay::Before, SearchWay::New, SearchWay::Merged]);
    let counts =
        [Label::Text("item 3".to_owned()), Label::Number(3)].map(|label| found.labelled[&label]);
    assert_eq!(counts, [1, 0]);
    assert_eq!(found_first(&found, SearchWay::Before), POINTS as usize);
    assert_eq!(found_first(&found, SearchWay::New), POINTS as usize - 10);
    for id in 1..=10 {
        let hits = &found.rankings[2].hits[id as usize - 1];
        assert!(hits.iter().any(|hit| hit.id == ItemId::Number(id)), "{id}");
    }

    run_quietly(&cluster, &from_file(&cluster, &file(&folder, 1..=10))).unwrap();
    let found = asked(&cluster);
    assert_eq!(found.rankings.len(), 2, "nothing is merged any more");
    assert_eq!(found_first(&found, SearchWay::New), POINTS as usize);
}

/// An entry of the old collection with the vector of another id.
fn point(id: u64, vector: u64, title: &str) -> Value {
    json!({"id": id, "vector": old_of(vector), "payload": {"title": title}})
}

/// A cluster with a copy of every point.
fn copied() -> Cluster {
    let cluster = cluster();
    cluster.create(&json!({"size": 8, "distance": "Cosine"}));
    let points: Vec<Value> = (1..=POINTS)
        .map(|id| point(id, id, &format!("item {id}")))
        .collect();
    cluster.upsert(&cluster.name, &points);
    let folder = tempfile::tempdir().unwrap();
    run_quietly(&cluster, &from_file(&cluster, &file(&folder, 1..=POINTS))).unwrap();
    cluster
}

#[test]
fn a_point_that_is_gone_is_not_found_where_nothing_else_changed() {
    let cluster = copied();
    cluster.delete(&cluster.name, &[json!(6)]);
    let found = asked(&cluster);
    let standing = found.standing.unwrap();
    assert_eq!((standing.pending(), standing.orphaned), (0, 1));
    let merged = found.rankings.last().unwrap();
    assert_eq!(merged.way, SearchWay::Merged);
    assert!(merged.hits[5].iter().all(|hit| hit.id != ItemId::Number(6)));
    assert_eq!(merged.hits[6][0].id, ItemId::Number(7));
}

#[test]
fn a_point_that_was_written_since_its_copy_is_searched_by_what_it_is_now() {
    let cluster = copied();
    // Point 5 becomes like point 20, point 6 goes, and of point 7 only the payload changes.
    cluster.upsert(
        &cluster.name,
        &[point(5, 20, "item 5"), point(7, 7, "item 7 again")],
    );
    cluster.delete(&cluster.name, &[json!(6)]);
    let found = asked(&cluster);
    let standing = found.standing.unwrap();
    assert_eq!(
        (standing.missing, standing.changed, standing.orphaned),
        (0, 2, 1)
    );
    let ways: Vec<SearchWay> = found.rankings.iter().map(|one| one.way).collect();
    assert_eq!(ways, [SearchWay::Before, SearchWay::New, SearchWay::Merged]);
    let first = |way: usize, query: usize| found.rankings[way].hits[query - 1][0].id.clone();
    // The copies alone still say what the points were.
    assert_eq!([first(1, 5), first(1, 6)], [5, 6].map(ItemId::Number));
    let merged = &found.rankings[2].hits;
    for gone in [5, 6] {
        assert_ne!(merged[gone as usize - 1][0].id, ItemId::Number(gone));
    }
    assert!(merged[5].iter().all(|hit| hit.id != ItemId::Number(6)));
    // The copy of a point whose payload alone changed is as good as it was.
    assert_eq!(first(2, 7), ItemId::Number(7));
    for like in [5, 20] {
        let hits = &merged[19];
        assert!(
            hits[..2].iter().any(|hit| hit.id == ItemId::Number(like)),
            "{like}: {hits:?}"
        );
    }
}

/// What the merged search for point 9 finds while others write, at the second search of the copies: that of the merged search. Point 30 has no copy.
fn merged_while(cluster: &Cluster, writing: Kind) -> Vec<ItemId> {
    cluster.delete(&cluster.copies(), &[json!(30)]);
    cluster
        .inside()
        .fail(Fault::new("_new/points/query", 1, writing));
    let found = asked_for(cluster, 9..=9);
    assert!(cluster.inside().state().faults.is_empty());
    let merged = found.rankings.last().unwrap();
    assert_eq!(merged.way, SearchWay::Merged);
    merged.hits[0].iter().map(|hit| hit.id.clone()).collect()
}

#[test]
fn a_point_that_is_copied_between_the_two_searches_is_found() {
    if double().is_none() {
        return;
    }
    let cluster = copied();
    // The copy of point 9 lies aside until a run writes it.
    let mut state = cluster.inside().state();
    let id = Id::Number(9);
    let copies = state.collections.get_mut(&cluster.copies()).unwrap();
    let mut aside = copies.clone();
    aside.points.retain(|one, _| *one == id);
    copies.points.remove(&id);
    state.collections.insert("aside".to_owned(), aside);
    drop(state);
    let copy = |state: &mut State| {
        let aside = state.collections.remove("aside").unwrap();
        let mut all = state.collections.iter_mut();
        let (_, copies) = all.find(|(name, _)| name.ends_with("_new")).unwrap();
        copies.points.extend(aside.points);
    };
    for writing in [Kind::WriteBefore(copy), Kind::WriteAfter(copy)] {
        let before = cluster.inside().state().collections.clone();
        let found = merged_while(&cluster, writing);
        assert!(found.contains(&ItemId::Number(9)), "{found:?}");
        cluster.inside().state().collections = before;
    }
}

#[test]
fn a_point_that_is_written_between_the_two_searches_is_found() {
    if double().is_none() {
        return;
    }
    let cluster = copied();
    let write = |state: &mut State| {
        let mut all = state.collections.iter_mut();
        let (_, points) = all
            .find(|(name, _)| name.starts_with("perennial_test") && !name.ends_with("_new"))
            .unwrap();
        let point = points.points.get_mut(&Id::Number(9)).unwrap();
        point.dense.get_mut("").unwrap()[0] += 0.01;
    };
    for writing in [Kind::WriteBefore(write), Kind::WriteAfter(write)] {
        let before = cluster.inside().state().collections.clone();
        let found = merged_while(&cluster, writing);
        assert!(found.contains(&ItemId::Number(9)), "{found:?}");
        cluster.inside().state().collections = before;
    }
}

/// It is up to date when the points without a copy are asked for, before and after, and outdated when the copies are.
#[test]
fn a_point_that_is_written_and_copied_again_between_the_searches_is_found() {
    fn scale(state: &mut State, by: f32) {
        let mut all = state.collections.iter_mut();
        let (_, points) = all
            .find(|(name, _)| name.starts_with("perennial_test") && !name.ends_with("_new"))
            .unwrap();
        let point = points.points.get_mut(&Id::Number(9)).unwrap();
        // By a power of two, so that it is what it was afterwards.
        point.dense.get_mut("").unwrap()[0] *= by;
    }
    if double().is_none() {
        return;
    }
    let cluster = copied();
    let old: &'static str = format!("{}/points/query", cluster.name).leak();
    let again = Kind::WriteBefore(|state| scale(state, 0.5));
    cluster.inside().fail(Fault::new(old, 2, again));
    let found = merged_while(&cluster, Kind::WriteBefore(|state| scale(state, 2.0)));
    assert!(found.contains(&ItemId::Number(9)), "{found:?}");
}

#[test]
fn labels_of_any_kind_end_no_search_and_truth_values_are_counted() {
    let cluster = cluster();
    cluster.create(&json!({"size": 8, "distance": "Cosine"}));
    let titles = [
        json!(true),
        json!("true"),
        json!(""),
        json!("two\nlines"),
        json!(3),
    ];
    let points: Vec<Value> = (1..)
        .zip(titles)
        .map(|(id, title)| json!({"id": id, "vector": old_of(id), "payload": {"title": title}}))
        .collect();
    cluster.upsert(&cluster.name, &points);
    let folder = tempfile::tempdir().unwrap();
    run_quietly(&cluster, &from_file(&cluster, &file(&folder, 1..=5))).unwrap();
    let labels = [
        Label::Text("true".to_owned()),
        Label::Number(3),
        Label::Number(4),
    ];
    let found = asked_by(&cluster, 1..=5, &labels).unwrap();
    assert_eq!(labels.map(|label| found.labelled[&label]), [2, 1, 0]);
    let first = found.rankings[0]
        .hits
        .iter()
        .map(|hits| hits[0].label.clone());
    let truth = Some(Label::Text("true".to_owned()));
    let wanted = [truth.clone(), truth, None, None, Some(Label::Number(3))];
    assert_eq!(first.collect::<Vec<_>>(), wanted);
}

#[test]
fn hits_that_no_answer_holds_are_read_in_parts() {
    if double().is_none() {
        return;
    }
    let cluster = copied();
    // Longer than any answer that is read.
    let large: &'static str = Box::leak(" ".repeat(65 << 20).into_boxed_str());
    let question = Fault::new("/points/query", 0, Kind::Say(large));
    cluster.inside().fail(question);
    let found = asked_for(&cluster, 9..=9);
    assert!(cluster.inside().state().faults.is_empty());
    let hits = &found.rankings[0].hits[0];
    assert_eq!(hits.len(), 10);
    assert_eq!(hits[0].id, ItemId::Number(9));
    assert_eq!(hits[0].label, Some(Label::Text("item 9".to_owned())));
}
