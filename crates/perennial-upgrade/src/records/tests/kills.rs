//! Processes that end in the middle of a forced promotion.
//!
//! The process is this test program, asked for [`the_process_that_is_killed`] alone. Rounds of kills at any moment: `PERENNIAL_KILL_ROUNDS`, 6 without.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::*;
use crate::certification::Certification;
use crate::promotion::go_live;

/// Where the process works, and at which of its writes it ends.
const FOLDER: &str = "PERENNIAL_TEST_FOLDER_OF_THE_KILLED";
const POINT: &str = "PERENNIAL_TEST_POINT_OF_THE_KILL";
const POINTS: [&str; 4] = [
    "before the pair is pending",
    "while the pair is pending",
    "after the pointer moved",
    "after the pair is accepted",
];

/// Ends the process beside one of the writes.
struct Ends {
    records: RegistryRecords,
    point: String,
}

impl Ends {
    fn is_at(&self, point: usize) {
        if self.point == POINTS[point] {
            std::process::abort();
        }
    }
}

impl CompatibilityCheck for Ends {
    fn ways(&self, query: &str, gallery: &str) -> Result<Vec<Certified>, NotCertified> {
        self.records.ways(query, gallery)
    }

    fn accepted(&self) -> Vec<(String, String)> {
        self.records.accepted()
    }

    fn keep_accepted(&self, pairs: &[NotCertified], pending: bool) -> io::Result<()> {
        let before = if pending { 0 } else { 2 };
        self.is_at(before);
        self.records.keep_accepted(pairs, pending)?;
        self.is_at(before + 1);
        Ok(())
    }
}

fn records(folder: &Path) -> RegistryRecords {
    let registry = Registry::open(folder.join("registry")).unwrap();
    RegistryRecords::for_gallery(registry, folder.join("gallery")).unwrap()
}

/// Promotes by force, one version after the other, and says which promotions were done; does nothing in a test run.
#[test]
fn the_process_that_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let folder = Path::new(&folder);
    let registry = Registry::open(folder.join("registry")).unwrap();
    let ends = Ends {
        records: records(folder),
        point: std::env::var(POINT).unwrap_or_default(),
    };
    let refused = ["v0002", "v0003"].map(|name| ends.ways(name, "v0001").unwrap_err());
    let certification = Certification::new(Arc::new(ends), false);
    let say = |line: &str| {
        let mut out = std::io::stdout().lock();
        writeln!(out, "\n{line}").unwrap();
        out.flush().unwrap();
    };
    say("begun");
    for pair in refused {
        let name = pair.query_version.clone();
        go_live(&registry, &certification, &name, &[pair]).unwrap();
        say(&format!("promoted {name}"));
    }
    std::thread::sleep(Duration::from_secs(60));
}

fn spawn(folder: &Path, point: &str) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([
            "--exact",
            "records::tests::kills::the_process_that_is_killed",
            "--nocapture",
        ])
        .env(FOLDER, folder)
        .env(POINT, point)
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command.spawn().unwrap()
}

fn promoted(lines: impl Iterator<Item = String>) -> Vec<String> {
    let names = lines.filter_map(|line| Some(line.strip_prefix("promoted ")?.to_owned()));
    names.collect()
}

/// What is decided after the end of the process stays so, whichever version is live later: what was promoted stays accepted, and nothing else is.
fn check(setup: &Setup, acknowledged: &[String], context: &str) {
    let accepted = || -> Vec<String> {
        let accepted = records(setup.folder.path()).accepted();
        accepted.into_iter().map(|(query, _)| query).collect()
    };
    records(setup.folder.path()).settle_accepted().unwrap();
    let live = setup.registry.aliases().unwrap().remove("live").unwrap();
    let mut happened = acknowledged.to_vec();
    if live != "v0001" && !happened.contains(&live) {
        happened.push(live.clone());
    }
    assert_eq!(accepted(), happened, "{context}");
    for version in ["v0001", "v0002", "v0003"] {
        setup.registry.set_alias("live", version).unwrap();
        assert_eq!(accepted(), happened, "{context}, live is {version}");
    }
    let path = accepted::path(&setup.gallery());
    let text = std::fs::read_to_string(path).unwrap_or_default();
    assert!(!text.contains("pending"), "{context}: {text}");
    // A further time changes nothing.
    records(setup.folder.path()).settle_accepted().unwrap();
    assert_eq!(accepted(), happened, "{context}");
}

fn promotable() -> Setup {
    let setup = Setup::new();
    setup.registry.set_alias("live", "v0001").unwrap();
    setup
}

#[test]
fn a_promotion_that_is_cut_off_beside_any_write_is_finished_or_undone() {
    for (place, point) in POINTS.into_iter().enumerate() {
        let setup = promotable();
        let ended = spawn(setup.folder.path(), point)
            .wait_with_output()
            .unwrap();
        assert!(!ended.status.success(), "{point}");
        let said = String::from_utf8_lossy(&ended.stdout);
        assert!(said.contains("begun"), "{point}: {said}");
        let live = setup.registry.aliases().unwrap().remove("live").unwrap();
        assert_eq!(live == "v0002", place >= 2, "{point}");
        check(&setup, &promoted(said.lines().map(str::to_owned)), point);
    }
}

#[test]
fn kills_at_any_moment_leave_nothing_undecided() {
    let rounds = std::env::var("PERENNIAL_KILL_ROUNDS");
    let rounds: u64 = rounds.map_or(6, |rounds| rounds.parse().unwrap());
    for round in 0..rounds {
        let setup = promotable();
        let mut child = spawn(setup.folder.path(), "");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        while lines.next().unwrap().unwrap() != "begun" {}
        // Spread over the time of both promotions.
        let pause = round.wrapping_mul(2_654_435_761) % 4000;
        std::thread::sleep(Duration::from_micros(pause));
        child.kill().unwrap();
        child.wait().unwrap();
        let acknowledged = promoted(lines.map_while(Result::ok));
        check(
            &setup,
            &acknowledged,
            &format!("round {round}, after {pause} µs"),
        );
    }
}
