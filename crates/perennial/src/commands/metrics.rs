//! `perennial metrics`: all metrics of a compatibility matrix, measured by any tool.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context;
use perennial_eval::{CompatibilityMatrix, Metrics, TieRule, metrics, table};
use serde::Serialize;

use crate::commands::evaluate::TieArgument;
use crate::exit_status::{ExitStatus, usage};
use crate::terminal::Terminal;

/// A matrix of thousands of models needs less.
const MAX_BYTES: u64 = 256 << 20;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// JSON with a key `matrix`, or CSV: one row per query version, values as fractions; - reads stdin
    #[arg(value_name = "MATRIX.json|csv")]
    matrix: PathBuf,
    /// Whether a pair counts as compatible if its cross-test equals the old self-test exactly
    #[arg(long, value_enum, default_value_t)]
    tie: TieArgument,
}

#[derive(Serialize)]
struct Answer<'a> {
    tie_rule: TieRule,
    matrix: &'a CompatibilityMatrix,
    metrics: &'a Metrics,
}

pub fn run(arguments: &Arguments, terminal: &Terminal) -> anyhow::Result<ExitStatus> {
    let tie_rule = arguments.tie.into();
    let matrix = read(&arguments.matrix).with_context(|| arguments.matrix.display().to_string())?;
    let metrics = metrics(&matrix, tie_rule);
    let answer = Answer {
        tie_rule,
        matrix: &matrix,
        metrics: &metrics,
    };
    terminal.result(&answer, |color| {
        table::render_matrix(&matrix, &metrics, tie_rule, &[], color)
    })?;
    Ok(ExitStatus::Done)
}

fn read(path: &Path) -> anyhow::Result<CompatibilityMatrix> {
    let bytes = if path == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin().take(MAX_BYTES).read_to_end(&mut bytes)?;
        bytes
    } else if !path.exists() {
        return Err(usage("the file does not exist"));
    } else {
        perennial_core::read_at_most(path, MAX_BYTES)?
    };
    let text = String::from_utf8(bytes).map_err(|_| usage("is not UTF-8 text"))?;
    let extension = path.extension().and_then(|extension| extension.to_str());
    let json = match extension {
        Some("json") => true,
        Some("csv" | "tsv" | "txt") => false,
        _ => text.trim_start().starts_with(['{', '[']),
    };
    Ok(if json {
        CompatibilityMatrix::from_json(&text)?
    } else {
        CompatibilityMatrix::from_csv(&text)?
    })
}
