//! The spaces of a gallery, as the database has them at the moment of a transaction.

use std::collections::BTreeMap;

use perennial_core::SpaceId;
use perennial_gallery::{SimplexIdentity, SpaceStats, StoreSpace};

use super::session::Session;
use crate::failure::{Failure, damaged};

/// How the index of a space is called: this, and the space's number.
pub(super) const INDEX_PREFIX: &str = "perennial_hnsw_";

/// The most dimensions that pgvector indexes, from version 0.7 on.
pub(super) const MAX_INDEXED: usize = 4000;

/// A space, and what the database knows of it.
#[derive(Debug, Clone)]
pub(super) struct KnownSpace {
    /// Never used again for another space or dimension.
    pub(super) number: i32,
    pub(super) space: StoreSpace,
    pub(super) items: u64,
    /// Whether an HNSW index covers its items.
    pub(super) indexed: bool,
}

impl KnownSpace {
    /// Whether an index is to be built where spaces get one from so many items on. One of more dimensions than the server's pgvector indexes
    /// never is.
    pub(super) fn lacks_index(&self, from: u64, max_indexed: usize) -> bool {
        self.items >= from && !self.indexed && self.space.dim <= max_indexed
    }
}

#[derive(Debug, Default)]
pub(super) struct Spaces {
    by_name: BTreeMap<String, KnownSpace>,
    names: BTreeMap<i32, String>,
}

impl Spaces {
    pub(super) fn read(session: &Session) -> Result<Self, Failure> {
        let rows = session.query(
            &format!(
                "SELECT s.number, s.name, s.dim, s.vertices, s.items, EXISTS (SELECT FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid \
                 WHERE x.indrelid = 'perennial_items'::regclass AND x.indisvalid AND c.relname = '{INDEX_PREFIX}' || s.number) \
                 FROM perennial_spaces s"
            ),
            &[],
        )?;
        let mut spaces = Self::default();
        for row in rows {
            let name: String = row.try_get(1)?;
            let vertices: Option<i32> = row.try_get(3)?;
            spaces.insert(KnownSpace {
                number: row.try_get(0)?,
                space: StoreSpace {
                    id: SpaceId::new(name).map_err(damaged)?,
                    dim: count(row.try_get::<_, i32>(2)?.into())? as usize,
                    simplex: match vertices {
                        Some(vertices) => Some(SimplexIdentity {
                            vertices: count(vertices.into())? as usize,
                        }),
                        None => None,
                    },
                },
                items: count(row.try_get(4)?)?,
                indexed: row.try_get(5)?,
            });
        }
        Ok(spaces)
    }

    pub(super) fn insert(&mut self, known: KnownSpace) {
        let name = known.space.id.to_string();
        if let Some(old) = self.by_name.insert(name.clone(), known.clone()) {
            self.names.remove(&old.number);
        }
        self.names.insert(known.number, name);
    }

    pub(super) fn get(&self, name: &str) -> Option<&KnownSpace> {
        self.by_name.get(name)
    }

    /// The name of the space that a row states.
    pub(super) fn name(&self, number: i32) -> Result<&str, Failure> {
        let name = self.names.get(&number).map(String::as_str);
        name.ok_or_else(|| damaged(format!("an item is of space {number}, which there is not")))
    }

    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    /// In the order of their names.
    pub(super) fn iter(&self) -> impl Iterator<Item = &KnownSpace> + Clone {
        self.by_name.values()
    }

    pub(super) fn items(&self) -> u64 {
        self.iter().map(|known| known.items).sum()
    }

    pub(super) fn stats(&self) -> Vec<SpaceStats> {
        let stats = self.iter().map(|known| SpaceStats {
            space: known.space.clone(),
            items: known.items,
        });
        stats.collect()
    }
}

fn count(number: i64) -> Result<u64, Failure> {
    u64::try_from(number).map_err(|_| damaged(format!("a space has the number {number}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_lacked_only_where_one_can_be_built() {
        let known = |dim, items, indexed| KnownSpace {
            number: 1,
            space: StoreSpace {
                id: SpaceId::new("v").unwrap(),
                dim,
                simplex: None,
            },
            items,
            indexed,
        };
        assert!(known(MAX_INDEXED, 10, false).lacks_index(10, MAX_INDEXED));
        assert!(!known(MAX_INDEXED, 9, false).lacks_index(10, MAX_INDEXED));
        assert!(!known(MAX_INDEXED, 10, true).lacks_index(10, MAX_INDEXED));
        assert!(!known(MAX_INDEXED + 1, 10, false).lacks_index(10, MAX_INDEXED));
        assert!(!known(2001, 10, false).lacks_index(10, 2000));
    }
}
