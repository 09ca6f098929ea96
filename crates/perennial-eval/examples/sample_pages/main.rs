//! Writes the pages of this crate from made-up data into a folder, for a look with a browser:
//! `cargo run -p perennial-eval --example sample_pages -- FOLDER`.

mod upgrade;

use std::path::PathBuf;

use perennial_eval::html::certificate_page::CertificatePage;
use perennial_eval::{Bootstrap, Compatibility, ProbeSet, Provenance, Retrieval, TieRule, html};

use self::upgrade::upgrade;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder: PathBuf = match std::env::args_os().nth(1) {
        Some(folder) => folder.into(),
        None => return Err("name the folder for the pages".into()),
    };
    std::fs::create_dir_all(&folder)?;
    let certificate = CertificatePage {
        advice: None,
        ..upgrade()
    };
    for (name, page) in [
        (
            "report.html",
            html::render(&report()?, &Provenance::default()),
        ),
        ("certificate.html", certificate.render()),
        ("advice.html", upgrade().render()),
        ("empty.html", CertificatePage::default().render()),
    ] {
        std::fs::write(folder.join(name), page)?;
        println!("{}", folder.join(name).display());
    }
    Ok(())
}

/// A report of five versions.
fn report() -> Result<Compatibility, Box<dyn std::error::Error>> {
    const QUERIES: usize = 2_000;
    let accuracy = |t: usize, k: usize| 0.55 + 0.04 * t as f64 - 0.025 * (t - k) as f64;
    let test = |t: usize, k: usize| {
        let right = (accuracy(t, k) * QUERIES as f64) as usize;
        let outcomes: Vec<bool> = (0..QUERIES)
            .map(|query| (query + 37 * t) % QUERIES < right)
            .collect();
        Retrieval {
            ncm_top1: right as f64 / QUERIES as f64,
            cmc1: accuracy(t, k) * 0.93,
            cmc5: 1.0 - (1.0 - accuracy(t, k)) * 0.5,
            cmc10: 1.0 - (1.0 - accuracy(t, k)) * 0.35,
            map: accuracy(t, k) * 0.62,
            per_query_ncm_correct: outcomes,
            queries_without_match: 0,
        }
    };
    let tests: Vec<Vec<Retrieval>> = (0..5)
        .map(|t| (0..=t).map(|k| test(t, k)).collect())
        .collect();
    let set = |name: &str| ProbeSet {
        name: name.to_owned(),
        argument: None,
        count: QUERIES,
        sha256: "00".repeat(32),
    };
    let versions = (1..=5).map(|number| format!("v{number:04}")).collect();
    Ok(Compatibility::new(
        versions,
        &tests,
        set("made-up queries"),
        set("made-up gallery"),
        TieRule::Strict,
        Bootstrap::new(7),
    )?)
}
