//! `perennial embed`: a set of images as an embeddings file.

use std::path::PathBuf;

use perennial_core::{Embeddings, Output};
use serde::Serialize;

use crate::arguments::GlobalArguments;
use crate::embedding::embed;
use crate::exit_status::ExitStatus;
use crate::interrupt::Interrupt;
use crate::progress::CountedProgress;
use crate::set_argument::SetArgument;
use crate::terminal::Terminal;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Version name or alias
    version: String,
    /// Images to embed: SET:SPLIT or folder:PATH
    #[arg(long, value_name = "SET")]
    set: SetArgument,
    /// The safetensors file to write; a device or pipe is written to, - is standard output
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Serialize)]
struct Answer<'a> {
    version: &'a str,
    set: String,
    set_sha256: String,
    count: usize,
    dim: usize,
    seconds: f64,
    images_per_second: f64,
    file: &'a PathBuf,
}

pub fn run(
    arguments: &Arguments,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    let registry = global.open_registry()?;
    let version = registry.get(&arguments.version)?;
    let output = Output::prepare_kind(&arguments.out, Embeddings::FILE_KIND)?;
    let to_stdout = output.is_stdout();
    let config = &arguments.set.0;
    let set = config.load(&global.data)?;
    let interrupt = Interrupt::listen()?;
    let title = format!("{} on {}", version.name, config.describe());
    let progress = CountedProgress::new(terminal, title, set.len() as u64, "images");
    let embeddings = embed(&registry, &version, global.device, &set, |images| {
        progress.advance(images as u64);
        interrupt.check()
    })?;
    let seconds = progress.finish().as_secs_f64();
    embeddings.write_to(output)?;
    let answer = Answer {
        version: &version.name,
        set: config.describe(),
        set_sha256: set.content_sha256(),
        count: embeddings.len(),
        dim: embeddings.dim(),
        seconds,
        images_per_second: embeddings.len() as f64 / seconds.max(1e-9),
        file: &arguments.out,
    };
    let summary = format!(
        "{}: {} embeddings of dimension {} by {}, {:.0} images/s",
        answer.file.display(),
        answer.count,
        answer.dim,
        answer.version,
        answer.images_per_second
    );
    if to_stdout {
        // The embeddings are what is printed.
        terminal.say(summary);
    } else {
        terminal.result(&answer, |_| summary)?;
    }
    Ok(ExitStatus::Done)
}
