//! `perennial migrate verify`.

use std::fmt::Write;
use std::path::PathBuf;

use perennial_connect::migrate::{self, VerifyReport, VerifyRequest};
use perennial_formats::read;
use perennial_upgrade::Finding;
use serde::Serialize;

use super::super::bridge::find_bridge;
use super::super::certify::UndecidedArgument;
use super::database_arguments::{DatabaseArguments, NameArguments};
use super::failure::failed;
use super::follow::Follow;
use super::index_evaluation::{Asked, IndexEvaluation, IndexEvaluationArguments};
use super::standing_text::standing_text;
use crate::arguments::GlobalArguments;
use crate::demand_arguments::DemandArguments;
use crate::exit_status::{ExitStatus, usage};
use crate::interrupt::Interrupt;
use crate::terminal::Terminal;
use crate::vector_argument::VectorLoader;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    database: DatabaseArguments,
    #[command(flatten)]
    name: NameArguments,
    /// Bridge of mapped copies: a sample is mapped again and compared
    #[arg(long, value_name = "BRIDGE")]
    mapped: Option<String>,
    /// Files of copies that were embedded again, in the order of their runs: a sample is compared with them
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with = "mapped")]
    side_by_side: Vec<PathBuf>,
    /// Copies that are mapped again, or compared with the files
    #[arg(long, value_name = "N", default_value_t = 1000)]
    sample: u64,
    /// Queries in the new space for the recall [default: stored copies]
    #[arg(long, value_name = "FILE")]
    queries: Option<PathBuf>,
    /// Stored copies that are searched with
    #[arg(long, value_name = "N", default_value_t = 50)]
    searches: u64,
    /// Nearest items of each search
    #[arg(short, long, default_value_t = 10)]
    k: u32,
    /// Smallest recall of the index against exact search
    #[arg(long, value_name = "SHARE", default_value_t = 0.9)]
    min_recall: f64,
    #[command(flatten)]
    evaluation: IndexEvaluationArguments,
    #[command(flatten)]
    demands: DemandArguments,
    /// What an undecided evaluation means for the exit code. `migrate plan` and `migrate run`, which write copies, refuse it unless told otherwise
    #[arg(long, value_enum, default_value_t, help_heading = "Demands")]
    undecided: UndecidedArgument,
}

/// What was verified.
#[derive(Serialize)]
struct Answer {
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    report: Option<VerifyReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    evaluation: Option<IndexEvaluation>,
}

pub fn run(
    arguments: &Arguments,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    let (address, table) = arguments.database.index()?;
    let demands = arguments.demands.demands()?;
    let seed = arguments.demands.seed;
    let seed = i64::try_from(seed)
        .map_err(|_| usage(format!("--seed {seed}: use at most {}", i64::MAX)))?;
    let bridge = arguments
        .mapped
        .as_deref()
        .map(|name| find_bridge(name, global))
        .transpose()?;
    let queries = arguments.queries.as_deref().map(read).transpose()?;
    let request = VerifyRequest {
        table,
        name: arguments.name.name.clone(),
        bridge: bridge.as_ref(),
        files: &arguments.side_by_side,
        queries: queries.as_ref(),
        sample: arguments.sample,
        searches: arguments.searches,
        k: arguments.k,
        min_recall: arguments.min_recall,
        seed,
    };
    let interrupt = Interrupt::listen()?;
    let mut evaluation = None;
    let mut migrated = true;
    if arguments.evaluation.evaluation {
        let asked = Asked {
            address: &address,
            table: &request.table,
            name: &request.name,
            mapped: bridge.as_ref(),
            k: arguments.k,
            demands,
        };
        let loader = VectorLoader {
            global,
            terminal,
            interrupt,
            pictures: false,
        };
        let mut follow = Follow::heard_by(interrupt, terminal, "searching").of("queries");
        let (measured, standing) = arguments.evaluation.measure(&asked, &loader, &mut follow)?;
        follow.finish();
        migrated = standing.is_some();
        evaluation = Some(measured);
    }
    let mut report = None;
    if migrated {
        let mut follow = Follow::heard_by(interrupt, terminal, "verifying");
        report = Some(migrate::verify(&address, &request, &mut follow).map_err(failed)?);
    }
    let doubt = evaluation.as_ref().filter(|one| match one.finding {
        Finding::Compatible => false,
        Finding::Undecided => arguments.undecided == UndecidedArgument::Refuse,
        _ => true,
    });
    if let Some(evaluation) = doubt {
        match &mut report {
            Some(report) => report.problems.push(evaluation.problem()),
            None => terminal.say(evaluation.problem()),
        }
    }
    let missed = doubt.is_some() || report.as_ref().is_some_and(|one| !one.problems.is_empty());
    let answer = Answer { report, evaluation };
    terminal.result(&answer, |color| {
        let measured = answer.evaluation.as_ref();
        let mut shown =
            measured.map_or_else(String::new, |one| one.text(demands.confidence, color));
        if let Some(report) = &answer.report {
            shown.push_str(&text(report, &request));
        }
        shown
    })?;
    Ok(match missed {
        false => ExitStatus::Done,
        true => ExitStatus::GateMissed,
    })
}

fn text(report: &VerifyReport, request: &VerifyRequest<'_>) -> String {
    let mut text = standing_text(&report.standing);
    if report.compared > 0 {
        let how = match request.files.is_empty() {
            true => "mapped again",
            false => "compared with the files",
        };
        let _ = writeln!(
            text,
            "{} copies {how}: {} differ, by {:.1e} at most",
            report.compared, report.different, report.largest_difference
        );
    }
    match report.recall {
        Some(recall) => {
            let _ = writeln!(
                text,
                "index: recall@{} {recall:.4} against exact search, over {} queries",
                request.k, report.searches
            );
        }
        None => text.push_str("no index of the new vectors: every search is exact\n"),
    }
    for problem in &report.problems {
        let _ = writeln!(text, "problem: {problem}");
    }
    if report.problems.is_empty() {
        text.push_str("nothing is wrong\n");
    }
    text
}
