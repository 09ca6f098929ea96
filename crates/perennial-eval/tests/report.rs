//! A report of realistic size on disk, in the terminal and as a page. The accuracies are published ones; which query is right in
//! which test is made up.
#![allow(clippy::unwrap_used)]

use perennial_eval::{
    Bootstrap, Compatibility, CompatibilityMatrix, ProbeSet, ReportError, Retrieval, TieRule, html,
    table,
};

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
    assert!(text.starts_with("{\n  \"schema_version\": 1,"));
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
    std::fs::write(&path, b"{\"schema_version\": 2}").unwrap();
    let error = Compatibility::read(&path).unwrap_err();
    assert!(
        matches!(&error, ReportError::File { source, .. } if matches!(**source, ReportError::Schema { found: 2 }))
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
    let text = table::render(&hoc(), false);
    assert_eq!(text, include_str!("../testdata/table_hoc_7tasks.txt"));
    let colored = table::render(&hoc(), true);
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
        let page = html::render(&report);
        // Kept for a look with a browser.
        std::fs::write(
            std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name),
            &page,
        )
        .unwrap();
        for forbidden in [
            "http://", "https://", "<script", "<link", "url(", "@import", "NaN", "inf,", "<v0>",
        ] {
            assert!(!page.contains(forbidden), "{name} contains {forbidden}");
        }
        assert_balanced(&page, name);
        let tasks = report.versions().len();
        let outlined = page.matches("class=\"outline\" x=").count();
        assert_eq!(
            outlined,
            2 * report.metrics().incompatible_pairs_count,
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

/// Every element that is opened is closed in the right order.
fn assert_balanced(page: &str, name: &str) {
    let mut open = Vec::new();
    for part in page.split('<').skip(1) {
        let tag = part.split('>').next().unwrap();
        let element = tag
            .trim_start_matches('/')
            .split([' ', '/'])
            .next()
            .unwrap();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(element), "{name}: </{element}>");
        } else if !tag.ends_with('/') && !matches!(element, "!doctype" | "meta") {
            open.push(element);
        }
    }
    assert!(open.is_empty(), "{name}: {open:?}");
}
