//! Measuring compatibility: every version embeds the queries and the gallery of the evaluation set once, then every pair is tested.

use std::collections::{BTreeSet, HashSet};

use anyhow::Context;
use perennial_core::{
    CompatibilityRecord, CompatibilityRecords, Embeddings, ModelVersion, Registry,
};
use perennial_data::ImageSet;
use perennial_encode::EncodeError;
use perennial_eval::{
    Bootstrap, Compatibility, Missing, PairComparison, ProbeSet, Requirements, Retrieval, TieRule,
    compare_pair,
};

use crate::arguments::GlobalArguments;
use crate::embedding::embed_with_missing;
use crate::embedding_cache::EmbeddingCache;
use crate::exit_status::usage;
use crate::interrupt::Interrupt;
use crate::probe::Probe;
use crate::progress::CountedProgress;
use crate::terminal::Terminal;

/// Largest share of images that two sets may have in common where they should have none: a few copies are in published sets as well.
pub const MOST_SHARED: f64 = 0.05;

/// How many images of a set are, byte for byte, images of another one.
pub fn images_within(set: &ImageSet, other: &ImageSet) -> usize {
    let known: HashSet<&[u8]> = (0..other.len()).map(|at| other.image(at)).collect();
    let shared = |at: &usize| known.contains(set.image(*at));
    (0..set.len()).filter(shared).count()
}

/// Tie rule and bootstrap settings.
#[derive(Clone, Copy, Debug)]
pub struct Judgement {
    pub tie_rule: TieRule,
    pub bootstrap: Bootstrap,
}

/// Registry, options, cache and progress display of a measurement.
pub struct Measurement<'a> {
    pub registry: &'a Registry,
    pub global: &'a GlobalArguments,
    pub cache: EmbeddingCache,
    pub terminal: &'a Terminal,
    pub interrupt: Interrupt,
}

impl Measurement<'_> {
    /// Measures versions of the registry, oldest first. The records are of both directions of every pair.
    fn of_versions(
        &self,
        versions: &[ModelVersion],
        queries: &Probe,
        gallery: &Probe,
        judgement: Judgement,
    ) -> anyhow::Result<(Compatibility, Vec<CompatibilityRecord>)> {
        check_sets(queries, gallery, self.terminal)?;
        if let Some(lacking) = Requirements::default().lacks_queries(queries.set.len()) {
            self.terminal.say(format_args!(
                "{lacking} to decide whether versions are compatible: all pairs are undecided, and nothing is certified by them"
            ));
        }
        // All versions embed first: an interruption leaves complete embedding files on disk, which the next call reuses.
        let galleries = versions
            .iter()
            .map(|version| self.embeddings(version, gallery))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let names: Vec<String> = versions
            .iter()
            .map(|version| version.name.clone())
            .collect();
        let mut missing = Vec::with_capacity(versions.len());
        for (version, gallery) in versions.iter().zip(&galleries) {
            missing.push(Missing {
                queries: self.embeddings(version, queries)?.missing().len(),
                gallery: gallery.missing().len(),
            });
        }
        let embedded = |index: usize| match self.cache.get(&versions[index], queries) {
            Some(embeddings) => Ok(embeddings),
            None => self.embeddings(&versions[index], queries),
        };
        let tests = Tests::run(
            embedded,
            &galleries,
            Directions::Both,
            self.terminal,
            self.interrupt,
        )?;
        let report = tests.report(
            &names,
            [&queries.description, &gallery.description],
            judgement,
        )?;
        let report = report.with_missing(missing)?;
        let created = perennial_train::now();
        let weights = |name: &str| {
            let version = versions.iter().find(|version| version.name == name);
            version.map_or("", |version| version.weights_sha256.as_str())
        };
        let records = tests
            .pairs(&names, judgement.bootstrap.to_record())?
            .iter()
            .map(|pair| {
                let hashes = [weights(&pair.query_version), weights(&pair.gallery_version)];
                report.record(pair, hashes, &created)
            })
            .collect();
        Ok((report, records))
    }

    /// Measures versions and records every pair in the registry.
    pub fn recorded(
        &self,
        versions: &[ModelVersion],
        queries: &Probe,
        gallery: &Probe,
        judgement: Judgement,
    ) -> anyhow::Result<Compatibility> {
        let (report, records) = self.of_versions(versions, queries, gallery, judgement)?;
        CompatibilityRecords::add(self.registry, records)?;
        Ok(report)
    }

    /// A version's embeddings of a probe set, of which none may be missing.
    pub fn complete_embeddings(
        &self,
        version: &ModelVersion,
        probe: &Probe,
    ) -> anyhow::Result<Embeddings> {
        let embeddings = self.embeddings(version, probe)?;
        match embeddings.missing() {
            [] => Ok(embeddings),
            [first, ..] => {
                let error = EncodeError::NonFinite { input: *first };
                Err(error).with_context(|| {
                    format!(
                        "{} on {}, image {first}",
                        version.name, probe.description.name
                    )
                })
            }
        }
    }

    /// A version's embeddings of a probe set: from the cache, or by one pass. Images without an embedding are missing.
    pub fn embeddings(&self, version: &ModelVersion, probe: &Probe) -> anyhow::Result<Embeddings> {
        let title = format!("{} on {}", version.name, probe.description.name);
        if let Some(found) = self.cache.get(version, probe) {
            self.terminal.say(format_args!("{title}: embedded before"));
            return Ok(found);
        }
        let progress = CountedProgress::new(self.terminal, title, probe.set.len() as u64, "images");
        let embeddings =
            embed_with_missing(self.registry, version, self.global, &probe.set, |images| {
                progress.advance(images as u64);
                self.interrupt.check()
            })?;
        progress.finish();
        if let [first, ..] = embeddings.missing() {
            self.terminal.say(format_args!(
                "{} on {}: {} of {} images have no embedding (all zeros), the first is image {first}",
                version.name,
                probe.description.name,
                embeddings.missing().len(),
                embeddings.len()
            ));
        }
        self.cache.put(version, probe, &embeddings)?;
        Ok(embeddings)
    }
}

/// Refuses sets on which every model is as good as any other, since such a measurement would certify everything: queries that find themselves, and
/// labels that decide nothing.
pub fn check_sets(queries: &Probe, gallery: &Probe, terminal: &Terminal) -> anyhow::Result<()> {
    check_labels(queries, gallery)?;
    let (asked, searched) = (&queries.description, &gallery.description);
    if asked.sha256 == searched.sha256 {
        return Err(usage(format!(
            "queries {} and gallery {} are the same images, so every query would find itself; name two sets without common images, such as two \
             splits, or parts of one by `skip_images_per_class`",
            asked.name, searched.name
        )));
    }
    let shared = images_within(&queries.set, &gallery.set);
    if shared as f64 > MOST_SHARED * queries.set.len() as f64 {
        return Err(usage(format!(
            "{shared} of {} queries ({}) are images of the gallery ({}), so they would find themselves; name two sets without common images",
            queries.set.len(),
            asked.name,
            searched.name
        )));
    }
    if shared > 0 {
        terminal.say(format_args!(
            "{shared} of {} queries are images of the gallery as well, and find themselves",
            queries.set.len()
        ));
    }
    Ok(())
}

fn check_labels(queries: &Probe, gallery: &Probe) -> anyhow::Result<()> {
    let classes: BTreeSet<u32> = gallery.set.labels().iter().copied().collect();
    if classes.len() < 2 {
        return Err(usage(format!(
            "gallery {}: all images have one label; a measurement needs at least two classes, such as a folder for each",
            gallery.description.name
        )));
    }
    let known = |label: &&u32| classes.contains(label);
    let found = queries.set.labels().iter().filter(known).count();
    if found * 2 < queries.set.len() {
        return Err(usage(format!(
            "queries {}: {found} of {} images have a label that occurs in the gallery {}; both sets must have the same classes",
            queries.description.name,
            queries.set.len(),
            gallery.description.name
        )));
    }
    Ok(())
}

/// Which pairs are tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Directions {
    /// Every version on its own gallery and on those of the versions before it.
    Forward,
    /// The galleries of later versions as well, as a rollback needs it.
    Both,
}

/// The outcome of every test.
pub struct Tests {
    /// `forward[t][k]` for `k <= t`: query version `t` on the gallery of version `k`.
    forward: Vec<Vec<Retrieval>>,
    /// `backward[t][k - t - 1]` for `k > t`: per query, whether the search by version `t` in the gallery of version `k` was correct.
    backward: Vec<Vec<Vec<bool>>>,
}

impl Tests {
    /// Tests every pair. Queries are asked for one version at a time, since all of them together may not fit in memory.
    pub fn run(
        queries: impl Fn(usize) -> anyhow::Result<Embeddings>,
        galleries: &[Embeddings],
        directions: Directions,
        terminal: &Terminal,
        interrupt: Interrupt,
    ) -> anyhow::Result<Self> {
        let versions = galleries.len();
        let total = match directions {
            Directions::Forward => versions * (versions + 1) / 2,
            Directions::Both => versions * versions,
        };
        let progress = CountedProgress::new(terminal, "comparing versions", total as u64, "tests");
        let mut tests = Self {
            forward: Vec::with_capacity(versions),
            backward: Vec::new(),
        };
        for query in 0..versions {
            let embedded = queries(query)?;
            let forward = galleries[..=query].iter().map(|gallery| {
                interrupt.check()?;
                let retrieval = perennial_eval::evaluate(&embedded, gallery)?;
                progress.advance(1);
                Ok(retrieval)
            });
            tests.forward.push(forward.collect::<anyhow::Result<_>>()?);
            if directions == Directions::Both {
                // A rollback is decided by class means alone.
                let backward = galleries[query + 1..].iter().map(|gallery| {
                    interrupt.check()?;
                    let correct = perennial_eval::nearest_class_means(&embedded, gallery)?;
                    progress.advance(1);
                    Ok(correct)
                });
                tests
                    .backward
                    .push(backward.collect::<anyhow::Result<_>>()?);
            }
        }
        progress.finish();
        Ok(tests)
    }

    /// The report of versions in the order of the tests.
    pub fn report(
        &self,
        names: &[String],
        [queries, gallery]: [&ProbeSet; 2],
        judgement: Judgement,
    ) -> anyhow::Result<Compatibility> {
        Ok(Compatibility::new(
            names.to_vec(),
            &self.forward,
            queries.clone(),
            gallery.clone(),
            judgement.tie_rule,
            judgement.bootstrap,
        )?)
    }

    /// Every pair of different versions: first the older version's gallery, then the later one's.
    fn pairs(&self, names: &[String], bootstrap: Bootstrap) -> anyhow::Result<Vec<PairComparison>> {
        let own = |version: usize| {
            self.forward[version][version]
                .per_query_ncm_correct
                .as_slice()
        };
        let forward = (0..self.forward.len())
            .flat_map(|query| (0..query).map(move |gallery| (query, gallery)))
            .map(|(query, gallery)| {
                let cross = &self.forward[query][gallery].per_query_ncm_correct;
                (query, gallery, cross.as_slice())
            });
        let backward = self.backward.iter().enumerate().flat_map(|(query, row)| {
            let later = row.iter().enumerate();
            later.map(move |(later, cross)| (query, query + 1 + later, cross.as_slice()))
        });
        (0..)
            .zip(forward.chain(backward))
            .map(|(stream, (query, gallery, cross))| {
                let pair = [names[query].as_str(), names[gallery].as_str()];
                Ok(compare_pair(
                    pair,
                    [cross, own(gallery)],
                    &bootstrap,
                    stream,
                )?)
            })
            .collect()
    }
}
