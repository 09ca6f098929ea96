//! `perennial migrate verify`.

use std::fmt::Write;
use std::path::PathBuf;

use perennial_connect::migrate::{self, VerifyReport, VerifyRequest};
use perennial_formats::read;

use super::super::bridge::find_bridge;
use super::database_arguments::{DatabaseArguments, NameArguments};
use super::failure::failed;
use super::follow::Follow;
use super::standing_text::standing_text;
use crate::arguments::GlobalArguments;
use crate::exit_status::ExitStatus;
use crate::terminal::Terminal;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    database: DatabaseArguments,
    #[command(flatten)]
    name: NameArguments,
    /// Bridge of mapped copies: a sample is mapped again and compared
    #[arg(long, value_name = "BRIDGE")]
    mapped: Option<String>,
    /// Copies that are mapped again
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
    /// Seed of the samples
    #[arg(long, default_value_t = 0)]
    seed: i64,
}

pub fn run(
    arguments: &Arguments,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    let (address, table) = arguments.database.index()?;
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
        queries: queries.as_ref(),
        sample: arguments.sample,
        searches: arguments.searches,
        k: arguments.k,
        min_recall: arguments.min_recall,
        seed: arguments.seed,
    };
    let mut follow = Follow::new(terminal, "verifying")?;
    let report = migrate::verify(&address, &request, &mut follow).map_err(failed)?;
    terminal.result(&report, |_| text(&report, &request))?;
    Ok(match report.problems.is_empty() {
        true => ExitStatus::Done,
        false => ExitStatus::GateMissed,
    })
}

fn text(report: &VerifyReport, request: &VerifyRequest<'_>) -> String {
    let mut text = standing_text(&report.standing);
    if report.compared > 0 {
        let _ = writeln!(
            text,
            "{} copies mapped again: {} differ, by {:.1e} at most",
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
