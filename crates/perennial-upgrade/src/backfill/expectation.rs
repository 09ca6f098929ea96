//! The quality that certificates and compatibility records let expect of a gallery that is partly embedded again.

use std::collections::{BTreeMap, BTreeSet};

use perennial_core::{CompatibilityRecords, Registry, SpaceId, SpaceRef};

use crate::certificate::TaskResult;
use crate::evaluation_data::Task;
use crate::finding::Finding;
use crate::policy::{Policy, Undecided};
use crate::stored::Stored;
use crate::stored_certificates::{StoredCertificates, under_policy};

/// The measure of compatibility records.
const NEAREST_CLASS_MEAN: &str = "ncm";

/// What the live version's queries are expected to achieve on each space. It is an expectation and no measurement: every figure was measured on a
/// gallery of one space, and merging may cost or gain.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Expectation {
    /// The measure of the figures, where one was measured for every space.
    pub measure: Option<String>,
    /// The live version's queries on its own items, a fraction.
    own: Option<f64>,
    /// Its queries on items of other spaces, by their best certified route; fractions.
    routes: BTreeMap<String, f64>,
    /// The smallest margin of a deciding measure over the space's own queries, by space.
    margins: BTreeMap<String, f64>,
    /// Spaces of versions that embed nothing that the live version embeds: their items cannot be embedded again.
    of_other_modality: BTreeSet<String>,
}

/// One measure of one pair.
#[derive(Debug, Clone, Copy)]
struct Figure {
    route: f64,
    own: Option<f64>,
    margin: f64,
}

type Figures = BTreeMap<String, Figure>;

impl Expectation {
    /// Reads what a registry's certificates and records say about queries of the live version under a gallery's policy. What is missing or
    /// cannot be read is left out; the gallery is then walked in the order of its spaces' names, and no quality is expected.
    pub fn of(registry: &Registry, policy: &Policy, live: &str, stored: &Stored) -> Self {
        let certificates = StoredCertificates::of(registry).unwrap_or_default();
        let records = CompatibilityRecords::of(registry).ok();
        let mut figures: BTreeMap<String, Figures> = BTreeMap::new();
        for space in stored.per_version.keys().filter(|space| *space != live) {
            let certified = best_certificate(registry, &certificates, policy, live, space);
            let found = match (certified, &records) {
                (Some(figures), _) => Some(figures),
                (None, Some(records)) if policy.task == Task::ClassLike => {
                    of_record(registry, records, live, space)
                }
                _ => None,
            };
            figures.extend(found.map(|found| (space.clone(), found)));
        }
        let margins = figures.iter().filter_map(|(space, figures)| {
            let smallest = figures.values().map(|figure| figure.margin);
            Some((space.clone(), smallest.min_by(f64::total_cmp)?))
        });
        let mut expectation = Self {
            margins: margins.collect(),
            of_other_modality: of_other_modality(registry, live, stored),
            ..Self::default()
        };
        let others = stored.per_version.keys().filter(|space| *space != live);
        if others.clone().any(|space| !figures.contains_key(space)) {
            return expectation;
        }
        // A mean of fractions of different measures would mean nothing.
        let measures = figures.values().next().into_iter().flat_map(BTreeMap::keys);
        for measure in measures {
            let of_measure: Vec<(&String, &Figure)> = figures
                .iter()
                .filter_map(|(space, figures)| Some((space, figures.get(measure)?)))
                .collect();
            let own = of_measure.iter().find_map(|(_, figure)| figure.own);
            if of_measure.len() == figures.len() && own.is_some() {
                expectation.measure = Some(measure.clone());
                expectation.own = own;
                expectation.routes = of_measure
                    .into_iter()
                    .map(|(space, figure)| (space.clone(), figure.route))
                    .collect();
                break;
            }
        }
        expectation
    }

    /// The mean of the spaces' figures, weighted by their items; a fraction. `None` where a figure is missing.
    pub fn quality(&self, stored: &Stored, live: &str) -> Option<f64> {
        let own = self.own?;
        if stored.items == 0 {
            return None;
        }
        let mut sum = 0.0;
        for (space, items) in &stored.per_version {
            let figure = match space == live {
                true => own,
                false => *self.routes.get(space)?,
            };
            sum += figure * *items as f64;
        }
        Some(sum / stored.items as f64)
    }

    /// The same once every item is embedded by the live version: its own figure.
    pub fn complete(&self) -> Option<f64> {
        self.own
    }

    /// Items whose version embeds nothing that the live one embeds, such as texts where the live version embeds pictures.
    pub fn of_other_modality(&self, stored: &Stored) -> u64 {
        let spaces = self.of_other_modality.iter();
        spaces
            .filter_map(|space| stored.per_version.get(space))
            .sum()
    }

    /// Whether the live version embeds nothing that this space's version embeds.
    pub fn is_of_other_modality(&self, space: &str) -> bool {
        self.of_other_modality.contains(space)
    }

    /// Nothing is expected; these spaces are of another modality.
    #[cfg(test)]
    pub(super) fn without_common_modality(spaces: &[&str]) -> Self {
        Self {
            of_other_modality: spaces.iter().map(|&space| space.to_owned()).collect(),
            ..Self::default()
        }
    }

    /// The spaces that can be embedded again, the worst served first: those without a certificate, whose items are not found at all, then by the smallest
    /// certified margin, then by name.
    pub fn worst_first(&self, stored: &Stored, live: &str) -> Vec<String> {
        let names = stored.per_version.keys();
        let names =
            names.filter(|space| *space != live && !self.of_other_modality.contains(*space));
        let mut spaces: Vec<String> = names.cloned().collect();
        let margin = |space: &String| {
            let margin = self.margins.get(space).copied();
            margin.unwrap_or(f64::NEG_INFINITY)
        };
        spaces.sort_by(|one, other| margin(one).total_cmp(&margin(other)).then(one.cmp(other)));
        spaces
    }
}

/// The figures of the pair's best certificate of any route that counts under the policy: one beyond doubt before an undecided one, then that
/// with the largest deciding margin, among equals the newest. Whether its bridge is in the registry and its old encoder loads is not asked.
fn best_certificate(
    registry: &Registry,
    certificates: &StoredCertificates,
    policy: &Policy,
    live: &str,
    space: &str,
) -> Option<Figures> {
    if policy.evaluation_set.is_some() {
        // Only records can meet it.
        return None;
    }
    let [query, gallery] = [live, space].map(|name| reference(registry, name));
    let (query, gallery) = (query?, gallery?);
    let same = |one: &SpaceRef, other: &SpaceRef| {
        one.fingerprint.is_some() && one.fingerprint == other.fingerprint && one.dim == other.dim
    };
    let fitting = certificates.iter().filter(|certificate| {
        certificate.obstacle().is_none()
            && same(&certificate.query_space, &query)
            && same(&certificate.gallery_space, &gallery)
    });
    let results = fitting.filter_map(|certificate| {
        let judged = under_policy(certificate, policy)?;
        let certain = judged.finding == Finding::Compatible;
        let open = judged.finding == Finding::Undecided && policy.undecided == Undecided::Warn;
        let figures = figures_of(certificate.task(policy.task)?)?;
        (certain || open).then_some((certain, judged.margin, &certificate.created, figures))
    });
    let best = results.max_by(|one, other| {
        let by_margin = one.1.total_cmp(&other.1);
        one.0.cmp(&other.0).then(by_margin).then(one.2.cmp(other.2))
    });
    best.map(|(_, _, _, figures)| figures)
}

fn figures_of(result: &TaskResult) -> Option<Figures> {
    let deciding = result.measures.iter().filter(|one| one.decides);
    let figures: Figures = deciding
        .map(|one| {
            let figure = Figure {
                route: one.comparison.new,
                own: one.new_self_test,
                margin: one.comparison.margin,
            };
            (one.comparison.measure.to_string(), figure)
        })
        .collect();
    (!figures.is_empty()).then_some(figures)
}

/// The newest record of the pair with the weights that both versions have now. The live version's own figure is in a record that it is the gallery of.
fn of_record(
    registry: &Registry,
    records: &CompatibilityRecords,
    live: &str,
    space: &str,
) -> Option<Figures> {
    let query = registry.get(live).ok()?.weights_sha256;
    let gallery = registry.get(space).ok()?.weights_sha256;
    let newest = records
        .of_pair(live, space)
        .filter(|record| {
            record.query_weights.as_ref() == Some(&query)
                && record.gallery_weights.as_ref() == Some(&gallery)
        })
        .max_by(|one, other| one.created.cmp(&other.created))?;
    let own = records.records.iter().find(|record| {
        record.gallery_weights.as_ref() == Some(&query)
            && record.is_on(&newest.queries, &newest.gallery)
    });
    let figure = Figure {
        route: newest.cross_test,
        own: own.map(|record| record.self_test),
        margin: newest.margin,
    };
    Some(Figures::from([(NEAREST_CLASS_MEAN.to_owned(), figure)]))
}

fn of_other_modality(registry: &Registry, live: &str, stored: &Stored) -> BTreeSet<String> {
    let Ok(live) = registry.get(live) else {
        return BTreeSet::new();
    };
    let other = |space: &&String| {
        // What encoders that do not run here embedded, nobody knows.
        registry.get(space).is_ok_and(|version| {
            let mut accepts = version.accepts().iter();
            !accepts.any(|kind| live.accepts().contains(kind))
        })
    };
    stored.per_version.keys().filter(other).cloned().collect()
}

/// A stored space: of a model version, or of an outside encoder.
fn reference(registry: &Registry, name: &str) -> Option<SpaceRef> {
    if let Ok(version) = registry.get(name) {
        return Some(version.space());
    }
    let id = SpaceId::new(name).ok()?;
    Some(registry.space(&id).ok()?.reference())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(items: &[(&str, u64)]) -> Stored {
        Stored {
            items: items.iter().map(|(_, items)| items).sum(),
            per_version: items
                .iter()
                .map(|&(name, items)| (name.to_owned(), items))
                .collect(),
            ..Stored::default()
        }
    }

    fn fractions(pairs: &[(&str, f64)]) -> BTreeMap<String, f64> {
        let pairs = pairs.iter();
        pairs
            .map(|&(name, value)| (name.to_owned(), value))
            .collect()
    }

    #[test]
    fn quality_is_the_mean_weighted_by_items() {
        let expectation = Expectation {
            measure: Some("ncm".to_owned()),
            own: Some(0.9),
            routes: fractions(&[("v0001", 0.5), ("v0002", 0.7)]),
            margins: fractions(&[("v0001", 0.1), ("v0002", -0.2)]),
            of_other_modality: BTreeSet::new(),
        };
        let some = stored(&[("v0001", 2), ("v0002", 1), ("v0003", 1)]);
        let quality = expectation.quality(&some, "v0003").unwrap();
        assert!((quality - 0.65).abs() < 1e-12, "{quality}");
        let all = stored(&[("v0003", 5)]);
        assert_eq!(expectation.quality(&all, "v0003"), Some(0.9));
        assert_eq!(expectation.complete(), Some(0.9));
        let unknown = stored(&[("clip", 1), ("v0003", 5)]);
        assert_eq!(expectation.quality(&unknown, "v0003"), None);
        assert_eq!(expectation.quality(&stored(&[]), "v0003"), None);
    }

    #[test]
    fn spaces_without_a_certificate_are_served_worst() {
        let expectation = Expectation {
            margins: fractions(&[("v0001", 0.1), ("v0002", -0.2)]),
            of_other_modality: BTreeSet::from(["texts".to_owned()]),
            ..Expectation::default()
        };
        let all = stored(&[
            ("clip", 1),
            ("texts", 9),
            ("v0001", 2),
            ("v0002", 1),
            ("v0003", 1),
        ]);
        assert_eq!(expectation.of_other_modality(&all), 9);
        assert_eq!(
            expectation.worst_first(&all, "v0003"),
            ["clip", "v0002", "v0001"]
        );
    }

    #[test]
    fn an_empty_registry_lets_expect_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::create(folder.path()).unwrap();
        let all = stored(&[("b", 1), ("a", 2), ("live", 2)]);
        let expectation = Expectation::of(&registry, &Policy::default(), "live", &all);
        assert_eq!(expectation, Expectation::default());
        assert_eq!(expectation.worst_first(&all, "live"), ["a", "b"]);
    }
}
