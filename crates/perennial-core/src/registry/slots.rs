//! `slots.toml`: who places classes at which vertices of a simplex.
//!
//! ```text
//! format_version = 1
//!
//! [[slot]]
//! vertices = 1024          the simplex: prototypes depend on K alone
//! owner = "animals"
//! first = 924              vertices first..end
//! end = 1024
//! created = "2026-11-22T21:35:00Z"
//! ```

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{LOCK_FILE, Registry, RegistryError};
use crate::atomic::write_atomically;
use crate::bounded_read::read_at_most;
use crate::classifier::Classifier;
use crate::file_lock::lock;
use crate::simplex::Simplex;
use crate::version::ModelVersion;
use crate::vertex_map::VertexEnd;

const FILE: &str = "slots.toml";
const FORMAT_VERSION: u32 = 1;
const MAX_BYTES: u64 = 1 << 24;
const MAX_OWNER_BYTES: usize = 64;

/// Vertices of a simplex that belong to one owner: a team, or a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slot {
    /// Vertices of the simplex, `K`.
    pub vertices: usize,
    /// Whose they are.
    pub owner: String,
    /// The first vertex.
    pub first: usize,
    /// One past the last vertex.
    pub end: usize,
    /// When it was allocated, RFC 3339 in UTC.
    pub created: String,
}

/// Where a new slot is placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotPlace {
    /// The highest vertices that are free: local classes are placed from the back.
    Back,
    /// From vertex 0: pre-training, whose models all share these vertices.
    Front,
    /// From this vertex, also where published versions have classes already, so that a slot can be given to whoever trained them.
    At(usize),
}

/// What a new slot is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotRequest {
    /// Vertices of the simplex, `K`.
    pub vertices: usize,
    /// Whose it will be.
    pub owner: String,
    /// How many vertices it needs.
    pub classes: usize,
    /// Where.
    pub place: SlotPlace,
    /// Now, RFC 3339 in UTC.
    pub created: String,
}

impl Slot {
    /// The slot's vertices.
    pub fn range(&self) -> Range<usize> {
        self.first..self.end
    }

    /// In words, such as `vertices 924..1024 of animals`.
    pub fn describe(&self) -> String {
        format!("vertices {}..{} of {}", self.first, self.end, self.owner)
    }

    /// Whether the slot has one of these vertices.
    pub fn overlaps(&self, range: &Range<usize>) -> bool {
        self.first < range.end && range.start < self.end
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    format_version: u32,
    #[serde(default)]
    slot: Vec<Slot>,
}

impl Registry {
    /// All slots, by simplex and vertex; none where nothing was allocated.
    ///
    /// # Errors
    /// [`RegistryError::Slots`] for a damaged `slots.toml`, one with overlapping slots included.
    pub fn slots(&self) -> Result<Vec<Slot>, RegistryError> {
        let path = self.slots_path();
        let bytes = match read_at_most(&path, MAX_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let text =
            String::from_utf8(bytes).map_err(|_| self.slots_error("it is not UTF-8 text"))?;
        let content: Content =
            toml::from_str(&text).map_err(|error| self.slots_error(error.message()))?;
        if content.format_version != FORMAT_VERSION {
            let found = content.format_version;
            return Err(self.slots_error(&format!(
                "format_version is {found}, this program reads {FORMAT_VERSION}"
            )));
        }
        let mut slots = content.slot;
        slots.sort_by_key(|slot| (slot.vertices, slot.first));
        for slot in &slots {
            self.check_slot(slot)?;
        }
        for pair in slots.windows(2) {
            if pair[0].vertices == pair[1].vertices && pair[0].overlaps(&pair[1].range()) {
                return Err(self.slots_error(&format!(
                    "{} collide with {}; correct the file",
                    pair[0].describe(),
                    pair[1].describe()
                )));
            }
        }
        let mut owners = BTreeSet::new();
        if let Some(twice) = slots
            .iter()
            .find(|slot| !owners.insert((slot.vertices, &slot.owner)))
        {
            return Err(self.slots_error(&format!("{} has two slots", twice.owner)));
        }
        Ok(slots)
    }

    /// The slots of the simplex of `vertices` vertices.
    ///
    /// # Errors
    /// As [`slots`](Self::slots).
    pub fn slots_of(&self, vertices: usize) -> Result<Vec<Slot>, RegistryError> {
        let mut slots = self.slots()?;
        slots.retain(|slot| slot.vertices == vertices);
        Ok(slots)
    }

    /// Allocates a slot. Writers take turns, so two of them never get the same vertex.
    ///
    /// # Errors
    /// [`RegistryError::Slots`], which names the slot in the way, or says how many vertices are free: an owner that has a slot already,
    /// vertices that are taken, too few vertices; a simplex that cannot exist.
    pub fn allocate_slot(&self, request: SlotRequest) -> Result<Slot, RegistryError> {
        let SlotRequest {
            vertices,
            owner,
            classes,
            place,
            created,
        } = request;
        let _lock = lock(&self.root.join(LOCK_FILE))?;
        let mut slots = self.slots()?;
        let same: Vec<&Slot> = slots
            .iter()
            .filter(|slot| slot.vertices == vertices)
            .collect();
        if let Some(slot) = same.iter().find(|slot| slot.owner == owner) {
            return Err(self.slots_error(&format!(
                "{} are allocated already; a slot keeps its vertices, so ask for another one under another name",
                slot.describe()
            )));
        }
        let taken = self.taken_vertices(vertices)?;
        let first = match place {
            SlotPlace::Front => 0,
            SlotPlace::At(first) => first,
            SlotPlace::Back => highest_free(vertices, classes, &same, &taken).ok_or_else(|| {
                self.slots_error(&format!(
                    "no {classes} neighbouring vertices of the simplex of {vertices} are free (`perennial slots list` shows them); ask for \
                     fewer, or train on a larger simplex, whose models need a bridge to the present ones"
                ))
            })?,
        };
        let slot = Slot {
            vertices,
            owner,
            first,
            end: first.saturating_add(classes),
            created,
        };
        self.check_slot(&slot)?;
        if let Some(other) = same.iter().find(|other| other.overlaps(&slot.range())) {
            return Err(self.slots_error(&format!(
                "{} collide with {}",
                slot.describe(),
                other.describe()
            )));
        }
        slots.push(slot.clone());
        self.write_slots(slots)?;
        Ok(slot)
    }

    /// Moves all slots of a simplex to a larger one; they keep their vertices, and the new vertices are free.
    ///
    /// A larger simplex has other prototypes in another dimension (every cosine between two of them is `-1 / (K - 1)`), so nothing that
    /// was trained on the smaller one fits it. Growing is therefore possible only as long as no version was trained.
    ///
    /// # Errors
    /// [`RegistryError::Slots`] where versions of the smaller simplex exist, by their names, or slots of the larger one.
    pub fn grow_slots(&self, vertices: usize, larger: usize) -> Result<Vec<Slot>, RegistryError> {
        let _lock = lock(&self.root.join(LOCK_FILE))?;
        let mut slots = self.slots()?;
        if larger <= vertices {
            return Err(self.slots_error(&format!(
                "{larger} vertices are not more than {vertices}; a simplex only grows"
            )));
        }
        Simplex::new(larger).map_err(|error| self.slots_error(&error.to_string()))?;
        if !slots.iter().any(|slot| slot.vertices == vertices) {
            return Err(self.slots_error(&format!(
                "no slot is on a simplex of {vertices} vertices, so there is nothing to grow"
            )));
        }
        if slots.iter().any(|slot| slot.vertices == larger) {
            return Err(self.slots_error(&format!(
                "the simplex of {larger} vertices has slots of its own already; allocate the others there one by one"
            )));
        }
        let trained: Vec<String> = self
            .versions_on(vertices)?
            .into_iter()
            .map(|version| version.name)
            .collect();
        if let (Some(first), Some(last)) = (trained.first(), trained.last()) {
            let names = match trained.len() {
                1 => first.clone(),
                count => format!("{count} versions, {first} to {last},"),
            };
            return Err(self.slots_error(&format!(
                "{names} trained on the simplex of {vertices} vertices. One of {larger} has {} dimensions instead of {} and other angles \
                 between its prototypes, so every prototype changes and stored embeddings do not fit. Allocate slots on a new simplex of \
                 {larger} vertices, train there, and search the present items through a bridge (`perennial bridge fit`)",
                larger - 1,
                vertices - 1
            )));
        }
        for slot in slots.iter_mut().filter(|slot| slot.vertices == vertices) {
            slot.vertices = larger;
        }
        let grown = slots
            .iter()
            .filter(|slot| slot.vertices == larger)
            .cloned()
            .collect();
        self.write_slots(slots)?;
        Ok(grown)
    }

    /// The ranges of a simplex at which published versions have classes.
    ///
    /// # Errors
    /// A version that cannot be read.
    pub fn taken_vertices(&self, vertices: usize) -> Result<Vec<Range<usize>>, RegistryError> {
        let versions = self.versions_on(vertices)?;
        let mut taken: Vec<Range<usize>> = versions
            .iter()
            .filter_map(|version| Some(ranges(version.classifier()?, vertices)))
            .flatten()
            .filter(|range| !range.is_empty())
            .collect();
        taken.sort_by_key(|range| (range.start, range.end));
        let mut merged: Vec<Range<usize>> = Vec::new();
        for range in taken {
            match merged.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => merged.push(range),
            }
        }
        Ok(merged)
    }

    fn versions_on(&self, vertices: usize) -> Result<Vec<ModelVersion>, RegistryError> {
        let mut versions = self.list()?;
        // Also those whose embeddings are the features in front of it: their classes have vertices all the same.
        let of_classifier = |version: &ModelVersion| version.classifier()?.vertices;
        versions.retain(|version| of_classifier(version) == Some(vertices));
        Ok(versions)
    }

    fn write_slots(&self, mut slots: Vec<Slot>) -> Result<(), RegistryError> {
        slots.sort_by_key(|slot| (slot.vertices, slot.first));
        let content = Content {
            format_version: FORMAT_VERSION,
            slot: slots,
        };
        let text = toml::to_string(&content).expect("slots have string keys and no empty values");
        Ok(write_atomically(self.slots_path(), text)?)
    }

    fn check_slot(&self, slot: &Slot) -> Result<(), RegistryError> {
        let refused = |problem: String| Err(self.slots_error(&problem));
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let owner = &slot.owner;
        if !(1..=MAX_OWNER_BYTES).contains(&owner.len()) || !owner.bytes().all(plain) {
            let shown: String = owner.chars().take(MAX_OWNER_BYTES).collect();
            return refused(format!(
                "owner {shown:?}: use 1 to {MAX_OWNER_BYTES} letters, digits, `-`, `_` and `.`"
            ));
        }
        if let Err(error) = Simplex::new(slot.vertices) {
            return refused(format!("owner {owner}: {error}"));
        }
        if slot.first >= slot.end || slot.end > slot.vertices {
            return refused(format!(
                "{} are no range within a simplex of {} vertices",
                slot.describe(),
                slot.vertices
            ));
        }
        Ok(())
    }

    fn slots_path(&self) -> PathBuf {
        self.root.join(FILE)
    }

    fn slots_error(&self, problem: &str) -> RegistryError {
        RegistryError::Slots {
            path: self.slots_path(),
            problem: problem.to_owned(),
        }
    }
}

/// The vertices of a version's own classes and of those of pre-training.
fn ranges(classifier: &Classifier, vertices: usize) -> [Range<usize>; 2] {
    let back = vertices.saturating_sub(classifier.skipped_vertices);
    match classifier.vertex_end {
        Some(VertexEnd::Back) => [
            0..classifier.pretrained_classes,
            back.saturating_sub(classifier.classes)..back,
        ],
        _ => [
            0..classifier.classes.max(classifier.pretrained_classes),
            0..0,
        ],
    }
}

/// Where the highest free range of so many vertices begins.
fn highest_free(
    vertices: usize,
    classes: usize,
    slots: &[&Slot],
    taken: &[Range<usize>],
) -> Option<usize> {
    let mut end = vertices;
    loop {
        let first = end.checked_sub(classes)?;
        let wanted = first..end;
        let in_the_way = slots
            .iter()
            .map(|slot| slot.range())
            .chain(taken.iter().cloned())
            .filter(|range| range.start < wanted.end && wanted.start < range.end)
            .map(|range| range.start)
            .min();
        match in_the_way {
            None => return Some(first),
            // Below everything that was in the way.
            Some(start) => end = start,
        }
    }
}

#[cfg(test)]
mod tests;
