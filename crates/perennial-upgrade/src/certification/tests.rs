use perennial_bridge::{Pairs, Recipe, fit};
use perennial_core::{SpaceId, SpaceRef};

use super::*;

/// Certifies what is listed, as `(query, gallery)`, by route own.
pub(crate) struct Listed(pub(crate) Vec<(&'static str, &'static str)>);

impl CompatibilityCheck for Listed {
    fn ways(&self, query: &str, gallery: &str) -> Result<Vec<Certified>, NotCertified> {
        if query == gallery || self.0.contains(&(query, gallery)) {
            return Ok(vec![Certified::by("listed")]);
        }
        Err(refused(query, gallery))
    }
}

/// The ways of the listed pairs; equal names by route own.
pub(crate) struct Ways(pub(crate) Vec<(&'static str, &'static str, Vec<Certified>)>);

impl CompatibilityCheck for Ways {
    fn ways(&self, query: &str, gallery: &str) -> Result<Vec<Certified>, NotCertified> {
        if query == gallery {
            return Ok(vec![Certified::by("same version")]);
        }
        let mut listed = self.0.iter();
        match listed.find(|pair| (pair.0, pair.1) == (query, gallery)) {
            Some((_, _, ways)) => Ok(ways.clone()),
            None => Err(refused(query, gallery)),
        }
    }
}

fn refused(query: &str, gallery: &str) -> NotCertified {
    NotCertified {
        query_version: query.to_owned(),
        gallery_version: gallery.to_owned(),
        reason: "not listed".to_owned(),
        remedy: None,
    }
}

/// A bridge between named spaces, from coordinates to the same coordinates as far as both have them.
pub(crate) fn bridge((from, from_dim): (&str, usize), (to, to_dim): (&str, usize)) -> Arc<Bridge> {
    let space = |name: &str, dim| SpaceRef::named(SpaceId::new(name).unwrap(), dim);
    // Every axis in both directions, and a little noise in the others, so that the map is unique.
    let rows = |dim: usize| -> Vec<f32> {
        let row = |row: usize| {
            (0..dim).map(move |axis| {
                let sign = if row.is_multiple_of(2) { 1.0 } else { -1.0 };
                let noise = ((row * 7 + axis * 3) % 5) as f32 * 0.01;
                noise
                    + if axis == row / 2 % from_dim.min(to_dim) {
                        sign
                    } else {
                        0.0
                    }
            })
        };
        (0..8 * from_dim.max(to_dim)).flat_map(row).collect()
    };
    let (new, old) = (rows(from_dim), rows(to_dim));
    let pairs = Pairs::new(&new, from_dim, &old, to_dim).unwrap();
    let recipe = Recipe::Orthogonal;
    Arc::new(fit(&pairs, &recipe, space(from, from_dim), space(to, to_dim)).unwrap())
}

#[test]
fn queries_have_a_direction_and_items_by_route_own_have_none() {
    let certification = Certification::new(Arc::new(Listed(vec![("v0002", "v0001")])), false);
    assert!(certification.refused("v0002", ["v0001"]).is_empty());
    assert_eq!(certification.refused("v0001", ["v0002"]).len(), 1);
    let way = |item, other| {
        certification.ways_of_items(item, other).unwrap()[0]
            .way
            .clone()
    };
    assert_eq!(way("v0001", "v0002"), CertifiedWay::Own);
    assert_eq!(way("v0002", "v0001"), CertifiedWay::Own);
    assert!(certification.ways_of_items("v0001", "v0003").is_err());
}

#[test]
fn an_item_is_bridged_in_its_own_direction_and_never_dual() {
    let there = bridge(("v0002", 3), ("v0001", 2));
    let bridged = Certified::through(CertifiedWay::Bridged(Arc::clone(&there)), "bridged");
    let dual = Certified::through(
        CertifiedWay::Dual {
            bridge: there,
            weight: 0.5,
        },
        "dual",
    );
    let ways = Ways(vec![
        ("v0002", "v0001", vec![dual.clone(), bridged.clone()]),
        ("v0003", "v0001", vec![dual]),
    ]);
    let certification = Certification::new(Arc::new(ways), false);
    assert_eq!(
        certification.ways_of_items("v0002", "v0001"),
        Ok(vec![bridged])
    );
    assert!(certification.ways_of_items("v0001", "v0002").is_err());
    let refused = certification.ways_of_items("v0003", "v0001").unwrap_err();
    assert!(refused.reason.contains("dual"), "{refused}");
    assert!(matches!(
        certification.standing_of_items("v0003", "v0001"),
        Standing::Refused(_)
    ));
    certification.accept(&[refused]);
    assert!(matches!(
        certification.standing_of_items("v0001", "v0003"),
        Standing::Accepted(_)
    ));
}

#[test]
fn force_is_remembered_per_pair() {
    let certification = Certification::new(Arc::new(Listed(Vec::new())), false);
    let refused = certification.refused("v0003", ["v0002", "v0001", "v0003"]);
    assert_eq!(refused.len(), 2);
    certification.accept(&refused[..1]);
    assert_eq!(certification.refused("v0003", ["v0001", "v0002"]).len(), 1);
    assert_eq!(
        certification.accepted(),
        [["v0003".to_owned(), "v0002".to_owned()]]
    );
    assert!(!certification.is_certified("v0003", "v0002"));
}

#[test]
fn force_and_what_needs_it_happen_together_or_not_at_all() {
    let certification = Certification::new(Arc::new(Listed(Vec::new())), false);
    let refused = certification.refused("v0003", ["v0001", "v0002"]);
    certification.accept(&refused[..1]);
    let failed = || Err::<(), _>(std::io::Error::other("the disk is full"));
    let error = certification.accept_with(&refused, failed).unwrap_err();
    assert_eq!(error.to_string(), "the disk is full");
    // What was accepted before stays.
    assert_eq!(
        certification.accepted(),
        [["v0003".to_owned(), "v0001".to_owned()]]
    );
    let moved = || Ok::<_, std::io::Error>(7);
    assert_eq!(certification.accept_with(&refused, moved).unwrap(), 7);
    assert_eq!(certification.accepted().len(), 2);
}

#[test]
fn a_way_says_what_it_needs_without_its_weights() {
    let way = CertifiedWay::Dual {
        bridge: bridge(("v0002", 3), ("v0001", 2)),
        weight: 0.25,
    };
    assert!(way.needs_old_encoder() && way.leads(3, 2) && !way.leads(2, 3));
    assert_eq!(way.route(), Route::Dual { weight: 0.25 });
    assert_eq!(
        format!("{way:?}"),
        "dual (weight 0.25) through v0002 to v0001"
    );
    assert!(CertifiedWay::Own.leads(3, 3) && !CertifiedWay::Own.leads(3, 2));
}
