//! The results of a benchmark as Markdown, generated from the records of its runs.

use perennial_eval::text_table::markdown;
use perennial_eval::{Entry, MethodTable};

use super::drift;
use super::plan::{Plan, Run};
use super::record::Record;
use crate::exit_status::usage;

/// What the tables have in common.
const CAPTION: &str = "Fractions. Intervals: 95 %; over the seeds (Student's t) where there are several runs; of a single run's class means over \
    the queries (bootstrap), of its other measures and routes none. Pairs better, worse: the share of pairs of versions whose 95 % interval of the margin over the old self-test lies at or above \
    0, or below it. Worst pair: the smallest margin of all runs (query version on gallery version, counted from 1). Routes other than the \
    method's own are compared with the better of the raw and the centred old self-test.";

/// A run and its record.
pub type Recorded = (usize, Record);

/// All scenarios with the runs that are done. Times, which no two executions share, come last, under a heading of their own.
///
/// # Errors
/// Records that contradict one another.
pub fn markdown(plan: &Plan, records: &[Recorded]) -> anyhow::Result<String> {
    let mut text = format!("{CAPTION}\n");
    let mut cost = String::new();
    for (place, [_, title]) in plan.scenarios.iter().enumerate() {
        let of_scenario = |run: &Run| run.scenario == place;
        let all = plan.runs.iter().filter(|run| of_scenario(run)).count();
        let done: Vec<(&Run, &Record)> = records
            .iter()
            .map(|(run, record)| (&plan.runs[*run], record))
            .filter(|(run, _)| of_scenario(run))
            .collect();
        let title = markdown::escape(title);
        text.push_str(&format!(
            "\n### {title}\n\n{} of {all} runs are done.\n",
            done.len()
        ));
        if done.is_empty() {
            continue;
        }
        let table = MethodTable::new(entries(&done)).map_err(|error| usage(error.to_string()))?;
        for group in &table.groups {
            text.push_str(&format!("\n{}\n", group.results_markdown().trim_end()));
            if let Some(found) = group.cost_table() {
                cost.push_str(&format!("\n**{title}**\n\n{}", markdown::render(&found)));
            }
        }
        text.push_str(&without_embedding(&done));
        for (run, record) in done {
            text.push_str(&drift::markdown(run, &record.drift));
        }
    }
    if !cost.is_empty() {
        text.push_str(&format!(
            "\n### Time and memory\n\nOf each method's first run in the order of the seeds, since runs of a benchmark may have shared a machine or been made on others; training without its pre-trained models, measuring with every route.\n{cost}"
        ));
    }
    Ok(text)
}

/// Methods in the order of the description, each with its routes below it.
fn entries(done: &[(&Run, &Record)]) -> Vec<Entry> {
    let mut methods: Vec<&str> = Vec::new();
    for (run, _) in done {
        if !methods.contains(&run.title.as_str()) {
            methods.push(&run.title);
        }
    }
    let mut entries = Vec::new();
    for method in methods {
        let of_method = done.iter().filter(|(run, _)| run.title == method);
        for (place, (run, record)) in of_method.enumerate() {
            let mut entry = own(run, record);
            if place == 0 {
                entry.values.extend(cost(record));
            }
            entries.push(entry);
            for row in &record.routes {
                entries.push(Entry {
                    method: format!("{} + {}", run.title, row.name),
                    // Published are methods, not routes.
                    kind: None,
                    values: row.values.clone(),
                    intervals: Default::default(),
                    worst_pairs: row.worst_pairs.clone(),
                    ..own(run, record)
                });
            }
        }
    }
    entries
}

/// The versions without an embedding of some images.
fn without_embedding(done: &[(&Run, &Record)]) -> String {
    let rows = done.iter().flat_map(|(run, record)| {
        let name = markdown::escape(&format!("{}, seed {}", run.title, run.seed));
        let versions = record.without_embedding.iter();
        versions.map(move |one| format!("- {name}: {one}\n"))
    });
    let rows: String = rows.collect();
    match rows.is_empty() {
        true => rows,
        false => format!("\nImages without an embedding:\n\n{rows}"),
    }
}

fn own(run: &Run, record: &Record) -> Entry {
    Entry {
        source: run.work.config.name.clone(),
        method: run.title.clone(),
        kind: Some(record.kind.clone()),
        scenario: Some(record.scenario.clone()),
        evaluation: Some(record.evaluation.clone()),
        seed: Some(run.seed),
        values: record.values.clone(),
        intervals: record.intervals.clone(),
        worst_pairs: record.worst_pairs.clone(),
    }
}

/// Time and memory, as far as they are known.
fn cost(record: &Record) -> impl Iterator<Item = (String, f64)> {
    let values = [
        ("training seconds", Some(record.training_seconds)),
        ("evaluation seconds", record.evaluation_seconds),
        (
            "peak memory bytes",
            record.peak_memory_bytes.map(|bytes| bytes as f64),
        ),
    ];
    values
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
}
