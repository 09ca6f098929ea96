//! Which partition holds the items of which space.
//!
//! A partition has one dimension and one index. Spaces that were trained towards one simplex share a partition, so that a search of all of
//! them is one search; every other space has a partition of its own. Numbers of partitions are never used again, so what is
//! derived from one may be remembered.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use perennial_core::SpaceId;

use crate::error::GalleryError;
use crate::item::SimplexIdentity;
use crate::limits::MAX_SPACES;
use crate::space::StoreSpace;

/// Where the counter of partitions ends; far beyond what any gallery reaches, and far from where it would overflow.
const MAX_PARTITION: u32 = 1 << 31;

/// What the vectors of a partition have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) dim: u32,
    /// Vertices of the simplex, 0 for none.
    pub(super) vertices: u32,
}

impl Shape {
    pub(super) fn dim(self) -> usize {
        self.dim as usize
    }

    pub(super) fn simplex(self) -> Option<SimplexIdentity> {
        let vertices = self.vertices as usize;
        (vertices != 0).then_some(SimplexIdentity { vertices })
    }
}

/// The spaces of a gallery and their partitions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Layout {
    names: Vec<String>,
    numbers: HashMap<String, u32>,
    /// The partition of a space, by the space's number.
    homes: BTreeMap<u32, u32>,
    partitions: BTreeMap<u32, Shape>,
    next_partition: u32,
}

impl Layout {
    /// A layout from its parts, as a database or a snapshot states them.
    ///
    /// # Errors
    /// What is impossible about it.
    pub(super) fn new(
        names: Vec<String>,
        homes: BTreeMap<u32, u32>,
        partitions: BTreeMap<u32, Shape>,
        next_partition: u32,
    ) -> Result<Self, String> {
        let mut numbers = HashMap::with_capacity(names.len());
        for (name, number) in names.iter().zip(0..) {
            if numbers.insert(name.clone(), number).is_some() {
                return Err(format!("the name {name:?} of a version occurs twice"));
            }
        }
        for (space, partition) in &homes {
            if *space as usize >= names.len() {
                return Err(format!("space {space} has no name"));
            }
            if !partitions.contains_key(partition) {
                return Err(format!(
                    "space {space} is in the unknown partition {partition}"
                ));
            }
        }
        if next_partition > MAX_PARTITION {
            return Err(format!("the counter of partitions is at {next_partition}"));
        }
        let used: BTreeSet<u32> = homes.values().copied().collect();
        for (partition, shape) in &partitions {
            if !used.contains(partition) {
                return Err(format!("partition {partition} has no space"));
            }
            let space = StoreSpace {
                id: SpaceId::new("of this partition").map_err(|error| error.to_string())?,
                dim: shape.dim(),
                simplex: shape.simplex(),
            };
            let problem = |error: GalleryError| format!("partition {partition}: {error}");
            space.check().map_err(problem)?;
            if *partition >= next_partition {
                return Err(format!("partition {partition} is beyond their counter"));
            }
        }
        Ok(Self {
            names,
            numbers,
            homes,
            partitions,
            next_partition,
        })
    }

    /// Names by their number.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// Partitions of spaces, both by their number.
    pub(super) fn homes(&self) -> &BTreeMap<u32, u32> {
        &self.homes
    }

    pub(super) fn partitions(&self) -> &BTreeMap<u32, Shape> {
        &self.partitions
    }

    pub(super) fn next_partition(&self) -> u32 {
        self.next_partition
    }

    /// The partition of a space and its shape, by the space's number.
    pub(super) fn home(&self, space: u32) -> Option<(u32, Shape)> {
        let partition = *self.homes.get(&space)?;
        Some((partition, *self.partitions.get(&partition)?))
    }

    /// The same by the space's name.
    pub(super) fn home_of(&self, name: &str) -> Option<(u32, Shape)> {
        self.home(*self.numbers.get(name)?)
    }

    /// The spaces that have a partition: their number, name, and partition's shape.
    pub(super) fn spaces(&self) -> impl Iterator<Item = (u32, &str, Shape)> {
        self.homes.iter().filter_map(|(&space, partition)| {
            let name = self.names.get(space as usize)?;
            Some((space, name.as_str(), *self.partitions.get(partition)?))
        })
    }

    /// Numbers a name, a new one if need be.
    fn number(&mut self, name: &str) -> u32 {
        if let Some(&number) = self.numbers.get(name) {
            return number;
        }
        let number = self.names.len() as u32;
        self.names.push(name.to_owned());
        self.numbers.insert(name.to_owned(), number);
        number
    }

    /// Whether these names, each given once, can become known.
    ///
    /// # Errors
    /// [`GalleryError::TooManySpaces`].
    pub(super) fn check_room<'a>(
        &self,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), GalleryError> {
        let new = names
            .into_iter()
            .filter(|name| !self.numbers.contains_key(*name));
        let new = new.count();
        match new > 0 && self.names.len() + new > MAX_SPACES {
            true => Err(GalleryError::TooManySpaces),
            false => Ok(()),
        }
    }

    fn add_partition(&mut self, shape: Shape) -> u32 {
        let number = self.next_partition;
        self.next_partition += 1;
        self.partitions.insert(number, shape);
        number
    }

    /// Where an item goes whose dimension was compared with that of its space: number and partition of the space.
    pub(super) fn place(&mut self, name: &str, dim: usize) -> (u32, u32) {
        let space = self.number(name);
        if let Some(&partition) = self.homes.get(&space) {
            return (space, partition);
        }
        // A checked dimension is far smaller than what 32 bits can say.
        let partition = self.add_partition(Shape {
            dim: dim as u32,
            vertices: 0,
        });
        self.homes.insert(space, partition);
        (space, partition)
    }

    /// Makes a space known that was checked before; `items` says how many a space has, by its number.
    ///
    /// # Errors
    /// A contradiction to the items that the space has; the layout is unchanged then.
    pub(super) fn create(
        &mut self,
        space: &StoreSpace,
        items: impl Fn(u32) -> u64,
    ) -> Result<(), GalleryError> {
        let wanted = Shape {
            dim: space.dim as u32,
            vertices: space.simplex.map_or(0, |simplex| simplex.vertices as u32),
        };
        self.check_room([space.id.as_str()])?;
        let number = self.number(space.id.as_str());
        if let Some((partition, shape)) = self.home(number) {
            if shape == wanted {
                return Ok(());
            }
            if items(number) > 0 {
                space.check_change(shape.dim(), shape.simplex())?;
                if wanted.vertices != 0 {
                    self.partitions.insert(partition, wanted);
                }
                return Ok(());
            }
            self.forget(number);
        }
        let same = |(_, shape): &(&u32, &Shape)| **shape == wanted && wanted.vertices != 0;
        let shared = self.partitions.iter().find(same).map(|(&number, _)| number);
        let partition = shared.unwrap_or_else(|| self.add_partition(wanted));
        self.homes.insert(number, partition);
        Ok(())
    }

    /// Forgets where a space is, and its partition with the last space in it. Its name stays, since records may have its number in
    /// files that are still read.
    pub(super) fn forget(&mut self, space: u32) {
        if let Some(partition) = self.homes.remove(&space)
            && !self.homes.values().any(|&other| other == partition)
        {
            self.partitions.remove(&partition);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(name: &str, dim: usize, vertices: Option<usize>) -> StoreSpace {
        StoreSpace {
            id: SpaceId::new(name).unwrap(),
            dim,
            simplex: vertices.map(|vertices| SimplexIdentity { vertices }),
        }
    }

    fn partition(layout: &Layout, name: &str) -> Option<u32> {
        layout.home_of(name).map(|(partition, _)| partition)
    }

    #[test]
    fn spaces_of_one_simplex_share_a_partition_and_others_do_not() {
        let mut layout = Layout::default();
        for (name, dim, vertices) in [
            ("v1", 3, Some(4)),
            ("clip", 3, None),
            ("v2", 3, Some(4)),
            ("v3", 4, Some(5)),
        ] {
            layout.create(&space(name, dim, vertices), |_| 0).unwrap();
        }
        assert_eq!(layout.place("v1", 3), (0, 0));
        assert_eq!(layout.place("text", 3), (4, 3));
        let at = |name| partition(&layout, name);
        assert_eq!(
            [at("v1"), at("clip"), at("v2"), at("v3"), at("text")],
            [Some(0), Some(1), Some(0), Some(2), Some(3)]
        );
        assert_eq!(at("unknown"), None);
    }

    #[test]
    fn a_partition_goes_with_its_last_space_and_its_number_is_not_used_again() {
        let mut layout = Layout::default();
        layout.create(&space("v1", 3, Some(4)), |_| 0).unwrap();
        layout.create(&space("v2", 3, Some(4)), |_| 0).unwrap();
        layout.forget(0);
        assert_eq!(partition(&layout, "v2"), Some(0));
        layout.forget(1);
        assert!(layout.partitions().is_empty() && layout.homes().is_empty());
        assert_eq!(layout.place("v2", 2), (1, 1));
        assert_eq!(layout.names(), ["v1", "v2"]);
    }

    #[test]
    fn only_a_space_without_items_changes_its_shape() {
        let mut layout = Layout::default();
        layout.place("v1", 3);
        let before = layout.clone();
        for (changed, mismatch) in [
            (space("v1", 2, None), false),
            (space("v1", 4, Some(5)), false),
        ] {
            let error = layout.create(&changed, |_| 1).unwrap_err();
            assert_eq!(
                matches!(error, GalleryError::IdentityMismatch { .. }),
                mismatch
            );
            assert_eq!(layout, before);
        }
        // A simplex may be learnt about later, and is not forgotten.
        layout.create(&space("v1", 3, Some(4)), |_| 1).unwrap();
        layout.create(&space("v1", 3, None), |_| 1).unwrap();
        let (partition, shape) = layout.home_of("v1").unwrap();
        assert_eq!((partition, shape.vertices), (0, 4));
        let other = layout.create(&space("v1", 4, Some(5)), |_| 1);
        assert!(matches!(other, Err(GalleryError::IdentityMismatch { .. })));
        layout.create(&space("v1", 4, Some(5)), |_| 0).unwrap();
        assert_eq!(layout.home_of("v1").unwrap().0, 1);
    }

    #[test]
    fn impossible_layouts_are_named() {
        let shape = |dim, vertices| Shape { dim, vertices };
        let layout = |names: &[&str], homes: &[(u32, u32)], partitions: &[(u32, Shape)], next| {
            Layout::new(
                names.iter().map(|&name| name.to_owned()).collect(),
                homes.iter().copied().collect(),
                partitions.iter().copied().collect(),
                next,
            )
        };
        layout(&["a"], &[(0, 3)], &[(3, shape(2, 3))], 4).unwrap();
        for (layout, problem) in [
            (layout(&["a", "a"], &[], &[], 0), "twice"),
            (layout(&["a"], &[(1, 0)], &[(0, shape(2, 0))], 1), "no name"),
            (
                layout(&["a"], &[(0, 1)], &[(0, shape(2, 0))], 1),
                "unknown partition",
            ),
            (
                layout(&["a"], &[(0, 0)], &[(0, shape(0, 0))], 1),
                "dimensions",
            ),
            (layout(&["a"], &[(0, 0)], &[(0, shape(2, 9))], 1), "simplex"),
            (layout(&["a"], &[(0, 0)], &[(0, shape(2, 0))], 0), "counter"),
        ] {
            let error = layout.unwrap_err();
            assert!(error.contains(problem), "{error} lacks {problem}");
        }
    }

    #[test]
    fn a_gallery_knows_a_bounded_number_of_spaces() {
        let mut layout = Layout::default();
        for number in 0..MAX_SPACES {
            layout.number(&format!("v{number}"));
        }
        assert!(layout.check_room(["v0", "v1"]).is_ok());
        let error = layout.check_room(["v0", "new"]).unwrap_err();
        assert!(error.to_string().contains("4096 spaces"), "{error}");
    }
}
