//! What the database answers, by each way that it can be searched.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use perennial_connect::migrate::{Queries, Rankings, RankingsRequest, SearchWay, rankings};
use perennial_connect::{ConnectError, Silent};
use perennial_core::ItemId;
use perennial_formats::{Header, Label, VectorSet, create, prepare};

use crate::database::{Database, database};
use crate::spaces::{BRIDGE, from_file, request, run_quietly};

const ROWS: u64 = 400;

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

fn labelled(database: &Database) {
    database
        .run("CREATE TABLE items (id bigint PRIMARY KEY, embedding vector(8), category integer)");
    for id in 1..=ROWS {
        let vector = old_of(id);
        database.run(&format!(
            "INSERT INTO items VALUES ({id}, '{vector:?}', {id} % 7)"
        ));
    }
    database.run("CREATE INDEX ON items USING hnsw (embedding vector_cosine_ops)");
}

fn asked(database: &Database, k: u32) -> Result<Rankings, ConnectError> {
    let all: Vec<u64> = (1..=ROWS).collect();
    asked_for(database, &all, k)
}

/// The answers to the queries that these rows are.
fn asked_for(database: &Database, ids: &[u64], k: u32) -> Result<Rankings, ConnectError> {
    let old: Vec<f32> = ids.iter().copied().flat_map(old_of).collect();
    let new: Vec<f32> = ids.iter().copied().flat_map(new_of).collect();
    let request = RankingsRequest {
        table: "items".parse().unwrap(),
        key: None,
        vector: None,
        name: "new".to_owned(),
        label: Some("category".to_owned()),
        labels: &[Label::Number(3)],
        k,
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
    rankings(&database.address(), &request, &mut Silent)
}

/// How many queries find the row that they are.
fn found_first(found: &Rankings, way: SearchWay) -> usize {
    let ranking = found.rankings.iter().find(|one| one.way == way).unwrap();
    let each = (1..).zip(&ranking.hits);
    each.filter(|(id, hits)| {
        hits.first()
            .is_some_and(|hit| hit.id == ItemId::Number(*id))
    })
    .count()
}

#[test]
fn both_columns_are_searched_and_merged_until_all_rows_have_a_copy() {
    let Some(database) = database() else { return };
    labelled(&database);
    let error = asked(&database, 10).unwrap_err().to_string();
    assert!(error.contains("there is no migration"), "{error}");
    let before = database.fingerprint("items");
    let folder = tempfile::tempdir().unwrap();
    run_quietly(&database, &from_file(&file(&folder, 1..=250))).unwrap();

    let found = asked(&database, 10).unwrap();
    let ways: Vec<SearchWay> = found.rankings.iter().map(|one| one.way).collect();
    assert_eq!(ways, [SearchWay::Before, SearchWay::New, SearchWay::Merged]);
    assert_eq!(found.standing.unwrap().missing, 150);
    assert_eq!(found.labelled[&Label::Number(3)], 57);
    // An approximate index may miss some.
    assert!(found_first(&found, SearchWay::Before) >= 396);
    // The copies alone know nothing of the other rows.
    let new = found_first(&found, SearchWay::New);
    assert!((245..=250).contains(&new), "{new}");
    let merged = found_first(&found, SearchWay::Merged);
    assert!(merged > 380, "{merged}");
    for hits in &found.rankings[2].hits {
        let mut ids: Vec<&ItemId> = hits.iter().map(|hit| &hit.id).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 10, "a row is found once");
        for hit in hits {
            let ItemId::Number(id) = hit.id else { panic!() };
            assert_eq!(hit.label, Some(Label::Number(id as i64 % 7)));
        }
    }

    run_quietly(&database, &from_file(&file(&folder, 251..=ROWS))).unwrap();
    let found = asked(&database, 10).unwrap();
    assert_eq!(found.rankings.len(), 2, "nothing is merged any more");
    assert!(found_first(&found, SearchWay::New) >= 396);
    assert_eq!(database.fingerprint("items"), before);
}

#[test]
fn rows_without_a_copy_are_found_also_where_nearly_all_have_one() {
    let Some(database) = database() else { return };
    labelled(&database);
    let folder = tempfile::tempdir().unwrap();
    run_quietly(&database, &from_file(&file(&folder, 11..=ROWS))).unwrap();
    let found = asked(&database, 10).unwrap();
    let merged = &found.rankings[2];
    // The ten rows without a copy, each by its own query.
    let own = (1..=10).filter(|id| {
        let hits = &merged.hits[*id as usize - 1];
        hits.iter().any(|hit| hit.id == ItemId::Number(*id))
    });
    assert_eq!(own.count(), 10);
}

#[test]
fn a_row_that_was_written_since_its_copy_is_searched_by_what_it_is_now() {
    let Some(database) = database() else { return };
    labelled(&database);
    let folder = tempfile::tempdir().unwrap();
    run_quietly(&database, &from_file(&file(&folder, 1..=ROWS))).unwrap();
    // Row 5 becomes like row 20, row 6 goes, and the application has written the copy of row 7 together with the row.
    database.run(&format!(
        "UPDATE items SET embedding = '{:?}' WHERE id = 5; DELETE FROM items WHERE id = 6; \
         UPDATE items SET category = category WHERE id = 7; UPDATE items_new SET perennial_source = NULL WHERE id = 7",
        old_of(20)
    ));
    let found = asked(&database, 10).unwrap();
    let standing = found.standing.unwrap();
    assert_eq!(
        (standing.missing, standing.changed, standing.orphaned),
        (0, 1, 1)
    );
    let ways: Vec<SearchWay> = found.rankings.iter().map(|one| one.way).collect();
    assert_eq!(ways, [SearchWay::Before, SearchWay::New, SearchWay::Merged]);
    let first = |way: usize, query: usize| found.rankings[way].hits[query - 1][0].id.clone();
    // The copies alone still say what the rows were.
    assert_eq!([first(1, 5), first(1, 6)], [5, 6].map(ItemId::Number));
    let merged = &found.rankings[2].hits;
    for gone in [5, 6] {
        let hits = &merged[gone as usize - 1];
        assert!(
            hits.iter().all(|hit| hit.id != ItemId::Number(gone)),
            "{gone}: {hits:?}"
        );
    }
    assert_eq!(first(2, 7), ItemId::Number(7));
    for like in [5, 20] {
        let hits = &merged[19];
        assert!(
            hits[..2].iter().any(|hit| hit.id == ItemId::Number(like)),
            "{like}: {hits:?}"
        );
    }
}

#[test]
fn a_row_that_is_gone_is_not_found_where_nothing_else_changed() {
    let Some(database) = database() else { return };
    labelled(&database);
    let folder = tempfile::tempdir().unwrap();
    run_quietly(&database, &from_file(&file(&folder, 1..=ROWS))).unwrap();
    database.run("DELETE FROM items WHERE id = 6");
    let found = asked(&database, 10).unwrap();
    let standing = found.standing.unwrap();
    assert_eq!((standing.pending(), standing.orphaned), (0, 1));
    let merged = found.rankings.last().unwrap();
    assert_eq!(merged.way, SearchWay::Merged);
    assert!(merged.hits[5].iter().all(|hit| hit.id != ItemId::Number(6)));
    assert_eq!(merged.hits[6][0].id, ItemId::Number(7));
}

#[test]
fn queries_of_other_dimensions_are_refused() {
    let Some(database) = database() else { return };
    labelled(&database);
    run_quietly(&database, &request()).unwrap();
    let error = asked(&database, 10).unwrap_err().to_string();
    assert!(
        error.contains("13 dimensions, and the new vectors 4"),
        "{error}"
    );
    // Copies that a bridge made are searched by centred queries.
    let old: Vec<f32> = (1..=40).flat_map(old_of).collect();
    let new: Vec<f32> = (1..=40).flat_map(|id| new_of(id)[..4].to_vec()).collect();
    let of = |mapped| {
        let request = RankingsRequest {
            table: "items".parse().unwrap(),
            key: None,
            vector: None,
            name: "new".to_owned(),
            label: None,
            labels: &[],
            k: 5,
            old: Queries {
                vectors: &old,
                dim: 8,
            },
            new: Queries {
                vectors: &new,
                dim: 4,
            },
            to_old: None,
            mapped,
        };
        rankings(&database.address(), &request, &mut Silent)
    };
    let error = of(None).unwrap_err().to_string();
    assert!(error.contains("--mapped"), "{error}");
    assert_eq!(of(Some(&BRIDGE)).unwrap().rankings.len(), 2);
}

#[test]
fn a_row_that_is_copied_or_written_between_the_two_searches_is_found() {
    let Some(database) = database() else { return };
    labelled(&database);
    let folder = tempfile::tempdir().unwrap();
    run_quietly(&database, &from_file(&file(&folder, 1..=ROWS))).unwrap();
    // Row 30 has no copy. That of row 9 comes and goes as fast as it can, as if the row were written and copied again and again.
    database
        .run("CREATE TABLE aside AS TABLE items_new; DELETE FROM items_new WHERE id IN (9, 30)");
    let over = AtomicBool::new(false);
    let writer = database.again();
    let found = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                writer.run("INSERT INTO items_new SELECT * FROM aside WHERE id = 9");
                writer.run("DELETE FROM items_new WHERE id = 9");
            }
        });
        let found = asked_for(&database, &[9; 500], 10);
        over.store(true, Ordering::Relaxed);
        found.unwrap()
    });
    let merged = found.rankings.last().unwrap();
    assert_eq!(merged.way, SearchWay::Merged);
    let row = ItemId::Number(9);
    let missed = merged
        .hits
        .iter()
        .filter(|hits| hits.iter().all(|hit| hit.id != row));
    assert_eq!(missed.count(), 0, "of {}", merged.hits.len());
}

#[test]
fn labels_that_files_cannot_hold_end_no_search_and_only_a_few_others_are_counted() {
    let Some(database) = database() else { return };
    labelled(&database);
    let folder = tempfile::tempdir().unwrap();
    run_quietly(&database, &from_file(&file(&folder, 1..=250))).unwrap();
    database.run(
        "ALTER TABLE items ALTER category TYPE text; UPDATE items SET category = 'of its own ' || id WHERE category <> '3'; \
         UPDATE items SET category = '' WHERE id = 5; UPDATE items SET category = E'two\\nlines' WHERE id = 6",
    );
    let found = asked(&database, 10).unwrap();
    assert_eq!(found.labelled[&Label::Number(3)], 57);
    assert!(
        (2..30).contains(&found.labelled.len()),
        "{:?}",
        found.labelled
    );
    let hit = &found.rankings[0].hits[4][0];
    assert_eq!((&hit.id, &hit.label), (&ItemId::Number(5), &None));
}

#[test]
fn an_index_of_lists_is_searched_until_enough_rows_count() {
    let Some(database) = database() else { return };
    // Two heaps far from each other: one with copies, and one without. The index looks into the list of the query alone.
    database.run(
        "CREATE TABLE items (id bigint PRIMARY KEY, embedding vector(8), category integer); \
         INSERT INTO items SELECT i, (SELECT array_agg((CASE WHEN (i <= 3000) = (j <= 4) THEN 1 ELSE 0 END) + 0.3 * sin(i * j)) \
         FROM generate_series(1, 8) j)::vector, 3 FROM generate_series(1, 6000) i; \
         CREATE INDEX ON items USING ivfflat (embedding vector_cosine_ops) WITH (lists = 2); ANALYZE items",
    );
    let folder = tempfile::tempdir().unwrap();
    run_quietly(&database, &from_file(&file(&folder, 1..=3000))).unwrap();
    let query = [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0];
    let new = new_of(1);
    let request = RankingsRequest {
        table: "items".parse().unwrap(),
        key: None,
        vector: None,
        name: "new".to_owned(),
        label: None,
        labels: &[],
        k: 20,
        old: Queries {
            vectors: &query,
            dim: 8,
        },
        new: Queries {
            vectors: &new,
            dim: 13,
        },
        to_old: None,
        mapped: None,
    };
    let found = rankings(&database.address(), &request, &mut Silent).unwrap();
    let merged = found.rankings.last().unwrap();
    assert_eq!(merged.way, SearchWay::Merged);
    let pending = merged.hits[0].iter();
    let pending = pending.filter(|hit| matches!(hit.id, ItemId::Number(id) if id > 3000));
    assert!(pending.count() > 0, "{:?}", merged.hits);
}
