//! The results of a benchmark: a table for each measure, one for half-old galleries, and one of what the runs cost.

use super::{Group, Method, dash, published_name, show_figure};
use crate::Interval;
use crate::text_table::{TextTable, markdown};

/// The measures of results: the prefix of their names, and what they are.
///
/// A prefix and one of `AC`, `AA`, `ACA`, `compatible pairs`, `incompatible pairs`, `mean cross-test` and `last self-test` make a name.
pub const RESULTS: [(&str, &str); 5] = [
    ("", "Nearest class mean"),
    (
        "recall@1 ",
        "recall@1: the first hit is of the query's class",
    ),
    ("mAP ", "mAP"),
    (
        "altered recall@1 ",
        "Altered copies, recall@1: the first hit is the original",
    ),
    ("altered mrr@10 ", "Altered copies, MRR@10"),
];

/// Measures of a gallery of which one half was embedded by the oldest version and one half by the newest: the prefix of their names, and
/// what they are. A prefix and one of `recall@1`, `mAP` and `old among first` make a name.
pub const HALF_OLD: [(&str, &str); 3] = [
    ("all old ", "all old"),
    ("half old ", "half old"),
    ("all new ", "all new"),
];

/// Columns of every measure: the end of the name, the title, and whether intervals are shown.
const COLUMNS: [(&str, &str, bool); 7] = [
    ("AC", "AC", true),
    ("AA", "AA", true),
    ("ACA", "ACA", true),
    ("compatible pairs", "pairs better", false),
    ("incompatible pairs", "pairs worse", false),
    ("mean cross-test", "cross-tests", false),
    ("last self-test", "new self-test", false),
];

/// What runs cost: name, title, and the factor to the title's unit.
const COST: [(&str, &str, f64); 3] = [
    ("training seconds", "training (min)", 1.0 / 60.0),
    ("evaluation seconds", "evaluation (min)", 1.0 / 60.0),
    ("peak memory bytes", "peak memory (MB)", 1e-6),
];

impl Group {
    /// A table for each measure that any method has, as Markdown. Equal entries give equal text.
    pub fn results_markdown(&self) -> String {
        let mut parts = Vec::new();
        if let Some(evaluation) = &self.evaluation {
            parts.push(format!("{}.\n", markdown::escape(evaluation)));
        }
        for (prefix, title) in RESULTS {
            if self.has(&format!("{prefix}AA")) {
                let table = markdown::render(&self.measure_table(prefix));
                parts.push(format!("**{title}**\n\n{table}"));
            }
        }
        if let Some(table) = self.half_old_table() {
            parts.push(format!(
                "**Half-old gallery**: every other item embedded by the oldest version, the others by the newest\n\n{}",
                markdown::render(&table)
            ));
        }
        if let Some(foot) = self.foot() {
            parts.push(format!("{}\n", markdown::escape(&foot)));
        }
        parts.join("\n")
    }

    /// Time and memory, means over the runs of which they are known; none where nothing is known.
    pub fn cost_table(&self) -> Option<TextTable> {
        let shown: Vec<_> = COST
            .into_iter()
            .filter(|(name, ..)| self.has(name))
            .collect();
        if shown.is_empty() {
            return None;
        }
        let mut table = TextTable::new().text("method");
        for (_, title, _) in &shown {
            table = table.numbers(*title);
        }
        for method in &self.methods {
            let of = |name: &str| method.measures.get(name);
            if shown.iter().all(|(name, ..)| of(name).is_none()) {
                continue;
            }
            let mut cells = vec![method.method.clone()];
            cells.extend(shown.iter().map(|(name, _, factor)| {
                of(name).map_or_else(dash, |found| format!("{:.1}", found.mean * factor))
            }));
            table.push(cells);
        }
        Some(table)
    }

    fn has(&self, name: &str) -> bool {
        self.methods
            .iter()
            .any(|method| method.measures.contains_key(name))
    }

    fn measure_table(&self, prefix: &str) -> TextTable {
        let shown: Vec<_> = COLUMNS
            .into_iter()
            .map(|(end, title, interval)| (format!("{prefix}{end}"), title, interval))
            .filter(|(name, ..)| self.has(name))
            .collect();
        let mut table = TextTable::new().text("method").numbers("runs");
        for (_, title, _) in &shown {
            table = table.numbers(*title);
        }
        table = table.numbers("worst pair");
        for method in &self.methods {
            if !shown
                .iter()
                .any(|(name, ..)| method.measures.contains_key(name))
            {
                continue;
            }
            let mut cells = vec![method.method.clone(), method.runs.len().to_string()];
            cells.extend(
                shown
                    .iter()
                    .map(|(name, _, interval)| method.cell(name, *interval)),
            );
            cells.push(method.worst_pairs.get(prefix).map_or_else(dash, |pair| {
                format!("{:+.3} ({} on {})", pair.margin, pair.query, pair.gallery)
            }));
            table.push(cells);
        }
        // Published are figures of class means.
        let published = if prefix.is_empty() {
            self.published
        } else {
            &[]
        };
        for row in published {
            let mut cells = vec![published_name(row), dash()];
            cells.extend(shown.iter().map(|(name, ..)| show_figure(row.figure(name))));
            cells.push(dash());
            table.push(cells);
        }
        table
    }

    fn half_old_table(&self) -> Option<TextTable> {
        let measures = ["recall@1", "mAP"];
        let name = |prefix: &str, measure: &str| format!("{prefix}{measure}");
        let any = HALF_OLD
            .iter()
            .any(|(prefix, _)| measures.iter().any(|one| self.has(&name(prefix, one))));
        if !any {
            return None;
        }
        let mut table = TextTable::new().text("method").numbers("runs");
        for measure in measures {
            for (_, title) in HALF_OLD {
                table = table.numbers(format!("{measure}, {title}"));
            }
        }
        table = table.numbers("old among the first 24");
        for method in &self.methods {
            let cells: Vec<String> = measures
                .iter()
                .flat_map(|measure| {
                    HALF_OLD.map(|(prefix, _)| method.cell(&name(prefix, measure), false))
                })
                .chain([method.cell("half old among first", false)])
                .collect();
            if cells.iter().all(|cell| *cell == dash()) {
                continue;
            }
            let first = [method.method.clone(), method.runs.len().to_string()];
            table.push(first.into_iter().chain(cells).collect());
        }
        Some(table)
    }
}

impl Method {
    /// The mean of a measure; with its interval, over the seeds or, with one run, over the queries.
    fn cell(&self, name: &str, interval: bool) -> String {
        let Some(found) = self.measures.get(name) else {
            return dash();
        };
        let bounds = found.interval.or(self.query_intervals.get(name).copied());
        // Student's t knows no limits, but these measures are fractions.
        let within = |bounds: Interval| Interval {
            low: bounds.low.max(0.0),
            high: bounds.high.min(1.0),
        };
        let bounds = bounds.map(within);
        match bounds.filter(|_| interval) {
            Some(bounds) => format!("{:.3} [{:.3}, {:.3}]", found.mean, bounds.low, bounds.high),
            None => format!("{:.3}", found.mean),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::method_table;
    use crate::method_table::{Entry, MethodTable, WorstPair};

    fn entry(method: &str, seed: u64, values: &[(&str, f64)]) -> Entry {
        Entry {
            source: format!("{method}-{seed}"),
            method: method.to_owned(),
            kind: None,
            scenario: Some("iamcl2r-31".to_owned()),
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

    fn group(entries: Vec<Entry>) -> method_table::Group {
        MethodTable::new(entries).unwrap().groups.remove(0)
    }

    #[test]
    fn one_run_has_intervals_over_queries_and_several_over_seeds() {
        let mut one = entry("er", 0, &[("AC", 0.25), ("AA", 0.5)]);
        let bounds = Interval {
            low: 0.125,
            high: 0.375,
        };
        one.intervals.insert("AC".to_owned(), bounds);
        let worst = WorstPair {
            query: 3,
            gallery: 1,
            margin: -0.5,
        };
        one.worst_pairs.insert(String::new(), worst);
        let mut first = entry("hoc", 0, &[("AC", 0.5), ("AA", 0.5)]);
        first.intervals.insert("AC".to_owned(), bounds);
        let second = entry("hoc", 1, &[("AC", 0.5), ("AA", 0.5), ("mAP AA", 0.25)]);
        let text = group(vec![one, first, second]).results_markdown();
        let row = |start: &str| {
            let line = text.lines().find(|line| line.starts_with(start)).unwrap();
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            row("| er "),
            "| er | 1 | 0.250 [0.125, 0.375] | 0.500 | -0.500 (3 on 1) |"
        );
        assert_eq!(
            row("| hoc "),
            "| hoc | 2 | 0.500 [0.500, 0.500] | 0.500 [0.500, 0.500] | - |"
        );
        assert_eq!(
            row("| d-Simplex-HOC (published) "),
            "| d-Simplex-HOC (published) | - | 0.6500 | 0.6740 | - |"
        );
        // The table of mAP has the one method that has it, and no published rows.
        let map = text.split("**mAP**").nth(1).unwrap();
        let rows = map.lines().filter(|line| line.starts_with("| ")).count();
        assert_eq!(rows, 3, "{map}");
        assert!(!text.contains("Half-old") && !text.contains("recall@1"));
    }

    #[test]
    fn half_old_galleries_and_cost_have_tables_of_their_own() {
        let values = [
            ("AA", 0.5),
            ("all old mAP", 0.25),
            ("half old mAP", 0.125),
            ("half old among first", 0.5),
            ("training seconds", 90.0),
            ("peak memory bytes", 2.5e8),
        ];
        let group = group(vec![entry("er", 0, &values), entry("x", 0, &[("AA", 0.5)])]);
        let text = group.results_markdown();
        assert!(
            text.contains("| er     |    1 |                 - |"),
            "{text}"
        );
        assert!(text.contains("0.250 |         0.125 |"), "{text}");
        assert!(!text.contains("1.5"), "{text}");
        let cost = markdown::render(&group.cost_table().unwrap());
        assert!(cost.contains("1.5 |            250.0 |"), "{cost}");
        assert_eq!(cost.lines().count(), 3, "{cost}");
        let nothing = self::group(vec![entry("er", 0, &[("AA", 0.5)])]);
        assert_eq!(nothing.cost_table(), None);
    }
}
