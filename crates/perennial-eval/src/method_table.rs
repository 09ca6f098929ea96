//! Methods compared over seeds: what `perennial compare` shows of runs.
//!
//! Runs of one scenario and one evaluation set make a [`Group`]; within it, runs of one method are its seeds. The published figures of
//! the scenario stand beside them.

mod entry;
mod error;
pub mod measures;
mod method;
pub mod names;
mod results;
mod worst_pair;

use serde::Serialize;

pub use entry::Entry;
pub use error::MethodTableError;
pub use measures::{HEADLINE, MEASURES, intervals_of, measures_of, worst_pairs_of};
pub use method::Method;
pub use names::{RunSettings, method_names};
pub use results::{HALF_OLD, RESULTS};
pub use worst_pair::WorstPair;

use crate::published::{Figure, Published, SOURCE, figures};
use crate::seed_summary::SeedSummary;
use crate::text_table::{TextTable, latex, markdown};
use crate::{Compatibility, TieRule};

/// Methods of all scenarios.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MethodTable {
    /// One for each scenario and evaluation set, in the order of the entries.
    pub groups: Vec<Group>,
}

/// Methods that can be compared.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Group {
    /// The scenario.
    pub scenario: Option<String>,
    /// What everything was measured on.
    pub evaluation: Option<String>,
    /// The methods, in the order of the entries.
    pub methods: Vec<Method>,
    /// Published figures of the scenario.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub published: &'static [Published],
}

/// The evaluation sets and the tie rule of a report, in words; equal for reports that can be compared.
pub fn evaluation_of(report: &Compatibility) -> String {
    let (queries, gallery) = (report.queries(), report.gallery());
    let short = |sha256: &str| sha256.chars().take(8).collect::<String>();
    let ties = match report.tie_rule() {
        TieRule::Strict => "",
        TieRule::TiesCount => ", ties count as compatible",
    };
    format!(
        "{} queries of {} (sha256 {}) on {} items of {} (sha256 {}){ties}",
        queries.count,
        queries.name,
        short(&queries.sha256),
        gallery.count,
        gallery.name,
        short(&gallery.sha256)
    )
}

impl MethodTable {
    /// Groups entries by scenario and evaluation set, then by method, and summarises each measure over the seeds.
    ///
    /// # Errors
    /// A seed of a method that appears twice; a value that is not finite.
    pub fn new(entries: Vec<Entry>) -> Result<Self, MethodTableError> {
        let mut groups: Vec<Vec<Entry>> = Vec::new();
        for entry in entries {
            if let Some((measure, _)) = entry.values.iter().find(|(_, value)| !value.is_finite()) {
                return Err(MethodTableError::NotFinite {
                    measure: measure.clone(),
                    source_name: entry.source,
                });
            }
            let same = |group: &&mut Vec<Entry>| {
                group[0].scenario == entry.scenario && group[0].evaluation == entry.evaluation
            };
            match groups.iter_mut().find(same) {
                Some(group) => group.push(entry),
                None => groups.push(vec![entry]),
            }
        }
        let groups = groups.into_iter().map(Group::of);
        Ok(Self {
            groups: groups.collect::<Result<_, _>>()?,
        })
    }

    /// Every group as Markdown: a short table of means and deviations, then all measures with their intervals.
    pub fn to_markdown(&self) -> String {
        let sections: Vec<String> = self.groups.iter().map(Group::to_markdown).collect();
        sections.join("\n")
    }

    /// The short table of every group as LaTeX.
    pub fn to_latex(&self) -> String {
        let sections: Vec<String> = self.groups.iter().map(Group::to_latex).collect();
        sections.join("\n")
    }

    /// All measures of all groups in one table, for CSV. Published methods that were not measured have rows without a mean.
    pub fn rows(&self) -> TextTable {
        let mut table = TextTable::new()
            .text("scenario")
            .text("evaluation")
            .text("method")
            .text("measure")
            .numbers("runs")
            .text("seeds")
            .numbers("mean")
            .numbers("deviation")
            .numbers("interval_low")
            .numbers("interval_high")
            .text("published_qualifier")
            .numbers("published");
        for group in &self.groups {
            group.add_rows(&mut table);
        }
        table
    }
}

impl Group {
    /// `entries` are of one scenario and evaluation set, at least one.
    fn of(entries: Vec<Entry>) -> Result<Self, MethodTableError> {
        let scenario = entries[0].scenario.clone();
        let evaluation = entries[0].evaluation.clone();
        let published = scenario.as_deref().map_or(&[][..], figures);
        let mut methods: Vec<Vec<Entry>> = Vec::new();
        for entry in entries {
            match methods
                .iter_mut()
                .find(|same| same[0].method == entry.method)
            {
                Some(same) => same.push(entry),
                None => methods.push(vec![entry]),
            }
        }
        let methods = methods.into_iter().map(|same| Method::of(same, published));
        Ok(Self {
            scenario,
            evaluation,
            methods: methods.collect::<Result<_, _>>()?,
            published,
        })
    }

    /// Names of the measures that any method has, those of [`MEASURES`] first.
    fn measures(&self) -> Vec<&str> {
        let has = |name: &str| {
            self.methods
                .iter()
                .any(|method| method.measures.contains_key(name))
        };
        let mut names: Vec<&str> = MEASURES.into_iter().filter(|name| has(name)).collect();
        for method in &self.methods {
            for name in method.measures.keys() {
                if !names.contains(&name.as_str()) {
                    names.push(name);
                }
            }
        }
        names
    }

    fn title(&self) -> String {
        self.scenario
            .clone()
            .unwrap_or_else(|| "unknown scenario".to_owned())
    }

    fn caption(&self) -> String {
        let evaluation = self
            .evaluation
            .as_deref()
            .unwrap_or("Unknown evaluation sets");
        format!("{evaluation}. Fractions, mean ± standard deviation over seeds.")
    }

    fn foot(&self) -> Option<String> {
        (!self.published.is_empty()).then(|| {
            format!(
                "Published: {SOURCE}; by the published recipe, from which runs can differ in network, epochs and pre-trained models. \
                 ~ is a round figure, < a bound."
            )
        })
    }

    /// Methods in rows, headline measures in columns, then the published methods.
    pub fn short_table(&self) -> TextTable {
        let all = self.measures();
        let headline: Vec<&str> = HEADLINE
            .into_iter()
            .filter(|name| all.contains(name))
            .collect();
        // Measures of other names are all there is to show.
        let shown = if headline.is_empty() { all } else { headline };
        let mut table = TextTable::new().text("method").numbers("runs");
        for &name in &shown {
            table = table.numbers(name);
        }
        for method in &self.methods {
            let mut cells = vec![method.method.clone(), method.runs.len().to_string()];
            cells.extend(shown.iter().map(|&name| {
                method
                    .measures
                    .get(name)
                    .map_or_else(dash, |found| short(name, found))
            }));
            table.push(cells);
        }
        for row in self.published {
            let mut cells = vec![published_name(row), dash()];
            cells.extend(shown.iter().map(|name| show_figure(row.figure(name))));
            table.push(cells);
        }
        table
    }

    /// One row for each measure and method.
    pub fn long_table(&self) -> TextTable {
        let mut table = TextTable::new()
            .text("measure")
            .text("method")
            .numbers("runs")
            .numbers("mean")
            .numbers("deviation")
            .numbers("95 % interval");
        if !self.published.is_empty() {
            table = table.numbers("published");
        }
        for name in self.measures() {
            for method in &self.methods {
                let Some(found) = method.measures.get(name) else {
                    continue;
                };
                let number = |value| show(name, value);
                let mut cells = vec![
                    name.to_owned(),
                    method.method.clone(),
                    found.count.to_string(),
                    number(found.mean),
                    found
                        .deviation
                        .map_or_else(dash, |value| format!("{value:.4}")),
                    found.interval.map_or_else(dash, |bounds| {
                        format!("[{}, {}]", number(bounds.low), number(bounds.high))
                    }),
                ];
                if !self.published.is_empty() {
                    cells.push(show_figure(
                        method.published.and_then(|row| row.figure(name)),
                    ));
                }
                table.push(cells);
            }
        }
        table
    }

    fn to_markdown(&self) -> String {
        let mut out = format!(
            "## {}\n\n{}\n\n{}",
            markdown::escape(&self.title()),
            markdown::escape(&self.caption()),
            markdown::render(&self.short_table())
        );
        if let Some(foot) = self.foot() {
            out.push_str(&format!("\n{}\n", markdown::escape(&foot)));
        }
        out.push_str("\n### Every measure\n\n95 % intervals of the mean by Student's t.\n\n");
        out.push_str(&markdown::render(&self.long_table()));
        out
    }

    fn to_latex(&self) -> String {
        // Escaped texts are on one line, so that a comment ends where it should.
        let mut out = format!(
            "% {}\n% {}\n",
            latex::escape(&self.title()),
            latex::escape(&self.caption())
        );
        if let Some(foot) = self.foot() {
            out.push_str(&format!("% {}\n", latex::escape(&foot)));
        }
        out.push_str(&latex::render(&self.short_table()));
        out
    }

    fn add_rows(&self, table: &mut TextTable) {
        let mut add = |method: &str,
                       name: &str,
                       runs: [String; 2],
                       found: [Option<f64>; 4],
                       published: Option<Figure>| {
            let [runs, seeds] = runs;
            let number =
                |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
            let mut cells = vec![
                self.scenario.clone().unwrap_or_default(),
                self.evaluation.clone().unwrap_or_default(),
                method.to_owned(),
                name.to_owned(),
                runs,
                seeds,
            ];
            cells.extend(found.map(number));
            cells.push(published.map_or("", |figure| figure.qualifier()).to_owned());
            cells.push(number(published.map(|figure| figure.value)));
            table.push(cells);
        };
        let measures = self.measures();
        for method in &self.methods {
            for &name in &measures {
                let Some(found) = method.measures.get(name) else {
                    continue;
                };
                let seeds: Vec<String> =
                    method.seeds.iter().flatten().map(u64::to_string).collect();
                add(
                    &method.method,
                    name,
                    [found.count.to_string(), seeds.join(" ")],
                    [
                        Some(found.mean),
                        found.deviation,
                        found.interval.map(|bounds| bounds.low),
                        found.interval.map(|bounds| bounds.high),
                    ],
                    method.published.and_then(|row| row.figure(name)),
                );
            }
        }
        for row in self.published {
            for name in MEASURES {
                if let Some(figure) = row.figure(name) {
                    let runs = ["0".to_owned(), String::new()];
                    add(&published_name(row), name, runs, [None; 4], Some(figure));
                }
            }
        }
    }
}

fn published_name(row: &Published) -> String {
    match row.from {
        "notebooks" => format!("{} (published, notebooks)", row.method),
        _ => format!("{} (published)", row.method),
    }
}

fn dash() -> String {
    "-".to_owned()
}

fn show_figure(figure: Option<Figure>) -> String {
    figure.map_or_else(dash, |figure| figure.to_string())
}

fn show(measure: &str, value: f64) -> String {
    if measures::is_difference(measure) {
        format!("{value:+.4}")
    } else {
        format!("{value:.4}")
    }
}

fn short(measure: &str, found: &SeedSummary) -> String {
    let mean = show(measure, found.mean);
    match found.deviation {
        Some(deviation) => format!("{mean} ± {deviation:.4}"),
        None => mean,
    }
}

#[cfg(test)]
mod tests;
