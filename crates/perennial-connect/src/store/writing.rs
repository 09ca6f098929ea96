//! Changes, in a transaction that holds the row of `perennial_meta`: nobody else writes meanwhile.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use perennial_core::SpaceId;
use perennial_gallery::id_key::id_key;
use perennial_gallery::limits::MAX_SPACES;
use perennial_gallery::{
    Filter, GalleryError, Item, ItemId, Replacement, StoreSpace, Upserted, compare_all,
};
use tokio_postgres::Row;

use super::filter::Conditions;
use super::reading;
use super::schema::one;
use super::session::Session;
use super::spaces::{KnownSpace, Spaces};
use crate::failure::{Failure, damaged};
use crate::pairs::{pairs, place};
use crate::postgres::VectorValue;

/// The most dimensions of a vector of pgvector.
const MAX_DIM: usize = 16_000;
/// Bytes of one statement's values; more items take several.
const STATEMENT_BYTES: usize = 4 << 20;

/// Stores items in the place of those with their keys, and says how many of those were of which space.
const UPSERT: &str = "WITH before AS (SELECT space, count(*) FROM perennial_items WHERE key = ANY($1) GROUP BY space), \
    stored AS (INSERT INTO perennial_items (key, space, label, payload, pairs, place, embedding) \
        SELECT key, space, label, payload::json, pairs::uuid[], place, embedding \
        FROM unnest($1::bytea[], $2::int4[], $3::int8[], $4::text[], $5::text[], $6::int8[], $7::vector[]) \
            AS given (key, space, label, payload, pairs, place, embedding) \
        ON CONFLICT (key) DO UPDATE SET space = excluded.space, label = excluded.label, payload = excluded.payload, \
            pairs = excluded.pairs, place = excluded.place, embedding = excluded.embedding) \
    SELECT * FROM before";

/// What a transaction has changed so far.
pub(super) struct Writing<'a> {
    session: &'a Session,
    spaces: Spaces,
    /// Items that spaces have gained and lost, by the space's number.
    changes: BTreeMap<i32, i64>,
    /// Spaces that have lost items.
    left: BTreeSet<i32>,
}

impl<'a> Writing<'a> {
    pub(super) fn begin(session: &'a Session) -> Result<Self, Failure> {
        Ok(Self {
            session,
            spaces: Spaces::read(session)?,
            changes: BTreeMap::new(),
            left: BTreeSet::new(),
        })
    }

    /// Brings the counts up to date, and forgets spaces that have lost their last item, but those of a simplex: another version of it may come.
    pub(super) fn finish(self) -> Result<(), Failure> {
        if !self.changes.is_empty() {
            let numbers: Vec<i32> = self.changes.keys().copied().collect();
            let changes: Vec<i64> = self.changes.values().copied().collect();
            self.session.query(
                "UPDATE perennial_spaces AS s SET items = s.items + c.change FROM unnest($1::int4[], $2::int8[]) AS c (number, change) \
                 WHERE s.number = c.number",
                &[&numbers, &changes],
            )?;
        }
        if !self.left.is_empty() {
            let left: Vec<i32> = self.left.into_iter().collect();
            self.session.query(
                "DELETE FROM perennial_spaces WHERE number = ANY($1) AND items = 0 AND vertices IS NULL",
                &[&left],
            )?;
        }
        Ok(())
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) -> Result<(), Failure> {
        self.session
            .batch("DELETE FROM perennial_items; DELETE FROM perennial_spaces")?;
        self.spaces = Spaces::default();
        Ok(())
    }

    /// Makes a space known that was checked before.
    pub(super) fn create(&mut self, space: &StoreSpace) -> Result<(), Failure> {
        let Some(known) = self.spaces.get(space.id.as_str()).cloned() else {
            return self.insert(space.clone()).map(|_| ());
        };
        if known.space == *space {
            return Ok(());
        }
        if known.items > 0 {
            space.check_change(known.space.dim, known.space.simplex)?;
            if let Some(simplex) = space.simplex {
                self.session.query(
                    "UPDATE perennial_spaces SET vertices = $2 WHERE number = $1",
                    &[&known.number, &(simplex.vertices as i32)],
                )?;
                self.spaces.insert(KnownSpace {
                    space: space.clone(),
                    ..known
                });
            }
            return Ok(());
        }
        // A new number, since an index of the old one may be for another dimension.
        self.session.query(
            "DELETE FROM perennial_spaces WHERE number = $1",
            &[&known.number],
        )?;
        self.insert(space.clone()).map(|_| ())
    }

    fn insert(&mut self, space: StoreSpace) -> Result<i32, Failure> {
        if space.dim > MAX_DIM {
            return Err(Failure::Refused(GalleryError::NotOffered {
                problem: format!(
                    "space {} has {} dimensions, but pgvector stores up to {MAX_DIM}; use a gallery in a folder",
                    space.id, space.dim
                ),
            }));
        }
        let replaces = self.spaces.get(space.id.as_str()).is_some();
        if !replaces && self.spaces.len() >= MAX_SPACES {
            return Err(Failure::Refused(GalleryError::TooManySpaces));
        }
        // Checked dimensions and vertices are far smaller than what 31 bits can say.
        let vertices = space.simplex.map(|simplex| simplex.vertices as i32);
        let row = one(self.session.query(
            "INSERT INTO perennial_spaces (name, dim, vertices) VALUES ($1, $2, $3) RETURNING number",
            &[&space.id.as_str(), &(space.dim as i32), &vertices],
        )?)?;
        let number = row.try_get(0)?;
        self.spaces.insert(KnownSpace {
            number,
            space,
            items: 0,
            indexed: false,
        });
        Ok(number)
    }

    /// Stores items that were checked before, but for the dimension.
    pub(super) fn upsert(&mut self, items: &[Item]) -> Result<Upserted, Failure> {
        // Everything that can be refused is, before the first change.
        let mut new: HashMap<&str, usize> = HashMap::new();
        for item in items {
            let (name, found) = (item.model_version.as_str(), item.embedding.len());
            let known = self.spaces.get(name).map(|known| known.space.dim);
            let expected = known.unwrap_or_else(|| *new.entry(name).or_insert(found));
            if found != expected {
                return Err(Failure::Refused(GalleryError::WrongDimension {
                    what: format!("item {}", item.id),
                    found,
                    expected,
                }));
            }
        }
        for (name, dim) in new {
            let id = SpaceId::new(name).map_err(damaged)?;
            self.insert(StoreSpace {
                id,
                dim,
                simplex: None,
            })?;
        }
        let mut done = Upserted::default();
        let mut rest = items;
        while !rest.is_empty() {
            let (some, after) = rest.split_at(first_statement(rest));
            let replaced = self.store(some)?;
            done.replaced += replaced;
            done.inserted += some.len() - replaced;
            rest = after;
        }
        Ok(done)
    }

    /// Gives items that are still what was read their new embeddings, and says which are not. Everybody else waits for this transaction.
    pub(super) fn replace_unchanged(
        &mut self,
        replacements: &[Replacement],
    ) -> Result<Vec<ItemId>, Failure> {
        let ids: Vec<ItemId> = replacements.iter().map(|one| one.read.id.clone()).collect();
        let now = reading::items(self.session, &ids, true)?;
        let (items, changed) = compare_all(replacements, &now);
        self.upsert(&items)?;
        Ok(changed)
    }

    /// Stores items by one statement, and says how many were there before.
    fn store(&mut self, items: &[Item]) -> Result<usize, Failure> {
        let keys: Vec<Vec<u8>> = items.iter().map(|item| id_key(&item.id)).collect();
        let places: Vec<i64> = keys.iter().map(|key| place(key)).collect();
        let labels: Vec<Option<i64>> = items.iter().map(|item| item.label.map(i64::from)).collect();
        let pairs: Vec<String> = items.iter().map(|item| pairs(&item.payload)).collect();
        let vectors: Vec<VectorValue<'_>> = items
            .iter()
            .map(|item| VectorValue(&item.embedding))
            .collect();
        let mut numbers = Vec::with_capacity(items.len());
        let mut payloads = Vec::with_capacity(items.len());
        for item in items {
            let known = self.spaces.get(&item.model_version);
            let number = known.map(|known| known.number);
            let number = number.ok_or_else(|| damaged("a space is gone"))?;
            *self.changes.entry(number).or_default() += 1;
            numbers.push(number);
            payloads.push(serde_json::to_string(&item.payload).map_err(damaged)?);
        }
        let replaced = self.session.query(
            UPSERT,
            &[
                &keys, &numbers, &labels, &payloads, &pairs, &places, &vectors,
            ],
        )?;
        self.lost(&replaced)
    }

    pub(super) fn delete(&mut self, ids: &[ItemId]) -> Result<usize, Failure> {
        let keys: Vec<Vec<u8>> = ids.iter().map(id_key).collect();
        let mut conditions = Conditions::default();
        conditions.add("key = ANY({})", keys);
        self.remove(&conditions)
    }

    pub(super) fn delete_where(&mut self, filter: &Filter) -> Result<usize, Failure> {
        let mut conditions = Conditions::default();
        conditions.filter(filter, &self.spaces);
        self.remove(&conditions)
    }

    fn remove(&mut self, conditions: &Conditions) -> Result<usize, Failure> {
        let gone = self.session.query(
            &format!(
                "WITH gone AS (DELETE FROM perennial_items{} RETURNING space) SELECT space, count(*) FROM gone GROUP BY space",
                conditions.sql()
            ),
            &conditions.parameters(&[]),
        )?;
        self.lost(&gone)
    }

    /// Notes items that are no longer there, from rows of space and number.
    fn lost(&mut self, rows: &[Row]) -> Result<usize, Failure> {
        let mut all = 0;
        for row in rows {
            let (number, items): (i32, i64) = (row.try_get(0)?, row.try_get(1)?);
            *self.changes.entry(number).or_default() -= items;
            self.left.insert(number);
            all += usize::try_from(items).map_err(damaged)?;
        }
        Ok(all)
    }
}

/// How many of some items go into one statement, at least one.
fn first_statement(items: &[Item]) -> usize {
    let mut bytes = 0;
    let fits = items.iter().take_while(|item| {
        let first = bytes == 0;
        // Payloads are checked to be small, vectors make the difference.
        bytes += 4 * item.embedding.len() + 512 * (1 + item.payload.len());
        first || bytes <= STATEMENT_BYTES
    });
    fits.count()
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;

    #[test]
    fn statements_are_bounded_and_take_at_least_one_item() {
        let item = |dim| Item {
            id: 1.into(),
            embedding: vec![0.0; dim],
            model_version: "v".to_owned(),
            label: None,
            payload: Map::new(),
        };
        assert_eq!(first_statement(&vec![item(1 << 20); 3]), 1);
        assert_eq!(first_statement(&vec![item(8); 10]), 10);
        let some = first_statement(&vec![item(1024); 10_000]);
        assert!((500..1000).contains(&some), "{some}");
    }
}
