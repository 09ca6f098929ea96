use std::collections::BTreeMap;

use super::*;
use crate::text_table::csv;

fn entry(method: &str, seed: u64, values: &[(&str, f64)]) -> Entry {
    Entry {
        source: format!("runs/{method}-{seed}"),
        method: method.to_owned(),
        kind: Some(method.to_owned()),
        scenario: Some("iamcl2r-7".to_owned()),
        evaluation: Some("4 queries on 5 items".to_owned()),
        seed: Some(seed),
        values: values
            .iter()
            .map(|&(name, value)| (name.to_owned(), value))
            .collect(),
        intervals: BTreeMap::new(),
        worst_pairs: BTreeMap::new(),
    }
}

fn example() -> MethodTable {
    MethodTable::new(vec![
        entry(
            "hoc",
            2,
            &[("AC", 0.7), ("AA", 0.5), ("worst margin", -0.01)],
        ),
        entry(
            "hoc",
            0,
            &[("AC", 0.5), ("AA", 0.5), ("worst margin", -0.03)],
        ),
        entry("er_|&", 0, &[("AC", 0.0), ("AA", 0.25)]),
        entry("hoc", 1, &[("AC", 0.6), ("AA", 0.5)]),
    ])
    .unwrap()
}

#[test]
fn seeds_of_a_method_are_summarised() {
    let table = example();
    let group = &table.groups[0];
    let names: Vec<&str> = group
        .methods
        .iter()
        .map(|method| method.method.as_str())
        .collect();
    assert_eq!(names, ["hoc", "er_|&"]);
    let hoc = &group.methods[0];
    assert_eq!(hoc.seeds, [Some(0), Some(1), Some(2)]);
    assert_eq!(hoc.runs, ["runs/hoc-0", "runs/hoc-1", "runs/hoc-2"]);
    assert_eq!(hoc.measures["AC"].values, [0.5, 0.6, 0.7]);
    assert_eq!(hoc.measures["worst margin"].count, 2);
    assert_eq!(hoc.published.unwrap().method, "d-Simplex-HOC");
    assert_eq!(group.methods[1].published, None);
}

#[test]
fn golden_markdown() {
    let text = example().to_markdown();
    let expected = "\
## iamcl2r-7

4 queries on 5 items. Fractions, mean ± standard deviation over seeds.

| method                               | runs |              AC |              AA |
| ------------------------------------ | ---: | --------------: | --------------: |
| hoc                                  |    3 | 0.6000 ± 0.1000 | 0.5000 ± 0.0000 |
| er\\_\\|&                              |    1 |          0.0000 |          0.2500 |
| ER (published)                       |    - |          0.0000 |           ~0.36 |
| FAN (published)                      |    - |          0.0000 |           ~0.36 |
| BCT-ER (published)                   |    - |          0.0000 |           ~0.36 |
| CVS (published)                      |    - |          0.0000 |           ~0.36 |
| d-Simplex-FD (published)             |    - |          0.0500 |          0.5658 |
| d-Simplex-HOC (published)            |    - |          0.9500 |          0.6813 |
| ER (published, notebooks)            |    - |          0.0000 |          0.3518 |
| d-Simplex-HOC (published, notebooks) |    - |          0.9500 |          0.6890 |

Published: arXiv 2405.02581 and its extension, TPAMI 2026; by the published recipe, from which runs can differ in network, epochs and pre-trained models. ~ is a round figure, < a bound.

### Every measure

95 % intervals of the mean by Student's t.

| measure      | method  | runs |    mean | deviation |      95 % interval | published |
| ------------ | ------- | ---: | ------: | --------: | -----------------: | --------: |
| AC           | hoc     |    3 |  0.6000 |    0.1000 |   [0.3516, 0.8484] |    0.9500 |
| AC           | er\\_\\|& |    1 |  0.0000 |         - |                  - |         - |
| AA           | hoc     |    3 |  0.5000 |    0.0000 |   [0.5000, 0.5000] |    0.6813 |
| AA           | er\\_\\|& |    1 |  0.2500 |         - |                  - |         - |
| worst margin | hoc     |    2 | -0.0200 |    0.0141 | [-0.1471, +0.1071] |         - |
";
    assert_eq!(text, expected);
}

#[test]
fn golden_latex() {
    let text = example().to_latex();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "% iamcl2r-7");
    assert_eq!(
        &lines[3..8],
        [
            "\\begin{tabular}{lrrr}",
            "\\hline",
            "method & runs & AC & AA \\\\",
            "\\hline",
            "hoc & 3 & 0.6000 $\\pm$ 0.1000 & 0.5000 $\\pm$ 0.0000 \\\\"
        ]
    );
    assert_eq!(lines[8], "er\\_$|$\\& & 1 & 0.0000 & 0.2500 \\\\");
    assert_eq!(lines[9], "ER (published) & - & 0.0000 & $\\sim$0.36 \\\\");
    assert_eq!(&lines[lines.len() - 2..], ["\\hline", "\\end{tabular}"]);
}

#[test]
fn golden_csv() {
    let mut entries = vec![
        entry("hoc", 1, &[("AC", 0.75)]),
        entry("hoc", 0, &[("AC", 0.75)]),
    ];
    for entry in &mut entries {
        entry.method = "hoc, \"mine\"".to_owned();
        entry.scenario = Some("iamcl2r-31".to_owned());
    }
    let text = csv::render(&MethodTable::new(entries).unwrap().rows());
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        &lines[..4],
        [
            "scenario,evaluation,method,measure,runs,seeds,mean,deviation,interval_low,interval_high,published_qualifier,published",
            "iamcl2r-31,4 queries on 5 items,\"hoc, \"\"mine\"\"\",AC,2,0 1,0.75,0,0.75,0.75,,0.65",
            "iamcl2r-31,4 queries on 5 items,ER (published),AC,0,,,,,,<,0.01",
            // The order is that of the measures.
            "iamcl2r-31,4 queries on 5 items,ER (published),AA,0,,,,,,~,0.31",
        ]
    );
    assert_eq!(lines.len(), 2 + 2 * 5);
}

#[test]
fn only_equal_scenarios_and_evaluations_are_compared() {
    let mut entries: Vec<Entry> = (0..4).map(|_| entry("hoc", 0, &[("AC", 0.5)])).collect();
    entries[1].scenario = Some("4 tasks".to_owned());
    entries[2].evaluation = None;
    entries[3].method = "er".to_owned();
    let table = MethodTable::new(entries).unwrap();
    let sizes: Vec<usize> = table
        .groups
        .iter()
        .map(|group| group.methods.len())
        .collect();
    assert_eq!(sizes, [2, 1, 1]);
    assert!(table.groups[1].published.is_empty());
    assert!(!table.groups[1].to_markdown().contains("ublished"));
}

#[test]
fn a_run_does_not_count_twice() {
    let twice = vec![
        entry("hoc", 3, &[]),
        entry("er", 3, &[]),
        entry("hoc", 3, &[]),
    ];
    let error = MethodTable::new(twice).unwrap_err().to_string();
    assert!(
        error.starts_with("runs/hoc-3 and runs/hoc-3 are both seed 3 of method hoc"),
        "{error}"
    );
    // Runs without a seed are told apart by nothing, and may be many.
    let mut unknown = vec![
        entry("hoc", 3, &[("AC", 0.5)]),
        entry("hoc", 3, &[("AC", 0.7)]),
    ];
    unknown.iter_mut().for_each(|entry| entry.seed = None);
    let table = MethodTable::new(unknown).unwrap();
    assert_eq!(table.groups[0].methods[0].measures["AC"].count, 2);
}

#[test]
fn values_are_finite() {
    let error = MethodTable::new(vec![entry("hoc", 3, &[("AC", f64::NAN)])]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "runs/hoc-3: AC is not a finite number; measure the run again"
    );
}

#[test]
fn measures_of_other_names_are_shown_too() {
    let table = MethodTable::new(vec![entry("mine", 0, &[("speed", 0.5)])]).unwrap();
    let text = csv::render(&table.groups[0].short_table());
    assert!(
        text.starts_with("method,runs,speed\nmine,1,0.5000\n"),
        "{text}"
    );
}

#[test]
fn json_has_every_value() {
    let value = serde_json::to_value(example()).unwrap();
    let group = &value["groups"][0];
    assert_eq!(group["methods"][0]["measures"]["AC"]["values"][1], 0.6);
    assert_eq!(group["methods"][0]["published"]["method"], "d-Simplex-HOC");
    assert_eq!(group["published"].as_array().unwrap().len(), 8);
}
