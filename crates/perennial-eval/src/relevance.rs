//! Which gallery items answer which query.

use std::collections::BTreeMap;

/// Which gallery items answer which query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Relevance<'a> {
    /// Items of the query's class do. Classes are compared by value, so they need not be dense.
    Classes {
        /// Class of every query, `[n]`.
        queries: &'a [u32],
        /// Class of every gallery item, `[m]`.
        gallery: &'a [u32],
    },
    /// Single items do: per query, `[n]`, the gallery positions of its relevant items, in ascending order.
    Items(&'a [Vec<u32>]),
}

/// Why judgements or left-out items do not fit the vectors.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RelevanceError {
    /// There is not one entry per vector.
    #[error("{what}: found {found} entries for {expected} vectors; there must be one for each")]
    Length {
        /// What has the entries.
        what: &'static str,
        /// Entries found.
        found: usize,
        /// Vectors.
        expected: usize,
    },
    /// A position lies outside the gallery.
    #[error(
        "{what} of query {query}: position {position} is outside the gallery of {items} items (positions count from 0)"
    )]
    Position {
        /// What names the position.
        what: &'static str,
        /// The query, counted from 0.
        query: usize,
        /// The position.
        position: u32,
        /// Items in the gallery.
        items: usize,
    },
    /// The positions of a query are not in ascending order or repeat themselves.
    #[error(
        "relevant items of query {query} are not in ascending order without repetition; sort them and drop repeated ones"
    )]
    Order {
        /// The query, counted from 0.
        query: usize,
    },
}

/// Relevance that fits its vectors, with the items of each class looked up.
pub(crate) enum Judgements<'a> {
    Classes {
        queries: &'a [u32],
        gallery: &'a [u32],
        items_of_class: BTreeMap<u32, Vec<u32>>,
    },
    Items(&'a [Vec<u32>]),
}

impl<'a> Judgements<'a> {
    /// Checks relevance against the number of queries and of gallery items.
    pub(crate) fn new(
        relevance: &Relevance<'a>,
        queries: usize,
        items: usize,
    ) -> Result<Self, RelevanceError> {
        match *relevance {
            Relevance::Classes {
                queries: of_query,
                gallery,
            } => {
                check_length("classes of the queries", of_query.len(), queries)?;
                check_length("classes of the gallery", gallery.len(), items)?;
                Ok(Self::of_classes(of_query, gallery))
            }
            Relevance::Items(items_of_query) => {
                check_length("relevant items", items_of_query.len(), queries)?;
                for (query, relevant) in items_of_query.iter().enumerate() {
                    if relevant.windows(2).any(|pair| pair[0] >= pair[1]) {
                        return Err(RelevanceError::Order { query });
                    }
                    if let Some(&last) = relevant.last() {
                        check_position("relevant item", query, last, items)?;
                    }
                }
                Ok(Self::Items(items_of_query))
            }
        }
    }

    pub(crate) fn of_classes(queries: &'a [u32], gallery: &'a [u32]) -> Self {
        let mut items_of_class: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (position, &class) in (0..).zip(gallery) {
            items_of_class.entry(class).or_default().push(position);
        }
        Self::Classes {
            queries,
            gallery,
            items_of_class,
        }
    }

    /// Gallery positions that answer a query, in ascending order.
    pub(crate) fn relevant(&self, query: usize) -> &[u32] {
        match self {
            Self::Classes {
                queries,
                items_of_class,
                ..
            } => items_of_class
                .get(&queries[query])
                .map_or(&[], Vec::as_slice),
            Self::Items(items) => &items[query],
        }
    }
}

/// Checks the gallery positions that are left out of the rankings.
pub(crate) fn check_own(
    own: Option<&[Option<u32>]>,
    queries: usize,
    items: usize,
) -> Result<(), RelevanceError> {
    let Some(own) = own else { return Ok(()) };
    check_length("own gallery items of the queries", own.len(), queries)?;
    own.iter().enumerate().try_for_each(|(query, position)| {
        position.map_or(Ok(()), |position| {
            check_position("own item", query, position, items)
        })
    })
}

fn check_length(what: &'static str, found: usize, expected: usize) -> Result<(), RelevanceError> {
    if found == expected {
        return Ok(());
    }
    Err(RelevanceError::Length {
        what,
        found,
        expected,
    })
}

fn check_position(
    what: &'static str,
    query: usize,
    position: u32,
    items: usize,
) -> Result<(), RelevanceError> {
    if (position as usize) < items {
        return Ok(());
    }
    Err(RelevanceError::Position {
        what,
        query,
        position,
        items,
    })
}
