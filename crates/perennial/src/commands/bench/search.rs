//! Search: exact in f32 and by 8-bit codes with bounds, and by graph, over a gallery of generated or given vectors.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use perennial_core::{SpaceId, normalize_rows};
use perennial_formats::read;
use perennial_gallery::{
    BytesPerVector, EmbeddedGallery, Filter, GalleryConfig, GalleryError, Hit, HnswConfig,
    IndexKind, IndexProgress, IndexState, Item, ItemId, Maintenance, SearchMode, SearchRequest,
    VectorStore,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::peaks::Peaks;
use super::timing::{Measurement, measure};
use crate::exit_status::usage;

/// Hits of a search.
pub const HITS: usize = 10;
/// Queries that are asked one after the other where each is compared with all rows.
const SINGLE: usize = 100;
/// Queries of the largest batch, and those that are asked of the graph.
pub const BATCH: usize = 1000;
/// Candidates that a search in the graph considers.
const BREADTHS: [usize; 8] = [16, 32, 64, 96, 128, 192, 256, 512];
/// Items of a write.
const WRITE: usize = 1000;
/// How often an index that is being built is looked at.
pub const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// The version that all items are said to be of.
const VERSION: &str = "v0001";
/// Directions in which generated vectors mainly differ, as trained embeddings do; the rest is noise.
const LATENT: usize = 32;
/// Generated vectors around one centre.
const PER_CENTRE: usize = 100;

/// Where generated vectors lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Places {
    /// Around random centres, as items of classes do. A graph finds nearly all of the nearest, however little it looks at.
    Clustered,
    /// Anywhere, which is hard for graphs: what they find depends on how much they look at.
    Scattered,
}

/// What is searched, `[n, dim]` each, rows of unit length.
pub struct Vectors {
    pub gallery: Vec<f32>,
    pub queries: Vec<f32>,
    pub dim: usize,
}

impl Vectors {
    /// Vectors on a low-dimensional sheet.
    pub fn generate(
        rows: usize,
        queries: usize,
        dim: usize,
        places: Places,
    ) -> anyhow::Result<Self> {
        let mut random = ChaCha8Rng::seed_from_u64(0);
        let mut draw = |count: usize, scale: f32| -> Vec<f32> {
            // The sum of four uniform draws is close enough to normal.
            (0..count)
                .map(|_| scale * (0..4).map(|_| random.random::<f32>() - 0.5).sum::<f32>())
                .collect()
        };
        let latent = LATENT.min(dim);
        let sheet = draw(latent * dim, 1.0);
        let centres = draw(rows.div_ceil(PER_CENTRE) * latent, 1.0);
        let mut vectors = Vec::with_capacity((rows + queries) * dim);
        for row in 0..rows + queries {
            let centre = &centres[row * latent % centres.len()..][..latent];
            let place: Vec<f32> = match places {
                Places::Clustered => {
                    let around = draw(latent, 0.5);
                    around.iter().zip(centre).map(|(a, b)| a + b).collect()
                }
                Places::Scattered => draw(latent, 1.0),
            };
            let mut vector = draw(dim, 0.5);
            for (place, axis) in place.iter().zip(sheet.chunks_exact(dim)) {
                for (value, axis) in vector.iter_mut().zip(axis) {
                    *value += place * axis;
                }
            }
            vectors.extend(vector);
        }
        normalize_rows(&mut vectors, dim)?;
        let queries = vectors.split_off(rows * dim);
        Ok(Self {
            gallery: vectors,
            queries,
            dim,
        })
    }

    /// Vectors from two files, such as npy.
    pub fn read(gallery: &Path, queries: &Path) -> anyhow::Result<Self> {
        let unit = |path: &Path| -> anyhow::Result<(Vec<f32>, usize)> {
            let parts = read(path)?.into_parts();
            let (mut values, dim) = (parts.vectors, parts.dim);
            normalize_rows(&mut values, dim).with_context(|| path.display().to_string())?;
            Ok((values, dim))
        };
        let ((gallery, dim), (queries, query_dim)) = (unit(gallery)?, unit(queries)?);
        if dim != query_dim {
            return Err(usage(format!(
                "the gallery has vectors of {dim} values, the queries of {query_dim}"
            )));
        }
        Ok(Self {
            gallery,
            queries,
            dim,
        })
    }
}

/// Writes, then searches one at a time and in batches: all rows in f32, all rows by codes, and by graph.
pub fn measure_all(
    vectors: &Vectors,
    samples: usize,
    threads: usize,
    peaks: Peaks,
) -> anyhow::Result<(Vec<Measurement>, BytesPerVector)> {
    let folder = tempfile::tempdir()?;
    let bench = Bench::new(vectors, samples, peaks)?;
    let config = |search| GalleryConfig {
        threads,
        hnsw_from: usize::MAX,
        search,
        ..GalleryConfig::default()
    };
    let gallery = EmbeddedGallery::open(folder.path(), config(SearchMode::Exact))?;
    let mut found = vec![bench.write(&gallery)?];
    let truth = bench.batch_hits(&gallery)?;
    found.push(bench.in_batches(&gallery, "f32", &truth, 4)?);
    found.push(bench.one_by_one(&gallery, "f32", true, &truth, 4)?);
    drop(gallery);

    let config = config(SearchMode::Int8);
    let gallery = EmbeddedGallery::open(folder.path(), config.clone())?;
    found.push(bench.in_batches(&gallery, "8 bits and bounds", &truth, 1)?);
    found.push(bench.one_by_one(&gallery, "8 bits and bounds", true, &truth, 1)?);
    drop(gallery);

    let start = Instant::now();
    let config = GalleryConfig {
        hnsw_from: 1,
        ..config
    };
    let gallery = EmbeddedGallery::open(folder.path(), config.clone())?;
    let ready =
        |index: IndexState| index.kind == IndexKind::Hnsw && index.state == IndexProgress::Ready;
    while !ready(gallery.stats()?.index) {
        std::thread::sleep(LOOK_AGAIN);
    }
    let built = vec![start.elapsed().as_secs_f64()];
    found
        .push(Measurement::of(bench.title("build the graph"), built).per_call(bench.rows, "items"));
    let bytes = gallery.stats()?.bytes_per_vector;
    drop(gallery);
    for breadth in BREADTHS {
        let hnsw = HnswConfig {
            expansion_search: breadth,
            ..HnswConfig::default()
        };
        let config = GalleryConfig {
            hnsw,
            ..config.clone()
        };
        let gallery = EmbeddedGallery::open(folder.path(), config)?;
        gallery.flush()?;
        let what = format!("graph, breadth {breadth}");
        found.push(bench.one_by_one(&gallery, &what, false, &truth, 0)?);
    }
    Ok((found, bytes))
}

struct Bench<'a> {
    vectors: &'a Vectors,
    rows: usize,
    samples: usize,
    peaks: Peaks,
    everything: Filter,
    space: SpaceId,
}

impl<'a> Bench<'a> {
    fn new(vectors: &'a Vectors, samples: usize, peaks: Peaks) -> anyhow::Result<Self> {
        let rows = vectors.gallery.len() / vectors.dim;
        if rows < HITS || vectors.queries.len() < SINGLE * vectors.dim {
            return Err(usage(format!(
                "a search is measured with at least {HITS} vectors and {SINGLE} queries"
            )));
        }
        Ok(Self {
            vectors,
            rows,
            samples,
            peaks,
            everything: Filter::default(),
            space: SpaceId::new(VERSION)?,
        })
    }

    fn title(&self, what: &str) -> String {
        format!("{what}, {} x {}", self.rows, self.vectors.dim)
    }

    /// A search for `count` queries from number `query` on.
    fn request(&self, query: usize, count: usize, exact: bool) -> SearchRequest<'_> {
        let dim = self.vectors.dim;
        SearchRequest {
            spaces: std::slice::from_ref(&self.space),
            queries: &self.vectors.queries[query * dim..][..count * dim],
            dim,
            limit: HITS,
            filter: &self.everything,
            exact,
        }
    }

    /// Queries of the largest batch.
    fn batch(&self) -> usize {
        BATCH.min(self.vectors.queries.len() / self.vectors.dim)
    }

    /// The ids that every query finds when all are asked at once.
    fn batch_hits(&self, gallery: &EmbeddedGallery) -> Result<Vec<Vec<ItemId>>, GalleryError> {
        let found = gallery.search(&self.request(0, self.batch(), true))?;
        let ids = |hits: Vec<Hit>| hits.into_iter().map(|hit| hit.id).collect();
        Ok(found.into_iter().map(ids).collect())
    }

    /// The ids that each of `count` queries finds, asked one after the other.
    fn hits(
        &self,
        gallery: &EmbeddedGallery,
        exact: bool,
        count: usize,
    ) -> Result<Vec<Vec<ItemId>>, GalleryError> {
        let ids = |query| {
            let hits = gallery.search(&self.request(query, 1, exact))?.pop();
            let hits = hits.unwrap_or_default().into_iter();
            Ok(hits.map(|hit| hit.id).collect())
        };
        (0..count).map(ids).collect()
    }

    fn write(&self, gallery: &EmbeddedGallery) -> anyhow::Result<Measurement> {
        let seconds = write(gallery, self.vectors)?;
        let name = self.title(&format!("write and sync {WRITE} items"));
        Ok(Measurement::of(name, seconds).per_call(WRITE.min(self.rows), "items"))
    }

    /// All queries at once; products of values of 4 bytes are compared with the peak of f32.
    fn in_batches(
        &self,
        gallery: &EmbeddedGallery,
        what: &str,
        truth: &[Vec<ItemId>],
        value_bytes: usize,
    ) -> anyhow::Result<Measurement> {
        let count = self.batch();
        let search = || gallery.search(&self.request(0, count, true));
        let found = self.batch_hits(gallery)?;
        let name = self.title(&format!("search, {what}, {count} queries"));
        let mut measured = measure(name, self.samples, search).per_call(count, "queries");
        if value_bytes == 4 {
            let operations = 2.0 * (count * self.rows * self.vectors.dim) as f64;
            measured = measured.operations(operations, self.peaks.gemm_per_second);
        }
        measured.recall = Some(recall(&found, truth));
        Ok(measured)
    }

    /// One query after the other; `value_bytes` is what one value of a vector occupies where all are read, 0 where not all are.
    fn one_by_one(
        &self,
        gallery: &EmbeddedGallery,
        what: &str,
        exact: bool,
        truth: &[Vec<ItemId>],
        value_bytes: usize,
    ) -> anyhow::Result<Measurement> {
        let count = if exact { SINGLE } else { self.batch() };
        let found = self.hits(gallery, exact, count)?;
        let name = format!("search, {what}, one query");
        let mut query = 0;
        let mut measured = measure(self.title(&name), self.samples, || {
            query = (query + 1) % count;
            gallery.search(&self.request(query, 1, exact))
        })
        .per_call(1, "queries");
        if value_bytes > 0 {
            let bytes = (self.rows * self.vectors.dim * value_bytes) as f64;
            measured = measured.bytes(bytes, self.peaks.memory_bytes_per_second);
        }
        measured.recall = Some(recall(&found, truth));
        Ok(measured)
    }
}

/// Writes all vectors, numbered, and gives the seconds of each write.
pub fn write(gallery: &EmbeddedGallery, vectors: &Vectors) -> Result<Vec<f64>, GalleryError> {
    let dim = vectors.dim;
    let mut seconds = Vec::new();
    for (batch, vectors) in vectors.gallery.chunks(WRITE * dim).enumerate() {
        let item = |(at, vector): (usize, &[f32])| Item {
            id: ItemId::Number((batch * WRITE + at) as u64),
            embedding: vector.to_vec(),
            model_version: VERSION.to_owned(),
            label: None,
            payload: serde_json::Map::new(),
        };
        let items: Vec<Item> = vectors.chunks_exact(dim).enumerate().map(item).collect();
        let start = Instant::now();
        gallery.upsert(items)?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    Ok(seconds)
}

/// The share of the best that was found.
pub fn recall(found: &[Vec<ItemId>], truth: &[Vec<ItemId>]) -> f64 {
    let right = |(found, truth): (&Vec<ItemId>, &Vec<ItemId>)| {
        found.iter().filter(|id| truth.contains(id)).count()
    };
    let right: usize = found.iter().zip(truth).map(right).sum();
    right as f64 / (found.len() * HITS) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_vectors_are_unit_length_and_clustered() {
        let vectors = Vectors::generate(400, 100, 48, Places::Clustered).unwrap();
        assert_eq!(
            (vectors.gallery.len(), vectors.queries.len()),
            (400 * 48, 100 * 48)
        );
        let norm = |v: &[f32]| perennial_core::dot(v, v);
        assert!(
            vectors
                .gallery
                .chunks(48)
                .all(|v| (norm(v) - 1.0).abs() < 1e-5)
        );
        let peaks = Peaks {
            gemm_per_second: 1e9,
            memory_bytes_per_second: 1e9,
        };
        let (found, bytes) = measure_all(&vectors, 1, 1, peaks).unwrap();
        assert!(bytes.memory > 5.0 * 48.0 && bytes.disk > 4.0 * 48.0);
        assert!(
            found.len() == 6 + BREADTHS.len() && found[6].recall > Some(0.5),
            "{found:?}"
        );
        assert!(found[1..5].iter().all(|exact| exact.recall == Some(1.0)));
    }
}
