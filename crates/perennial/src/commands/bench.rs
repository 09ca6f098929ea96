//! `perennial bench`: how fast this build is on this machine, and against what the machine could do; `perennial bench compatibility`: how
//! compatible the versions of every method are.

mod bridge;
mod certify;
mod classifier;
mod compatibility;
mod evaluation;
mod layers;
mod network;
mod partitions;
mod peaks;
mod search;
mod start;
mod swap;
mod timing;
mod vectors;

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Subcommand, ValueEnum};
use perennial_core::Registry;
use perennial_gallery::BytesPerVector;
use perennial_train::network::{BackboneKind, NetworkConfig, Stem};
use serde::{Deserialize, Serialize};

use self::evaluation::Saving;
use self::layers::Layers;
use self::network::Subject;
use self::peaks::Peaks;
use self::search::{Places, Vectors};
use self::timing::{Measurement, Ratio};
use crate::arguments::GlobalArguments;
use crate::exit_status::{ExitStatus, usage};
use crate::machine::{Machine, Program, peak_memory_bytes};
use crate::network_argument;
use crate::terminal::Terminal;

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Subjects {
    /// One training step
    Step,
    /// Every convolution of the network alone, forward and both gradients, beside the whole step
    Layers,
    /// Pixels to embeddings, a batch and one image
    Forward,
    /// PNG files to embeddings
    Embed,
    /// The simplex classifier against a dense one, by number of vertices
    Classifier,
    /// Writing to and searching a gallery
    Search,
    /// Opening a gallery, against reading its files from memory and from the disk
    Start,
    /// Searching three partitions of a gallery, against one with as many items
    Partitions,
    /// Changing the live version of a running service
    Swap,
    /// Comparing 7 and 31 versions: one pass per version against a pass per pair
    Evaluation,
    /// A retrieval test with every measure and its intervals, against the bare matrix product
    Certify,
    /// Fitting a bridge, mapping rows against the bare matrix product, and one query
    Bridge,
}

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    speed: SpeedArguments,
}

/// Benchmarks of something else than speed.
#[derive(Debug, Subcommand)]
enum Action {
    /// Train and measure all methods, seeds and scenarios of a description, and write one table of results. Finished runs are kept,
    /// interrupted ones go on from their checkpoints
    Compatibility(compatibility::Arguments),
}

#[derive(Debug, clap::Args)]
struct SpeedArguments {
    /// What to measure [default: everything]
    #[arg(value_name = "WHAT")]
    subjects: Vec<Subjects>,
    /// Samples of each measurement; their median counts
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    samples: u32,
    /// Threads to compute with [default: one per processor]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,
    /// Backbone of the network
    #[arg(long, default_value = "resnet18", value_parser = network_argument::backbone())]
    backbone: BackboneKind,
    /// Channels of the network after its stem, or numbers per patch [default: as published]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    width: Option<u32>,
    /// How the network begins [default: as published]
    #[arg(long, value_parser = network_argument::stem())]
    stem: Option<Stem>,
    /// Images of a batch
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=8192))]
    batch: u32,
    /// Simplex vertices of the network
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(2..=65_536))]
    vertices: u32,
    /// Vectors in the gallery that is searched
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
    rows: u32,
    /// Dimension of these vectors
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=16_384))]
    dim: u32,
    /// These vectors lie anywhere instead of in clusters, which is hard for graphs
    #[arg(long, conflicts_with = "vectors")]
    scattered: bool,
    /// Search these vectors instead: an npy, npz, safetensors, JSONL or CSV file
    #[arg(long, value_name = "FILE", requires = "queries", conflicts_with_all = ["rows", "dim"])]
    vectors: Option<PathBuf>,
    /// Queries for --vectors, in any of these formats
    #[arg(long, value_name = "FILE", requires = "vectors")]
    queries: Option<PathBuf>,
    /// Keep the gallery that `start` opens in this folder, with its graph, and use that of an earlier run
    #[arg(long, value_name = "FOLDER")]
    gallery: Option<PathBuf>,
    /// Queries and gallery items, as many each, of `certify`
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(10..=1_000_000))]
    test_items: u32,
    /// Dimension of these
    #[arg(long, default_value_t = 1023, value_parser = clap::value_parser!(u32).range(2..=16_384))]
    test_dim: u32,
    /// Pairs that `bridge` fits on
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(10..=10_000_000))]
    pairs: u32,
    /// Dimension of these
    #[arg(long, default_value_t = 1536, value_parser = clap::value_parser!(u32).range(2..=16_384))]
    pair_dim: u32,
    /// Dimension of the single query that `bridge` maps
    #[arg(long, default_value_t = 768, value_parser = clap::value_parser!(u32).range(2..=16_384))]
    query_dim: u32,
    /// Compare with an earlier result of --json
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
}

/// A whole result, as `--json` prints and `--against` reads it.
#[derive(Debug, Serialize, Deserialize)]
struct Report {
    program: Program,
    machine: Machine,
    threads: usize,
    device: String,
    peaks: Peaks,
    measurements: Vec<Measurement>,
    /// The most memory held during all of it, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    peak_memory_bytes: Option<u64>,
    /// What one vector of the searched gallery costs, in bytes, with every index there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bytes_per_vector: Option<BytesPerVector>,
    /// The network's convolutions, each alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    layers: Option<Layers>,
    /// What it saves that an evaluation embeds the probe set once per version.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    evaluation: Vec<Saving>,
    /// Work against the least that it could take, each pair in turn in this run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ratios: Vec<Ratio>,
    /// Median now divided by the median then, by name; below 1 is faster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    against: Vec<Comparison>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Comparison {
    name: String,
    time_ratio: f64,
}

pub fn run(
    arguments: &Arguments,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    if let Some(Action::Compatibility(arguments)) = &arguments.action {
        return compatibility::run(arguments, global, terminal);
    }
    let arguments = &arguments.speed;
    let earlier = arguments.against.as_deref().map(read).transpose()?;
    if let Some(threads) = arguments.threads {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads as usize)
            .build_global()
            .context("threads were started already")?;
    }
    // Before anything is measured, which takes seconds.
    let config = network(arguments)?;
    terminal.say("measuring the machine");
    let peaks = Peaks::measure();
    let mut report = Report {
        program: Program::this(),
        machine: Machine::this(),
        threads: rayon::current_num_threads(),
        device: global.device.to_string(),
        peaks,
        measurements: Vec::new(),
        peak_memory_bytes: None,
        bytes_per_vector: None,
        layers: None,
        evaluation: Vec::new(),
        ratios: Vec::new(),
        against: Vec::new(),
    };
    measure(arguments, config, global, terminal, &mut report)?;
    report.peak_memory_bytes = peak_memory_bytes();
    if let Some(earlier) = earlier {
        report.against = compare(&report.measurements, &earlier.measurements);
    }
    terminal.result(&report, |_| table(&report))?;
    Ok(ExitStatus::Done)
}

fn measure(
    arguments: &SpeedArguments,
    config: NetworkConfig,
    global: &GlobalArguments,
    terminal: &Terminal,
    report: &mut Report,
) -> anyhow::Result<()> {
    let subject = Subject {
        config,
        vertices: arguments.vertices as usize,
        batch: arguments.batch as usize,
        samples: arguments.samples as usize,
        device: global.device.open()?,
        peaks: report.peaks,
    };
    let folder = tempfile::tempdir()?;
    let registry = Registry::create(folder.path().join("registry"))?;
    let (samples, peaks) = (subject.samples, report.peaks);
    let chosen = if arguments.subjects.is_empty() {
        Subjects::value_variants()
    } else {
        &arguments.subjects
    };
    for what in chosen {
        let name = what.to_possible_value();
        terminal.say(format_args!(
            "measuring {}",
            name.as_ref().map_or("", |name| name.get_name())
        ));
        let found = match what {
            Subjects::Step => vec![subject.step()?],
            Subjects::Layers => {
                let (layers, step) = layers::measure_all(&subject)?;
                report.layers = Some(layers);
                vec![step]
            }
            Subjects::Forward => subject.forward(&subject.encoder(&registry)?)?,
            Subjects::Embed => vec![subject.embed(&subject.encoder(&registry)?)?],
            Subjects::Classifier => classifier::measure_all(samples, peaks)?,
            Subjects::Search => {
                let vectors = vectors(arguments)?;
                let (found, bytes) = search::measure_all(&vectors, samples, report.threads, peaks)?;
                report.bytes_per_vector = Some(bytes);
                found
            }
            Subjects::Start => {
                let generated = (arguments.rows as usize, arguments.dim as usize);
                let (found, ratios) = start::measure_all(
                    arguments.vectors.is_none().then_some(generated),
                    || vectors(arguments),
                    samples,
                    report.threads,
                    arguments.gallery.as_deref(),
                )?;
                report.ratios.extend(ratios);
                found
            }
            Subjects::Partitions => {
                let vectors = vectors(arguments)?;
                let (found, ratios) = partitions::measure_all(&vectors, samples, report.threads)?;
                report.ratios.extend(ratios);
                found
            }
            Subjects::Swap => vec![swap::measure_one(&subject, folder.path())?],
            Subjects::Evaluation => {
                let (found, savings) = evaluation::measure_all(&subject, &registry)?;
                report.evaluation = savings;
                found
            }
            Subjects::Certify => {
                let sizes = certify::Sizes {
                    queries: arguments.test_items as usize,
                    items: arguments.test_items as usize,
                    dim: arguments.test_dim as usize,
                };
                let (found, ratios) = certify::measure_all(sizes, samples, peaks)?;
                report.ratios.extend(ratios);
                found
            }
            Subjects::Bridge => {
                let sizes = bridge::Sizes {
                    pairs: arguments.pairs as usize,
                    dim: arguments.pair_dim as usize,
                    query_dim: arguments.query_dim as usize,
                };
                let (found, ratio) = bridge::measure_all(sizes, samples, peaks)?;
                report.ratios.push(ratio);
                found
            }
        };
        report.measurements.extend(found);
    }
    Ok(())
}

fn network(arguments: &SpeedArguments) -> anyhow::Result<NetworkConfig> {
    let entry = arguments.backbone.entry();
    let stem = entry
        .stem(arguments.stem)
        .map_err(|problem| usage(format!("--stem {problem}")))?;
    let width = arguments.width.map(|width| width as usize);
    let config = NetworkConfig {
        backbone: arguments.backbone,
        stem,
        width: width.unwrap_or(entry.default_width),
    };
    config.check().map_err(|error| usage(error.to_string()))?;
    config
        .fits(self::network::INPUT)
        .map_err(|error| usage(error.to_string()))?;
    Ok(config)
}

fn vectors(arguments: &SpeedArguments) -> anyhow::Result<Vectors> {
    match (&arguments.vectors, &arguments.queries) {
        (Some(vectors), Some(queries)) => Vectors::read(vectors, queries),
        _ => Vectors::generate(
            arguments.rows as usize,
            search::BATCH,
            arguments.dim as usize,
            match arguments.scattered {
                true => Places::Scattered,
                false => Places::Clustered,
            },
        ),
    }
}

fn read(path: &Path) -> anyhow::Result<Report> {
    let text = fs_err::read_to_string(path)?;
    serde_json::from_str(&text).map_err(|error| {
        usage(format!(
            "{}: {error}; --against takes what `perennial bench --json` printed",
            path.display()
        ))
    })
}

fn compare(now: &[Measurement], then: &[Measurement]) -> Vec<Comparison> {
    let ratio = |found: &Measurement| {
        let earlier = then.iter().find(|earlier| earlier.name == found.name)?;
        Some(Comparison {
            name: found.name.clone(),
            time_ratio: found.median_s / earlier.median_s,
        })
    };
    now.iter().filter_map(ratio).collect()
}

fn table(report: &Report) -> String {
    let mut text = String::new();
    let peaks = &report.peaks;
    let cpu = report.machine.cpu.as_deref().unwrap_or("unknown processor");
    let _ = writeln!(
        text,
        "{cpu}, {} threads: {:.0} GFLOP/s in large products, {:.1} GB/s from memory\n",
        report.threads,
        peaks.gemm_per_second / 1e9,
        peaks.memory_bytes_per_second / 1e9
    );
    let width = report
        .measurements
        .iter()
        .map(|m| m.name.len())
        .max()
        .unwrap_or(0);
    let _ = writeln!(
        text,
        "{:width$}  {:>10}  {:>6}  {:>18}  {:>6}  {:>6}  {:>6}  {:>6}",
        "", "median", "spread", "rate", "gemm", "memory", "recall", "ratio"
    );
    for found in &report.measurements {
        let fraction =
            |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.2}"));
        let rate = found.rate.as_ref().map_or_else(String::new, |rate| {
            format!("{} {}/s", short(rate.per_second), rate.unit)
        });
        let ratio = report.against.iter().find(|other| other.name == found.name);
        let line = format!(
            "{:width$}  {:>10}  {:>6.2}  {rate:>18}  {:>6}  {:>6}  {:>6}  {:>6}",
            found.name,
            time(found.median_s),
            found.spread,
            fraction(found.gemm_share),
            fraction(found.memory_share),
            found
                .recall
                .map_or_else(String::new, |value| format!("{value:.3}")),
            fraction(ratio.map(|ratio| ratio.time_ratio)),
        );
        let _ = writeln!(text, "{}", line.trim_end());
    }
    if let Some(layers) = &report.layers {
        text.push_str(&layers::table(layers));
    }
    if let Some(bytes) = report.bytes_per_vector {
        let _ = writeln!(
            text,
            "\na vector costs {:.0} bytes in memory, {:.0} on disk",
            bytes.memory, bytes.disk
        );
    }
    for ratio in &report.ratios {
        let _ = writeln!(
            text,
            "\n{}: {:.2} times the {} (aim: at most {})",
            ratio.name, ratio.time_ratio, ratio.against, ratio.aim
        );
    }
    for saving in &report.evaluation {
        let _ = writeln!(
            text,
            "\nevaluating {} versions with {} gallery passes instead of {} takes {:.1} times as long, its passes alone {:.1} times; \
             with {2}, passes are {:.0} % of the time",
            saving.versions,
            saving.repeated_passes,
            saving.passes,
            saving.time_ratio,
            saving.embedding_ratio,
            100.0 * saving.embedding_share,
        );
    }
    if let Some(bytes) = report.peak_memory_bytes {
        let _ = writeln!(text, "\nmost memory held: {:.0} MB", bytes as f64 / 1e6);
    }
    text
}

fn time(seconds: f64) -> String {
    match seconds {
        s if s >= 1.0 => format!("{s:.2} s"),
        s if s >= 1e-3 => format!("{:.2} ms", 1e3 * s),
        s => format!("{:.1} µs", 1e6 * s),
    }
}

/// Three digits at least, no more decimals than they need.
fn short(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}
