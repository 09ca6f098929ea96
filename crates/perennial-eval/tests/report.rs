//! A report of realistic size on disk, in the terminal and as a page. The accuracies are published ones; which query is right in
//! which test is made up.
#![allow(clippy::unwrap_used)]

use perennial_eval::{
    Bootstrap, Compatibility, CompatibilityMatrix, ProbeSet, Provenance, ReportError, Retrieval,
    TieRule, Verdict, VerdictCounts, html, table,
};

mod well_formed;

/// So many that every published accuracy is a whole number of queries.
const QUERIES: usize = 50_000;

fn names(count: usize) -> Vec<String> {
    (1..=count).map(|number| format!("v{number:04}")).collect()
}

fn probe(name: &str, count: usize) -> ProbeSet {
    ProbeSet {
        name: name.to_owned(),
        argument: None,
        count,
        sha256: "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03".to_owned(),
    }
}

fn report(rows: &[Vec<f64>], versions: Vec<String>, count: usize) -> Compatibility {
    let test = |t: usize, k: usize, accuracy: f64| Retrieval {
        ncm_top1: accuracy,
        cmc1: accuracy * 0.93,
        cmc5: 1.0 - (1.0 - accuracy) * 0.5,
        cmc10: 1.0 - (1.0 - accuracy) * 0.35,
        map: accuracy * 0.62,
        per_query_ncm_correct: {
            let right = (accuracy * count as f64).round() as usize;
            let shift = (350 * t + 130 * k) % count;
            (0..count)
                .map(|query| (query + count - shift) % count < right)
                .collect()
        },
        queries_without_match: 0,
    };
    let row = |(t, row): (usize, &Vec<f64>)| {
        row.iter()
            .enumerate()
            .map(|(k, &cell)| test(t, k, cell))
            .collect()
    };
    let tests: Vec<Vec<Retrieval>> = rows.iter().enumerate().map(row).collect();
    let (queries, gallery) = (probe("cifar10 train", count), probe("cifar10 test", 10_000));
    Compatibility::new(
        versions,
        &tests,
        queries,
        gallery,
        TieRule::Strict,
        Bootstrap::new(7),
    )
    .unwrap()
}

#[test]
fn every_pair_becomes_a_record() {
    let report = report(&[vec![0.5], vec![0.4, 0.6]], names(2), 100);
    let created = "2026-11-22T21:35:00Z";
    let record = report.record(&report.pairs()[0], ["22", "11"], created);
    assert_eq!(record.query_weights.as_deref(), Some("22"));
    assert_eq!(record.gallery_weights.as_deref(), Some("11"));
    assert_eq!(record.intervals.len(), Bootstrap::CONFIDENCES.len());
    assert_eq!(
        (
            record.query_version.as_str(),
            record.gallery_version.as_str()
        ),
        ("v0002", "v0001")
    );
    assert_eq!((record.self_test, record.cross_test), (0.5, 0.4));
    assert_eq!(record.created, created);
    assert!(!record.is_compatible());
}

fn published(text: &str) -> Compatibility {
    let matrix = CompatibilityMatrix::from_json(text).unwrap();
    report(matrix.rows(), names(matrix.tasks()), QUERIES)
}

fn provenance() -> Provenance {
    Provenance {
        run: Some("iamcl2r<7>".to_owned()),
        method: Some("hoc".to_owned()),
        seed: Some(3),
        measured: Some("2026-11-22T21:35:10Z".to_owned()),
        replacements: vec![2, 4],
    }
}

fn hoc() -> Compatibility {
    published(include_str!("../testdata/matrix_hoc_7tasks.json"))
}

#[test]
fn the_file_is_read_back_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("compatibility.json");
    let report = hoc();
    report.write(&path).unwrap();
    assert_eq!(Compatibility::read(&path).unwrap(), report);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("{\n  \"schema_version\": 2,"));
    let matrix = CompatibilityMatrix::from_json(&text).unwrap();
    assert_eq!(
        &matrix,
        report.matrix(),
        "the report is a matrix file as well"
    );
}

#[test]
fn errors_name_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("compatibility.json");
    let error = Compatibility::read(&path).unwrap_err().to_string();
    assert!(error.contains("compatibility.json"), "{error}");
    std::fs::write(&path, b"{\"schema_version\": 3}").unwrap();
    let error = Compatibility::read(&path).unwrap_err();
    assert!(
        matches!(&error, ReportError::File { source, .. } if matches!(**source, ReportError::Schema { found: 3 }))
    );
    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    let error = Compatibility::read(&path).unwrap_err().to_string();
    assert!(
        error.contains("compatibility.json") && error.contains("utf-8"),
        "{error}"
    );
}

#[test]
fn the_terminal_table_marks_the_incompatible_pair() {
    let text = table::render(&hoc(), &provenance(), false);
    assert_eq!(text, include_str!("../testdata/table_hoc_7tasks.txt"));
    let colored = table::render(&hoc(), &provenance(), true);
    assert!(
        colored.contains("\u{1b}[1;31m0.7211!\u{1b}[0m"),
        "{colored}"
    );
    assert!(colored.contains("\u{1b}[1m0.7237\u{1b}[0m"), "{colored}");
    let mut plain = String::new();
    for (index, part) in colored.split('\u{1b}').enumerate() {
        plain += if index == 0 {
            part
        } else {
            part.split_once('m').unwrap().1
        };
    }
    assert_eq!(plain, text, "colour changes nothing else");
}

#[test]
fn the_page_is_complete_and_self_contained() {
    let versions = |count: usize| (0..count).map(|index| format!("<v{index}>&\"'")).collect();
    let reports = [
        ("report_hoc.html", hoc()),
        (
            "report_er.html",
            published(include_str!("../testdata/matrix_er_7tasks.json")),
        ),
        ("report_one.html", report(&[vec![0.6]], names(1), 1000)),
        (
            "report_two.html",
            report(&[vec![0.6], vec![0.6, 0.7]], versions(2), 1000),
        ),
        ("report_31.html", {
            let cell = |t: usize, k: usize| {
                0.5 + 0.2 * (t as f64 / 30.0) - 0.002 * ((t * 7 + k * 13) % 11) as f64
            };
            let rows: Vec<Vec<f64>> = (0..31)
                .map(|t| (0..=t).map(|k| (cell(t, k) * 2e3).round() / 2e3).collect())
                .collect();
            report(&rows, names(31), 2000)
        }),
    ];
    for (name, report) in reports {
        let page = html::render(&report, &provenance());
        // Kept for a look with a browser.
        std::fs::write(
            std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name),
            &page,
        )
        .unwrap();
        well_formed::assert_self_contained(&page, name);
        assert!(!page.contains("<v0>"), "{name}");
        well_formed::assert_balanced(&page, name);
        let tasks = report.versions().len();
        let outlined = page.matches("class=\"outline\" x=").count();
        let counts = VerdictCounts::of(report.pairs());
        assert_eq!(outlined, 2 * counts.incompatible, "{name}: once per map");
        for (word, count) in [
            ("compatible", counts.compatible),
            ("undecided", counts.undecided),
            ("incompatible", counts.incompatible),
        ] {
            let rows = page
                .matches(&format!("</b> {word}</span></td></tr>"))
                .count();
            assert_eq!(rows, count, "{name}: {word}");
        }
        assert!(
            page.contains(&format!("<h1>{}</h1>", counts.sentence())),
            "{name}"
        );
        for fact in [
            "<dt>Run</dt><dd>iamcl2r&lt;7&gt;</dd>",
            "<dt>Method</dt><dd>hoc</dd>",
            "<dt>Seed</dt><dd>3</dd>",
            "<dt>Measured</dt><dd>2026-11-22 21:35 UTC</dd>",
        ] {
            assert!(page.contains(fact), "{name}: {fact}");
        }
        let marks = [2, 4].iter().filter(|&&at| at < tasks).count();
        assert_eq!(
            page.matches("class=\"replacement\" d=").count(),
            2 * marks,
            "{name}: once per map"
        );
        assert_eq!(
            page.matches("class=\"interval\"").count(),
            tasks * (tasks - 1) / 2,
            "{name}"
        );
        assert_eq!(page.matches("</h1>").count(), 1, "{name}");
    }
}

/// A report with 1000 queries in which the second version is right where the first is, but for `lost` and `won` queries.
fn two_versions(lost: usize, won: usize) -> Compatibility {
    let test = |right: &dyn Fn(usize) -> bool| {
        let outcomes: Vec<bool> = (0..1000).map(right).collect();
        let accuracy = outcomes.iter().filter(|&&right| right).count() as f64 / 1000.0;
        Retrieval {
            ncm_top1: accuracy,
            cmc1: 0.5,
            cmc5: 0.6,
            cmc10: 0.7,
            map: 0.4,
            per_query_ncm_correct: outcomes,
            queries_without_match: 0,
        }
    };
    let old = |query: usize| query < 500;
    let new = |query: usize| (lost..500 + won).contains(&query);
    let tests = [vec![test(&old)], vec![test(&new), test(&new)]];
    Compatibility::new(
        names(2),
        &tests,
        probe("queries", 1000),
        probe("gallery", 1000),
        TieRule::Strict,
        Bootstrap::new(7),
    )
    .unwrap()
}

#[test]
fn undecided_pairs_are_never_counted_as_compatible() {
    for (lost, won, decision, says) in [
        (0, 60, Verdict::Compatible, "The new version is compatible"),
        (
            60,
            0,
            Verdict::Incompatible,
            "The new version is incompatible",
        ),
        // More right than before, and AC 1, but by two queries of 1000.
        (
            20,
            22,
            Verdict::Undecided,
            "It is undecided whether the new version is compatible",
        ),
        (
            22,
            20,
            Verdict::Undecided,
            "It is undecided whether the new version is compatible",
        ),
        // Equal embeddings answer every query alike.
        (0, 0, Verdict::Compatible, "The new version is compatible"),
    ] {
        let report = two_versions(lost, won);
        assert_eq!(report.decision(1, 0), decision, "{lost} lost, {won} won");
        let page = html::render(&report, &Provenance::default());
        assert!(
            page.contains(&format!("<h1>{says}</h1>")),
            "{lost} lost, {won} won"
        );
        let text = table::render(&report, &Provenance::default(), false);
        assert!(text.starts_with(&format!("{says}.\n")), "{text}");
        let mark = match decision {
            Verdict::Compatible => ' ',
            Verdict::Undecided => '?',
            Verdict::Incompatible => '!',
        };
        let row = text
            .lines()
            .find(|line| line.starts_with("v0002 "))
            .unwrap();
        let cell = format!("{:.4}{mark}", report.matrix().rows()[1][0]);
        assert!(row.contains(&cell), "{text}");
    }
}

#[test]
fn replacements_are_marked_in_the_table() {
    let text = table::render(&hoc(), &provenance(), false);
    let lines: Vec<&str> = text.lines().collect();
    let marked = |line: &&str| line.ends_with("- replacement");
    let at: Vec<usize> = (0..lines.len()).filter(|&at| marked(&lines[at])).collect();
    assert_eq!(at.len(), 2, "{text}");
    assert!(lines[at[0] - 1].starts_with("v0002 ") && lines[at[0] + 1].starts_with("v0003 "));
    assert!(lines[at[1] - 1].starts_with("v0004 ") && lines[at[1] + 1].starts_with("v0005 "));
    // Every later row is divided where the columns of the replaced versions end.
    let last = lines
        .iter()
        .rfind(|line| line.starts_with("v0007 ") && line.contains('|'));
    assert_eq!(last.unwrap().matches('|').count(), 2, "{text}");
    let none = table::render(&hoc(), &Provenance::default(), false);
    assert!(
        !none.contains("replacement") && !none.contains('|'),
        "{none}"
    );
}
