//! `perennial evaluate --routes`: a chain of versions, searched as it is, centred, through bridges, by dual queries and mapped.

mod text;

use std::collections::HashSet;
use std::path::Path;

use anyhow::Context;
use clap::ValueEnum;
use perennial_bridge::Recipe;
use perennial_core::{ModelVersion, Output, ProbeSet, read_at_most};
use perennial_data::altered_copies;
use perennial_upgrade::{
    BridgePath, Chain, ChainRoute, ChainVersion, DEFAULT_WEIGHT, Demands, MissingRows, OldHalf,
    RouteResult, Rows, Task, Truth,
};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use super::without_embedding::WithoutEmbedding;
use crate::exit_status::usage;
use crate::measurement::{MOST_SHARED, Measurement, check_sets};
use crate::probe::Probe;
use crate::progress::CountedProgress;
use crate::set_argument::SetArgument;

/// The file with the result.
pub const FILE: &str = "routes.json";
const SCHEMA_VERSION: u32 = 1;
/// Largest result that is read; 31 versions on seven routes need a hundredth of it.
const MAX_BYTES: u64 = 256 << 20;

/// How newer queries search older galleries.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Routes")]
pub struct RouteArguments {
    /// Measure these routes on every pair of versions, by nearest class mean, recall@1 and mAP, by the number of upgrades in between, and
    /// on half-old galleries, instead of the usual report. Without names all of them but mapped, those of chains from three versions on
    #[arg(long, value_enum, value_name = "ROUTE", num_args = 0..)]
    routes: Option<Vec<RouteName>>,
    /// Images outside of the evaluation set, to fit bridges and means on; their labels are not used
    #[arg(long, value_name = "SET:SPLIT", requires = "routes")]
    fit_set: Option<SetArgument>,
    /// Use only this many of them, drawn at random
    #[arg(long, value_name = "N", requires = "fit_set")]
    fit_pairs: Option<usize>,
    /// Kind of the bridges, such as orthogonal or ridge:0.001
    #[arg(
        long,
        value_name = "KIND",
        default_value = "orthogonal",
        requires = "routes"
    )]
    kind: Recipe,
    /// Kind of the bridges that map stored vectors, for route mapped [default: that of --kind]
    #[arg(long, value_name = "KIND", requires = "routes")]
    mapped_kind: Option<Recipe>,
    /// Share of the old query in dual queries
    #[arg(long, value_name = "W", default_value_t = DEFAULT_WEIGHT, requires = "routes")]
    weight: f64,
    /// Search for single items: queries are altered copies (cropped, mirrored, recoloured) of so many gallery images, in place of the
    /// evaluation set's, and only the original is right. By recall@1 and MRR@10
    #[arg(long, value_name = "N", requires = "routes")]
    altered: Option<usize>,
}

/// A route on the command line and in descriptions of benchmarks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RouteName {
    /// As they are
    Own,
    /// Each side less the mean of its fit set
    Centred,
    /// Through a bridge that is fitted from the query's version to the gallery's
    Bridged,
    /// Through the bridges between neighbouring versions, one after the other
    Composed,
    /// Old and bridged query in one; the old one by the gallery's own version
    Dual,
    /// The same with the version before the query's in place of the gallery's, bridged as well
    DualLatest,
    /// The same with the bridges between neighbouring versions
    DualLatestComposed,
    /// As they are, against stored vectors that a bridge from the gallery's version to the query's mapped
    Mapped,
}

/// The content of `routes.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Document {
    schema_version: u32,
    /// What was searched for; results of earlier programs are of classes.
    #[serde(default)]
    pub task: Task,
    /// The versions, oldest first.
    pub versions: Vec<String>,
    /// The queries.
    pub queries: ProbeSet,
    /// The gallery.
    pub gallery: ProbeSet,
    /// What bridges and means were fitted on.
    pub fit_set: Option<String>,
    /// How the command line names that set; none in results of earlier programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fit_argument: Option<String>,
    /// How many images of it.
    pub fit_pairs: usize,
    /// How many of these are images of the evaluation set, byte for byte.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub fit_overlap: usize,
    /// The versions that have no embedding of some images.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without_embedding: Vec<WithoutEmbedding>,
    /// What was demanded, and how intervals were drawn.
    pub demands: Demands,
    created: String,
    /// The routes in the order in which they were asked for.
    pub routes: Vec<RouteResult>,
}

impl Document {
    /// Reads a result.
    ///
    /// # Errors
    /// Names the file: it is missing, damaged, or of another schema.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let bytes = read_at_most(path, MAX_BYTES)?;
        let damaged = || format!("{} is damaged; remove it to measure again", path.display());
        let document: Self = serde_json::from_slice(&bytes).with_context(damaged)?;
        anyhow::ensure!(
            document.schema_version == SCHEMA_VERSION,
            "{}: schema_version is {}, this program reads {SCHEMA_VERSION}; remove it to measure again",
            path.display(),
            document.schema_version
        );
        Ok(document)
    }
}

impl RouteName {
    /// Its name on the command line.
    pub fn as_argument(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// The route with bridges of kind `recipe`, for mapped vectors of kind `mapped`, and with this share of the old query.
    pub fn route(self, recipe: Recipe, mapped: Recipe, weight: f64) -> ChainRoute {
        let bridged = |path| ChainRoute::Bridged { recipe, path };
        let dual = |old, path| ChainRoute::Dual {
            recipe,
            weight,
            old,
            path,
        };
        match self {
            Self::Own => ChainRoute::Own,
            Self::Centred => ChainRoute::Centred,
            Self::Bridged => bridged(BridgePath::Direct),
            Self::Composed => bridged(BridgePath::Composed),
            Self::Dual => dual(OldHalf::Gallery, BridgePath::Direct),
            Self::DualLatest => dual(OldHalf::Latest, BridgePath::Direct),
            Self::DualLatestComposed => dual(OldHalf::Latest, BridgePath::Composed),
            Self::Mapped => ChainRoute::Mapped { recipe: mapped },
        }
    }
}

impl RouteArguments {
    /// Whether routes are to be measured.
    pub fn wanted(&self) -> bool {
        self.routes.is_some()
    }

    fn chosen(&self, versions: usize) -> anyhow::Result<Vec<ChainRoute>> {
        if !(0.0..=1.0).contains(&self.weight) {
            return Err(usage(format!("--weight {}: use 0 to 1", self.weight)));
        }
        let named = self.routes.as_deref().unwrap_or_default();
        let routes = if named.is_empty() {
            ChainRoute::usual(versions, self.kind, self.weight)
        } else {
            let mapped = self.mapped_kind.unwrap_or(self.kind);
            named
                .iter()
                .map(|name| name.route(self.kind, mapped, self.weight))
                .collect()
        };
        if let Some(route) = routes
            .iter()
            .find(|route| route.versions_needed() > versions)
        {
            return Err(usage(format!(
                "route {route} needs a chain of at least {} versions, and there are {versions}; with fewer it is the same as {}",
                route.versions_needed(),
                route.counterpart().unwrap_or(*route),
            )));
        }
        if let Some(route) = routes.iter().find(|route| route.needs_fit())
            && self.fit_set.is_none()
        {
            return Err(usage(format!(
                "route {route} needs images to fit on; pass --fit-set SET:SPLIT, such as --fit-set cifar100:train"
            )));
        }
        Ok(routes)
    }

    /// Measures the routes and writes the result to `output`.
    pub fn run(
        &self,
        measurement: &Measurement<'_>,
        versions: &[ModelVersion],
        [queries, gallery]: [&Probe; 2],
        demands: Demands,
        data: &Path,
        output: Output,
    ) -> anyhow::Result<()> {
        let terminal = measurement.terminal;
        let routes = self.chosen(versions.len())?;
        let fit = match &self.fit_set {
            Some(set) => Some(Probe::load_for(&set.0, data, versions)?),
            None => None,
        };
        let drawn = match &fit {
            Some(fit) => self.draw(fit.set.len(), demands.bootstrap.seed)?,
            None => Vec::new(),
        };
        let fit_overlap = match &fit {
            Some(fit) => {
                let mut sets = vec![gallery];
                // Altered copies are made of the gallery's images.
                sets.extend(self.altered.is_none().then_some(queries));
                fit_overlap(fit, &drawn, &sets)?
            }
            None => 0,
        };
        if fit_overlap > 0 {
            terminal.say(format_args!(
                "{fit_overlap} of {} images that bridges are fitted on are images of the evaluation set as well",
                drawn.len()
            ));
        }
        let (queries, truth) = match self.altered {
            Some(count) => {
                let copies = altered_copies(&gallery.set, count, demands.bootstrap.seed)?;
                let right = copies.originals.iter().map(|&item| vec![item as u32]);
                let truth = Truth::Items(right.collect());
                let name = format!("{count} altered copies of {}", gallery.description.name);
                (&Probe::made(copies.images, name), truth)
            }
            None => {
                check_sets(queries, gallery, terminal)?;
                let truth = Truth::Classes {
                    queries: queries.set.labels().to_vec(),
                    gallery: gallery.set.labels().to_vec(),
                };
                (queries, truth)
            }
        };
        let mut chain = Vec::with_capacity(versions.len());
        for version in versions {
            let rows = |probe: &Probe| -> anyhow::Result<(Rows, Vec<usize>)> {
                let embeddings = measurement.embeddings(version, probe)?;
                let missing = embeddings.missing().to_vec();
                Ok((Rows::embedded(&embeddings, version.space()), missing))
            };
            let (queries, missing_queries) = rows(queries)?;
            let (gallery, missing_items) = rows(gallery)?;
            let (fit, missing_fit) = match &fit {
                Some(fit) => {
                    let (rows, missing) = rows(fit)?;
                    let is_missing = |&place: &usize| missing.binary_search(&drawn[place]).is_ok();
                    let missing = (0..drawn.len()).filter(is_missing).collect();
                    (Some(rows.select(&drawn)), missing)
                }
                None => (None, Vec::new()),
            };
            chain.push(ChainVersion {
                name: version.name.clone(),
                queries,
                gallery,
                fit,
                missing: MissingRows {
                    queries: missing_queries,
                    gallery: missing_items,
                    fit: missing_fit,
                },
            });
        }
        let without_embedding = without_embedding(&chain);
        let chain = Chain {
            versions: &chain,
            truth: &truth,
            demands,
        };
        let pairs = versions.len() * versions.len().saturating_sub(1) / 2;
        let total = (pairs * routes.len()) as u64;
        let progress = CountedProgress::new(terminal, "measuring routes", total, "tests");
        let results = chain.measure(&routes, || {
            progress.advance(1);
            measurement.interrupt.check()
        })?;
        progress.finish();
        let document = Document {
            schema_version: SCHEMA_VERSION,
            task: truth.task(),
            versions: versions
                .iter()
                .map(|version| version.name.clone())
                .collect(),
            queries: queries.description.clone(),
            gallery: gallery.description.clone(),
            fit_set: fit.as_ref().map(|fit| fit.description.name.clone()),
            fit_argument: fit
                .as_ref()
                .and_then(|fit| fit.description.argument.clone()),
            fit_pairs: drawn.len(),
            fit_overlap,
            without_embedding,
            demands,
            created: perennial_train::now(),
            routes: results,
        };
        let mut json = serde_json::to_string_pretty(&document)?;
        json.push('\n');
        output.commit(&json)?;
        terminal.document(
            || Ok(json),
            |_| text::render(&document.routes, drawn.len(), &document.without_embedding),
        )
    }

    fn draw(&self, images: usize, seed: u64) -> anyhow::Result<Vec<usize>> {
        let wanted = self.fit_pairs.unwrap_or(images);
        if wanted == 0 || wanted > images {
            return Err(usage(format!(
                "--fit-pairs {wanted}: the set has {images} images"
            )));
        }
        let mut drawn: Vec<usize> = (0..images).collect();
        drawn.shuffle(&mut rand_chacha::ChaCha8Rng::seed_from_u64(seed));
        drawn.truncate(wanted);
        drawn.sort_unstable();
        Ok(drawn)
    }
}

/// How many of the drawn images are images of the evaluation set.
///
/// # Errors
/// Wrong usage where they are more than a few: what is measured on images that bridges were fitted on says nothing about others.
fn fit_overlap(fit: &Probe, drawn: &[usize], sets: &[&Probe]) -> anyhow::Result<usize> {
    let images: HashSet<&[u8]> = drawn.iter().map(|&at| fit.set.image(at)).collect();
    let mut evaluated: HashSet<&[u8]> = HashSet::new();
    for probe in sets {
        let all = || (0..probe.set.len()).map(|at| probe.set.image(at));
        let fitted = all().filter(|image| images.contains(image)).count();
        if fitted as f64 > MOST_SHARED * probe.set.len() as f64 {
            return Err(usage(format!(
                "--fit-set: {fitted} of {} images of {} are in {}, which bridges are fitted on; name a fit set outside of the evaluation set",
                probe.set.len(),
                probe.description.name,
                fit.description.name
            )));
        }
        evaluated.extend(all().filter(|image| images.contains(image)));
    }
    let shared = drawn.iter().map(|&at| fit.set.image(at));
    let shared = shared.filter(|image| evaluated.contains(image)).count();
    if shared as f64 > MOST_SHARED * drawn.len() as f64 {
        return Err(usage(format!(
            "--fit-set: {shared} of {} images of {} that bridges are fitted on are in the evaluation set; name a fit set outside of it",
            drawn.len(),
            fit.description.name
        )));
    }
    Ok(shared)
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

fn without_embedding(chain: &[ChainVersion]) -> Vec<WithoutEmbedding> {
    let some = |version: &&ChainVersion| version.missing != MissingRows::default();
    let counts = |version: &ChainVersion| WithoutEmbedding {
        version: version.name.clone(),
        queries: version.missing.queries.len(),
        gallery: version.missing.gallery.len(),
        fit: version.missing.fit.len(),
    };
    chain.iter().filter(some).map(counts).collect()
}
