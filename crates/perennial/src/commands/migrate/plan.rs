//! `perennial migrate plan`.

use std::fmt::Write;
use std::path::PathBuf;

use perennial_connect::migrate::{self, PlanReport, PlanRequest};
use perennial_upgrade::Certificate;
use serde::Serialize;

use super::database_arguments::{ColumnArguments, DatabaseArguments, RateArguments};
use super::expectation::{ExpectedCost, ExpectedQuality, cost, of_embedded, of_mapped};
use super::failure::failed;
use super::mapped_arguments::MappedArguments;
use crate::arguments::GlobalArguments;
use crate::cost_arguments::{CostArguments, positive};
use crate::exit_status::ExitStatus;
use crate::terminal::Terminal;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    database: DatabaseArguments,
    #[command(flatten)]
    columns: ColumnArguments,
    #[command(flatten)]
    rate: RateArguments,
    /// Dimension of the new vectors [default: the bridge's, else that of the old ones]
    #[arg(long, value_name = "DIM", conflicts_with = "mapped")]
    dim: Option<usize>,
    #[command(flatten)]
    mapped: MappedArguments,
    /// Certificate of any route that was measured with --new-gallery: what embedding everything again gives
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "mapped",
        help_heading = "Cost"
    )]
    measured: Option<PathBuf>,
    #[command(flatten)]
    cost: CostArguments,
    /// Price of an hour of the machine that embeds and copies, in your currency
    #[arg(long, value_name = "PRICE", help_heading = "Cost")]
    price_per_hour: Option<f64>,
}

/// A plan with what is expected of it.
#[derive(Serialize)]
struct Answer {
    #[serde(flatten)]
    report: PlanReport,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    quality: Vec<ExpectedQuality>,
    cost: ExpectedCost,
}

pub fn run(
    arguments: &Arguments,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    let (address, table) = arguments.database.index()?;
    let bridge = arguments.mapped.bridge(global)?;
    let permission = match &bridge {
        Some(bridge) => arguments.mapped.permission(bridge, global)?,
        None => None,
    };
    let (certificate, permission) = permission.unzip();
    let quality = match (&certificate, &arguments.measured) {
        (Some(certificate), _) => of_mapped(certificate, arguments.mapped.task()),
        (None, Some(path)) => of_embedded(&Certificate::read(path)?),
        (None, None) => Vec::new(),
    };
    let rates = arguments.cost.rates(None)?;
    let price_per_hour = positive("--price-per-hour", arguments.price_per_hour)?;
    let request = PlanRequest {
        table,
        key: arguments.columns.id_column.clone(),
        vector: arguments.columns.vector_column.clone(),
        new_dim: arguments.dim,
        bridge: bridge.as_ref(),
        permission: permission.as_ref(),
        rate: arguments.rate.rate,
    };
    let report = migrate::plan(&address, &request).map_err(failed)?;
    let answer = Answer {
        quality,
        cost: cost(&report, &rates, price_per_hour),
        report,
    };
    terminal.result(&answer, |_| text(&answer))?;
    Ok(ExitStatus::Done)
}

fn text(answer: &Answer) -> String {
    let report = &answer.report;
    let mut text = format!(
        "{}: {} rows, {} without a vector",
        report.table, report.rows, report.without_vector
    );
    if let Some(bytes) = report.table_bytes {
        let _ = write!(text, "; {} with its indexes", size(bytes));
    }
    text.push('\n');
    let dimensions: Vec<String> = report
        .dimensions
        .iter()
        .map(|(dim, count)| format!("{count} of {dim}"))
        .collect();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "  {name:<12}{value}");
    };
    line(
        &report.vector_type,
        match dimensions.is_empty() {
            true => "none".to_owned(),
            false => format!("{} dimensions", dimensions.join(", ")),
        },
    );
    for index in &report.indexes {
        let mut value = format!("{} ({}, {})", index.name, index.method, index.operators);
        if let Some(bytes) = index.bytes {
            let _ = write!(value, ", {}", size(bytes));
        }
        line("index", value);
    }
    if let Some(storage) = &report.storage {
        line("storage", storage.clone());
    }
    line(
        "way",
        format!("{}, {} dimensions", report.way, report.new_dim),
    );
    if let Some(basis) = &report.certified {
        line("certified", basis.clone());
    }
    line("disk", disk(report));
    if let Some(rates) = &report.rates {
        let mut steps = vec![format!("read {:.0}", rates.read)];
        steps.extend(rates.map.map(|rate| format!("map {rate:.0}")));
        steps.extend(rates.write.map(|rate| format!("write {rate:.0}")));
        line(
            "rates",
            format!("{} rows/s, by {} rows", steps.join(", "), rates.rows),
        );
    }
    if let Some(seconds) = report.seconds {
        line(
            "time",
            format!("about {}{}", duration(seconds), without(report)),
        );
    }
    if let Some(seconds) = answer.cost.embedding_seconds {
        line(
            "embedding",
            format!(
                "{} items, {}",
                answer.cost.items_embedded,
                duration(seconds)
            ),
        );
    }
    if let Some(price) = answer.cost.price {
        line("price", format!("about {price:.2}"));
    }
    for expected in &answer.quality {
        line("quality", quality(expected));
    }
    for assumption in &report.assumptions {
        let _ = writeln!(text, "  {:<12}{assumption}", "assumed");
    }
    for warning in &report.warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    text
}

/// What copies take.
fn disk(report: &PlanReport) -> String {
    let mut text = format!("{} of vectors", size(report.copies_bytes));
    if report.beside_bytes > 0 {
        let _ = write!(
            text,
            ", {} of payload and other vectors",
            size(report.beside_bytes)
        );
    }
    let _ = match report.index_bytes {
        Some(bytes) => write!(text, " and about {} of index", size(bytes)),
        None => write!(text, ", without their index"),
    };
    if report.replicas > 1 {
        let _ = write!(
            text,
            "; {} in {} replicas",
            size(report.disk_bytes),
            report.replicas
        );
    }
    text
}

/// One measure, before and after.
fn quality(expected: &ExpectedQuality) -> String {
    let mut text = format!(
        "{} {}: {:.4} now",
        expected.task, expected.measure, expected.before
    );
    if let Some(after) = expected.after {
        let _ = write!(text, ", {after:.4} expected");
        // Of mapped copies, the margin follows.
        if let (Some(interval), None) = (expected.after_interval, expected.margin) {
            let _ = write!(
                text,
                ", {:.4} to {:.4} at {} confidence",
                interval.low, interval.high, expected.confidence
            );
        }
    }
    if let Some(margin) = expected.margin {
        let _ = write!(
            text,
            ", margin {:+.4} to {:+.4} at {} confidence",
            margin.low, margin.high, expected.confidence
        );
    }
    if let Some(again) = expected.embedded_again {
        let _ = write!(text, "; {again:.4} if everything were embedded again");
    }
    text
}

/// What the time does not have.
fn without(report: &PlanReport) -> &'static str {
    match report.rates {
        Some(rates) if rates.write.is_none() => {
            " of reading and mapping, without writing and the index"
        }
        _ => " without the index",
    }
}

fn size(bytes: u64) -> String {
    let bytes = bytes as f64;
    match bytes {
        _ if bytes < 1e6 => format!("{:.0} kB", bytes / 1e3),
        _ if bytes < 1e9 => format!("{:.0} MB", bytes / 1e6),
        _ => format!("{:.1} GB", bytes / 1e9),
    }
}

fn duration(seconds: f64) -> String {
    match seconds {
        _ if seconds < 120.0 => format!("{seconds:.0} s"),
        _ if seconds < 7200.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.1} h", seconds / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_carry_their_unit() {
        assert_eq!(size(1_500), "2 kB");
        assert_eq!(size(2_500_000_000), "2.5 GB");
        assert_eq!(duration(90.0), "90 s");
        assert_eq!(duration(5400.0), "90 min");
    }
}
