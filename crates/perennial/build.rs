//! Tells the program which compiler and which commit it was built from, for the records of runs, and for which platform.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    set("PERENNIAL_RUSTC", first_line(&rustc, &["--version"]));
    set("PERENNIAL_TARGET", std::env::var("TARGET").ok());
    set(
        "PERENNIAL_COMMIT",
        first_line("git", &["rev-parse", "--short=12", "HEAD"]),
    );
    // Only a file that exists may be named here: a missing one would rebuild the program every time.
    let log = first_line("git", &["rev-parse", "--git-path", "logs/HEAD"]);
    if let Some(log) = log.filter(|log| std::path::Path::new(log).exists()) {
        println!("cargo::rerun-if-changed={log}");
    }
}

fn set(name: &str, value: Option<String>) {
    if let Some(value) = value {
        println!("cargo::rustc-env={name}={value}");
    }
}

fn first_line(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.lines().next()?.trim();
    (output.status.success() && !line.is_empty()).then(|| line.to_owned())
}
