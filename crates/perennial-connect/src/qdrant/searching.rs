//! Searching a collection by its own index, as programs do.

use std::collections::{BTreeMap, HashMap, HashSet};

use perennial_core::ItemId;
use perennial_formats::Label;
use serde_json::{Value, json};

use super::client::collection_path;
use super::collection::count;
use super::engine::Qdrant;
use super::failure::Failure;
use super::label::{check_path, label_of};
use super::mark::{FIELD, is_of};
use super::point::{Dense, Point, Selection, marks, retrieve};
use super::point_id::PointId;
use crate::engine::{Migration, Nearest, Searched, Searching};
use crate::error::ConnectError;

/// How many times more hits are asked for until enough of them count, at most.
const MOST_TIMES: u32 = 64;

/// Points whose labels are read at a time.
const LABELS_AT_ONCE: usize = 4096;

/// A search of one collection.
pub(crate) struct Prepared {
    collection: String,
    label: Option<String>,
    /// Which of its points count.
    counting: Counting,
}

/// Which points of a collection count. Servers know nothing of other collections, so what a search finds is looked at afterwards.
enum Counting {
    All,
    /// Those without an up-to-date copy in this collection.
    Pending(String),
    /// Copies whose point in this collection has the vector that they were made from.
    Current(String),
}

/// A point that was found.
struct Candidate {
    id: PointId,
    label: Option<Value>,
    mark: Option<String>,
    vector: Option<Vec<f32>>,
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
        limit: &mut u32,
    ) -> Result<Vec<Candidate>, ConnectError> {
        let selection = self.looked_at(prepared);
        let mut body = json!({
            "query": query,
            "limit": *limit,
            "with_vector": selection.vector,
            "with_payload": selection.payload,
        });
        if !self.vector.is_empty() {
            body["using"] = json!(self.vector);
        }
        let name = &prepared.collection;
        let path = format!("{}/points/query", collection_path(name));
        let mut found = self.client.read::<Hits>(&path, &body);
        if let Err(Failure::Split {
            most: Some(most), ..
        }) = found
            && (1..*limit as usize).contains(&most)
        {
            *limit = most as u32;
            body["limit"] = json!(most);
            found = self.client.read::<Hits>(&path, &body);
        }
        match found {
            Ok(hits) => self.candidates(prepared, hits.points),
            // Many hits with long vectors: first which they are, and then what they hold, in parts.
            Err(Failure::TooLarge) => {
                body["with_vector"] = json!(false);
                body["with_payload"] = json!(false);
                let hits: Hits = self.client.read(&path, &body)?;
                let ids: Vec<PointId> = hits.points.into_iter().map(|point| point.id).collect();
                let points = retrieve(&self.client, name, &selection, &ids)?;
                let mut points: HashMap<PointId, Point> = points
                    .into_iter()
                    .map(|point| (point.id.clone(), point))
                    .collect();
                // In the order of the hits; what is gone meanwhile is left out.
                let points = ids.iter().filter_map(|id| points.remove(id)).collect();
                self.candidates(prepared, points)
            }
            Err(failure) => Err(failure.into()),
        }
    }

    /// What is read of each point.
    fn looked_at(&self, prepared: &Prepared) -> Selection {
        let mut fields: Vec<&str> = prepared.label.as_deref().into_iter().collect();
        if let Counting::Current(_) = prepared.counting {
            fields.push(FIELD);
        }
        let mut selection = Selection::ids().vector(&self.vector);
        if !fields.is_empty() {
            selection.payload = json!(fields);
        }
        selection
    }

    fn candidates(
        &self,
        prepared: &Prepared,
        points: Vec<Point>,
    ) -> Result<Vec<Candidate>, ConnectError> {
        let candidate = |point: Point| {
            Ok(Candidate {
                id: point.id.clone(),
                label: prepared.label.as_deref().and_then(|key| point.value(key)),
                mark: point.mark(),
                vector: match point.dense(&self.vector)? {
                    Dense::Values(values) => Some(values),
                    Dense::None | Dense::Unusable => None,
                },
            })
        };
        points.into_iter().map(candidate).collect()
    }

    /// Leaves out what does not count. A copy without a mark is the application's own, which answers for it.
    fn leave_out(
        &self,
        prepared: &Prepared,
        candidates: &mut Vec<Candidate>,
    ) -> Result<(), ConnectError> {
        match &prepared.counting {
            Counting::All => {}
            Counting::Pending(copies) => {
                let ids: Vec<PointId> = candidates.iter().map(|one| one.id.clone()).collect();
                let there = marks(&self.client, copies, &ids)?;
                candidates.retain(|one| match (there.get(&one.id), &one.vector) {
                    (None, _) => true,
                    (Some(Some(mark)), Some(vector)) => !is_of(mark, vector),
                    (Some(Some(_)), None) => true,
                    (Some(None), _) => false,
                });
            }
            Counting::Current(originals) => {
                let selection = Selection::ids().vector(&self.vector);
                let marked = candidates.iter().filter(|one| one.mark.is_some());
                let marked: Vec<PointId> = marked.map(|one| one.id.clone()).collect();
                let mut old = HashMap::new();
                for point in retrieve(&self.client, originals, &selection, &marked)? {
                    let id = point.id.clone();
                    if let Dense::Values(values) = point.dense(&self.vector)? {
                        old.insert(id, values);
                    }
                }
                candidates.retain(|one| match (&one.mark, old.get(&one.id)) {
                    // Programs wrote it themselves and answer for it, with or without an original.
                    (None, _) => true,
                    (Some(mark), Some(old)) => is_of(mark, old),
                    (Some(_), None) => false,
                });
            }
        }
        Ok(())
    }
}

impl Qdrant {
    /// Counts points by their label, which is read of each.
    fn labelled_one_by_one(
        &self,
        label: &str,
        labels: &[Label],
    ) -> Result<BTreeMap<Label, u64>, ConnectError> {
        let zero = labels.iter().map(|label| (label.clone(), 0));
        let mut counts: BTreeMap<Label, u64> = zero.collect();
        let selection = Selection {
            payload: json!([label]),
            filter: self.collection.has_vector(&self.vector),
            ..Selection::ids()
        };
        let mut at_once = self.page_points(LABELS_AT_ONCE);
        let mut from: Option<PointId> = None;
        loop {
            let name = &self.collection.name;
            let page = self.page(name, &selection, from.as_ref(), &mut at_once)?;
            for point in page.points {
                let id = point.id.item();
                let value = point.value(label);
                let found = value.and_then(|value| label_of(value, &id).ok().flatten());
                if let Some(count) = found.and_then(|label| counts.get_mut(&label)) {
                    *count += 1;
                }
            }
            from = page.next_page_offset;
            if from.is_none() {
                return Ok(counts);
            }
        }
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
        check_path(label)?;
        let copies = migration.map(|migration| migration.copies.name.clone());
        let own = self.collection.name.clone();
        let none = || ConnectError::State("there are no copies to search".to_owned());
        let (collection, counting) = match searched {
            Searched::Old => (own, Counting::All),
            Searched::Pending => (own, Counting::Pending(copies.ok_or_else(none)?)),
            Searched::Copies => (copies.ok_or_else(none)?, Counting::All),
            Searched::Current => (copies.ok_or_else(none)?, Counting::Current(own)),
        };
        Ok(Prepared {
            collection,
            label: label.map(str::to_owned),
            counting,
        })
    }

    /// Servers cannot leave out what another collection says, so more hits are asked for until enough of them count.
    async fn nearest(
        &mut self,
        prepared: &Prepared,
        query: &[f32],
        k: u32,
    ) -> Result<Vec<Nearest>, ConnectError> {
        let mut limit = k;
        let found = loop {
            let asked = limit;
            let mut found = self.hits(prepared, query, &mut limit)?;
            // What is not allowed to be asked for stays unseen.
            let all =
                limit < asked || found.len() < limit as usize || limit / k.max(1) >= MOST_TIMES;
            self.leave_out(prepared, &mut found)?;
            if all || found.len() >= k as usize {
                found.truncate(k as usize);
                break found;
            }
            limit = limit.saturating_mul(4);
        };
        found
            .into_iter()
            .map(|one| {
                let id = one.id.item();
                // What files cannot hold is the label of no query.
                let label = one.label.and_then(|label| label_of(label, &id).ok());
                Ok(Nearest {
                    id,
                    label: label.flatten(),
                    cosine: one.vector.map_or(f32::NAN, |values| cosine(&values, query)),
                })
            })
            .collect()
    }

    /// Servers have no state of two collections that could be asked twice. So the rows without a copy are asked for before the copies, for those that
    /// are copied meanwhile, and again after them, for those that are written meanwhile; and then the copies once more, for those that are written and
    /// copied again meanwhile. Only a point that is written, copied again and written once more between the first question and the last can be missed.
    async fn nearest_in_both(
        &mut self,
        current: (&Prepared, &[f32]),
        pending: (&Prepared, &[f32]),
        k: u32,
    ) -> Result<[Vec<Nearest>; 2], ConnectError> {
        let mut both: [Vec<Nearest>; 2] = [Vec::new(), Vec::new()];
        for (part, asked) in [(1, pending), (0, current), (1, pending), (0, current)] {
            let mut found = self.nearest(asked.0, asked.1, k).await?;
            // What was found last is what a point is now.
            let known: HashSet<ItemId> = found.iter().map(|one| one.id.clone()).collect();
            let earlier = std::mem::take(&mut both[part]).into_iter();
            found.extend(earlier.filter(|one| !known.contains(&one.id)));
            both[part] = found;
        }
        Ok(both)
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
            let values = match one {
                Label::Number(number) => vec![json!(number)],
                // Truth values become texts.
                Label::Text(text) if text == "true" => vec![json!(text), json!(true)],
                Label::Text(text) if text == "false" => vec![json!(text), json!(false)],
                Label::Text(text) => vec![json!(text)],
            };
            let equal = |value: &Value| json!({"key": label, "match": {"value": value}});
            let any: Vec<Value> = values.iter().map(equal).collect();
            let mut filter = json!({"should": any});
            let with_vector = self.collection.has_vector(&self.vector);
            if let Some(conditions) = with_vector["must"].as_array() {
                filter["must"] = json!(conditions);
            }
            match count(&self.client, &self.collection.name, &filter) {
                // The server counts by no field without an index.
                Err(Failure::Unindexed { .. }) => return self.labelled_one_by_one(label, labels),
                found => counts.insert(one.clone(), found?),
            };
        }
        Ok(counts)
    }

    async fn some_vectors(
        &mut self,
        prepared: &Prepared,
        count: u64,
        seed: i64,
    ) -> Result<Vec<Vec<f32>>, ConnectError> {
        // What does not count is left out afterwards, so more points than are wanted are looked at.
        let wanted = count as usize;
        let most = match prepared.counting {
            Counting::All => count,
            Counting::Pending(_) | Counting::Current(_) => {
                count.saturating_mul(u64::from(MOST_TIMES))
            }
        };
        let name = &prepared.collection;
        let ids = self
            .sampled_ids(name, &Selection::ids(), most, seed)
            .await?;
        let selection = self.looked_at(prepared);
        let mut vectors = Vec::new();
        for some in ids.chunks(wanted.max(1)) {
            let points = retrieve(&self.client, name, &selection, some)?;
            let mut found = self.candidates(prepared, points)?;
            self.leave_out(prepared, &mut found)?;
            vectors.extend(found.into_iter().filter_map(|one| one.vector));
            if vectors.len() >= wanted {
                vectors.truncate(wanted);
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
