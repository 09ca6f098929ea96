//! `perennial migrate plan`.

use std::fmt::Write;

use perennial_connect::migrate::{self, PlanReport, PlanRequest};

use super::database_arguments::{ColumnArguments, DatabaseArguments, RateArguments};
use super::failure::failed;
use super::mapped_arguments::MappedArguments;
use crate::arguments::GlobalArguments;
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
}

pub fn run(
    arguments: &Arguments,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    let (address, table) = arguments.database.index()?;
    let bridge = arguments.mapped.bridge(global)?;
    let permission = match &bridge {
        Some(bridge) => arguments.mapped.permission(bridge)?,
        None => None,
    };
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
    terminal.result(&report, |_| text(&report))?;
    Ok(ExitStatus::Done)
}

fn text(report: &PlanReport) -> String {
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
    let index = match report.index_bytes {
        Some(bytes) => format!(" and about {} of index", size(bytes)),
        None => " a replica, beside payload and index".to_owned(),
    };
    line(
        "disk",
        format!("{} of vectors{index}", size(report.copies_bytes)),
    );
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
    for warning in &report.warnings {
        let _ = writeln!(text, "warning: {warning}");
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
