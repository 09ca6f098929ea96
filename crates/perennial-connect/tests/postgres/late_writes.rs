//! Rows that are written while a migration runs, and after it.

use crate::database::{Database, database, parse, vector_of};
use crate::observers::AfterBatches;
use crate::spaces::{mapped, request, run_quietly, run_watched};

/// Every row has the copy that its present vector makes, and there are no others.
pub fn assert_copies_are_right(database: &Database) {
    let rows = database.all("SELECT concat_ws('|', t.id, t.embedding, s.embedding) FROM items t LEFT JOIN items_new s USING (id)");
    for row in rows {
        let parts: Vec<&str> = row.split('|').collect();
        let wanted = mapped(&parse(parts[1]));
        let near = parse(parts[2])
            .iter()
            .zip(&wanted)
            .all(|(a, b)| (a - b).abs() < 1e-5);
        assert!(near, "{row}: {wanted:?}");
    }
    let orphans: i64 = database.one(
        "SELECT count(*) FROM items_new s WHERE NOT EXISTS (SELECT FROM items t WHERE t.id = s.id)",
    );
    assert_eq!(orphans, 0);
}

#[test]
fn rows_that_come_change_and_go_during_a_run_are_caught_up() {
    let Some(database) = database() else { return };
    database.items(9000);
    let request = request();
    let writer = |batch: u32| {
        // After the first batch, before the later passes: rows that had their turn and rows to come.
        if batch == 1 {
            let url = database.url.clone();
            let act = move || {
                let other = crate::faults::connect(&url);
                other.run(
                    "DELETE FROM items WHERE id IN (1, 2, 8999); UPDATE items SET embedding = '[1,2,3,4,5,6,7,9]' WHERE id IN (10, 8000); \
                     INSERT INTO items VALUES (0, '[9,8,7,6,5,4,3,2]', 'early'), (20000, '[2,8,7,6,5,4,3,2]', 'late'); \
                     DELETE FROM items WHERE id = 20; INSERT INTO items VALUES (20, '[5,8,7,6,5,4,3,2]', 'again')",
                );
            };
            std::thread::spawn(act).join().unwrap();
        }
    };
    let report = run_watched(&database, &request, &mut AfterBatches::new(writer)).unwrap();
    assert!(report.late > 0 && report.removed > 0, "{report:?}");
    assert_eq!(
        (report.standing.pending(), report.standing.orphaned),
        (0, 0)
    );
    assert_copies_are_right(&database);
}

#[test]
fn a_second_run_catches_up_and_a_third_does_nothing() {
    let Some(database) = database() else { return };
    database.items(200);
    run_quietly(&database, &request()).unwrap();
    database.fill("items", 201, 260);
    database.run("DELETE FROM items WHERE id <= 5; UPDATE items SET title = 'other' WHERE id = 9");
    let report = run_quietly(&database, &request()).unwrap();
    // The title counts as well: what changed in a row is not known.
    assert_eq!((report.written, report.late, report.removed), (61, 61, 5));
    assert_copies_are_right(&database);
    let report = run_quietly(&database, &request()).unwrap();
    assert_eq!((report.written, report.removed), (0, 0));
    let copy: String = database.one("SELECT embedding::text FROM items_new WHERE id = 260");
    let wanted = mapped(&vector_of(260));
    assert!((parse(&copy)[0] - wanted[0]).abs() < 1e-5);
}

#[test]
fn copies_that_the_application_wrote_are_kept() {
    let Some(database) = database() else { return };
    database.items(50);
    run_quietly(&database, &request()).unwrap();
    database.run(
        "INSERT INTO items VALUES (60, '[1,2,3,4,5,6,7,8]', 'own'); INSERT INTO items_new (id, embedding) VALUES (60, '[1,0,0,0]'); \
         UPDATE items SET title = 'b' WHERE id = 7; UPDATE items_new SET embedding = '[0,1,0,0]', perennial_source = NULL WHERE id = 7; \
         DELETE FROM items WHERE id = 8",
    );
    let report = run_quietly(&database, &request()).unwrap();
    assert_eq!((report.written, report.removed), (0, 1));
    assert_eq!(report.standing.written_by_application, 2);
    let own = database.all("SELECT embedding::text FROM items_new WHERE id IN (7, 60) ORDER BY id");
    assert_eq!(own, ["[0,1,0,0]", "[1,0,0,0]"]);
}

/// Pieces are 10,000 copies, some of them without any, one with nothing else, and a last one that is shorter.
#[test]
fn copies_of_rows_that_are_gone_are_removed_wherever_they_lie() {
    let Some(database) = database() else { return };
    database.items(25_000);
    run_quietly(&database, &request()).unwrap();
    database.run(
        "INSERT INTO items_new SELECT 30000 + i, NULL, embedding FROM items_new, generate_series(1, 2) i WHERE id = 3; \
         DELETE FROM items WHERE id BETWEEN 10001 AND 20000 OR id IN (1, 24999, 25000)",
    );
    database.run("UPDATE items SET embedding = NULL WHERE id IN (2, 20001)");
    let report = run_quietly(&database, &request()).unwrap();
    // The application's own, of rows that are not there, go as well.
    assert_eq!(report.removed, 10_003 + 2 + 2);
    let left: i64 = database.one("SELECT count(*) FROM items_new");
    assert_eq!(left, 25_000 - 10_005);
    assert_eq!(report.standing.pending() + report.standing.orphaned, 0);
}
