//! `perennial compare`: runs of several methods and seeds side by side, and certificates.

pub mod run_argument;

use std::path::PathBuf;

use clap::ValueEnum;
use perennial_core::{FileKind, Output};
use perennial_eval::text_table::csv;
use perennial_eval::{
    CertifiedMeasure, ComparedCertificate, MethodTable, certificate_table, method_table,
};
use perennial_upgrade::Certificate;
use serde::Serialize;

use self::run_argument::{Argument, Run};
use crate::arguments::GlobalArguments;
use crate::exit_status::{ExitStatus, usage};
use crate::terminal::Terminal;

/// First characters of what this command writes.
const STARTS: [&str; 4] = [
    "# Comparison",
    "% perennial compare",
    "scenario,evaluation,method,measure,",
    "certificate,query_space,gallery_space,",
];

/// How a written comparison is recognised.
const COMPARISON: FileKind = FileKind {
    name: "a comparison",
    recognise: |head| {
        STARTS
            .iter()
            .any(|start| head.starts_with(start.as_bytes()))
    },
};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Measured runs (name, folder, or compatibility.json) and certificates (JSON). NAME=RUN names the method; runs of one name are
    /// taken as seeds of it. Otherwise the method and the settings in which runs differ make the name
    #[arg(required = true, value_name = "[NAME=]RUN|CERTIFICATE")]
    compared: Vec<String>,
    /// Form of the table
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// File for the table [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// The form of the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Tables that read well in a terminal and in documents
    #[default]
    Markdown,
    /// One row for each measure, with every digit
    Csv,
    /// The short table, as `tabular`
    Latex,
}

#[derive(Serialize)]
struct Answer {
    #[serde(flatten)]
    runs: MethodTable,
    certificates: Vec<ComparedCertificate>,
}

pub fn run(
    arguments: &Arguments,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    let output = arguments
        .out
        .as_ref()
        .map(|file| Output::prepare_kind(file, COMPARISON))
        .transpose()?;
    let mut runs: Vec<Run> = Vec::new();
    let mut certificates = Vec::new();
    for argument in &arguments.compared {
        match Argument::read(argument, &global.runs)? {
            Argument::Run(run) => runs.push(*run),
            Argument::Certificate { name, certificate } => {
                certificates.push(compared(name, &certificate));
            }
        }
    }
    if arguments.format == Format::Csv && !runs.is_empty() && !certificates.is_empty() {
        return Err(usage(
            "--format csv writes one table: compare runs and certificates in two calls",
        ));
    }
    let settings: Vec<method_table::RunSettings> =
        runs.iter().map(|run| run.settings.clone()).collect();
    let names = method_table::method_names(&settings);
    let entries = runs.into_iter().zip(names);
    let entries = entries.map(|(run, name)| run.into_entry(name)).collect();
    let answer = Answer {
        runs: MethodTable::new(entries).map_err(|error| usage(error.to_string()))?,
        certificates,
    };
    let text = answer.render(arguments.format);
    let Some(output) = output else {
        terminal.result(&answer, |_| text)?;
        return Ok(ExitStatus::Done);
    };
    let is_stdout = output.is_stdout();
    let path = output.path().to_owned();
    output.commit(text)?;
    if !is_stdout {
        terminal.say(format_args!("wrote {}", path.display()));
        // The text is in the file; JSON was asked for beside it.
        if global.json {
            terminal.result(&answer, |_| String::new())?;
        }
    }
    Ok(ExitStatus::Done)
}

impl Answer {
    fn render(&self, format: Format) -> String {
        let runs = !self.runs.groups.is_empty();
        let certificates = !self.certificates.is_empty();
        if format == Format::Csv {
            return csv::render(&if runs {
                self.runs.rows()
            } else {
                certificate_table::rows(&self.certificates)
            });
        }
        let latex = format == Format::Latex;
        let title = if latex {
            "% perennial compare\n"
        } else {
            "# Comparison\n"
        };
        let mut parts = vec![title.to_owned()];
        if runs {
            parts.push(if latex {
                self.runs.to_latex()
            } else {
                self.runs.to_markdown()
            });
        }
        if certificates {
            parts.push(if latex {
                certificate_table::to_latex(&self.certificates)
            } else {
                certificate_table::to_markdown(&self.certificates)
            });
        }
        parts.join("\n")
    }
}

/// What is shown of a certificate.
fn compared(name: String, certificate: &Certificate) -> ComparedCertificate {
    let confidence = certificate.demands.confidence;
    let measures = certificate.tasks.iter().flat_map(|task| {
        task.measures.iter().map(move |one| CertifiedMeasure {
            task: task.task.to_string(),
            finding: task.finding.to_string(),
            measure: one.comparison.measure.to_string(),
            decides: one.decides,
            before: one.comparison.old,
            after: one.comparison.new,
            margin: one.comparison.margin,
            confidence,
            interval: one.interval(confidence),
        })
    });
    ComparedCertificate {
        certificate: name,
        query_space: certificate.query_space.to_string(),
        gallery_space: certificate.gallery_space.to_string(),
        route: certificate.route.to_string(),
        bridge: certificate
            .bridge
            .as_ref()
            .map(|bridge| bridge.kind.clone()),
        finding: certificate.finding.to_string(),
        measures: measures.collect(),
    }
}
