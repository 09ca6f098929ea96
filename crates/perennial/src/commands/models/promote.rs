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
use crate::service_client::{AccessArguments, Reply, ServiceClient};
use crate::terminal::Terminal;

/// Whom to ask.
#[derive(Debug, clap::Args)]
pub struct ServerArguments {
    /// Address of the running service, such as http://127.0.0.1:7700; without it, only the registry is changed
    #[arg(long, env = "PERENNIAL_SERVER", value_name = "URL")]
    server: Option<String>,
    #[command(flatten)]
    access: AccessArguments,
}

impl ServerArguments {
    fn client(&self) -> anyhow::Result<Option<ServiceClient>> {
        let server = self.server.as_deref();
        server
            .map(|url| ServiceClient::of(url, &self.access))
            .transpose()
    }
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
    let answer = match arguments.server.client()? {
        Some(client) => {
            let request = json!({
                "version": arguments.version,
                "force": arguments.force,
                "dry_run": arguments.dry_run,
            });
            answer(client.put("/aliases/live", &request)?, &arguments.version)?
        }
        None => promote_in_registry(arguments, &global.open_registry()?)?,
    };
    tell(&answer, terminal)
}

pub fn rollback(
    arguments: &RollbackArguments,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    let answer = match arguments.server.client()? {
        Some(client) => answer(client.post("/aliases/live:rollback", &json!({}))?, "")?,
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

/// What the service made of the request for a version.
fn answer(reply: Reply, version: &str) -> anyhow::Result<Answer> {
    /// The parts of the service's answers that matter here.
    #[derive(Deserialize)]
    struct Moved {
        version: String,
        previous: Option<String>,
        #[serde(default)]
        checks: Vec<Check>,
        #[serde(default)]
        dry_run: bool,
    }
    let checks = Vec::<Check>::deserialize(&reply.json["error"]["details"]["checks"]);
    if let Ok(checks) = checks
        && !checks.is_empty()
    {
        return Ok(Answer {
            version: version.to_owned(),
            previous: None,
            moved: false,
            checks,
        });
    }
    let moved: Moved = reply.read()?;
    Ok(Answer {
        version: moved.version,
        previous: moved.previous,
        moved: !moved.dry_run,
        checks: moved.checks,
    })
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
