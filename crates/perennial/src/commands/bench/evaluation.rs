//! Evaluating T versions: each embeds the probe set once, against embedding every older gallery again for every query version.

use std::time::{Duration, Instant};

use perennial_core::{Embeddings, Registry};
use perennial_data::{GeneratedConfig, ImageSet};
use perennial_encode::GraphRuntime;
use perennial_eval::{CompatibilityMatrix, Metrics, TieRule, evaluate, metrics};
use perennial_train::network::NetworkConfig;
use perennial_upgrade::LoadedModel;
use serde::{Deserialize, Serialize};

use super::network::Subject;
use super::timing::{Measurement, median_ratio};
use crate::embedding::embed_with;
use crate::model_loading::VersionLoader;

/// Tasks of the published experiments.
const VERSIONS: [usize; 2] = [7, 31];
/// Wider networks and larger batches are cut down to these: the slow way makes 496 passes for 31 versions.
const WIDTH: usize = 16;
const IMAGES: usize = 24;
/// More samples would take minutes.
const MOST_SAMPLES: usize = 3;
/// Classes of the probe set, if it has as many images.
const CLASSES: usize = 8;

/// What one pass per version saves.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Saving {
    /// Model versions, T.
    pub versions: usize,
    /// Passes over the probe set, which is queries and gallery at once: one per version.
    pub passes: usize,
    /// Gallery passes where every query version embeds its own and every older gallery again: 1 + 2 + ... + T.
    pub repeated_passes: usize,
    /// Time of the repeated passes and all tests divided by that of one pass per version and all tests; the median of samples in
    /// which both follow each other.
    pub time_ratio: f64,
    /// The same for the passes alone.
    pub embedding_ratio: f64,
    /// Share of embedding in the time that one pass per version and all tests take, a fraction.
    pub embedding_share: f64,
}

/// For every number of versions: the time of both ways, and what they cost against each other.
pub fn measure_all(
    subject: &Subject,
    registry: &Registry,
) -> anyhow::Result<(Vec<Measurement>, Vec<Saving>)> {
    let narrow = Subject {
        config: NetworkConfig {
            width: subject.config.width.min(WIDTH),
            ..subject.config
        },
        device: subject.device.clone(),
        ..*subject
    };
    let images = subject.batch.min(IMAGES);
    let classes = images.min(CLASSES);
    let set = perennial_data::generate(&GeneratedConfig {
        classes,
        images_per_class: images.div_ceil(classes),
        ..GeneratedConfig::default()
    })?;
    let most = VERSIONS[VERSIONS.len() - 1] as u64;
    let versions = (0..most)
        .map(|seed| Loaded::publish(&narrow, registry, seed))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let samples = subject.samples.min(MOST_SAMPLES);

    let (mut found, mut savings) = (Vec::new(), Vec::new());
    for count in VERSIONS {
        let versions = &versions[..count];
        let pass = |version: &Loaded| version.embed(&set);
        // Warm.
        one_pass_each(versions, pass)?;
        let mut once = Times::default();
        let mut repeated = Times::default();
        for _ in 0..samples {
            once.add(|clock| one_pass_each(versions, |version| clock.time(|| pass(version))))?;
            repeated
                .add(|clock| repeated_passes(versions, |version| clock.time(|| pass(version))))?;
        }
        savings.push(Saving {
            versions: count,
            passes: count,
            repeated_passes: count * (count + 1) / 2,
            time_ratio: median_ratio(&repeated.total, &once.total),
            embedding_ratio: median_ratio(&repeated.embedding, &once.embedding),
            embedding_share: median_ratio(&once.embedding, &once.total),
        });
        let title =
            |how: &str| narrow.title(&format!("evaluation of {count} versions, {how}"), set.len());
        found.push(Measurement::of(title("one pass each"), once.total));
        found.push(Measurement::of(title("repeated passes"), repeated.total));
    }
    Ok((found, savings))
}

/// Samples in seconds, and how much of each was embedding.
#[derive(Default)]
struct Times {
    total: Vec<f64>,
    embedding: Vec<f64>,
}

impl Times {
    fn add<T>(&mut self, work: impl FnOnce(&mut Clock) -> anyhow::Result<T>) -> anyhow::Result<()> {
        let mut embedding = Clock::default();
        let start = Instant::now();
        work(&mut embedding)?;
        self.total.push(start.elapsed().as_secs_f64());
        self.embedding.push(embedding.0.as_secs_f64());
        Ok(())
    }
}

/// Adds up the time of passes.
#[derive(Default)]
struct Clock(Duration);

impl Clock {
    fn time<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let done = work();
        self.0 += start.elapsed();
        done
    }
}

/// A version in memory. Loading is no part of what is measured.
struct Loaded(LoadedModel);

impl Loaded {
    fn publish(subject: &Subject, registry: &Registry, seed: u64) -> anyhow::Result<Self> {
        let version = subject.publish(registry, seed)?;
        let loader = VersionLoader::new(subject.device.clone(), GraphRuntime::Rten);
        Ok(Self(LoadedModel::load(&loader, registry, version)?))
    }

    fn embed(&self, set: &ImageSet) -> anyhow::Result<Embeddings> {
        embed_with(&self.0, set, |_| Ok(()))
    }
}

/// As `perennial evaluate` does it: all passes first, then all tests. Its bootstrap intervals are left out on both sides: they
/// depend on neither images nor passes.
fn one_pass_each(
    versions: &[Loaded],
    pass: impl FnMut(&Loaded) -> anyhow::Result<Embeddings>,
) -> anyhow::Result<(CompatibilityMatrix, Metrics)> {
    let embedded = versions
        .iter()
        .map(pass)
        .collect::<anyhow::Result<Vec<_>>>()?;
    let row = |(query, queries)| {
        let galleries = embedded[..=query].iter();
        galleries
            .map(|gallery| accuracy(queries, gallery))
            .collect()
    };
    matrix_of(embedded.iter().enumerate().map(row))
}

/// The double loop: every query version embeds its own and every older gallery. Its queries, which are the same images, come
/// from its own gallery's pass, so that a pass per version over the queries is not counted against it.
fn repeated_passes(
    versions: &[Loaded],
    mut pass: impl FnMut(&Loaded) -> anyhow::Result<Embeddings>,
) -> anyhow::Result<(CompatibilityMatrix, Metrics)> {
    let row = |query| {
        let queries = pass(&versions[query])?;
        let mut row = Vec::with_capacity(query + 1);
        for older in &versions[..query] {
            row.push(accuracy(&queries, &pass(older)?)?);
        }
        row.push(accuracy(&queries, &queries)?);
        Ok(row)
    };
    matrix_of((0..versions.len()).map(row))
}

fn accuracy(queries: &Embeddings, gallery: &Embeddings) -> anyhow::Result<f64> {
    Ok(evaluate(queries, gallery)?.ncm_top1)
}

fn matrix_of(
    rows: impl Iterator<Item = anyhow::Result<Vec<f64>>>,
) -> anyhow::Result<(CompatibilityMatrix, Metrics)> {
    let matrix = CompatibilityMatrix::new(rows.collect::<anyhow::Result<_>>()?)?;
    let found = metrics(&matrix, TieRule::default());
    Ok((matrix, found))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::bench::peaks::Peaks;
    use perennial_train::DeviceChoice;
    use perennial_train::network::{BackboneKind, Stem};

    #[test]
    fn both_ways_give_one_matrix_and_make_the_passes_they_claim() {
        let subject = Subject {
            config: NetworkConfig {
                backbone: BackboneKind::Resnet18,
                stem: Stem::Imagenet,
                width: 2,
            },
            vertices: 6,
            batch: 4,
            samples: 1,
            device: DeviceChoice::Cpu.open().unwrap(),
            peaks: Peaks {
                gemm_per_second: 1e9,
                memory_bytes_per_second: 1e9,
            },
        };
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::create(folder.path()).unwrap();
        let versions: Vec<Loaded> = (0..4)
            .map(|seed| Loaded::publish(&subject, &registry, seed).unwrap())
            .collect();
        let set = perennial_data::generate(&GeneratedConfig {
            classes: 2,
            images_per_class: 3,
            ..GeneratedConfig::default()
        })
        .unwrap();
        let mut passes = 0;
        let mut pass = |version: &Loaded| {
            passes += 1;
            version.embed(&set)
        };
        let once = one_pass_each(&versions, &mut pass).unwrap();
        let repeated = repeated_passes(&versions, &mut pass).unwrap();
        assert_eq!(once, repeated);
        assert_eq!(passes, 4 + 10);
    }
}
