//! `perennial models`: the versions of the registry.

mod export;
mod import;
mod promote;

use std::collections::BTreeMap;

use perennial_core::{
    EmbeddingSource, EncoderKind, Modality, ModelVersion, Registry, VersionEncoder,
};
use perennial_upgrade::LIVE_ALIAS;
use serde::Serialize;

use crate::arguments::GlobalArguments;
use crate::exit_status::ExitStatus;
use crate::terminal::Terminal;

#[derive(Debug, clap::Subcommand)]
pub enum Action {
    /// List all versions
    List,
    /// Show a version
    Show {
        /// Version name or alias
        version: String,
    },
    /// Import a model of another program as a version: weights of a supported backbone (PyTorch, safetensors), or an encoder of pictures or texts
    /// (ONNX, a folder of a model hub, or an embedding service)
    Import(Box<import::Arguments>),
    /// Write a network that was trained here as a file of other programs (ONNX)
    Export(export::Arguments),
    /// Point an alias at a version; for the alias live, this is the same as `promote`, with the same checks
    Alias(Box<AliasArguments>),
    /// Make a version live if it is certified against all versions stored in the gallery
    Promote(Box<promote::PromoteArguments>),
    /// Make the previous live version live again
    Rollback(Box<promote::RollbackArguments>),
}

#[derive(Debug, clap::Args)]
pub struct AliasArguments {
    /// The alias, such as live
    alias: String,
    /// Version name or another alias
    version: String,
    #[command(flatten)]
    place: promote::PlaceArguments,
}

pub fn run(
    action: &Action,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    match action {
        Action::List => list(&global.open_registry()?, terminal),
        Action::Show { version } => show(&global.open_registry()?, version, terminal),
        Action::Export(arguments) => export::run(arguments, &global.open_registry()?, terminal),
        Action::Import(arguments) => import::run(arguments, global, terminal),
        Action::Alias(arguments) if arguments.alias == LIVE_ALIAS => {
            let target = promote::Target::Version(&arguments.version);
            promote::move_to(target, &arguments.place, global, terminal)
        }
        Action::Alias(arguments) => point(
            &global.open_registry()?,
            &arguments.alias,
            &arguments.version,
            terminal,
        ),
        Action::Promote(arguments) => promote::promote(arguments, global, terminal),
        Action::Rollback(arguments) => promote::rollback(arguments, global, terminal),
    }
}

/// A version as it is printed: its `model.toml` and the aliases that point to it.
#[derive(Serialize)]
struct Entry<'a> {
    aliases: Vec<&'a str>,
    #[serde(flatten)]
    version: &'a ModelVersion,
}

fn entry<'a>(version: &'a ModelVersion, aliases: &'a BTreeMap<String, String>) -> Entry<'a> {
    let pointing = aliases
        .iter()
        .filter(|(_, target)| **target == version.name);
    Entry {
        aliases: pointing.map(|(alias, _)| alias.as_str()).collect(),
        version,
    }
}

fn list(registry: &Registry, terminal: &Terminal) -> anyhow::Result<ExitStatus> {
    #[derive(Serialize)]
    struct Answer<'a> {
        versions: Vec<Entry<'a>>,
    }
    let versions = registry.list()?;
    let aliases = registry.aliases()?;
    let answer = Answer {
        versions: versions
            .iter()
            .map(|version| entry(version, &aliases))
            .collect(),
    };
    terminal.result(&answer, |_| table(&answer.versions))?;
    Ok(ExitStatus::Done)
}

fn table(entries: &[Entry<'_>]) -> String {
    let mut rows = vec![
        [
            "NAME", "ROLE", "METHOD", "NETWORK", "INPUT", "DIM", "CLASSES", "PARENT", "CREATED",
            "ALIASES", "DATA",
        ]
        .map(str::to_owned),
    ];
    rows.extend(entries.iter().map(|Entry { aliases, version }| {
        [
            version.name.clone(),
            role(version),
            version.method.clone(),
            network(version),
            input(version),
            version.dim.to_string(),
            version
                .classifier()
                .map_or("-".to_owned(), |classifier| classifier.classes.to_string()),
            version.parent.clone().unwrap_or_else(|| "-".to_owned()),
            version.created.clone(),
            if aliases.is_empty() {
                "-".to_owned()
            } else {
                aliases.join(" ")
            },
            short(&version.data),
        ]
    }));
    let widths: Vec<usize> = (0..rows[0].len())
        .map(|column| {
            rows.iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let line = |row: &[String; 11]| {
        let cells = row.iter().zip(&widths);
        let padded: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

/// The role as `model.toml` spells it.
fn role(version: &ModelVersion) -> String {
    format!("{:?}", version.role).to_lowercase()
}

fn network(version: &ModelVersion) -> String {
    let architecture = match &version.encoder {
        VersionEncoder::Network(network) => &network.architecture,
        VersionEncoder::Outside(outside) => {
            return match outside.kind {
                EncoderKind::Onnx => "onnx".to_owned(),
                EncoderKind::TokenTable => "token table".to_owned(),
                EncoderKind::Endpoint => "endpoint".to_owned(),
            };
        }
    };
    let mut text = format!("{}/{}", architecture.backbone, architecture.width);
    if !architecture.stem.is_empty() {
        text.push_str(&format!(" {}", architecture.stem));
    }
    if architecture.embedding == EmbeddingSource::Features {
        text.push_str(" features");
    }
    text
}

/// Height and width of the images that it takes, and whether it takes texts.
fn input(version: &ModelVersion) -> String {
    let pictures = version.picture_size();
    let pictures = pictures.map(|[height, width]| format!("{height}x{width}"));
    let texts = version.accepts().contains(&Modality::Text);
    let texts = texts.then(|| "text".to_owned());
    let both: Vec<String> = pictures.into_iter().chain(texts).collect();
    both.join("+")
}

/// The start of a long text; `models show` has all of it.
fn short(text: &str) -> String {
    const MOST: usize = 60;
    if text.chars().count() <= MOST {
        return text.to_owned();
    }
    let start: String = text.chars().take(MOST - 3).collect();
    format!("{start}...")
}

fn show(registry: &Registry, name: &str, terminal: &Terminal) -> anyhow::Result<ExitStatus> {
    let version = registry.get(name)?;
    let aliases = registry.aliases()?;
    let entry = entry(&version, &aliases);
    terminal.result(&entry, |_| {
        let mut text = version.to_toml();
        if !entry.aliases.is_empty() {
            text.insert_str(0, &format!("# aliases: {}\n", entry.aliases.join(" ")));
        }
        text
    })?;
    Ok(ExitStatus::Done)
}

fn point(
    registry: &Registry,
    alias: &str,
    version: &str,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    #[derive(Serialize)]
    struct Answer<'a> {
        alias: &'a str,
        version: &'a str,
    }
    let version = registry.set_alias(alias, version)?;
    let answer = Answer {
        alias,
        version: &version,
    };
    terminal.result(&answer, |_| format!("{alias} -> {version}"))?;
    Ok(ExitStatus::Done)
}
