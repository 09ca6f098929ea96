//! `perennial bridge apply`.

use std::path::PathBuf;

use clap::ValueEnum;
use perennial_bridge::{Bridge, Index};
use perennial_core::SpaceRef;
use perennial_formats::{Header, VectorReader, VectorSet, create, open, prepare};
use perennial_upgrade::{BridgeRegistry, dual_weight};
use serde::Serialize;

use crate::arguments::GlobalArguments;
use crate::exit_status::{ExitStatus, usage};
use crate::interrupt::Interrupt;
use crate::progress::CountedProgress;
use crate::terminal::Terminal;

/// Rows in memory at a time.
const BATCH: usize = 4096;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Folder of the bridge, or its name in the registry
    bridge: String,
    /// Embeddings of the bridge's source space
    input: PathBuf,
    /// The same queries embedded by the old encoder: write dual queries, in the old space
    #[arg(long, value_name = "FILE")]
    old_queries: Option<PathBuf>,
    /// Share of the old query in a dual query, from 0 to 1 [default: the weight that was chosen when the bridge was fitted, else 0.5]
    #[arg(long, value_name = "W", requires = "old_queries", value_parser = weight)]
    weight: Option<f64>,
    /// How the stored embeddings are compared that dual queries will search
    #[arg(long, value_enum, default_value_t, requires = "old_queries")]
    index: IndexArgument,
    /// File to write; its ending chooses the format
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Map even if the vectors look like embeddings of the target space
    #[arg(long)]
    force: bool,
}

/// [`Index`] on the command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum IndexArgument {
    /// As they are: an index that cannot be changed
    #[default]
    Raw,
    /// Centred with the mean of the bridge's fit set
    Centred,
}

impl From<IndexArgument> for Index {
    fn from(argument: IndexArgument) -> Self {
        match argument {
            IndexArgument::Raw => Self::Raw,
            IndexArgument::Centred => Self::Centred,
        }
    }
}

/// A weight of dual queries on the command line.
pub fn weight(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(weight) if (0.0..=1.0).contains(&weight) => Ok(weight),
        _ => {
            Err("use a number from 0 (only the bridged query) to 1 (only the old query)".to_owned())
        }
    }
}

#[derive(Serialize)]
struct Answer<'a> {
    file: &'a PathBuf,
    rows: u64,
    space: &'a SpaceRef,
    bridge_sha256: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight: Option<f64>,
}

pub fn run(
    arguments: &Arguments,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    let bridge = find(&arguments.bridge, global)?;
    let interrupt = Interrupt::listen()?;
    let mut input = open(&arguments.input)?;
    check_space(&arguments.input, input.as_ref(), bridge.from())?;
    let mut old = match &arguments.old_queries {
        Some(path) => {
            let reader = open(path)?;
            check_space(path, reader.as_ref(), bridge.to())?;
            Some((path, reader))
        }
        None => None,
    };
    let weight = old.as_ref().map(|_| dual_weight(&bridge, arguments.weight));
    let (output, format) = prepare(&arguments.out)?;
    let header = Header {
        dim: bridge.to().dim,
        rows: input.header().rows,
        space: bridge.to().id.clone(),
        format,
    };
    let mut writer = create(output, format, &header)?;
    let total = input.header().rows.unwrap_or(0);
    let progress = CountedProgress::new(terminal, "mapping", total, "embeddings");
    let mut rows = 0;
    while let Some(batch) = input.next(BATCH)? {
        interrupt.check()?;
        batch.check_directions()?;
        if rows == 0 && !arguments.force {
            bridge.check_input(batch.vectors())?;
        }
        let mut mapped = Vec::new();
        match (&mut old, weight) {
            (Some((path, old)), Some(weight)) => {
                let olds = old_rows(path, old.as_mut(), &batch, rows)?;
                bridge.dual(
                    olds.vectors(),
                    batch.vectors(),
                    weight as f32,
                    arguments.index.into(),
                    &mut mapped,
                )?;
            }
            _ => bridge.apply(batch.vectors(), &mut mapped)?,
        }
        rows += batch.len() as u64;
        let count = batch.len() as u64;
        writer.write(&batch.replace_vectors(bridge.to().dim, mapped, bridge.to().id.clone())?)?;
        progress.advance(count);
    }
    if let Some((path, old)) = &mut old
        && old.next(1)?.is_some()
    {
        return Err(usage(format!(
            "{} has more rows than {}; both must hold the same queries",
            path.display(),
            arguments.input.display()
        )));
    }
    writer.finish()?;
    progress.finish();
    let answer = Answer {
        file: &arguments.out,
        rows,
        space: bridge.to(),
        bridge_sha256: bridge.sha256(),
        weight,
    };
    terminal.result(&answer, |_| {
        let what = match weight {
            Some(weight) => format!("dual queries of weight {weight}"),
            None => "mapped embeddings".to_owned(),
        };
        format!(
            "{}: {rows} {what} in {}\n",
            answer.file.display(),
            answer.space
        )
    })?;
    Ok(ExitStatus::Done)
}

/// A bridge by folder or by its name in the registry.
pub fn find(name: &str, global: &GlobalArguments) -> anyhow::Result<Bridge> {
    let folder = std::path::Path::new(name);
    if folder.is_dir() {
        return Ok(Bridge::read(folder)?);
    }
    Ok(BridgeRegistry::of(&global.open_registry()?).get(name)?)
}

fn check_space(
    path: &std::path::Path,
    reader: &dyn VectorReader,
    expected: &SpaceRef,
) -> anyhow::Result<()> {
    let header = reader.header();
    let found = SpaceRef {
        dim: header.dim,
        id: header.space.clone(),
        fingerprint: None,
    };
    expected
        .accept(&found)
        .map_err(|error| usage(format!("{}: {error}", path.display())))
}

/// The old encoder's embeddings of the same queries.
fn old_rows(
    path: &std::path::Path,
    old: &mut dyn VectorReader,
    batch: &VectorSet,
    first: u64,
) -> anyhow::Result<VectorSet> {
    let short = || {
        usage(format!(
            "{} has fewer rows than the input; both must hold the same queries, row by row",
            path.display()
        ))
    };
    let olds = old.next(batch.len())?.ok_or_else(short)?;
    if olds.len() != batch.len() {
        return Err(short());
    }
    olds.check_directions()?;
    if let (Some(old_ids), Some(ids)) = (olds.ids(), batch.ids())
        && let Some(row) = (0..ids.len()).find(|&row| old_ids[row] != ids[row])
    {
        return Err(usage(format!(
            "row {}: {} has id {}, but the input has {}; sort both files by id",
            first + row as u64,
            path.display(),
            old_ids[row],
            ids[row]
        )));
    }
    Ok(olds)
}
