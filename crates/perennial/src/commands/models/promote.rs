//! `perennial models promote` and `rollback`: move the alias `live`, in a running service or in the registry alone.

use std::path::PathBuf;

use anyhow::Context;
use perennial_core::Registry;
use perennial_gallery::{EmbeddedGallery, GalleryConfig, VectorStore};
use perennial_serve::{
    CompatibilityCheck, LIVE_ALIAS, PREVIOUS_ALIAS, RegistryRecords, newer_first,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::arguments::GlobalArguments;
use crate::exit_status::{ExitStatus, usage};
use crate::terminal::Terminal;

/// The largest answer that is read from a service.
const MAX_ANSWER_BYTES: u64 = 4 << 20;

/// Whom to ask.
#[derive(Debug, clap::Args)]
pub struct ServerArguments {
    /// Address of the running service, such as http://127.0.0.1:7700; without it, only the registry is changed
    #[arg(long, env = "PERENNIAL_SERVER", value_name = "URL")]
    server: Option<String>,
    /// Key with the right to write; better given in the environment
    #[arg(
        long,
        env = "PERENNIAL_WRITE_KEY",
        hide_env_values = true,
        value_name = "KEY"
    )]
    key: Option<String>,
}

#[derive(Debug, clap::Args)]
pub struct PromoteArguments {
    /// Version name or alias that becomes live
    version: String,
    #[command(flatten)]
    server: ServerArguments,
    /// Folder of the gallery whose stored versions it must be certified for, where no service is running
    #[arg(
        long,
        env = "PERENNIAL_GALLERY",
        default_value = "gallery",
        value_name = "DIR"
    )]
    gallery: PathBuf,
    /// Move the alias even where the check refuses
    #[arg(long)]
    force: bool,
    /// Only check
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, clap::Args)]
pub struct RollbackArguments {
    #[command(flatten)]
    server: ServerArguments,
}

/// What became of a promotion or rollback.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    version: String,
    previous: Option<String>,
    moved: bool,
    #[serde(default)]
    checks: Vec<Check>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Check {
    name: String,
    passed: bool,
    detail: String,
}

pub fn promote(
    arguments: &PromoteArguments,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    let answer = match &arguments.server.server {
        Some(server) => ask(
            ureq::put(format!("{}/aliases/live", server.trim_end_matches('/'))),
            &arguments.server,
            &json!({
                "version": arguments.version,
                "force": arguments.force,
                "dry_run": arguments.dry_run,
            }),
        )?,
        None => promote_in_registry(arguments, &global.open_registry()?)?,
    };
    tell(&answer, terminal)
}

pub fn rollback(
    arguments: &RollbackArguments,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    let answer = match &arguments.server.server {
        Some(server) => ask(
            ureq::post(format!(
                "{}/aliases/live:rollback",
                server.trim_end_matches('/')
            )),
            &arguments.server,
            &json!({}),
        )?,
        None => {
            let registry = global.open_registry()?;
            let aliases = registry.aliases()?;
            let target = aliases.get(PREVIOUS_ALIAS).ok_or_else(|| {
                usage("nothing was promoted before, so there is no version to go back to")
            })?;
            point(&registry, target)?
        }
    };
    tell(&answer, terminal)
}

/// Checks a version against everything stored, then moves the alias.
fn promote_in_registry(
    arguments: &PromoteArguments,
    registry: &Registry,
) -> anyhow::Result<Answer> {
    let version = registry.resolve(&arguments.version)?;
    let records = RegistryRecords::new(registry.clone());
    let mut checks = Vec::new();
    if EmbeddedGallery::exists(&arguments.gallery) {
        let gallery = EmbeddedGallery::open(&arguments.gallery, GalleryConfig::default())
            .context("where a service is running, name it with --server")?;
        for stored in gallery.count()?.per_version.keys() {
            let (query, gallery) = newer_first(&version, stored);
            let (passed, detail) = match records.check(query, gallery) {
                Ok(certified) => (true, certified.basis),
                Err(refused) => (false, refused.reason),
            };
            checks.push(Check {
                name: format!("{query} on {gallery}"),
                passed,
                detail,
            });
        }
    }
    let refused = checks.iter().any(|check| !check.passed) && !arguments.force;
    if refused || arguments.dry_run {
        let previous = registry.aliases()?.remove(LIVE_ALIAS);
        return Ok(Answer {
            version,
            previous,
            moved: false,
            checks,
        });
    }
    Ok(Answer {
        checks,
        ..point(registry, &version)?
    })
}

/// Points `live` at a version and `previous` at the one before.
fn point(registry: &Registry, version: &str) -> anyhow::Result<Answer> {
    let previous = registry.aliases()?.remove(LIVE_ALIAS);
    if let Some(previous) = previous.as_deref().filter(|previous| *previous != version) {
        registry.set_alias(PREVIOUS_ALIAS, previous)?;
    }
    Ok(Answer {
        version: registry.set_alias(LIVE_ALIAS, version)?,
        previous,
        moved: true,
        checks: Vec::new(),
    })
}

fn ask(
    request: ureq::RequestBuilder<ureq::typestate::WithBody>,
    server: &ServerArguments,
    body: &serde_json::Value,
) -> anyhow::Result<Answer> {
    /// The parts of the service's answers that matter here, refusals included.
    #[derive(Deserialize)]
    struct Reply {
        version: Option<String>,
        previous: Option<String>,
        #[serde(default)]
        checks: Vec<Check>,
        #[serde(default)]
        dry_run: bool,
        error: Option<Refusal>,
    }
    #[derive(Deserialize)]
    struct Refusal {
        message: String,
        #[serde(default)]
        details: Details,
    }
    #[derive(Default, Deserialize)]
    struct Details {
        #[serde(default)]
        checks: Vec<Check>,
    }
    let mut request = request.header("content-type", "application/json");
    if let Some(key) = &server.key {
        request = request.header("authorization", format!("Bearer {key}"));
    }
    let request = request.config().http_status_as_error(false).build();
    let mut answer = request.send(body.to_string())?;
    let bytes = answer
        .body_mut()
        .with_config()
        .limit(MAX_ANSWER_BYTES)
        .read_to_vec()?;
    let reply: Reply = serde_json::from_slice(&bytes).map_err(|error| {
        anyhow::anyhow!(
            "{} did not answer as a Perennial service ({error})",
            server.server.as_deref().unwrap_or_default()
        )
    })?;
    match reply {
        Reply {
            error: Some(refusal),
            ..
        } if !refusal.details.checks.is_empty() => Ok(Answer {
            version: body["version"].as_str().unwrap_or_default().to_owned(),
            previous: None,
            moved: false,
            checks: refusal.details.checks,
        }),
        Reply {
            error: Some(refusal),
            ..
        } => anyhow::bail!("the service refused: {}", refusal.message),
        reply => Ok(Answer {
            version: reply.version.unwrap_or_default(),
            previous: reply.previous,
            moved: !reply.dry_run,
            checks: reply.checks,
        }),
    }
}

fn tell(answer: &Answer, terminal: &Terminal) -> anyhow::Result<ExitStatus> {
    let passed = answer.checks.iter().all(|check| check.passed);
    terminal.result(answer, |_| {
        let mut text = String::new();
        for check in &answer.checks {
            let mark = if check.passed { "passed" } else { "FAILED" };
            text.push_str(&format!("{mark}  {}: {}\n", check.name, check.detail));
        }
        let version = &answer.version;
        text.push_str(&match (&answer.previous, answer.moved) {
            (_, false) if passed => format!("{version} may become live; nothing was changed"),
            (_, false) => format!("{version} does not become live; nothing was changed"),
            (Some(previous), true) => format!("live -> {version} (was {previous})"),
            (None, true) => format!("live -> {version}"),
        });
        text
    })?;
    Ok(if answer.moved || passed {
        ExitStatus::Done
    } else {
        ExitStatus::GateMissed
    })
}
