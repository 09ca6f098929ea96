//! Searching several partitions at once against one partition with as many items.

use perennial_core::SpaceId;
use perennial_gallery::{
    EmbeddedGallery, Filter, GalleryConfig, GalleryError, Hit, HnswConfig, Item, ItemId,
    Maintenance, SearchRequest, VectorStore,
};

use super::search::{BATCH, HITS, Vectors, recall};
use super::timing::{Measurement, Ratio, median_ratio, seconds};
use crate::exit_status::usage;

/// Partitions that are searched together.
const PARTITIONS: usize = 3;
/// Searches of a sample, one query each.
const SINGLE: usize = 20;
/// Candidates that searches in graphs consider, one query each.
const BREADTHS: [usize; 7] = [16, 32, 64, 96, 128, 192, 256];
/// Shares of the best at which rates are compared.
const RECALLS: [f64; 6] = [0.9, 0.95, 0.98, 0.99, 0.995, 0.999];
/// Items of a write.
const WRITE: usize = 1000;
/// Search of several partitions should take at most this many times as long as that of one.
const AIM: f64 = 1.1;

/// Searches by 8-bit codes and by graph, one query and many, in one partition and in three in turn; then by graph with more and more breadth.
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
    let galleries = [
        Divided::new(vectors, 1)?,
        Divided::new(vectors, PARTITIONS)?,
    ];
    let [one, many] = &galleries;
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
            let names = [1, PARTITIONS]
                .map(|parts| format!("search, {what}, {text}, {}", title(vectors, parts)));
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
    let (by_breadth, at_recalls) = measure_breadths(&galleries, vectors, samples, threads)?;
    found.extend(by_breadth);
    ratios.extend(at_recalls);
    Ok((found, ratios))
}

/// Searches by graph with more and more breadth, one query each, in one partition and in three in turn, and how long those of equal recall take.
fn measure_breadths(
    galleries: &[Divided; 2],
    vectors: &Vectors,
    samples: usize,
    threads: usize,
) -> anyhow::Result<(Vec<Measurement>, Vec<Ratio>)> {
    let titles = [1, PARTITIONS].map(|parts| title(vectors, parts));
    let mut truth = Vec::new();
    let (mut found, mut curves) = (Vec::new(), [Vec::new(), Vec::new()]);
    for breadth in BREADTHS {
        let config = GalleryConfig {
            threads,
            hnsw_from: 1,
            hnsw: HnswConfig {
                expansion_search: breadth,
                ..HnswConfig::default()
            },
            ..GalleryConfig::default()
        };
        let [one, many] = galleries;
        let opened = [one.open(config.clone())?, many.open(config)?];
        if truth.is_empty() {
            truth = opened[0].ids(vectors, true)?;
        }
        let mut times = [Vec::new(), Vec::new()];
        for sample in 0..samples + 1 {
            for (times, gallery) in times.iter_mut().zip(&opened) {
                let time = gallery.time(vectors, 1, BATCH)?;
                // The first one warms up.
                if sample > 0 {
                    times.push(time);
                }
            }
        }
        for (at, times) in times.into_iter().enumerate() {
            let name = format!(
                "search, graph, breadth {breadth}, one query, {}",
                titles[at]
            );
            let recall = recall(&opened[at].ids(vectors, false)?, &truth);
            let measured = Measurement {
                recall: Some(recall),
                ..Measurement::of(name, times).per_call(1, "queries")
            };
            curves[at].push((recall, measured.median_s));
            found.push(measured);
        }
    }
    let mut ratios = Vec::new();
    for wanted in RECALLS {
        let [Some(one), Some(many)] = curves.each_ref().map(|curve| time_at(wanted, curve)) else {
            continue;
        };
        let names = titles
            .each_ref()
            .map(|title| format!("search, graph, recall {wanted}, one query, {title}"));
        for (name, time) in names.iter().zip([one, many]) {
            let read_off = Measurement::of(name.as_str(), vec![time]).per_call(1, "queries");
            found.push(Measurement {
                recall: Some(wanted),
                ..read_off
            });
        }
        let [against, name] = names;
        ratios.push(Ratio {
            name,
            against,
            time_ratio: many / one,
            aim: AIM,
        });
    }
    Ok((found, ratios))
}

/// The time at which a recall is reached, from recalls and times of more and more breadth, between the breadths around it; none where no breadth reaches it or all do.
fn time_at(wanted: f64, curve: &[(f64, f64)]) -> Option<f64> {
    let reached = curve.iter().position(|(recall, _)| *recall >= wanted)?;
    let ((low, short), (high, long)) = (*curve.get(reached.checked_sub(1)?)?, curve[reached]);
    let share = (wanted - low) / (high - low);
    Some(short.powf(1.0 - share) * long.powf(share))
}

/// What is searched, and in how many partitions.
fn title(vectors: &Vectors, partitions: usize) -> String {
    let (rows, dim) = (vectors.gallery.len() / vectors.dim, vectors.dim);
    match partitions {
        1 => format!("{rows} x {dim} in one partition"),
        several => format!("{rows} x {dim} in {several} partitions"),
    }
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
        Ok(recall(
            &self.ids(vectors, false)?,
            &self.ids(vectors, true)?,
        ))
    }

    /// What the largest batch finds.
    fn ids(&self, vectors: &Vectors, exact: bool) -> Result<Vec<Vec<ItemId>>, GalleryError> {
        let found = self.search(vectors, (0, BATCH), exact)?.into_iter();
        let ids = |hits: Vec<Hit>| hits.into_iter().map(|hit| hit.id).collect();
        Ok(found.map(ids).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::super::search::Places;
    use super::*;

    #[test]
    fn every_search_has_its_ratio() {
        let vectors = Vectors::generate(6000, BATCH, 40, Places::Scattered).unwrap();
        let (found, ratios) = measure_all(&vectors, 1, 1).unwrap();
        let by_breadth = 8..8 + 2 * BREADTHS.len();
        assert_eq!(found.len(), by_breadth.end + 2 * (ratios.len() - 4));
        assert!(ratios.iter().all(|ratio| ratio.time_ratio > 0.0));
        assert!(ratios[0].name.ends_with("in 3 partitions"), "{ratios:?}");
        assert!(found[..4].iter().all(|exact| exact.recall == Some(1.0)));
        assert!(found[..8].iter().all(|found| found.recall > Some(0.9)));
        // Scattered vectors are found the more, the broader a search is.
        for side in 0..2 {
            let recalls = found[by_breadth.clone()].iter().skip(side).step_by(2);
            let recalls: Vec<f64> = recalls.filter_map(|found| found.recall).collect();
            let (least, most) = (recalls[0], recalls[BREADTHS.len() - 1]);
            assert!(least < 0.99 && most > 0.995, "{recalls:?}");
        }
        let at_recall = ratios
            .iter()
            .filter(|one| one.name.contains("recall 0.99,"));
        assert_eq!(at_recall.count(), 1);
        let few = Vectors::generate(600, 10, 24, Places::Clustered).unwrap();
        assert!(measure_all(&few, 1, 1).is_err());
    }

    #[test]
    fn equal_recall_is_read_off_between_breadths() {
        let curve = vec![(0.8, 1.0), (0.9, 4.0), (0.9, 5.0), (1.0, 16.0)];
        assert_eq!(time_at(0.8, &curve), None);
        assert!((time_at(0.85, &curve).unwrap() - 2.0).abs() < 1e-9);
        assert_eq!(time_at(0.9, &curve), Some(4.0));
        assert_eq!(time_at(1.0, &curve), Some(16.0));
        assert_eq!(time_at(0.95, &curve[..3]), None);
    }
}
