//! The plan of a search: which stored spaces are searched by which route, what is left out, and why.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use perennial_bridge::Index;
use perennial_core::SpaceId;
use perennial_gallery::{
    GalleryError, Hit, MappedIndex, MappedIndexes, SearchRequest, SpaceStats, VectorMap,
    VectorStore,
};

use crate::certification::{Certification, Certified, CertifiedWay, Need, NotCertified, Standing};
use crate::expected_quality::ExpectedQuality;
use crate::merge::PartScale;
use crate::not_searched::{LeftOutCause, NotSearched};
use crate::recorded_merge::{RecordedMerge, Z_SCORES};
use crate::route::RouteError;
use crate::stored::Stored;
use crate::thresholds::Thresholds;

/// What is the query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asking<'a> {
    /// Something that this version embedded for the search.
    Version(&'a str),
    /// A stored item that this version embedded.
    Item(&'a str),
}

impl<'a> Asking<'a> {
    /// The version that embedded the query.
    pub fn version(self) -> &'a str {
        match self {
            Self::Version(version) | Self::Item(version) => version,
        }
    }
}

/// The parts of a gallery that a query searches, and what it leaves out.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SearchPlan {
    /// Parts to search. All spaces of the query's dimension that route own leads to are one part.
    pub parts: Vec<PlannedPart>,
    /// Pairs without any certified route that this query can take. Their items are not searched, unless by [`force`](Self::force).
    pub refused: Vec<NotCertified>,
    /// What is left out, by space: the spaces of the refused pairs.
    pub not_searched: Vec<NotSearched>,
}

/// Spaces that are searched with the same vectors.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedPart {
    /// The spaces.
    pub spaces: Vec<SpaceId>,
    /// Their dimension.
    pub dim: usize,
    /// How queries reach their items.
    pub way: CertifiedWay,
    /// The measurements or identities that it rests on, as text.
    pub basis: String,
    /// Whether one of them is undecided, which the policy allows with a warning, or was accepted by force.
    pub undecided: bool,
    /// Items of these spaces.
    pub items: u64,
    /// The similarities from which on hits are accepted, where they were measured for all of these spaces.
    pub thresholds: Option<Thresholds>,
    /// How its hits are ranked best together with hits of the query's own space, where that was measured.
    pub merge: Option<RecordedMerge>,
    /// What the measurements let expect of each space, in absolute figures; spaces without any are absent.
    pub expected: Vec<(SpaceId, ExpectedQuality)>,
    /// Why a better certified route is not used, such as an old encoder that does not load.
    pub fallback: Option<String>,
}

/// How one space is searched.
struct Chosen {
    certified: Certified,
    fallback: Option<String>,
}

/// Why one space is not searched.
struct Refused {
    pair: NotCertified,
    cause: LeftOutCause,
}

impl SearchPlan {
    /// The plan of a query of a dimension through the stored items, or through those of the versions `among`.
    ///
    /// Each space is searched by its best certified route that this query can take. `available` says whether what a route needs is there: whether the
    /// encoder of a version can embed this query too (of a picture and a loaded encoder it can, of a given embedding it cannot), or whether an index
    /// of mapped vectors is kept. It is asked only where a route needs it. Items as queries take route own, certified in either direction, or a
    /// bridge from or to their own space.
    pub fn of(
        certification: &Certification,
        asking: Asking<'_>,
        dim: usize,
        stored: &Stored,
        among: Option<&[String]>,
        available: &dyn Fn(Need<'_>) -> bool,
    ) -> Self {
        let mut plan = Self::default();
        for stats in &stored.spaces {
            let name = stats.space.id.as_str();
            if among.is_some_and(|among| among.iter().all(|one| one != name)) {
                continue;
            }
            match choose(certification, asking, dim, stats, available) {
                Ok(chosen) => plan.add(stats, chosen),
                Err(refused) => plan.refuse(stats, refused),
            }
        }
        plan
    }

    /// Searches refused spaces of the query's dimension after all, by route own. Spaces of other dimensions stay refused: without a bridge
    /// nothing can be compared with them.
    pub fn force(&mut self, dim: usize, stored: &Stored) {
        for refused in std::mem::take(&mut self.refused) {
            let name = &refused.gallery_version;
            let space = stored
                .spaces
                .iter()
                .find(|stats| stats.space.id.as_str() == name.as_str() && stats.space.dim == dim);
            let Some(stats) = space else {
                self.refused.push(refused);
                continue;
            };
            self.not_searched
                .retain(|left| left.space != stats.space.id);
            let forced = by_force(&refused);
            self.add(stats, forced);
        }
    }

    /// Items that are not searched.
    pub fn not_searched_items(&self) -> u64 {
        self.not_searched.iter().map(|left| left.items).sum()
    }

    /// Items that are searched.
    pub fn searched_items(&self) -> u64 {
        self.parts.iter().map(|part| part.items).sum()
    }

    /// Items that are searched, by the name of their route: `own`, `bridged`, `dual`, `mapped`.
    pub fn items_by_route(&self) -> BTreeMap<&'static str, u64> {
        let mut items = BTreeMap::new();
        for part in &self.parts {
            *items.entry(part.way.route().name()).or_default() += part.items;
        }
        items
    }

    /// Old versions whose encoders this plan's routes need. Plan with every encoder available to have those of the best routes.
    pub fn old_encoders(&self) -> BTreeSet<String> {
        let dual = self
            .parts
            .iter()
            .filter(|part| part.way.needs_old_encoder());
        let spaces = dual.flat_map(|part| &part.spaces);
        spaces.map(SpaceId::to_string).collect()
    }

    /// The indexes of mapped vectors that this plan's routes need.
    pub fn mapped_indexes(&self) -> Vec<MappedIndex> {
        let needed = self.parts.iter().filter_map(|part| match &part.way {
            CertifiedWay::Mapped(map) => Some((map, &part.spaces)),
            _ => None,
        });
        let indexes = needed.flat_map(|(map, spaces)| {
            spaces.iter().map(|space| MappedIndex {
                space: space.clone(),
                map: Arc::clone(map) as Arc<dyn VectorMap>,
            })
        });
        indexes.collect()
    }

    fn add(&mut self, stats: &SpaceStats, chosen: Chosen) {
        let Certified {
            basis,
            undecided,
            way,
            thresholds,
            merge,
            expected,
            instead_of: _,
        } = chosen.certified;
        let (id, dim) = (stats.space.id.clone(), stats.space.dim);
        let expected = expected.into_iter().map(|one| (id.clone(), one));
        let own = |part: &&mut PlannedPart| {
            part.way == CertifiedWay::Own && way == CertifiedWay::Own && part.dim == dim
        };
        let Some(part) = self.parts.iter_mut().find(own) else {
            self.parts.push(PlannedPart {
                spaces: vec![id.clone()],
                dim,
                way,
                basis,
                undecided,
                items: stats.items,
                thresholds,
                merge,
                expected: expected.collect(),
                fallback: chosen.fallback,
            });
            return;
        };
        part.thresholds = match (&part.thresholds, &thresholds) {
            (Some(one), Some(other)) => Some(one.stricter(other)),
            _ => None,
        };
        part.basis = format!("{}; {id}: {basis}", part.basis);
        part.expected.extend(expected);
        part.undecided |= undecided;
        part.items += stats.items;
        part.fallback = match (part.fallback.take(), chosen.fallback) {
            (Some(one), Some(other)) => Some(format!("{one}; {other}")),
            (one, other) => one.or(other),
        };
        part.spaces.push(id);
    }

    fn refuse(&mut self, stats: &SpaceStats, refused: Refused) {
        self.not_searched.push(NotSearched {
            space: stats.space.id.clone(),
            items: stats.items,
            cause: refused.cause,
            reason: refused.pair.reason.clone(),
        });
        self.refused.push(refused.pair);
    }
}

impl PlannedPart {
    /// How its similarities come onto one scale with those of other parts.
    pub fn scale(&self) -> PartScale {
        match (&self.way, &self.merge) {
            (CertifiedWay::Own, _) => PartScale::Own,
            (_, Some(merge)) => PartScale::of(merge),
            (_, None) => PartScale::Usual,
        }
    }

    /// What its hits gain in the merge, by which queries with an answer among them find it as often as before: standard deviations of z-scores,
    /// otherwise similarity in the query's own space. Nothing for route own, and where no merge was measured.
    pub fn merge_shift(&self) -> Option<f64> {
        let merge = self.merge.filter(|_| self.way != CertifiedWay::Own)?;
        Some(merge.effective_shift())
    }

    /// By what its hits are ranked together with hits of the query's own space: `z_scores`, `cosines` or `calibrated`. Nothing for route own, whose
    /// similarities are on that scale.
    pub fn merge_name(&self) -> Option<&'static str> {
        let recorded = || self.merge.map_or(Z_SCORES, |merge| merge.name());
        (self.scale() != PartScale::Own).then(recorded)
    }

    /// The vectors to search this part with. `old` holds the embeddings of the same queries by the encoder of the part's items, which dual
    /// queries need; other routes do not look at it.
    ///
    /// **Shapes**: `new` `[n, query_dim]` and `old` `[n, dim]`, of unit length for route own; the result is `[n, search_dim]`, unit rows.
    ///
    /// # Errors
    /// Rows of another dimension, a dual query without the old embedding, and rows that the bridge refuses.
    pub fn queries(&self, new: &[f32], old: Option<&[f32]>) -> Result<Vec<f32>, RouteError> {
        let mut queries = Vec::new();
        match &self.way {
            CertifiedWay::Own => {
                if !new.len().is_multiple_of(self.dim.max(1)) {
                    return Err(RouteError::Dimensions {
                        queries: new.len(),
                        gallery: self.dim,
                    });
                }
                queries.extend_from_slice(new);
            }
            CertifiedWay::Bridged(bridge) => bridge.apply(new, &mut queries)?,
            CertifiedWay::Dual { bridge, weight } => {
                let old = old.ok_or(RouteError::NoOldQueries)?;
                bridge.dual(old, new, *weight as f32, Index::Raw, &mut queries)?;
            }
            CertifiedWay::Mapped(map) => queries = map.queries(new)?,
        }
        Ok(queries)
    }

    /// The dimension of the vectors that are compared: that of the queries where stored vectors are mapped into their space.
    pub fn search_dim(&self) -> usize {
        match &self.way {
            CertifiedWay::Mapped(map) => map.output_dim(),
            _ => self.dim,
        }
    }

    /// Searches this part's items, by stored or by mapped vectors; the request's queries are those of [`queries`](Self::queries).
    ///
    /// # Errors
    /// Those of the store.
    pub fn search<S>(
        &self,
        store: &S,
        request: &SearchRequest<'_>,
    ) -> Result<Vec<Vec<Hit>>, GalleryError>
    where
        S: VectorStore + MappedIndexes + ?Sized,
    {
        match &self.way {
            CertifiedWay::Mapped(map) => store.search_mapped(map.key(), request),
            _ => store.search(request),
        }
    }

    /// Stored vectors as they are compared with the queries.
    ///
    /// **Shapes**: `stored` `[n, dim]`; the result is `[m, search_dim]`, `m <= n`: without vectors that a map refuses.
    pub fn compared<'v>(&self, stored: &'v [f32]) -> Cow<'v, [f32]> {
        match &self.way {
            CertifiedWay::Mapped(map) => Cow::Owned(map.mapped(stored)),
            _ => Cow::Borrowed(stored),
        }
    }
}

/// The best way to a space that this query can take.
fn choose(
    certification: &Certification,
    asking: Asking<'_>,
    dim: usize,
    stats: &SpaceStats,
    available: &dyn Fn(Need<'_>) -> bool,
) -> Result<Chosen, Refused> {
    let name = stats.space.id.as_str();
    let ways = match asking {
        Asking::Version(version) => certification.ways(version, name),
        Asking::Item(version) => certification.ways_of_items(version, name),
    };
    let mut passed = Vec::new();
    let mut missing = None;
    for certified in ways.into_iter().flatten() {
        let route = certified.way.route();
        passed.extend(certified.instead_of.clone());
        if !certified.way.leads(dim, stats.space.dim) {
            passed.push(format!(
                "route {route} does not lead from a query of {dim} dimensions to items of {}",
                stats.space.dim
            ));
        } else if let Some(need) = certified.way.need(name)
            && !available(need)
        {
            let (cause, problem) = match need {
                Need::OldEncoder(_) => (
                    LeftOutCause::OldEncoder,
                    format!(
                        "route {route} needs the encoder of {name} to embed this query as well, which it cannot"
                    ),
                ),
                Need::MappedIndex { .. } => (
                    LeftOutCause::MappedIndex,
                    format!(
                        "route {route} needs an index of {name}'s vectors mapped into the query's space, which is not kept here or not built yet"
                    ),
                ),
            };
            missing.get_or_insert(cause);
            passed.push(problem);
        } else {
            return Ok(Chosen {
                certified,
                fallback: (!passed.is_empty()).then(|| passed.join("; ")),
            });
        }
    }
    let standing = match asking {
        Asking::Version(version) => certification.standing(version, name),
        Asking::Item(version) => certification.standing_of_items(version, name),
    };
    let (pair, cause) = match standing {
        Standing::Accepted(pair) if stats.space.dim == dim => return Ok(by_force(&pair)),
        Standing::Accepted(pair) => (pair, LeftOutCause::Dimension),
        Standing::Refused(pair) => (pair, LeftOutCause::NotCertified),
        // Certified, but by no way that this query can take.
        Standing::Certified(_) => {
            let pair = NotCertified {
                query_version: asking.version().to_owned(),
                gallery_version: name.to_owned(),
                reason: passed.join("; "),
                remedy: None,
            };
            // A certificate that came later takes nothing away from a pair that was accepted.
            if stats.space.dim == dim && is_accepted(certification, asking, name) {
                return Ok(by_force(&pair));
            }
            (pair, missing.unwrap_or(LeftOutCause::Dimension))
        }
    };
    Err(Refused { pair, cause })
}

fn is_accepted(certification: &Certification, asking: Asking<'_>, name: &str) -> bool {
    let version = asking.version();
    let items = matches!(asking, Asking::Item(_));
    certification.is_accepted(version, name) || items && certification.is_accepted(name, version)
}

/// Route own without a certificate.
fn by_force(pair: &NotCertified) -> Chosen {
    Chosen {
        certified: Certified {
            undecided: true,
            ..Certified::by(format!("not certified, accepted by force: {}", pair.reason))
        },
        fallback: None,
    }
}

#[cfg(test)]
mod tests;
