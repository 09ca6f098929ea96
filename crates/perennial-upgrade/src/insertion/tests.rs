use std::sync::Arc;

use perennial_core::{ClassifierKind, Registry, VersionDraft, VertexEnd};

use super::*;
use crate::certification::Certified;
use crate::certification::tests::{Ways, bridge};
use crate::records::tests::draft;
use crate::stored::tests::stored;

/// `v0001` of a simplex of 4 vertices, `v0002` of one of 3, `v0003` with a linear classifier; 3, 2 and 3 dimensions.
fn versions() -> Vec<ModelVersion> {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::create(folder.path().join("registry")).unwrap();
    let publish = |dim: usize, vertices: Option<usize>| {
        let mut draft = VersionDraft { dim, ..draft() };
        if vertices.is_some() {
            let classifier = &mut draft.network_mut().unwrap().classifier;
            classifier.kind = ClassifierKind::Simplex;
            classifier.vertices = vertices;
            classifier.vertex_end = Some(VertexEnd::Front);
        }
        registry
            .publish(draft, format!("{dim}{vertices:?}").as_bytes())
            .unwrap()
    };
    vec![publish(3, Some(4)), publish(2, Some(3)), publish(3, None)]
}

fn certification(pairs: &[(&'static str, &'static str)]) -> Certification {
    let dim = |name: &str| if name == "v0002" { 2 } else { 3 };
    let ways = pairs.iter().map(|&(query, gallery)| {
        let bridge = bridge((query, dim(query)), (gallery, dim(gallery)));
        let way = CertifiedWay::Bridged(bridge);
        (query, gallery, vec![Certified::through(way, "bridge")])
    });
    Certification::new(Arc::new(Ways(ways.collect())), false)
}

#[test]
fn items_behind_a_bridge_may_have_any_simplex_and_dimension() {
    let versions = versions();
    let [first, second, linear] = [&versions[0], &versions[1], &versions[2]];
    let certification = certification(&[("v0001", "v0002"), ("v0003", "v0001")]);
    let beside_first = stored(&[("v0001", 3, Some(4))]);
    let check = |batch: &[&ModelVersion], live: Option<&str>| {
        Insertion::check(&certification, batch, &beside_first, live)
    };
    // Items of the old space beside those of the live one, alone and in one batch.
    assert!(check(&[second], Some("v0001")).allows(false));
    assert!(check(&[first, second], Some("v0001")).allows(false));
    // Without a live version a certificate in one direction is enough.
    assert!(check(&[second], None).allows(false));
    assert!(check(&[linear], None).allows(false));
    // Of the live version itself, whose bridge leads to what is stored.
    let linear_live = Insertion::check(&certification, &[linear], &beside_first, Some("v0003"));
    assert!(linear_live.other_simplex.is_none(), "{linear_live:?}");
    // Nothing leads from it to the second, which is no reason to refuse its own items beside.
    let beside_second = stored(&[("v0002", 2, Some(3)), ("v0001", 3, Some(4))]);
    let own = Insertion::check(&certification, &[linear], &beside_second, Some("v0003"));
    assert!(own.allows(false) && !own.accepted_before, "{own:?}");
    assert_eq!(own.new_spaces.len(), 1);
    // Nobody would find items of the second.
    assert_eq!(check(&[second], Some("v0003")).refused.len(), 1);
}

#[test]
fn items_that_route_own_leads_to_share_one_simplex() {
    let versions = versions();
    let own = vec![("v0003", "v0001", vec![Certified::by("own")])];
    let certification = Certification::new(Arc::new(Ways(own)), false);
    let beside_first = stored(&[("v0001", 3, Some(4))]);
    for live in [Some("v0003"), None] {
        let found = Insertion::check(&certification, &[&versions[2]], &beside_first, live);
        let problem = found.other_simplex.unwrap();
        assert!(problem.contains("simplex of 4 vertices"), "{problem}");
    }
    let both = [&versions[0], &versions[2]];
    let found = Insertion::check(&certification, &both, &stored(&[]), Some("v0003"));
    assert!(
        found
            .other_simplex
            .unwrap()
            .contains("do not have the same simplex")
    );
}
