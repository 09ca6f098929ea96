//! What a generation changes: new points beside the old ones, marks on those that they supersede, and the spaces. Nothing of it counts before the head
//! says so.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use perennial_core::SpaceId;
use perennial_gallery::limits::MAX_SPACES;
use perennial_gallery::{
    Filter, GalleryError, Item, ItemId, Replacement, StoreSpace, Upserted, compare_all,
};
use serde_json::{Value, json};

use super::head::{Dropped, Known, State, Sweep, now};
use super::lease::Lease;
use super::order::{field, key, pieces};
use super::reading::{self, KEYS};
use super::row::{point_id, put};
use super::server::Server;
use super::view::View;
use crate::failure::{Failure, damaged};
use crate::qdrant::{PointId, Points};

/// Fields that every space has indexed, and how.
const INDEXED: [(&str, &str); 6] = [
    ("from", "integer"),
    ("until", "integer"),
    ("key", "keyword"),
    ("pairs", "keyword"),
    ("label", "integer"),
    ("place", "integer"),
];
/// Segments that a server spreads a collection over, at most, where it decides by itself. Each gets an index of its own once it is large enough.
const SEGMENTS: u64 = 8;

/// A change that is being made.
pub(super) struct Writing<'a> {
    server: &'a Server,
    /// What counts so far.
    view: View<'a>,
    generation: u64,
    /// What will count.
    pub(super) state: State,
    /// Whether anything was sent to the server.
    pub(super) wrote: &'a Cell<bool>,
    /// Collections that were made.
    made: usize,
    /// Spaces that have lost items.
    left: BTreeSet<String>,
    hnsw_from: u64,
}

impl<'a> Writing<'a> {
    pub(super) fn begin(
        lease: &Lease<'_>,
        server: &'a Server,
        hnsw_from: u64,
        wrote: &'a Cell<bool>,
    ) -> Self {
        let view = View::new(server, &lease.head);
        Self {
            server,
            state: view.state.clone(),
            view,
            generation: lease.generation,
            wrote,
            made: 0,
            left: BTreeSet::new(),
            hnsw_from,
        }
    }

    /// Whether there is anything to commit.
    pub(super) fn is_changed(&self) -> bool {
        self.wrote.get() || self.state != self.view.state
    }

    /// The state to commit: without spaces that have lost their last item, but those of a simplex, of which another version may come.
    pub(super) fn finish(mut self) -> Result<State, Failure> {
        for name in std::mem::take(&mut self.left) {
            let known = self.state.spaces.get(&name);
            if known.is_some_and(|known| known.items == 0 && known.vertices.is_none()) {
                self.forget(&name);
            }
        }
        self.index()?;
        self.state.generation = self.generation;
        Ok(self.state)
    }

    /// Notes that something is superseded, which can be removed after a while.
    fn superseded(&mut self) {
        let to = self.generation;
        self.state.superseded = to;
        self.state.sweep.get_or_insert(Sweep { to, at: now() });
    }

    fn forget(&mut self, name: &str) {
        if let Some(Known {
            collection: Some(collection),
            ..
        }) = self.state.spaces.remove(name)
        {
            self.state.dropped.push(Dropped {
                collection,
                generation: self.generation,
            });
            self.superseded();
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        let names: Vec<String> = self.state.spaces.keys().cloned().collect();
        names.iter().for_each(|name| self.forget(name));
    }

    /// Makes a space known that was checked before.
    pub(super) fn create(&mut self, space: &StoreSpace) -> Result<(), Failure> {
        let name = space.id.as_str();
        let vertices = space.simplex.map(|simplex| simplex.vertices);
        if let Some(known) = self.state.spaces.get_mut(name) {
            if known.items > 0 {
                space.check_change(known.dim, known.simplex())?;
                known.vertices = vertices.or(known.vertices);
                return Ok(());
            }
            if known.dim == space.dim {
                known.vertices = vertices;
                return Ok(());
            }
            // Its collection, where there is one, has vectors of another size.
            self.forget(name);
        } else if self.state.spaces.len() >= MAX_SPACES {
            return Err(GalleryError::TooManySpaces.into());
        }
        let known = Known {
            dim: space.dim,
            vertices,
            items: 0,
            collection: None,
            levels: 0,
            indexed: false,
        };
        self.state.spaces.insert(name.to_owned(), known);
        Ok(())
    }

    /// Stores items that were checked before, but for the dimension.
    pub(super) fn upsert(&mut self, items: &[Item]) -> Result<Upserted, Failure> {
        // Everything that can be refused is, before the first change.
        let mut new: HashMap<&str, usize> = HashMap::new();
        for item in items {
            let (name, found) = (item.model_version.as_str(), item.embedding.len());
            let known = self.state.spaces.get(name).map(|known| known.dim);
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
            self.create(&StoreSpace {
                id: SpaceId::new(name).map_err(damaged)?,
                dim,
                simplex: None,
            })?;
        }
        self.put(items, &mut HashSet::new())?;
        let keys: Vec<String> = items.iter().map(|item| key(&item.id)).collect();
        let replaced = self.supersede_keys(&keys)?;
        Ok(Upserted {
            inserted: items.len() - replaced,
            replaced,
        })
    }

    /// Gives items that are still what was read their new embeddings, and says which are not. The lease keeps others from writing meanwhile.
    pub(super) fn replace_unchanged(
        &mut self,
        replacements: &[Replacement],
    ) -> Result<Vec<ItemId>, Failure> {
        let ids: Vec<ItemId> = replacements.iter().map(|one| one.read.id.clone()).collect();
        let now = reading::items(&self.view, &ids, true)?;
        let (items, changed) = compare_all(replacements, &now);
        if !items.is_empty() {
            self.upsert(&items)?;
        }
        Ok(changed)
    }

    /// Writes the points of items; `points` has those that the generation has written.
    pub(super) fn put(
        &mut self,
        items: &[Item],
        points: &mut HashSet<PointId>,
    ) -> Result<(), Failure> {
        let mut by_space: BTreeMap<&str, Vec<&Item>> = BTreeMap::new();
        for item in items {
            by_space.entry(&item.model_version).or_default().push(item);
        }
        for (name, items) in by_space {
            let levels = items.iter().map(|item| pieces(&item.id).len()).max();
            let collection = self.ready(name, levels.unwrap_or(0))?;
            let mut sent = Points::default();
            for item in &items {
                let point = point_id(&item.id, self.generation);
                put(item, &point, self.generation, sent.next())?;
                if !points.insert(point) {
                    return Err(Failure::Refused(GalleryError::DuplicateId {
                        id: item.id.clone(),
                    }));
                }
                if self.server.are_enough(&sent) {
                    self.server.put_all(&collection, &mut sent)?;
                }
            }
            self.server.put_all(&collection, &mut sent)?;
            self.known(name)?.items += items.len() as u64;
        }
        Ok(())
    }

    fn known(&mut self, name: &str) -> Result<&mut Known, Failure> {
        let known = self.state.spaces.get_mut(name);
        known.ok_or_else(|| damaged("a space is gone"))
    }

    /// The collection of a space, made if need be, with as many fields indexed for the order of ids.
    fn ready(&mut self, name: &str, levels: usize) -> Result<String, Failure> {
        self.wrote.set(true);
        let server = self.server;
        let (generation, made) = (self.generation, self.made);
        let known = self.known(name)?;
        let (suffix, is_new) = match &known.collection {
            Some(suffix) => (suffix.clone(), false),
            None => (format!("{generation}.{made}"), true),
        };
        let collection = server.of_space(&suffix);
        if is_new {
            let body = json!({
                "vectors": {"size": known.dim, "distance": "Dot"},
                // Exact searches need no index; one that is asked for is switched on.
                "optimizers_config": {"indexing_threshold": 0},
            });
            // Nobody else makes one of this name, so one that is there is that of a request whose answer was lost.
            server.create(&collection, body)?;
            for (field, kind) in INDEXED {
                server.index(&collection, field, kind)?;
            }
            known.collection = Some(suffix);
        }
        for level in known.levels..levels {
            server.index(&collection, &field(level), "integer")?;
        }
        known.levels = known.levels.max(levels);
        if is_new {
            self.made += 1;
        }
        Ok(collection)
    }

    pub(super) fn delete(&mut self, ids: &[ItemId]) -> Result<usize, Failure> {
        let keys: BTreeSet<String> = ids.iter().map(key).collect();
        let keys: Vec<String> = keys.into_iter().collect();
        self.supersede_keys(&keys)
    }

    pub(super) fn delete_where(&mut self, filter: &Filter) -> Result<usize, Failure> {
        if filter.matches_nothing() {
            return Ok(0);
        }
        let conditions = self.view.markable().filter(filter).json();
        self.supersede(filter, &conditions)
    }

    fn supersede_keys(&mut self, keys: &[String]) -> Result<usize, Failure> {
        let mut all = 0;
        for some in keys.chunks(KEYS) {
            let conditions = self.view.markable().keys(some).json();
            all += self.supersede(&Filter::everything(), &conditions)?;
        }
        Ok(all)
    }

    /// Marks points that count so far as superseded by this generation, and says how many they are.
    fn supersede(&mut self, spaces: &Filter, conditions: &Value) -> Result<usize, Failure> {
        let mut all = 0;
        let mut lost = Vec::new();
        for space in self.view.filled(spaces) {
            let collection = space.collection(self.server);
            let items = self.server.count(&collection, conditions)?;
            if items > 0 {
                self.wrote.set(true);
                let mark = json!({"until": self.generation});
                self.server.set(&collection, &mark, conditions)?;
                lost.push((space.name.to_owned(), items));
                all += items;
            }
        }
        for (name, items) in lost {
            self.superseded();
            let known = self.known(&name)?;
            let rest = known.items.checked_sub(items);
            known.items =
                rest.ok_or_else(|| damaged(format!("space {name} has too many points")))?;
            self.left.insert(name);
        }
        usize::try_from(all).map_err(damaged)
    }

    /// Has the server build an index where spaces get one from so many items on.
    fn index(&mut self) -> Result<(), Failure> {
        let from = self.hnsw_from;
        for known in self.state.spaces.values_mut() {
            let Some(suffix) = known.collection.as_deref() else {
                continue;
            };
            if from == 0 || known.indexed || known.items < from {
                continue;
            }
            let kilobytes = from.saturating_mul(4 * known.dim as u64) / 1024 / SEGMENTS;
            let body = json!({"optimizers_config": {"indexing_threshold": kilobytes.max(1)}});
            self.server.change(&self.server.of_space(suffix), &body)?;
            known.indexed = true;
        }
        Ok(())
    }
}
