//! What an index answers to the owner's queries, before and after: asked of the database itself, by its own approximate search.

use std::collections::{BTreeMap, HashMap};

use perennial_bridge::{Bridge, Index};
use perennial_core::{ItemId, normalize_rows};
use perennial_formats::Label;
use perennial_gallery::Hit;
use perennial_upgrade::{
    PartHits, PartScale, SAMPLE_SEED, SAMPLE_VECTORS, ScoreCalibration, merge,
};
use serde::Serialize;

use super::dispatch::dispatch;
use crate::address::Address;
use crate::engine::{
    Access, Migration, Nearest, Origin, PATIENCE, Searched, Searching, Showing, Standing, Target,
    again,
};
use crate::error::ConnectError;
use crate::observer::Observer;
use crate::qualified_name::QualifiedName;

/// Vectors of queries.
///
/// **Shapes**: `vectors` is `[n, dim]`, row-major, as the encoder gives them.
#[derive(Debug, Clone, Copy)]
pub struct Queries<'a> {
    /// The vectors.
    pub vectors: &'a [f32],
    /// Values of each.
    pub dim: usize,
}

/// Queries that an index is asked.
#[derive(Debug, Clone)]
pub struct RankingsRequest<'a> {
    /// The table or collection.
    pub table: QualifiedName,
    /// The column of its key, where there is no migration yet: `id` without one. Points of Qdrant have their id.
    pub key: Option<String>,
    /// Its column of vectors, where there is no migration yet: `embedding` without one; in Qdrant the name of the vector.
    pub vector: Option<String>,
    /// The name of the migration.
    pub name: String,
    /// A column, or a key of the payload, that hits are labelled by.
    pub label: Option<String>,
    /// Labels whose rows are counted.
    pub labels: &'a [Label],
    /// Hits of each query.
    pub k: u32,
    /// The queries by the old encoder.
    pub old: Queries<'a>,
    /// The same queries by the new encoder.
    pub new: Queries<'a>,
    /// From the new space to the old one, with the old query's share of dual queries.
    pub to_old: Option<(&'a Bridge, f64)>,
    /// From the old space to the new one: the bridge that mapped the copies, which says how queries are centred.
    pub mapped: Option<&'a Bridge>,
}

/// How an index was searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SearchWay {
    /// The old vectors by the old queries.
    Before,
    /// The old vectors by new queries that a bridge mapped.
    Bridged,
    /// The old vectors by dual queries.
    Dual,
    /// The copies by the new queries.
    New,
    /// The copies that are up to date by the new queries, and the old vectors of all other rows by dual queries, or by the old ones where there is
    /// no bridge; merged.
    Merged,
}

impl SearchWay {
    /// The name in documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::Bridged => "bridged",
            Self::Dual => "dual",
            Self::New => "new",
            Self::Merged => "merged",
        }
    }
}

/// A row that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexHit {
    /// Its key.
    pub id: ItemId,
    /// Its label.
    pub label: Option<Label>,
}

/// The answers of one search.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranking {
    /// How.
    pub way: SearchWay,
    /// The hits of each query, best first.
    pub hits: Vec<Vec<IndexHit>>,
}

/// What an index answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Rankings {
    /// Rows and copies; nothing where there is no migration of the name.
    pub standing: Option<Standing>,
    /// The answers: first those before, then of every search that there is a bridge or a copy for.
    pub rankings: Vec<Ranking>,
    /// Rows with each label that was asked for, and maybe with others.
    pub labelled: BTreeMap<Label, u64>,
}

/// Searches an index by every way that it can be searched now. It only reads.
///
/// Each query is sent as a program would send it, and answered by the database's own index with its settings of the session. Where rows lack an
/// up-to-date copy, both columns are searched, each for the rows that the other does not stand for, and the hits are merged by standard scores
/// ([`merge`]).
///
/// # Errors
/// [`ConnectError`]; [`ConnectError::Usage`] for queries or bridges of other dimensions.
pub fn rankings(
    address: &Address,
    request: &RankingsRequest<'_>,
    observer: &mut dyn Observer,
) -> Result<Rankings, ConnectError> {
    dispatch!(address, rankings_in(request, observer))
}

async fn rankings_in<E: Searching + Showing>(
    address: &E::Address,
    request: &RankingsRequest<'_>,
    observer: &mut dyn Observer,
) -> Result<Rankings, ConnectError> {
    let (mut engine, migration) = opened::<E>(address, request).await?;
    check(&engine, migration.as_ref(), request)?;
    engine.heed(observer.stop_signal());
    let standing = match &migration {
        Some(migration) => {
            let standing = async |engine: &mut E| engine.standing(migration).await;
            Some(again(&mut engine, observer, standing).await?)
        }
        None => None,
    };
    let labelled = match &request.label {
        Some(label) => engine.labelled(label, request.labels).await?,
        None => BTreeMap::new(),
    };
    let (bridged, dual) = match request.to_old {
        Some((bridge, weight)) => {
            let (mut bridged, mut dual) = (Vec::new(), Vec::new());
            bridge.apply(request.new.vectors, &mut bridged)?;
            let (old, new) = (request.old.vectors, request.new.vectors);
            bridge.dual(old, new, weight as f32, Index::Raw, &mut dual)?;
            (Some(bridged), Some(dual))
        }
        None => (None, None),
    };
    let mut new = request.new.vectors.to_vec();
    if let Some(bridge) = request.mapped {
        bridge.centre_to(&mut new)?;
    }
    let copies = standing.is_some_and(|standing| standing.copies > 0);
    // Copies of rows that are gone are found in the new column alone, too.
    let behind = |standing: Standing| standing.pending() > 0 || standing.orphaned > 0;
    let merged = copies && standing.is_some_and(behind);
    let (old_dim, new_dim) = (request.old.dim, request.new.dim);
    let plain = [
        (SearchWay::Before, Some(request.old.vectors), old_dim),
        (SearchWay::Bridged, bridged.as_deref(), old_dim),
        (SearchWay::Dual, dual.as_deref(), old_dim),
        (SearchWay::New, copies.then_some(&*new), new_dim),
    ];
    let ways = plain.iter().filter(|(_, vectors, _)| vectors.is_some());
    let each = (request.new.vectors.len() / new_dim.max(1)) as u64;
    let mut progress = Progress {
        observer,
        done: 0,
        total: each * (ways.count() as u64 + u64::from(merged)),
    };
    let mut rankings = Vec::new();
    for (way, vectors, dim) in plain {
        let Some(vectors) = vectors else {
            continue;
        };
        let searched = match way {
            SearchWay::New => Searched::Copies,
            _ => Searched::Old,
        };
        let label = request.label.as_deref();
        let prepared = engine.prepare(searched, migration.as_ref(), label).await?;
        let mut hits = Vec::new();
        for query in vectors.chunks_exact(dim.max(1)) {
            let found = engine.nearest(&prepared, query, request.k).await?;
            hits.push(found.into_iter().map(hit).collect());
            progress.one()?;
        }
        rankings.push(Ranking { way, hits });
    }
    if let (true, Some(migration)) = (merged, &migration) {
        let old = dual.as_deref().unwrap_or(request.old.vectors);
        let hits = both(&mut engine, migration, request, [old, &new], &mut progress).await?;
        rankings.push(Ranking {
            way: SearchWay::Merged,
            hits,
        });
    }
    Ok(Rankings {
        standing,
        rankings,
        labelled,
    })
}

/// The index with its migration, or without one where there is none.
async fn opened<E: Searching>(
    address: &E::Address,
    request: &RankingsRequest<'_>,
) -> Result<(E, Option<Migration<E::Key>>), ConnectError> {
    let opened = E::open_migration(address, &request.table, &request.name, Access::Read).await;
    let problem = match opened {
        Ok((engine, migration)) => return Ok((engine, Some(migration))),
        Err(ConnectError::State(problem)) => problem,
        Err(error) => return Err(error),
    };
    // Dual queries need no migration.
    if request.to_old.is_none() {
        return Err(ConnectError::State(problem));
    }
    let target = Target {
        table: &request.table,
        key: request.key.as_deref(),
        vector: request.vector.as_deref(),
        rate: None,
        patience: PATIENCE,
    };
    let engine = E::open(address, &target, Access::Read).await?;
    match engine.find(&request.name).await? {
        None => Ok((engine, None)),
        Some(_) => Err(ConnectError::State(problem)),
    }
}

fn check<E: Searching>(
    engine: &E,
    migration: Option<&Migration<E::Key>>,
    request: &RankingsRequest<'_>,
) -> Result<(), ConnectError> {
    let (old, new) = (request.old.dim, request.new.dim);
    let usage = |problem: String| Err(ConnectError::Usage(problem));
    if let Some(dim) = engine.dim().filter(|&dim| dim != old) {
        return usage(format!(
            "the old queries have {old} dimensions, and the old vectors {dim}"
        ));
    }
    if let Some(dim) = migration
        .map(|migration| migration.dim)
        .filter(|&dim| dim != new)
    {
        return usage(format!(
            "the new queries have {new} dimensions, and the new vectors {dim}"
        ));
    }
    if let Some((bridge, _)) = request.to_old
        && (bridge.from().dim, bridge.to().dim) != (new, old)
    {
        return usage(format!(
            "the bridge leads from {} to {} dimensions; dual queries need one from the new space ({new}) to the old one ({old})",
            bridge.from().dim,
            bridge.to().dim
        ));
    }
    match (migration.map(|migration| &migration.origin), request.mapped) {
        (Some(Origin::Bridge { bridge: was, .. }), Some(bridge)) if bridge.sha256() != *was => {
            usage(format!(
                "the copies were made by the bridge {was}, and this one is {}",
                bridge.sha256()
            ))
        }
        (Some(Origin::Bridge { .. }), None) => usage(
            "the copies were made by a bridge, whose mean new queries must be centred by; pass it with --mapped".to_owned(),
        ),
        (Some(Origin::Files), Some(_)) => usage(
            "the copies come from files of new embeddings, and no bridge made them".to_owned(),
        ),
        _ => Ok(()),
    }
}

/// Queries that were answered.
struct Progress<'a> {
    observer: &'a mut dyn Observer,
    done: u64,
    total: u64,
}

impl Progress<'_> {
    fn one(&mut self) -> Result<(), ConnectError> {
        self.done += 1;
        self.observer.rows(self.done, Some(self.total));
        match self.observer.stopped() {
            true => Err(ConnectError::Interrupted),
            false => Ok(()),
        }
    }
}

fn hit(found: Nearest) -> IndexHit {
    IndexHit {
        id: found.id,
        label: found.label,
    }
}

/// Both columns, each for its rows, merged.
async fn both<E: Searching>(
    engine: &mut E,
    migration: &Migration<E::Key>,
    request: &RankingsRequest<'_>,
    queries: [&[f32]; 2],
    progress: &mut Progress<'_>,
) -> Result<Vec<Vec<IndexHit>>, ConnectError> {
    let label = request.label.as_deref();
    let [mut old, mut new] = queries.map(<[f32]>::to_vec);
    let dims = [request.old.dim, request.new.dim];
    // Lengths change no ranking of one column by cosines, and calibration needs them equal.
    for (rows, dim) in [(&mut old, dims[0]), (&mut new, dims[1])] {
        normalize_rows(rows, dim).map_err(|error| ConnectError::Usage(error.to_string()))?;
    }
    let mut parts = Vec::new();
    // A row that was written since its copy was made is searched by what it is now.
    for searched in [Searched::Current, Searched::Pending] {
        let prepared = engine.prepare(searched, Some(migration), label).await?;
        let (count, seed) = (SAMPLE_VECTORS as u64, SAMPLE_SEED as i64);
        let sample = engine.some_vectors(&prepared, count, seed).await?;
        let unit = sample.iter().filter_map(|row| normalized(row));
        let sample: Vec<f32> = unit.flatten().collect();
        parts.push((prepared, sample));
    }
    let pairs = new.chunks_exact(dims[1]).zip(old.chunks_exact(dims[0]));
    let mut all = Vec::new();
    for (new, old) in pairs {
        let mut labels = HashMap::new();
        let mut found = Vec::new();
        let [current, pending] = [&parts[0], &parts[1]];
        let both = engine
            .nearest_in_both((&current.0, new), (&pending.0, old), request.k)
            .await?;
        let asked = [(current, new), (pending, old)];
        for (nearest, ((_, sample), query)) in both.into_iter().zip(asked) {
            let hits = nearest.into_iter().map(|one| {
                labels.insert(one.id.clone(), one.label);
                Hit {
                    id: one.id,
                    score: one.cosine,
                    model_version: String::new(),
                    label: None,
                    payload: Default::default(),
                }
            });
            found.push(PartHits {
                hits: hits.collect(),
                calibration: ScoreCalibration::of(query, sample),
                scale: PartScale::Usual,
            });
        }
        let merged = merge(found, request.k as usize).into_iter();
        let merged = merged.map(|merged| IndexHit {
            label: labels.get(&merged.hit.id).cloned().flatten(),
            id: merged.hit.id,
        });
        all.push(merged.collect());
        progress.one()?;
    }
    Ok(all)
}

/// The row with length 1; nothing without a direction.
fn normalized(row: &[f32]) -> Option<Vec<f32>> {
    let mut row = row.to_vec();
    let dim = row.len();
    normalize_rows(&mut row, dim).ok().map(|()| row)
}
