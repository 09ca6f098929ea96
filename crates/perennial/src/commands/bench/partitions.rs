//! Searching several partitions at once against one partition with as many items.

use perennial_core::SpaceId;
use perennial_gallery::{
    EmbeddedGallery, Filter, GalleryConfig, GalleryError, Hit, Item, ItemId, Maintenance,
    SearchRequest, VectorStore,
};

use super::search::{BATCH, HITS, Vectors, recall};
use super::timing::{Measurement, Ratio, median_ratio, seconds};
use crate::exit_status::usage;

/// Partitions that are searched together.
const PARTITIONS: usize = 3;
/// Searches of a sample, one query each.
const SINGLE: usize = 20;
/// Items of a write.
const WRITE: usize = 1000;
/// Search of several partitions should take at most this many times as long as that of one.
const AIM: f64 = 1.1;

/// Searches by 8-bit codes and by graph, one query and many, in one partition and in three in turn.
pub fn measure_all(
    vectors: &Vectors,
    samples: usize,
    threads: usize,
) -> anyhow::Result<(Vec<Measurement>, Vec<Ratio>)> {
    let queries = vectors.queries.len() / vectors.dim;
    if queries < BATCH {
        return Err(usage(format!(
            "partitions are measured with at least {BATCH} queries, there are {queries}"
        )));
    }
    let one = Divided::new(vectors, 1)?;
    let many = Divided::new(vectors, PARTITIONS)?;
    let (mut found, mut ratios) = (Vec::new(), Vec::new());
    for (what, hnsw_from) in [("8 bits and bounds", usize::MAX), ("graph", 1)] {
        let config = GalleryConfig {
            threads,
            hnsw_from,
            ..GalleryConfig::default()
        };
        let (one, many) = (one.open(config.clone())?, many.open(config)?);
        for (count, calls) in [(1, SINGLE), (BATCH, 1)] {
            let text = match count {
                1 => "one query".to_owned(),
                count => format!("{count} queries"),
            };
            let mut times = [Vec::new(), Vec::new()];
            for sample in 0..samples + 1 {
                for (times, gallery) in times.iter_mut().zip([&one, &many]) {
                    let time = gallery.time(vectors, count, calls)?;
                    // The first one warms up.
                    if sample > 0 {
                        times.push(time);
                    }
                }
            }
            let ratio = median_ratio(&times[1], &times[0]);
            let names = [1, PARTITIONS].map(|parts| {
                let rows = vectors.gallery.len() / vectors.dim;
                let parts = if parts == 1 {
                    "one partition".to_owned()
                } else {
                    format!("{parts} partitions")
                };
                format!(
                    "search, {what}, {text}, {rows} x {} in {parts}",
                    vectors.dim
                )
            });
            for ((name, times), gallery) in names.iter().zip(times).zip([&one, &many]) {
                let measured = Measurement::of(name.as_str(), times).per_call(count, "queries");
                found.push(Measurement {
                    recall: Some(gallery.recall(vectors)?),
                    ..measured
                });
            }
            let [against, name] = names;
            ratios.push(Ratio {
                name,
                against,
                time_ratio: ratio,
                aim: AIM,
            });
        }
    }
    Ok((found, ratios))
}

/// A gallery whose items are spread over partitions.
struct Divided {
    folder: tempfile::TempDir,
    spaces: Vec<SpaceId>,
}

impl Divided {
    fn new(vectors: &Vectors, partitions: usize) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let names = (0..partitions).map(|number| format!("space-{number}"));
        let spaces = names
            .map(|name| SpaceId::new(&name))
            .collect::<Result<Vec<_>, _>>()?;
        let config = GalleryConfig {
            hnsw_from: usize::MAX,
            ..GalleryConfig::default()
        };
        let gallery = EmbeddedGallery::open(folder.path(), config)?;
        let mut number = 0;
        for vectors in vectors
            .gallery
            .chunks(WRITE * vectors.dim)
            .map(|some| some.chunks_exact(vectors.dim))
        {
            let items = vectors.map(|vector| {
                number += 1;
                Item {
                    id: ItemId::Number(number),
                    embedding: vector.to_vec(),
                    model_version: spaces[scattered(number) % partitions].to_string(),
                    label: None,
                    payload: serde_json::Map::new(),
                }
            });
            gallery.upsert(items.collect())?;
        }
        Ok(Self { folder, spaces })
    }

    /// Opens it and waits for its graphs.
    fn open(&self, config: GalleryConfig) -> anyhow::Result<Opened<'_>> {
        let gallery = EmbeddedGallery::open(self.folder.path(), config)?;
        gallery.flush()?;
        Ok(Opened {
            gallery,
            spaces: &self.spaces,
        })
    }
}

/// A number without the order of the items, which is that of their clusters: after an upgrade, items of every kind are in every partition.
fn scattered(number: u64) -> usize {
    (number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33) as usize
}

struct Opened<'a> {
    gallery: EmbeddedGallery,
    spaces: &'a [SpaceId],
}

impl Opened<'_> {
    /// Hits of `count` queries, the `call`th so many.
    fn search(
        &self,
        vectors: &Vectors,
        (call, count): (usize, usize),
        exact: bool,
    ) -> Result<Vec<Vec<Hit>>, GalleryError> {
        self.gallery.search(&SearchRequest {
            spaces: self.spaces,
            queries: &vectors.queries[call * count * vectors.dim..][..count * vectors.dim],
            dim: vectors.dim,
            limit: HITS,
            filter: &Filter::default(),
            exact,
        })
    }

    /// Seconds of a search for `count` queries.
    fn time(&self, vectors: &Vectors, count: usize, calls: usize) -> anyhow::Result<f64> {
        let mut outcome = Ok(());
        let time = seconds(|| {
            for call in 0..calls {
                if let Err(error) = self.search(vectors, (call, count), false) {
                    outcome = Err(error);
                }
            }
        });
        outcome?;
        Ok(time / calls as f64)
    }

    /// The share of the best that is found.
    fn recall(&self, vectors: &Vectors) -> anyhow::Result<f64> {
        let ids = |exact| -> anyhow::Result<Vec<Vec<ItemId>>> {
            let found = self.search(vectors, (0, BATCH), exact)?.into_iter();
            let ids = |hits: Vec<Hit>| hits.into_iter().map(|hit| hit.id).collect();
            Ok(found.map(ids).collect())
        };
        Ok(recall(&ids(false)?, &ids(true)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_search_has_its_ratio() {
        let vectors = Vectors::generate(600, BATCH, 24).unwrap();
        let (found, ratios) = measure_all(&vectors, 2, 1).unwrap();
        assert_eq!((found.len(), ratios.len()), (8, 4));
        assert!(ratios.iter().all(|ratio| ratio.time_ratio > 0.0));
        assert!(ratios[0].name.ends_with("in 3 partitions"), "{ratios:?}");
        assert!(found[..4].iter().all(|exact| exact.recall == Some(1.0)));
        assert!(found.iter().all(|found| found.recall > Some(0.9)));
        let few = Vectors::generate(600, 10, 24).unwrap();
        assert!(measure_all(&few, 1, 1).is_err());
    }
}
