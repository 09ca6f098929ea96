//! Certificates that cannot be read for a moment: a process that may open no further file.
//!
//! The process is this test program, asked for [`the_process_with_few_files`] alone.

use std::fs::File;
use std::process::Command;

use super::certificates::certificate;
use super::*;

const FEW: &str = "PERENNIAL_TEST_FEW_FILES";

/// Opens files until no further one can be.
fn all_open_files() -> Vec<File> {
    let mut files = Vec::new();
    loop {
        match File::open("/dev/null") {
            Ok(file) => files.push(file),
            Err(_) => return files,
        }
    }
}

/// Does nothing in a test run.
#[test]
fn the_process_with_few_files() {
    if std::env::var_os(FEW).is_none() {
        return;
    }
    let setup = Setup::new();
    let path = StoredCertificates::add(&setup.registry, &certificate(&setup, false)).unwrap();
    let records = RegistryRecords::for_gallery(setup.registry.clone(), setup.gallery()).unwrap();
    let decide = || {
        records.look_again();
        records.check("v0002", "v0001")
    };
    let pair = || decide().map(|certified| certified.basis);
    let certified = pair().unwrap();
    assert!(certified.contains("by certificate"), "{certified}");

    // Another one has it read anew, which fails.
    std::fs::write(path.with_file_name("other.json"), "no certificate").unwrap();
    let files = all_open_files();
    let kept = pair();
    drop(files);
    assert_eq!(kept.unwrap(), certified);
    assert_eq!(pair().unwrap(), certified);

    std::fs::remove_file(path.with_file_name("other.json")).unwrap();
    // What was replaced and cannot be read certifies nothing, until it can be read.
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(&path, &path).unwrap();
    let refused = pair().unwrap_err().reason;
    assert!(
        refused.contains("cannot be read at the moment, and is tried again"),
        "{refused}"
    );
    assert!(!refused.contains("--record"), "{refused}");
    std::fs::remove_file(&path).unwrap();
    StoredCertificates::add(&setup.registry, &certificate(&setup, false)).unwrap();
    assert_eq!(pair().unwrap(), certified);
    println!("{FEW} done");
}

#[test]
fn a_file_that_was_read_and_is_the_same_stays_in_force() {
    let setup = Setup::new();
    let path = StoredCertificates::add(&setup.registry, &certificate(&setup, false)).unwrap();
    let before = StoredCertificates::of(&setup.registry).unwrap();
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(&path, &path).unwrap();
    let again = |unchanged: bool| {
        StoredCertificates::again(&setup.registry, &before, &|_| unchanged).unwrap()
    };
    let kept = again(true);
    assert_eq!((kept.iter().count(), kept.is_incomplete()), (1, false));
    let lost = again(false);
    assert_eq!((lost.iter().count(), lost.is_incomplete()), (0, true));
    // Damage is not tried again.
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "{").unwrap();
    let damaged = again(true);
    assert_eq!(
        (damaged.iter().count(), damaged.is_incomplete()),
        (0, false)
    );
}

#[test]
fn what_cannot_be_read_for_a_moment_is_not_damaged() {
    let script = "ulimit -n 40 && exec \"$0\" --exact records::tests::unread::the_process_with_few_files --nocapture";
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new("sh");
    command.arg("-c").arg(script).arg(program).env(FEW, "1");
    let ended = command.output().unwrap();
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(
        ended.status.success() && said.contains(&format!("{FEW} done")),
        "{said}{}",
        String::from_utf8_lossy(&ended.stderr)
    );
}
