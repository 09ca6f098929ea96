//! Processes that are killed while they move items between partitions, compact, or upgrade a gallery of an old format.
//!
//! The process is this test program, asked for [`the_process_that_is_killed`] alone. Rounds: `PERENNIAL_KILL_ROUNDS`, 6 without.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use perennial_gallery::{EmbeddedGallery, Filter, Item, ItemId, Maintenance, VectorStore};

use crate::fixtures::*;
use crate::old_format::{assert_old_content, old_gallery};

/// Where the process works.
const FOLDER: &str = "PERENNIAL_TEST_FOLDER_OF_THE_KILLED";
const ITEMS: u64 = 60;
const BATCH: u64 = 10;
/// An item is in each space in turn.
const SPACES: [(&str, usize); 3] = [("a", 3), ("b", 5), ("c", 3)];

fn rounds() -> u64 {
    std::env::var("PERENNIAL_KILL_ROUNDS").map_or(6, |rounds| rounds.parse().unwrap())
}

/// A batch of items in the space of a step.
fn batch(first: u64, step: u64) -> Vec<Item> {
    let (space, dim) = SPACES[step as usize % SPACES.len()];
    (first..first + BATCH)
        .map(|id| {
            let mut embedding = vec![0.0; dim];
            embedding[id as usize % dim] = 1.0;
            Item {
                model_version: space.to_owned(),
                payload: payload(serde_json::json!({ "step": step })),
                ..item(id, embedding)
            }
        })
        .collect()
}

fn spawn(folder: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([
            "--exact",
            "kills::the_process_that_is_killed",
            "--nocapture",
        ])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command.spawn().unwrap()
}

/// Moves batch after batch and says which moves were acknowledged; does nothing in a test run.
#[test]
fn the_process_that_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let gallery = open(Path::new(&folder));
    let say = |line: String| {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{line}").unwrap();
        out.flush().unwrap();
    };
    say("open".to_owned());
    if gallery.stats().unwrap().per_version.contains_key("v0001") {
        std::thread::sleep(Duration::from_secs(60));
    }
    let step_of = |first: u64| {
        let item = gallery.get(&[first.into()], false).unwrap().pop();
        item.map_or(0, |item| item.payload["step"].as_u64().unwrap() + 1)
    };
    let mut steps: BTreeMap<u64, u64> = (0..ITEMS)
        .step_by(BATCH as usize)
        .map(|first| (first, step_of(first)))
        .collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            loop {
                gallery.compact().unwrap();
                std::thread::sleep(Duration::from_millis(15));
            }
        });
        loop {
            for (&first, step) in &mut steps {
                gallery.upsert(batch(first, *step)).unwrap();
                say(format!("moved {first} {step}"));
                *step += 1;
            }
        }
    });
}

/// Every item is in exactly one partition, whole batches at a time, and no acknowledged move is undone.
fn check(gallery: &EmbeddedGallery, acknowledged: &BTreeMap<u64, u64>, context: &str) {
    let mut in_space: BTreeMap<ItemId, &str> = BTreeMap::new();
    for (space, dim) in SPACES {
        let filter = Filter {
            model_versions: Some(vec![space.to_owned()]),
            ..Filter::default()
        };
        let mut query = vec![0.0; dim];
        query[0] = 1.0;
        let spaces = [perennial_core::SpaceId::new(space).unwrap()];
        let found = gallery.search(&perennial_gallery::SearchRequest {
            spaces: &spaces,
            queries: &query,
            dim,
            limit: 1000,
            filter: &Filter::default(),
            exact: true,
        });
        let mut found = ids(&found.unwrap()[0]);
        found.sort();
        let listed = gallery.scroll(None, 1000, &filter, false).unwrap().items;
        let listed: Vec<ItemId> = listed.into_iter().map(|item| item.id).collect();
        assert_eq!(found, listed, "{context}");
        for id in listed {
            assert_eq!(
                in_space.insert(id.clone(), space),
                None,
                "{context}: {id} is in two"
            );
        }
    }
    for (&first, &step) in acknowledged {
        let keys: Vec<ItemId> = (first..first + BATCH).map(ItemId::Number).collect();
        let items = gallery.get(&keys, true).unwrap();
        assert_eq!(
            items.len() as u64,
            BATCH,
            "{context}: items of batch {first} are missing"
        );
        let now = items[0].payload["step"].as_u64().unwrap();
        assert!(
            now == step || now == step + 1,
            "{context}: batch {first} is at {now}, {step} was acknowledged"
        );
        for (item, expected) in items.iter().zip(batch(first, now)) {
            assert_eq!(item.payload, expected.payload, "{context}");
            assert_eq!(
                item.embedding.as_ref(),
                Some(&expected.embedding),
                "{context}"
            );
            assert_eq!(in_space[&item.id], expected.model_version, "{context}");
        }
    }
    assert_eq!(
        gallery.stats().unwrap().items as usize,
        in_space.len(),
        "{context}"
    );
}

#[test]
fn a_killed_move_leaves_every_item_in_one_partition() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = BTreeMap::new();
    let mut moves = 0;
    for round in 0..rounds() {
        let mut child = spawn(folder.path());
        let out = BufReader::new(child.stdout.take().unwrap());
        let reading = std::thread::spawn(move || {
            let lines = out.lines().map_while(Result::ok);
            lines
                .filter_map(|line| {
                    let mut words = line.strip_prefix("moved ")?.split(' ');
                    let first: u64 = words.next()?.parse().ok()?;
                    Some((first, words.next()?.parse().ok()?))
                })
                .collect::<Vec<(u64, u64)>>()
        });
        std::thread::sleep(Duration::from_millis(150 + round * 37 % 200));
        child.kill().unwrap();
        child.wait().unwrap();
        let said = reading.join().unwrap();
        moves += said.len();
        acknowledged.extend(said);
        check(
            &open(folder.path()),
            &acknowledged,
            &format!("round {round}"),
        );
    }
    assert!(moves > 0, "no move was acknowledged before a kill");
    println!(
        "{} kills, {moves} moves of {BATCH} items acknowledged, none lost",
        rounds()
    );
}

#[test]
fn a_killed_upgrade_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..rounds() {
        let path = folder.path().join(round.to_string());
        old_gallery(&path);
        let mut child = spawn(&path);
        std::thread::sleep(Duration::from_millis(round * 3 % 40));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_old_content(&open(&path));
    }
}
