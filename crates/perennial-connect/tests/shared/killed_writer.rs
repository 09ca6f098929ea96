//! A writer in a process of its own, which is killed: this test program once more, with the test `writing_child` of its store.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

use perennial_gallery::{Item, VectorStore};

use crate::items::everything;

const CHILD: &str = "PERENNIAL_TEST_WRITES";

/// What the process is to write to; nothing in the one that runs the tests.
pub fn gallery_to_write() -> Option<String> {
    std::env::var(CHILD).ok()
}

/// Stores one batch after the other, and prints every mark that was confirmed.
pub fn write_on(store: &dyn VectorStore, batch: impl Fn(u64) -> Vec<Item>) {
    let first = everything(store);
    let first = first
        .first()
        .map_or(0, |item| item.payload["mark"].as_u64().unwrap());
    for mark in first + 1.. {
        store.upsert(batch(mark)).unwrap();
        println!("mark {mark}");
        std::io::stdout().flush().unwrap();
    }
}

/// The number of kills, `PERENNIAL_KILL_ROUNDS` or as many as given.
pub fn rounds(usual: u64) -> u64 {
    std::env::var("PERENNIAL_KILL_ROUNDS").map_or(usual, |rounds| rounds.parse().unwrap())
}

/// A writer whose first write is confirmed.
pub struct Writer {
    child: Child,
    output: BufReader<ChildStdout>,
    confirmed: Vec<u64>,
}

impl Writer {
    /// `test` is the name of the test that writes.
    pub fn start(test: &str, gallery: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(CHILD, gallery)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut confirmed = Vec::new();
        let mut line = String::new();
        while confirmed.is_empty() && output.read_line(&mut line).unwrap() > 0 {
            confirmed.extend(mark_of(&line));
            line.clear();
        }
        Self {
            child,
            output,
            confirmed,
        }
    }

    /// Kills it, and says which mark was confirmed last.
    pub fn kill(mut self) -> Option<u64> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let rest = self.output.lines().map_while(Result::ok);
        self.confirmed
            .extend(rest.filter_map(|line| mark_of(&line)));
        self.confirmed.last().copied()
    }
}

/// The mark that a line confirms.
fn mark_of(line: &str) -> Option<u64> {
    // The name of the test may stand before the first one.
    let (_, mark) = line.rsplit_once("mark ")?;
    mark.trim_end().parse().ok()
}
