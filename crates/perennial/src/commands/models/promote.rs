//! `perennial models promote`, `rollback` and `alias live`: move the live version, in a running service or in the registry.
//!
//! Both ways make the same checks, those of `perennial_upgrade::promotion`.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use perennial_core::Registry;
use perennial_gallery::{EmbeddedGallery, GalleryConfig, GalleryError, MappedIndexes, VectorMap};
use perennial_upgrade::{
    Certification, CompatibilityCheck, LIVE_ALIAS, Need, Outcome, PREVIOUS_ALIAS, QueryCost,
    RegistryRecords, Stored, StoredProbes, Verdict, go_live, keep_probes, prepare,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::arguments::GlobalArguments;
use crate::commands::serve::PROBES_FOLDER;
use crate::database_store::refuse_folder_of_database;
use crate::exit_status::{ExitStatus, usage};
use crate::model_loading::VersionLoader;
use crate::running_service;
use crate::service_client::{AccessArguments, Reply, ServiceClient};
use crate::terminal::Terminal;

const DEFAULT_GALLERY: &str = "gallery";

/// The service or registry whose live version is changed, and the gallery that it is checked against.
#[derive(Debug, clap::Args)]
pub struct PlaceArguments {
    /// Address of the running service, such as http://127.0.0.1:7700. Without it, the request goes to the service that has the
    /// gallery open; if none is running, the registry is changed directly
    #[arg(long, env = "PERENNIAL_SERVER", value_name = "URL")]
    server: Option<String>,
    #[command(flatten)]
    access: AccessArguments,
    /// Folder of the gallery; the version must be certified against all versions stored in it [default: gallery]
    #[arg(long, env = "PERENNIAL_GALLERY", value_name = "DIR")]
    gallery: Option<PathBuf>,
    /// Check the version alone, without a gallery
    #[arg(long, conflicts_with_all = ["gallery", "server"])]
    no_gallery: bool,
    /// Promote even if the version is not certified against the stored versions; all other checks still apply
    #[arg(long)]
    force: bool,
    /// Run the checks and print them, but change nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, clap::Args)]
pub struct PromoteArguments {
    /// Version to make live: its name or an alias
    version: String,
    #[command(flatten)]
    place: PlaceArguments,
}

#[derive(Debug, clap::Args)]
pub struct RollbackArguments {
    #[command(flatten)]
    place: PlaceArguments,
}

/// Which version becomes live.
#[derive(Clone, Copy)]
pub enum Target<'a> {
    Version(&'a str),
    Previous,
}

/// The result of a promotion or rollback.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    version: String,
    previous: Option<String>,
    moved: bool,
    /// The service or the registry.
    place: String,
    #[serde(default)]
    checks: Vec<Check>,
    /// Commands that measure the uncertified pairs.
    #[serde(default)]
    remedies: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Check {
    name: String,
    passed: bool,
    #[serde(default)]
    warning: bool,
    detail: String,
}

pub fn promote(
    arguments: &PromoteArguments,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    move_to(
        Target::Version(&arguments.version),
        &arguments.place,
        global,
        terminal,
    )
}

pub fn rollback(
    arguments: &RollbackArguments,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    move_to(Target::Previous, &arguments.place, global, terminal)
}

/// Moves the live version in the service or in the registry.
pub fn move_to(
    target: Target<'_>,
    place: &PlaceArguments,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    let answer = match &place.server {
        Some(url) => ask(&ServiceClient::of(url, &place.access)?, target, place)?,
        None => match place.open_gallery()? {
            Gallery::Service(client) => ask(&client, target, place)?,
            Gallery::Open(gallery) => move_in_registry(target, Some(&gallery), place, global)?,
            Gallery::None => move_in_registry(target, None, place, global)?,
        },
    };
    tell(&answer, terminal)
}

/// The gallery whose items a version must be certified for.
enum Gallery {
    Open(EmbeddedGallery),
    /// A running service holds it.
    Service(ServiceClient),
    /// No gallery exists at the default path, and none was named.
    None,
}

impl PlaceArguments {
    fn folder(&self) -> &Path {
        self.gallery
            .as_deref()
            .unwrap_or_else(|| Path::new(DEFAULT_GALLERY))
    }

    fn open_gallery(&self) -> anyhow::Result<Gallery> {
        let folder = self.folder();
        if self.no_gallery {
            if EmbeddedGallery::exists(folder) {
                return Err(usage(format!(
                    "--no-gallery: there is a gallery at {}; leave the option out, so that the version is checked against it",
                    folder.display()
                )));
            }
            refuse_folder_of_database(folder)?;
            return Ok(Gallery::None);
        }
        if !EmbeddedGallery::exists(folder) {
            // A running service keeps the gallery of this folder in a database.
            return match running_service::address(folder) {
                Some(url) => Ok(Gallery::Service(ServiceClient::of(&url, &self.access)?)),
                None => refuse_folder_of_database(folder).map(|()| Gallery::None),
            };
        }
        // Only counted, so no graph is built.
        let config = GalleryConfig {
            hnsw_from: usize::MAX,
            ..GalleryConfig::default()
        };
        let opened = match self.dry_run {
            true => EmbeddedGallery::open_read_only(folder, config),
            false => EmbeddedGallery::open(folder, config),
        };
        match opened {
            Ok(gallery) => Ok(Gallery::Open(gallery)),
            Err(error @ GalleryError::Locked { .. }) => match running_service::address(folder) {
                Some(url) => Ok(Gallery::Service(ServiceClient::of(&url, &self.access)?)),
                None => Err(usage(format!(
                    "{error}; if that is a service, pass its address with --server"
                ))),
            },
            Err(error) => Err(error.into()),
        }
    }
}

fn ask(
    client: &ServiceClient,
    target: Target<'_>,
    place: &PlaceArguments,
) -> anyhow::Result<Answer> {
    let mut request = json!({ "force": place.force, "dry_run": place.dry_run });
    let (reply, version) = match target {
        Target::Version(version) => {
            request["version"] = json!(version);
            (client.put("/aliases/live", &request)?, version)
        }
        Target::Previous => (client.post("/aliases/live:rollback", &request)?, ""),
    };
    answer(reply, version, client.url())
}

/// The service's response to a request for a version.
fn answer(reply: Reply, version: &str, url: &str) -> anyhow::Result<Answer> {
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
    let place = format!("the service at {url}");
    let details = &reply.json["error"]["details"];
    let checks = Vec::<Check>::deserialize(&details["checks"]);
    if let Ok(checks) = checks
        && !checks.is_empty()
    {
        let remedies = details["remedies"].as_array().cloned().unwrap_or_default();
        return Ok(Answer {
            version: details["version"].as_str().unwrap_or(version).to_owned(),
            previous: None,
            moved: false,
            place,
            checks,
            remedies: remedies
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect(),
        });
    }
    let moved: Moved = reply.read()?;
    Ok(Answer {
        version: moved.version,
        previous: moved.previous,
        moved: !moved.dry_run,
        place,
        checks: moved.checks,
        remedies: Vec::new(),
    })
}

/// The same checks and the same move without a service.
fn move_in_registry(
    target: Target<'_>,
    gallery: Option<&EmbeddedGallery>,
    place: &PlaceArguments,
    global: &GlobalArguments,
) -> anyhow::Result<Answer> {
    let registry = global.open_registry()?;
    let aliases = registry.aliases()?;
    // The first live version of all may come before the gallery. A later one is checked against it.
    let is_missing = gallery.is_none() && !place.no_gallery && aliases.contains_key(LIVE_ALIAS);
    if is_missing && place.gallery.is_some() {
        return Err(usage(format!(
            "no gallery at {}; check --gallery",
            place.folder().display()
        )));
    }
    let name = match target {
        Target::Version(name) => name,
        Target::Previous => aliases.get(PREVIOUS_ALIAS).ok_or_else(|| {
            usage("there is no previous live version to roll back to; use `perennial models promote VERSION`")
        })?,
    };
    // No service has the gallery open, so no promotion is under way.
    let settle = gallery.is_some() && !place.dry_run;
    let certification = certification(&registry, place.folder(), settle)?;
    let stored = match gallery {
        Some(gallery) => Stored::of(gallery)?,
        None => Stored::default(),
    };
    let probes = gallery.map(|_| StoredProbes::new(&place.folder().join(PROBES_FOLDER)));
    let loader = VersionLoader::of(global)?;
    let mut prepared = prepare(
        &registry,
        &loader,
        probes.as_ref(),
        &stored.per_version,
        name,
    )?;
    if let Some(candidate) = &prepared.candidate {
        // Without a gallery the certificates cannot be checked. Only the first live version needs none.
        if is_missing {
            return Err(usage(format!(
                "no gallery at {}, so {} cannot be checked against stored versions; pass the folder with --gallery, or \
                 --no-gallery if there is no gallery",
                place.folder().display(),
                prepared.name
            )));
        }
        let verdict = &mut prepared.verdict;
        verdict.check_stored(&candidate.model, &stored, &certification);
        let old_encoders = RefCell::new(Vec::new());
        let usable = |need: Need<'_>| {
            // A service builds an index of mapped vectors when it is told of the promotion, or when it starts.
            let name = match need {
                Need::OldEncoder(name) => name,
                Need::MappedIndex { space, map } => {
                    let items = stored.per_version.get(space).copied().unwrap_or(0);
                    let bytes =
                        gallery.map_or(0, |gallery| gallery.mapped_bytes(items, map.output_dim()));
                    return Ok(Some(Need::to_build(items, bytes)));
                }
            };
            let stored = &stored.per_version;
            let old = prepare(&registry, &loader, probes.as_ref(), stored, name)
                .map_err(|error| error.to_string())?;
            let model = old.candidate.ok_or_else(|| old.verdict.problem())?.model;
            old_encoders.borrow_mut().push(model);
            Ok(None)
        };
        let version = &candidate.model.version;
        verdict.check_needs(version, &stored, &certification, &usable);
        let old = old_encoders.borrow();
        let models = std::iter::once(&*candidate.model).chain(old.iter().map(|old| &**old));
        verdict.note_cost(&QueryCost::of(models));
    }
    let answer = |moved: bool, previous: Option<String>, verdict: &Verdict| Answer {
        version: prepared.name.clone(),
        previous,
        moved,
        place: format!("the registry {}", registry.root().display()),
        checks: checks(verdict),
        remedies: remedies(verdict),
    };
    let Some(candidate) = prepared
        .candidate
        .as_ref()
        .filter(|_| prepared.verdict.allows(place.force))
    else {
        return Ok(answer(false, None, &prepared.verdict));
    };
    if place.dry_run {
        let previous = aliases.get(LIVE_ALIAS).cloned();
        return Ok(answer(false, previous, &prepared.verdict));
    }
    let overruled = prepared.verdict.refused();
    let previous = go_live(&registry, &certification, &prepared.name, overruled)?;
    if let (Some(probes), Some(new)) = (&probes, &candidate.new_probes) {
        keep_probes(probes, &candidate.model, new);
    }
    Ok(answer(true, previous, &prepared.verdict))
}

/// Also finishes what an interrupted promotion left, where asked to.
fn certification(
    registry: &Registry,
    gallery: &Path,
    settle: bool,
) -> anyhow::Result<Certification> {
    let records = RegistryRecords::for_gallery(registry.clone(), gallery)
        .map_err(|error| usage(error.to_string()))?;
    if settle {
        records.settle_accepted()?;
    }
    Ok(Certification::new(Arc::new(records), false))
}

fn checks(verdict: &Verdict) -> Vec<Check> {
    let checks = verdict.checks().iter().map(|check| Check {
        name: check.name.clone(),
        passed: check.outcome != Outcome::Failed,
        warning: check.outcome == Outcome::Warned,
        detail: check.detail.clone(),
    });
    checks.collect()
}

fn remedies(verdict: &Verdict) -> Vec<String> {
    let refused = verdict.refused().iter();
    refused
        .filter_map(|pair| pair.remedy.as_ref().map(ToString::to_string))
        .collect()
}

fn tell(answer: &Answer, terminal: &Terminal) -> anyhow::Result<ExitStatus> {
    let passed = answer.checks.iter().all(|check| check.passed);
    terminal.result(answer, |_| text(answer, passed))?;
    Ok(if answer.moved || passed {
        ExitStatus::Done
    } else {
        ExitStatus::GateMissed
    })
}

fn text(answer: &Answer, passed: bool) -> String {
    let mut text = String::new();
    for check in &answer.checks {
        let mark = match check {
            Check { passed: false, .. } => "FAILED ",
            Check { warning: true, .. } => "warning",
            Check { .. } => "passed ",
        };
        text.push_str(&format!("{mark} {}: {}\n", check.name, check.detail));
    }
    if !answer.moved {
        for command in &answer.remedies {
            text.push_str(&format!("to measure the pair: {command}\n"));
        }
    }
    let version = &answer.version;
    let place = &answer.place;
    text.push_str(&match (&answer.previous, answer.moved) {
        (_, false) if passed => {
            format!(
                "{version} passes all checks and can be promoted; nothing was changed in {place}"
            )
        }
        (_, false) => format!("{version} was not promoted; nothing was changed in {place}"),
        (Some(previous), true) => format!("live -> {version} (was {previous}) in {place}"),
        (None, true) => format!("live -> {version} in {place}"),
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(moved: bool, checks: Vec<Check>) -> Answer {
        Answer {
            version: "v0002".to_owned(),
            previous: Some("v0001".to_owned()),
            moved,
            place: "the registry r".to_owned(),
            checks,
            remedies: vec!["perennial evaluate".to_owned()],
        }
    }

    #[test]
    fn the_text_says_what_was_changed_and_where() {
        let moved = text(&answer(true, Vec::new()), true);
        assert_eq!(moved, "live -> v0002 (was v0001) in the registry r");
        let check = Check {
            name: "weights".to_owned(),
            passed: false,
            warning: false,
            detail: "damaged".to_owned(),
        };
        let refused = text(&answer(false, vec![check]), false);
        assert_eq!(
            refused,
            "FAILED  weights: damaged\nto measure the pair: perennial evaluate\n\
             v0002 was not promoted; nothing was changed in the registry r"
        );
    }
}
