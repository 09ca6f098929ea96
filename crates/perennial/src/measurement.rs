//! Measuring compatibility: every version embeds each probe set once, then every pair is tested.

use perennial_core::{Embeddings, ModelVersion, Registry};
use perennial_data::ImageSet;
use perennial_eval::{Bootstrap, Compatibility, ProbeSet, Retrieval, TieRule};
use perennial_train::{DeviceChoice, SetConfig};

use crate::embedding::embed;
use crate::embedding_cache::EmbeddingCache;
use crate::interrupt::Interrupt;
use crate::progress::CountedProgress;
use crate::terminal::Terminal;

/// A set of images to measure on.
pub struct Probe {
    pub set: ImageSet,
    pub description: ProbeSet,
}

impl Probe {
    pub fn load(config: &SetConfig, data_root: &std::path::Path) -> anyhow::Result<Self> {
        let set = config.load(data_root)?;
        let mut name = config.describe();
        if let Some(completeness) = set.completeness().filter(|found| found.is_partial()) {
            name.push_str(&format!(" ({completeness})"));
        }
        let description = ProbeSet {
            name,
            count: set.len(),
            sha256: set.content_sha256(),
        };
        Ok(Self { set, description })
    }
}

/// How pairs are judged.
#[derive(Clone, Copy, Debug)]
pub struct Judgement {
    pub tie_rule: TieRule,
    pub bootstrap: Bootstrap,
}

/// Where versions come from, and who watches.
pub struct Measurement<'a> {
    pub registry: &'a Registry,
    pub device: DeviceChoice,
    pub cache: EmbeddingCache,
    pub terminal: &'a Terminal,
    pub interrupt: Interrupt,
}

impl Measurement<'_> {
    /// Measures versions of the registry, oldest first.
    pub fn of_versions(
        &self,
        versions: &[ModelVersion],
        queries: &Probe,
        gallery: &Probe,
        judgement: Judgement,
    ) -> anyhow::Result<Compatibility> {
        // All embedding comes first, so that an interruption leaves whole passes on disk and never a lost one.
        let galleries = versions
            .iter()
            .map(|version| self.embeddings(version, gallery))
            .collect::<anyhow::Result<Vec<_>>>()?;
        for version in versions {
            self.embeddings(version, queries)?;
        }
        let names = versions
            .iter()
            .map(|version| version.name.clone())
            .collect();
        compare(
            names,
            |index| match self.cache.get(&versions[index], queries) {
                Some(embeddings) => Ok(embeddings),
                None => self.embeddings(&versions[index], queries),
            },
            &galleries,
            [&queries.description, &gallery.description],
            judgement,
            self.terminal,
            self.interrupt,
        )
    }

    /// A version's embeddings of a probe set: from the cache, or by one pass.
    pub fn embeddings(&self, version: &ModelVersion, probe: &Probe) -> anyhow::Result<Embeddings> {
        let title = format!("{} on {}", version.name, probe.description.name);
        if let Some(found) = self.cache.get(version, probe) {
            self.terminal.say(format_args!("{title}: embedded before"));
            return Ok(found);
        }
        let progress = CountedProgress::new(self.terminal, title, probe.set.len() as u64, "images");
        let embeddings = embed(self.registry, version, self.device, &probe.set, |images| {
            progress.advance(images as u64);
            self.interrupt.check()
        })?;
        progress.finish();
        self.cache.put(version, probe, &embeddings)?;
        Ok(embeddings)
    }
}

/// Tests every pair of query model and older gallery model. Queries are asked for one model at a time, since all of them
/// together may not fit in memory.
pub fn compare(
    names: Vec<String>,
    queries: impl Fn(usize) -> anyhow::Result<Embeddings>,
    galleries: &[Embeddings],
    [queries_set, gallery_set]: [&ProbeSet; 2],
    judgement: Judgement,
    terminal: &Terminal,
    interrupt: Interrupt,
) -> anyhow::Result<Compatibility> {
    let versions = galleries.len();
    let total = (versions * (versions + 1) / 2) as u64;
    let progress = CountedProgress::new(terminal, "comparing versions", total, "tests");
    let mut tests: Vec<Vec<Retrieval>> = Vec::with_capacity(versions);
    for query in 0..versions {
        let embedded = queries(query)?;
        let mut row = Vec::with_capacity(query + 1);
        for gallery in &galleries[..=query] {
            interrupt.check()?;
            row.push(perennial_eval::evaluate(&embedded, gallery)?);
            progress.advance(1);
        }
        tests.push(row);
    }
    progress.finish();
    Ok(Compatibility::new(
        names,
        &tests,
        queries_set.clone(),
        gallery_set.clone(),
        judgement.tie_rule,
        judgement.bootstrap,
    )?)
}
