//! `perennial bench compatibility`: all methods, seeds and scenarios of a description, trained, measured and shown in one table.

mod description;
mod difference;
mod drift;
mod measured;
mod plan;
mod progress;
mod record;
mod records;
mod route_measures;
mod section;
mod tables;
mod work;

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::Serialize;

use self::description::Read;
use self::plan::Plan;
use self::progress::Progress;
use self::record::Record;
use self::work::{Failure, Worker};
use crate::arguments::GlobalArguments;
use crate::exit_status::{ExitStatus, usage};
use crate::interrupt::Interrupt;
use crate::suggestion;
use crate::terminal::Terminal;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Description of the benchmark, such as experiments/bench/cpu.toml
    #[arg(value_name = "DESCRIPTION.toml")]
    description: PathBuf,
    /// Show what is done, running and missing, and about how long the rest takes, and exit
    #[arg(long, conflicts_with = "table")]
    list: bool,
    /// Write the results of the finished runs as Markdown and exit: to stdout, or between the benchmark's marks in a document
    #[arg(long, value_name = "DOCUMENT", num_args = 0..=1)]
    table: Option<Option<PathBuf>>,
    /// Folder of the records of finished runs, one file a run in DIR/NAME, which need no run's folder to be done and shown; takes the place of the
    /// description's key `records`
    #[arg(long, value_name = "DIR")]
    records: Option<PathBuf>,
    /// Trainings and measurements at once, each in a process of its own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256), conflicts_with_all = ["list", "table"])]
    jobs: u16,
    /// Only the runs of these scenarios
    #[arg(long, value_name = "NAME", num_args = 1.., conflicts_with_all = ["list", "table"])]
    scenario: Vec<String>,
    /// Only the runs of these methods
    #[arg(long, value_name = "NAME", num_args = 1.., conflicts_with_all = ["list", "table"])]
    method: Vec<String>,
}

/// What a call that worked leaves.
#[derive(Serialize)]
struct Answer {
    #[serde(flatten)]
    progress: Progress,
    failures: Vec<Failure>,
}

/// The results.
#[derive(Serialize)]
struct Table<'a> {
    benchmark: &'a str,
    records: Vec<&'a Record>,
    markdown: &'a str,
}

pub fn run(
    arguments: &Arguments,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    let read = Read::file(&arguments.description)?;
    let plan = Plan::of(&read, arguments.records.as_deref(), global)?;
    if arguments.list {
        let progress = Progress::of(&plan)?;
        terminal.result(&progress, |_| progress.text())?;
        return Ok(ExitStatus::Done);
    }
    if let Some(document) = &arguments.table {
        show_table(&plan, document.as_deref(), terminal)?;
        return Ok(ExitStatus::Done);
    }
    let chosen = chosen(arguments, &plan)?;
    let worker = Worker {
        plan: &plan,
        global,
        terminal,
        interrupt: Interrupt::listen()?,
        jobs: usize::from(arguments.jobs),
    };
    let failures = worker.work(&chosen)?;
    let status = work::status(&failures);
    let answer = Answer {
        progress: Progress::of(&plan)?,
        failures,
    };
    terminal.result(&answer, |_| answer.progress.text())?;
    if status != ExitStatus::Done {
        terminal.error(&format!(
            "{} of the runs or models failed; the same command tries them again",
            answer.failures.len()
        ));
    }
    Ok(status)
}

fn show_table(
    plan: &Plan,
    document: Option<&std::path::Path>,
    terminal: &Terminal,
) -> anyhow::Result<()> {
    let mut records = Vec::new();
    for (place, run) in plan.runs.iter().enumerate() {
        if let Some(record) = records::find(run, plan)? {
            records.push((place, record));
        }
    }
    let text = tables::markdown(plan, &records)?;
    if let Some(path) = document {
        section::write(path, &plan.name, &text)?;
        terminal.say(format_args!(
            "wrote the results of {} runs to {}",
            records.len(),
            path.display()
        ));
        return Ok(());
    }
    let table = Table {
        benchmark: &plan.name,
        records: records.iter().map(|(_, record)| record).collect(),
        markdown: &text,
    };
    terminal.result(&table, |_| text.clone())
}

/// The runs that `--scenario` and `--method` leave, by their places.
fn chosen(arguments: &Arguments, plan: &Plan) -> anyhow::Result<Vec<usize>> {
    let scenarios: Vec<&str> = plan
        .scenarios
        .iter()
        .map(|[name, _]| name.as_str())
        .collect();
    let methods: BTreeSet<&str> = plan.runs.iter().map(|run| run.method.as_str()).collect();
    let methods: Vec<&str> = methods.into_iter().collect();
    for (option, given, known) in [
        ("--scenario", &arguments.scenario, &scenarios),
        ("--method", &arguments.method, &methods),
    ] {
        if let Some(name) = given.iter().find(|name| !known.contains(&name.as_str())) {
            return Err(usage(format!(
                "{option} {name}: the description has none of this name; {}",
                suggestion::describe(name, known)
            )));
        }
    }
    let of = |list: &[String], name: &str| list.is_empty() || list.iter().any(|one| one == name);
    let wanted = |place: &usize| {
        let run = &plan.runs[*place];
        of(&arguments.scenario, scenarios[run.scenario]) && of(&arguments.method, &run.method)
    };
    Ok((0..plan.runs.len()).filter(wanted).collect())
}
