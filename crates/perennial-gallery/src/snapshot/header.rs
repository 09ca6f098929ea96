//! What a snapshot says about its spaces before its items come.

use std::collections::HashSet;

use perennial_core::check_name;
use serde::{Deserialize, Serialize};

use crate::item::SimplexIdentity;
use crate::limits::{MAX_DIM, MAX_SPACES};

/// The header of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Header {
    /// Records that follow.
    pub(crate) items: u64,
    /// Spaces by the number that records use.
    pub(crate) spaces: Vec<HeaderSpace>,
    /// Partitions in the order of the places that spaces name.
    pub(crate) partitions: Vec<HeaderPartition>,
}

/// A space of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HeaderSpace {
    /// Its name.
    pub(crate) name: String,
    /// The place of its partition in the list; none for a space without items that is only a number.
    pub(crate) partition: Option<usize>,
}

/// A partition of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HeaderPartition {
    /// Dimension of the vectors.
    pub(crate) dim: usize,
    /// The simplex, if the spaces have one.
    pub(crate) simplex: Option<SimplexIdentity>,
}

impl HeaderPartition {
    fn check(&self) -> Result<(), String> {
        if !(1..=MAX_DIM).contains(&self.dim) {
            return Err(format!("it states {} dimensions", self.dim));
        }
        if let Some(simplex) = self.simplex
            && simplex.dim().map_err(|error| error.to_string())? != self.dim
        {
            return Err("its simplex and its dimension do not match".to_owned());
        }
        Ok(())
    }
}

/// The header of format 1, whose items all had one dimension.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header1 {
    items: u64,
    dim: Option<usize>,
    identity: Option<SimplexIdentity>,
    versions: Vec<String>,
}

impl Header1 {
    fn into_current(self) -> Result<Header, String> {
        if self.identity.is_some() && self.dim.is_none() {
            return Err("its simplex and its dimension do not match".to_owned());
        }
        if self.items > 0 && self.dim.is_none() {
            return Err("it has items but no dimension".to_owned());
        }
        let simplex = self.identity;
        let partition = self.dim.map(|dim| HeaderPartition { dim, simplex });
        if let Some(partition) = &partition {
            partition.check()?;
        }
        let used = partition.filter(|_| !self.versions.is_empty());
        let place = used.as_ref().map(|_| 0);
        let space = |name| HeaderSpace {
            name,
            partition: place,
        };
        Ok(Header {
            items: self.items,
            spaces: self.versions.into_iter().map(space).collect(),
            partitions: used.into_iter().collect(),
        })
    }
}

impl Header {
    pub(super) fn read(format: u32, text: &[u8]) -> Result<Self, String> {
        let invalid = |error: serde_json::Error| format!("its header is invalid: {error}");
        let header = match format {
            1 => {
                let header: Header1 = serde_json::from_slice(text).map_err(invalid)?;
                header.into_current()?
            }
            _ => serde_json::from_slice(text).map_err(invalid)?,
        };
        header.check()?;
        Ok(header)
    }

    /// A gallery that took over what fails here could not be opened, or would confuse spaces with its next item.
    fn check(&self) -> Result<(), String> {
        if self.spaces.len() > MAX_SPACES {
            let count = self.spaces.len();
            return Err(format!("it has {count} spaces; the limit is {MAX_SPACES}"));
        }
        for partition in &self.partitions {
            partition.check()?;
        }
        let mut unused: HashSet<usize> = (0..self.partitions.len()).collect();
        let mut distinct = HashSet::with_capacity(self.spaces.len());
        for HeaderSpace { name, partition } in &self.spaces {
            check_name(name).map_err(|error| format!("model version: {error}"))?;
            if !distinct.insert(name) {
                return Err("the name of a version occurs twice".to_owned());
            }
            if let Some(place) = partition {
                if *place >= self.partitions.len() {
                    return Err(format!(
                        "{name} is in partition {place}, which it does not have"
                    ));
                }
                unused.remove(place);
            }
        }
        match unused.is_empty() {
            true => Ok(()),
            false => Err("it has a partition without a space".to_owned()),
        }
    }

    /// The dimension of a space, by its number.
    pub(super) fn dim(&self, space: u32) -> Option<usize> {
        let space = self.spaces.get(space as usize)?;
        Some(self.partitions.get(space.partition?)?.dim)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_that_a_gallery_could_not_live_with_are_refused() {
        let space = |name: &str, partition| HeaderSpace {
            name: name.to_owned(),
            partition,
        };
        let header = |dims: &[(usize, Option<usize>)], spaces: &[HeaderSpace]| {
            let partitions = dims.iter().map(|&(dim, vertices)| HeaderPartition {
                dim,
                simplex: vertices.map(|vertices| SimplexIdentity { vertices }),
            });
            Header {
                items: 0,
                spaces: spaces.to_vec(),
                partitions: partitions.collect(),
            }
        };
        let read_header = |header: &Header| Header::read(2, &serde_json::to_vec(header).unwrap());
        read_header(&header(&[], &[])).unwrap();
        let two = [space("a", Some(0)), space("b", Some(1)), space("c", None)];
        read_header(&header(&[(MAX_DIM, None), (2, Some(3))], &two)).unwrap();
        for (header, problem) in [
            (header(&[(MAX_DIM + 1, None)], &[]), "dimensions"),
            (header(&[(0, None)], &[]), "dimensions"),
            (header(&[(2, Some(4))], &[]), "simplex"),
            (header(&[], &[space("a", None), space("a", None)]), "twice"),
            (header(&[], &[space("a\n", None)]), "control"),
            (header(&[(2, None)], &[space("a", Some(1))]), "partition 1"),
            (header(&[(2, None)], &[space("a", None)]), "without a space"),
            (
                header(&[], &vec![space("a", None); MAX_SPACES + 1]),
                "limit",
            ),
        ] {
            let error = read_header(&header).unwrap_err();
            assert!(error.contains(problem), "{error}");
        }
    }
}
