//! How queries of a version would reach each stored space, in the words of a verdict.

use std::collections::BTreeSet;

use perennial_gallery::{SpaceStats, VectorMap};

use crate::certification::{Certification, Certified, CertifiedWay, NotCertified, Standing};

/// How a stored space would be reached.
pub(super) struct Road<'a> {
    pub(super) stats: &'a SpaceStats,
    pub(super) standing: Standing,
}

impl<'a> Road<'a> {
    pub(super) fn to(
        stats: &'a SpaceStats,
        version: &str,
        dim: usize,
        certification: &Certification,
    ) -> Self {
        let space = &stats.space;
        let leads = |certified: &Certified| certified.way.leads(dim, space.dim);
        let standing = match certification.standing(version, space.id.as_str()) {
            Standing::Certified(best) if !leads(&best) => Standing::Refused(NotCertified {
                query_version: version.to_owned(),
                gallery_version: space.id.to_string(),
                reason: format!(
                    "route {} does not lead from queries of {dim} dimensions to items of {}",
                    best.way.route(),
                    space.dim
                ),
                remedy: None,
            }),
            standing => standing,
        };
        Self { stats, standing }
    }

    /// Whether a bridge leads there, so that its items and the queries need not be of one kind.
    pub(super) fn is_bridged(&self) -> bool {
        match &self.standing {
            Standing::Certified(certified) => certified.way != CertifiedWay::Own,
            Standing::Accepted(_) | Standing::Refused(_) => false,
        }
    }
}

/// Whether any stored item can be reached at all.
pub(super) fn dimensions(dim: usize, roads: &[Road<'_>]) -> Result<String, String> {
    let (same, other): (Vec<&Road<'_>>, Vec<&Road<'_>>) =
        roads.iter().partition(|road| road.stats.space.dim == dim);
    let shown = |roads: &[&Road<'_>]| {
        let dims: BTreeSet<usize> = roads.iter().map(|road| road.stats.space.dim).collect();
        let dims: Vec<String> = dims.iter().map(ToString::to_string).collect();
        dims.join(" and ")
    };
    let bridged: Vec<&Road<'_>> = other
        .iter()
        .copied()
        .filter(|road| road.is_bridged())
        .collect();
    if !bridged.is_empty() {
        return Ok(format!("{dim}; bridges lead to {}", shown(&bridged)));
    }
    match same.is_empty() && !other.is_empty() {
        true => Err(format!(
            "its embeddings have {dim} dimensions, the stored embeddings have {}, and no certified bridge leads there",
            shown(&other)
        )),
        false => Ok(dim.to_string()),
    }
}

/// Route, expected quality and cost.
pub(super) fn describe(certified: &Certified, stats: &SpaceStats) -> String {
    let cost = match &certified.way {
        CertifiedWay::Own => "no cost".to_owned(),
        CertifiedWay::Bridged(_) => "one matrix product per query".to_owned(),
        CertifiedWay::Mapped(map) => format!(
            "an index of mapped vectors in memory, at least {:.0} MB",
            (stats.items * map.output_dim() as u64 * 4) as f64 / 1e6
        ),
        CertifiedWay::Dual { .. } => format!(
            "a second forward pass per query, by the encoder of {}, which stays in memory",
            stats.space.id
        ),
    };
    let items = stats.items;
    let route = certified.way.route();
    let figures: Vec<String> = certified.expected.iter().map(ToString::to_string).collect();
    let expected = match figures.is_empty() {
        true => String::new(),
        false => format!("; expected {}", figures.join(", ")),
    };
    let merge = certified.merge.map_or_else(String::new, |merge| {
        let shift = match merge.effective_shift() {
            0.0 => String::new(),
            shift => format!(" {shift:+.3}"),
        };
        format!("; hits merged by {}{shift}", merge.name())
    });
    format!(
        "{items} items by route {route} ({cost}): {}{expected}{merge}",
        certified.basis
    )
}
