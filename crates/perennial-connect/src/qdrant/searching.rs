//! Searching a collection by its own index, as programs do.

use std::collections::{BTreeMap, HashSet};

use perennial_formats::Label;
use serde_json::{Value, json};

use super::client::collection_path;
use super::collection::count;
use super::engine::Qdrant;
use super::looking::label_of;
use super::point::{Dense, Point, Selection, retrieve};
use super::point_id::PointId;
use crate::engine::{Migration, Nearest, Searched, Searching};
use crate::error::ConnectError;

/// How many times more hits are asked for until enough of them have no copy, at most.
const MOST_TIMES: u32 = 64;

/// A search of one collection.
pub(crate) struct Prepared {
    collection: String,
    label: Option<String>,
    /// The collection in which hits must not be.
    without: Option<String>,
}

/// Points as a search gives them, which carry a score beside.
#[derive(serde::Deserialize)]
struct Hits {
    points: Vec<Point>,
}

impl Qdrant {
    fn hits(
        &self,
        prepared: &Prepared,
        query: &[f32],
        limit: u32,
    ) -> Result<Vec<Point>, ConnectError> {
        let selection = Selection::ids().vector(&self.vector);
        let mut body = json!({
            "query": query,
            "limit": limit,
            "with_vector": selection.vector,
            "with_payload": match &prepared.label {
                Some(label) => json!([label]),
                None => json!(false),
            },
        });
        if !self.vector.is_empty() {
            body["using"] = json!(self.vector);
        }
        let path = format!("{}/points/query", collection_path(&prepared.collection));
        let hits: Hits = self.client.send("POST", &path, &body)?;
        Ok(hits.points)
    }
}

impl Searching for Qdrant {
    type Prepared = Prepared;

    async fn prepare(
        &mut self,
        searched: Searched,
        migration: Option<&Migration<PointId>>,
        label: Option<&str>,
    ) -> Result<Prepared, ConnectError> {
        let copies = migration.map(|migration| migration.copies.name.clone());
        let own = self.collection.name.clone();
        let none = || ConnectError::State("there are no copies to search".to_owned());
        let (collection, without) = match searched {
            Searched::Old => (own, None),
            Searched::OldWithoutCopy => (own, Some(copies.ok_or_else(none)?)),
            Searched::Copies => (copies.ok_or_else(none)?, None),
        };
        Ok(Prepared {
            collection,
            label: label.map(str::to_owned),
            without,
        })
    }

    /// Servers cannot leave out what another collection holds, so more hits are asked for until enough of them have no copy.
    async fn nearest(
        &mut self,
        prepared: &Prepared,
        query: &[f32],
        k: u32,
    ) -> Result<Vec<Nearest>, ConnectError> {
        let mut limit = k;
        let points = loop {
            let mut points = self.hits(prepared, query, limit)?;
            let all = points.len() < limit as usize || limit / k.max(1) >= MOST_TIMES;
            if let Some(copies) = &prepared.without {
                let ids: Vec<PointId> = points.iter().map(|point| point.id.clone()).collect();
                let there = retrieve(&self.client, copies, &Selection::ids(), &ids)?;
                let there: HashSet<PointId> = there.into_iter().map(|point| point.id).collect();
                points.retain(|point| !there.contains(&point.id));
            }
            if all || points.len() >= k as usize {
                points.truncate(k as usize);
                break points;
            }
            limit = limit.saturating_mul(4);
        };
        points
            .into_iter()
            .map(|point| {
                let label = prepared.label.as_deref().and_then(|key| point.value(key));
                let id = point.id.item();
                let cosine = match point.dense(&self.vector)? {
                    Dense::Values(values) => cosine(&values, query),
                    Dense::None | Dense::Unusable => f32::NAN,
                };
                Ok(Nearest {
                    id,
                    label: label.map_or(Ok(None), label_of)?,
                    cosine,
                })
            })
            .collect()
    }

    async fn labelled(
        &mut self,
        label: &str,
        labels: &[Label],
    ) -> Result<BTreeMap<Label, u64>, ConnectError> {
        let mut counts = BTreeMap::new();
        for one in labels {
            if counts.contains_key(one) {
                continue;
            }
            let value = match one {
                Label::Number(number) => json!(number),
                Label::Text(text) => json!(text),
            };
            let mut filter: Value = json!({"must": [{"key": label, "match": {"value": value}}]});
            let with_vector = self.collection.has_vector(&self.vector);
            if let Some(conditions) = with_vector["must"].as_array() {
                let mut all = conditions.clone();
                all.push(filter["must"][0].clone());
                filter["must"] = json!(all);
            }
            let found = count(&self.client, &self.collection.name, &filter)?;
            counts.insert(one.clone(), found);
        }
        Ok(counts)
    }

    async fn some_vectors(
        &mut self,
        prepared: &Prepared,
        count: u64,
        seed: i64,
    ) -> Result<Vec<Vec<f32>>, ConnectError> {
        // Points with a copy are left out afterwards, so more than are wanted are looked at.
        let wanted = count as usize;
        let looked_at = match prepared.without {
            Some(_) => count.saturating_mul(u64::from(MOST_TIMES)),
            None => count,
        };
        let name = &prepared.collection;
        let ids = self
            .sampled_ids(name, &Selection::ids(), looked_at, seed)
            .await?;
        let selection = Selection::ids().vector(&self.vector);
        let mut vectors = Vec::new();
        for some in ids.chunks(wanted.max(1)) {
            let mut some = some.to_vec();
            if let Some(copies) = &prepared.without {
                let there = retrieve(&self.client, copies, &Selection::ids(), &some)?;
                let there: HashSet<PointId> = there.into_iter().map(|point| point.id).collect();
                some.retain(|id| !there.contains(id));
            }
            for point in retrieve(&self.client, name, &selection, &some)? {
                if let (true, Dense::Values(values)) =
                    (vectors.len() < wanted, point.dense(&self.vector)?)
                {
                    vectors.push(values);
                }
            }
            if vectors.len() >= wanted {
                break;
            }
        }
        Ok(vectors)
    }
}

fn cosine(one: &[f32], other: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        let pairs = a.iter().zip(b);
        pairs.map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
    };
    (dot(one, other) / (dot(one, one) * dot(other, other)).sqrt()) as f32
}

#[cfg(test)]
mod tests {
    use super::cosine;

    #[test]
    fn the_cosine_does_not_depend_on_lengths() {
        assert_eq!(cosine(&[3.0, 4.0], &[6.0, 8.0]), 1.0);
        assert_eq!(cosine(&[2.0, 0.0], &[0.0, 5.0]), 0.0);
        assert!(cosine(&[0.0, 0.0], &[1.0, 0.0]).is_nan());
    }
}
