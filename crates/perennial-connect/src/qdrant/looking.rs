//! Looking at a collection: points for files, counts, samples and searches.

use std::collections::{BTreeMap, HashMap};

use perennial_core::{ItemId, normalize_rows};
use serde::Deserialize;
use serde_json::{Value, json};

use super::client::collection_path;
use super::collection::count;
use super::disk::estimate;
use super::engine::Qdrant;
use super::label::{check_path, label_of};
use super::mark::same_vector;
use super::point::{Carried, Dense, Point, Selection, marks, retrieve};
use super::point_id::PointId;
use crate::engine::{Exported, IndexFacts, Looking, Migration, Pair, Probe, Rows, Survey};
use crate::error::ConnectError;

/// Points that are read at a time.
const AT_ONCE: usize = 512;
/// Bytes of a copy beside its vector and payload: its id and version, and the mark.
const POINT_OVERHEAD: u64 = 16 + 64;
/// Fields that an error names at most.
const PATHS_SHOWN: usize = 20;
/// The largest difference of a value that rounding explains, for 32 and for 16 bits.
const ROUNDING: [f32; 2] = [1e-4, 1e-3];

/// An export as it goes on.
pub(crate) struct Export {
    label: Option<String>,
    at_once: usize,
    next: Next,
}

/// What comes next.
enum Next {
    /// Points from an id on; with copies, those that have none that is up to date.
    From(Option<PointId>, Option<String>),
    /// Points of a sample, from a place on.
    Ids(Vec<PointId>, usize),
    Nothing,
}

/// The collection that is searched.
pub(crate) struct Search(String);

#[derive(Deserialize)]
struct Hits {
    points: Vec<Hit>,
}

#[derive(Deserialize)]
struct Hit {
    score: f64,
}

impl Qdrant {
    /// What is read for a file: the vector, and the field of the label.
    fn exported(&self, label: Option<&str>) -> Selection {
        let selection = Selection::ids().vector(&self.vector);
        match label {
            Some(label) => Selection {
                payload: json!([label]),
                ..selection
            },
            None => selection,
        }
    }

    /// Points that have a vector.
    fn with_vector(&self, selection: Selection) -> Selection {
        Selection {
            filter: self.collection.has_vector(&self.vector),
            ..selection
        }
    }

    /// Points whose copy is not up to date, of those that were read whole.
    fn pending(&self, points: Vec<Point>, copies: &str) -> Result<Vec<Exported>, ConnectError> {
        let ids: Vec<PointId> = points.iter().map(|point| point.id.clone()).collect();
        let marks = marks(&self.client, copies, &ids)?;
        let mut rows = Vec::new();
        for (id, point) in ids.into_iter().zip(points) {
            let copy = marks.get(&id);
            if copy == Some(&None) {
                continue;
            }
            let (dense, carried) = point.parts(&self.vector)?;
            let up_to_date = copy
                .and_then(Option::as_ref)
                .is_some_and(|mark| same_vector(mark, &carried.mark));
            if let (false, Dense::Values(vector)) = (up_to_date, dense) {
                rows.push(Exported {
                    id: id.item(),
                    label: None,
                    vector,
                });
            }
        }
        Ok(rows)
    }

    fn rows(&self, points: Vec<Point>, label: Option<&str>) -> Result<Vec<Exported>, ConnectError> {
        let mut rows = Vec::with_capacity(points.len());
        for point in points {
            let id = point.id.item();
            let label = match label.and_then(|label| point.value(label)) {
                Some(value) => label_of(value, &id)?,
                None => None,
            };
            if let Dense::Values(vector) = point.dense(&self.vector)? {
                rows.push(Exported { id, label, vector });
            }
        }
        Ok(rows)
    }
}

impl Looking for Qdrant {
    type Export = Export;
    type Search = Search;

    const RECALL_REMEDY: &'static str =
        "raise hnsw_ef of the searches, or m and ef_construct of the collection";

    async fn first_dim(&self) -> Result<usize, ConnectError> {
        Ok(self.params().size as usize)
    }

    async fn export(
        &mut self,
        rows: &Rows,
        migration: Option<&Migration<PointId>>,
        label: Option<&str>,
        at_once: usize,
        from: Option<&str>,
    ) -> Result<Export, ConnectError> {
        let from = from
            .map(serde_json::from_str)
            .transpose()
            .map_err(|_| ConnectError::State("the export ended at a place that is no id of a point; remove the partial file and start over".to_owned()))?;
        if let (Rows::Pending(_), Some(_)) = (rows, label) {
            return Err(ConnectError::Usage(
                "pending points are exported without labels; leave --label-column out".to_owned(),
            ));
        }
        check_path(label)?;
        let next = match rows {
            Rows::All => Next::From(from, None),
            Rows::Pending(_) => {
                let copies = migration.map(|migration| migration.copies.name.clone());
                Next::From(from, copies)
            }
            Rows::Sample { count, seed, also } => {
                let selection = self.with_vector(Selection::ids());
                let name = &self.collection.name;
                let mut ids = self.sampled_ids(name, &selection, *count, *seed).await?;
                // An id that no point can have names no point, and is no error; neither is one of a point that is not there.
                ids.extend(also.iter().filter_map(|id| PointId::of(id).ok()));
                ids.sort_unstable();
                ids.dedup();
                Next::Ids(ids, 0)
            }
        };
        Ok(Export {
            label: label.map(str::to_owned),
            at_once: at_once.min(AT_ONCE),
            next,
        })
    }

    async fn labels_there(&mut self) -> Result<String, ConnectError> {
        let name = &self.collection.name;
        let selection = Selection {
            payload: json!(true),
            ..Selection::ids()
        };
        let mut page = self.page(name, &selection, None, &mut 1)?;
        let paths = page.points.pop().map(|point| point.paths());
        let mut paths = paths.unwrap_or_default();
        paths.truncate(PATHS_SHOWN);
        Ok(match paths.is_empty() {
            true => "the first point has no field with a text or a number".to_owned(),
            false => format!("fields of the first point are {}", paths.join(", ")),
        })
    }

    fn place(&self, export: &Export) -> Option<String> {
        match &export.next {
            Next::From(from, _) => Some(json!(from.as_ref()?).to_string()),
            Next::Ids(..) | Next::Nothing => None,
        }
    }

    /// Every request stands for itself.
    fn resume(&self, _: &mut Export) {}

    async fn next_exported(
        &mut self,
        export: &mut Export,
    ) -> Result<Option<Vec<Exported>>, ConnectError> {
        let name = self.collection.name.clone();
        let label = export.label.as_deref();
        match &mut export.next {
            Next::Nothing => Ok(None),
            Next::Ids(ids, done) => {
                let some = &ids[*done..ids.len().min(*done + export.at_once)];
                if some.is_empty() {
                    return Ok(None);
                }
                let mut points = retrieve(&self.client, &name, &self.exported(label), some)?;
                *done += some.len();
                points.sort_unstable_by(|a, b| a.id.cmp(&b.id));
                self.rows(points, label).map(Some)
            }
            Next::From(from, copies) => {
                let selection = match copies {
                    Some(_) => Selection::all(),
                    None => self.exported(label),
                };
                let page = self.page(&name, &selection, from.as_ref(), &mut export.at_once)?;
                let rows = match copies {
                    Some(copies) => self.pending(page.points, copies)?,
                    None => self.rows(page.points, label)?,
                };
                match page.next_page_offset {
                    Some(next) => *from = Some(next),
                    None => export.next = Next::Nothing,
                }
                Ok(Some(rows))
            }
        }
    }

    async fn survey(&mut self, _: u64) -> Result<Survey, ConnectError> {
        let name = &self.collection.name;
        let rows = count(&self.client, name, &Value::Null)?;
        let condition = self.collection.has_vector(&self.vector);
        let with_vector = match condition.is_null() {
            true => rows,
            false => count(&self.client, name, &condition)?,
        };
        let params = self.params();
        let mut at_once = self.page_points(AT_ONCE);
        let some = self.page(name, &Selection::all(), None, &mut at_once)?;
        let disk = estimate(&self.collection, &self.vector, some.points)?;
        let mut warnings = Vec::new();
        if let Err(error) = self.collection.check_copyable() {
            warnings.push(error.to_string());
        }
        if params.is_whole() {
            warnings.push(
                "the old vectors are whole numbers (uint8); the new ones are stored as float32"
                    .to_owned(),
            );
        }
        Ok(Survey {
            name: name.clone(),
            rows,
            with_vector,
            dimensions: BTreeMap::from([(params.size, with_vector)]),
            vector_type: params.datatype().to_owned(),
            value_bytes: if params.is_whole() {
                4
            } else {
                params.value_bytes()
            },
            row_overhead: POINT_OVERHEAD,
            index_row: Some(disk.index),
            beside_row_bytes: disk.beside_row_bytes,
            replicas: disk.replicas,
            assumptions: disk.assumptions,
            indexes: vec![IndexFacts {
                name: match self.vector.as_str() {
                    "" => "vector".to_owned(),
                    name => name.to_owned(),
                },
                method: "hnsw".to_owned(),
                operators: params.distance.clone(),
                bytes: None,
            }],
            bytes: None,
            storage: Some(self.collection.storage()),
            warnings,
        })
    }

    /// Nothing can be written that is not a write to the cluster.
    async fn probe(
        &mut self,
        _: Vec<Probe<PointId, Carried>>,
        _: usize,
    ) -> Result<Option<f64>, ConnectError> {
        Ok(None)
    }

    async fn pairs(
        &mut self,
        migration: &Migration<PointId>,
        count: u64,
        seed: i64,
    ) -> Result<Vec<Pair>, ConnectError> {
        let copies = &migration.copies.name;
        let count = count.min(1 << 20);
        let ids = self
            .sampled_ids(copies, &Selection::ids(), count, seed)
            .await?;
        let mut pairs = Vec::with_capacity(ids.len());
        for some in ids.chunks(AT_ONCE) {
            let name = &self.collection.name;
            let mut old: HashMap<PointId, (Dense, Carried)> = HashMap::new();
            for point in retrieve(&self.client, name, &Selection::all(), some)? {
                let id = point.id.clone();
                old.insert(id, point.parts(&self.vector)?);
            }
            let selection = Selection::marks().vector(&self.vector);
            for point in retrieve(&self.client, copies, &selection, some)? {
                let mark = point.mark();
                let Some((Dense::Values(vector), carried)) = old.remove(&point.id) else {
                    continue;
                };
                if mark.as_ref() != Some(&carried.mark) {
                    continue;
                }
                let copy = match point.dense(&self.vector)? {
                    Dense::Values(values) => values,
                    // A copy without a usable vector differs from whatever it should be.
                    Dense::None | Dense::Unusable => Vec::new(),
                };
                pairs.push(Pair { old: vector, copy });
            }
        }
        Ok(pairs)
    }

    async fn copied(
        &mut self,
        migration: &Migration<PointId>,
        ids: &[ItemId],
    ) -> Result<Vec<Option<Vec<f32>>>, ConnectError> {
        let points: Vec<Option<PointId>> = ids.iter().map(|id| PointId::of(id).ok()).collect();
        let asked: Vec<PointId> = points.iter().flatten().cloned().collect();
        let selection = Selection::marks().vector(&self.vector);
        let mut copies = HashMap::new();
        for some in asked.chunks(AT_ONCE) {
            for point in retrieve(&self.client, &migration.copies.name, &selection, some)? {
                if point.mark().is_none() {
                    continue;
                }
                let id = point.id.clone();
                let copy = match point.dense(&self.vector)? {
                    Dense::Values(values) => values,
                    // A copy without a usable vector differs from whatever it should be.
                    Dense::None | Dense::Unusable => Vec::new(),
                };
                copies.insert(id, copy);
            }
        }
        let found = points.iter().map(|id| copies.get(id.as_ref()?).cloned());
        Ok(found.collect())
    }

    /// Servers bring vectors of the cosine to unit length.
    fn as_stored(&self, vector: &[f32]) -> (Vec<f32>, f32) {
        let mut stored = vector.to_vec();
        if self.params().distance == "Cosine" {
            // A vector without a direction stays as it is.
            let _ = normalize_rows(&mut stored, vector.len());
        }
        let largest = stored
            .iter()
            .fold(1.0, |most: f32, value| most.max(value.abs()));
        (stored, self.rounding() * largest)
    }

    fn rounding(&self) -> f32 {
        match self.params().value_bytes() {
            2 => ROUNDING[1],
            _ => ROUNDING[0],
        }
    }

    async fn search(
        &mut self,
        migration: &Migration<PointId>,
    ) -> Result<Option<Search>, ConnectError> {
        Ok(Some(Search(migration.copies.name.clone())))
    }

    async fn sample(
        &mut self,
        search: &Search,
        count: u64,
        seed: i64,
    ) -> Result<Vec<Vec<f32>>, ConnectError> {
        let ids = self
            .sampled_ids(&search.0, &Selection::ids(), count, seed)
            .await?;
        let selection = Selection::ids().vector(&self.vector);
        let mut vectors = Vec::with_capacity(ids.len());
        for some in ids.chunks(AT_ONCE) {
            for point in retrieve(&self.client, &search.0, &selection, some)? {
                if let Dense::Values(values) = point.dense(&self.vector)? {
                    vectors.push(values);
                }
            }
        }
        Ok(vectors)
    }

    async fn distances(
        &mut self,
        search: &Search,
        query: &[f32],
        k: u32,
        exact: bool,
    ) -> Result<Vec<f64>, ConnectError> {
        let mut body = json!({
            "query": query,
            "limit": k,
            "params": {"exact": exact},
            "with_payload": false,
        });
        if !self.vector.is_empty() {
            body["using"] = json!(self.vector);
        }
        let path = format!("{}/points/query", collection_path(&search.0));
        let hits: Hits = self.client.read(&path, &body)?;
        let sign = match self.params().smaller_is_nearer() {
            true => 1.0,
            false => -1.0,
        };
        Ok(hits.points.iter().map(|hit| sign * hit.score).collect())
    }
}
