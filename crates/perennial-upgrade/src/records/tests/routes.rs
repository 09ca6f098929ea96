//! Certificates of routes with a bridge: which ways they open, and when they do not count.

use perennial_bridge::{Bridge, Index, Pairs, Recipe, fit};
use perennial_core::{Metric, Modality, SpaceId, SpaceRef, SpaceSpec};

use super::*;
use crate::certificate::Certificate;
use crate::certify::CertificateRequest;
use crate::evaluation_data::{EvaluationData, Names, Rows, Truth};
use crate::measured::Demands;
use crate::route::{Route, Search};
use crate::stored_certificates::StoredCertificates;

/// Three directions of the plane that add up to nothing.
const PLANE: [[f32; 2]; 3] = [[1.0, 0.0], [-0.5, 0.866], [-0.5, -0.866]];

/// The old version is `v0004` with 2 dimensions, the new ones have 3.
fn setup() -> Setup {
    let setup = Setup::new();
    let small = VersionDraft { dim: 2, ..draft() };
    setup.registry.publish(small, b"4").unwrap();
    setup
}

/// Class after class, a little beside its direction. One in `wrong_every` is another class's.
fn plane(count: usize, wrong_every: usize) -> Vec<f32> {
    let row = |row: usize| {
        let wrong = wrong_every > 0 && row.is_multiple_of(wrong_every);
        let [x, y] = PLANE[(row + usize::from(wrong)) % 3];
        [x + 0.01 * (row % 5) as f32, y - 0.01 * (row % 7) as f32]
    };
    (0..count).flat_map(row).collect()
}

fn axes(count: usize) -> Vec<f32> {
    let row = |row: usize| {
        let mut vector = [0.02 * (row % 5) as f32, 0.02 * (row % 7) as f32, 0.02];
        vector[row % 3] += 1.0;
        vector
    };
    (0..count).flat_map(row).collect()
}

fn bridge(setup: &Setup) -> Bridge {
    let [new, old] = ["v0002", "v0004"].map(|name| setup.registry.get(name).unwrap().space());
    bridge_between(new, old)
}

fn bridge_between(new: SpaceRef, old: SpaceRef) -> Bridge {
    let (from, to) = (axes(93), plane(93, 0));
    let pairs = Pairs::new(&from, 3, &to, 2).unwrap();
    fit(&pairs, &Recipe::Orthogonal, new, old).unwrap()
}

/// An old encoder that is wrong for a third of the queries, and a new one that is right.
fn data(setup: &Setup) -> EvaluationData {
    let rows = |values: Vec<f32>, dim: usize, name: &str| Rows {
        values,
        dim,
        space: setup.registry.get(name).unwrap().space(),
    };
    let classes = |count: u32| (0..count).map(|row| row % 3).collect::<Vec<u32>>();
    EvaluationData {
        old_queries: rows(plane(120, 3), 2, "v0004"),
        old_gallery: rows(plane(60, 0), 2, "v0004"),
        new_queries: rows(axes(120), 3, "v0002"),
        new_gallery: Some(rows(axes(60), 3, "v0002")),
        truths: vec![Truth::Classes {
            queries: classes(120),
            gallery: classes(60),
        }],
        own: None,
        names: Names::default(),
    }
}

fn measured(setup: &Setup, bridge: &Bridge, route: Route, index: Index) -> Certificate {
    CertificateRequest {
        data: &data(setup),
        search: Search::through(bridge, route, index),
        demands: Demands::new(1),
        sources: crate::Sources::default(),
        created: "2026-11-25T00:00:00Z".to_owned(),
    }
    .run()
    .unwrap()
}

fn record_route(setup: &Setup, route: Route, index: Index) {
    let certificate = measured(setup, &bridge(setup), route, index);
    StoredCertificates::add(&setup.registry, &certificate).unwrap();
}

fn ways(setup: &Setup) -> Result<Vec<Certified>, NotCertified> {
    RegistryRecords::for_gallery(setup.registry.clone(), setup.gallery())
        .unwrap()
        .ways("v0002", "v0004")
}

const DUAL: Route = Route::Dual { weight: 0.25 };

#[test]
fn every_certified_way_is_named_the_best_first() {
    let setup = setup();
    let refused = ways(&setup).unwrap_err();
    assert!(refused.reason.contains("3 dimensions"), "{refused}");
    let remedy = refused.remedy.unwrap().to_string();
    assert!(
        remedy.contains("--route dual --fit-from v0002@SET:SPLIT"),
        "{remedy}"
    );
    BridgeRegistry::of(&setup.registry)
        .publish(&bridge(&setup))
        .unwrap();
    record_route(&setup, Route::Dual { weight: 0.9 }, Index::Raw);
    record_route(&setup, DUAL, Index::Raw);
    record_route(&setup, Route::Bridged, Index::Raw);
    let found = ways(&setup).unwrap();
    let routes: Vec<Route> = found.iter().map(|one| one.way.route()).collect();
    // At .9 the old queries prevail, which are wrong for a third: that changes nothing.
    assert_eq!(routes.len(), 3, "{found:?}");
    assert_eq!(routes[2], Route::Dual { weight: 0.9 });
    assert!(found.iter().all(|one| !one.undecided));
    assert!(routes[..2].contains(&Route::Bridged) && routes[..2].contains(&DUAL));
    assert!(
        found[0].basis.contains("by certificate"),
        "{}",
        found[0].basis
    );
    assert!(found[0].way.leads(3, 2));
    let thresholds = found[0].thresholds.as_ref().unwrap();
    // What was measured in absolute figures, and how hits are merged best.
    let expected = &found[0].expected;
    assert_eq!(expected[0].measure, "ncm");
    for one in expected {
        let interval = one.interval.unwrap();
        assert!(
            interval.low <= one.value && one.value <= interval.high,
            "{one}"
        );
    }
    assert_eq!(found[0].merge.unwrap().queries, 60);
    // 120 queries on 40 items each of other classes.
    assert_eq!(thresholds.impostor_pairs, 4800);
    assert!(thresholds.at(0.01).is_some() && thresholds.at(0.001).is_none());
    // Under a policy that asks for about what was measured, these are undecided, and the other is below.
    setup.policy("min_margin = 0.3");
    let found = self::ways(&setup).unwrap();
    assert!(found.len() == 2 && found.iter().all(|one| one.undecided));
    setup.policy("");
    // The other direction is another measurement.
    let check = RegistryRecords::for_gallery(setup.registry.clone(), setup.gallery()).unwrap();
    assert!(check.ways("v0004", "v0002").is_err());
    // Both spaces' own thresholds are known from the same certificates.
    for version in ["v0002", "v0004"] {
        assert!(check.check(version, version).unwrap().thresholds.is_some());
    }
    let own = check.check("v0002", "v0002").unwrap().expected;
    assert!(own[0].interval.is_some() && own[0].value > 0.9, "{own:?}");
    assert!(check.check("v0004", "v0004").unwrap().expected.is_empty());
    assert!(check.check("v0001", "v0001").unwrap().thresholds.is_none());
}

#[test]
fn route_own_is_one_of_the_ways_and_first_among_equals() {
    let setup = Setup::new();
    // Between versions of one dimension: the record's margin is larger than what any certificate can have, but of class means alone.
    setup.measure("v0002", "v0001", "set", [0.9, 0.95]);
    let spaces = ["v0002", "v0001"].map(|name| setup.registry.get(name).unwrap().space());
    let [new, old] = spaces;
    let rows = axes(93);
    let pairs = Pairs::new(&rows, 3, &rows, 3).unwrap();
    let bridge = fit(&pairs, &Recipe::Orthogonal, new.clone(), old.clone()).unwrap();
    let embedded = |values: Vec<f32>, space: &SpaceRef| Rows {
        values,
        dim: 3,
        space: space.clone(),
    };
    let classes = |count: u32| (0..count).map(|row| row % 3).collect::<Vec<u32>>();
    let turned = |count: usize| {
        // A third of the old queries are of the next class.
        let mut rows = axes(count);
        for row in rows.chunks_exact_mut(3).step_by(3) {
            row.rotate_right(1);
        }
        rows
    };
    let data = EvaluationData {
        old_queries: embedded(turned(120), &old),
        old_gallery: embedded(axes(60), &old),
        new_queries: embedded(axes(120), &new),
        new_gallery: None,
        truths: vec![Truth::Classes {
            queries: classes(120),
            gallery: classes(60),
        }],
        own: None,
        names: Names::default(),
    };
    let certify = |search: Search<'_>| {
        let request = CertificateRequest {
            data: &data,
            search,
            demands: Demands::new(1),
            sources: crate::Sources::default(),
            created: "2026-11-25T00:00:00Z".to_owned(),
        };
        StoredCertificates::add(&setup.registry, &request.run().unwrap()).unwrap();
    };
    certify(Search::through(&bridge, Route::Bridged, Index::Raw));
    BridgeRegistry::of(&setup.registry)
        .publish(&bridge)
        .unwrap();
    let routes = || -> Vec<Route> {
        let check = RegistryRecords::for_gallery(setup.registry.clone(), setup.gallery()).unwrap();
        let found = check.ways("v0002", "v0001").unwrap();
        found.iter().map(|one| one.way.route()).collect()
    };
    assert_eq!(routes(), [Route::Bridged, Route::Own]);
    // A certificate of route own takes the record's place; its margin is the bridge's.
    certify(Search::own());
    assert_eq!(routes(), [Route::Own, Route::Bridged]);
}

#[test]
fn centred_certificates_do_not_count_and_mapped_ones_need_a_bridge_the_other_way() {
    let setup = setup();
    BridgeRegistry::of(&setup.registry)
        .publish(&bridge(&setup))
        .unwrap();
    record_route(&setup, Route::Bridged, Index::Centred);
    let refused = ways(&setup).unwrap_err();
    assert!(refused.reason.contains("--index raw"), "{refused}");
    let [new, old] = ["v0002", "v0004"].map(|name| setup.registry.get(name).unwrap().space());
    let (from, to) = (plane(93, 0), axes(93));
    let pairs = Pairs::new(&from, 2, &to, 3).unwrap();
    let back = fit(&pairs, &Recipe::Orthogonal, old, new).unwrap();
    let mapped = measured(&setup, &back, Route::Mapped, Index::Centred);
    StoredCertificates::add(&setup.registry, &mapped).unwrap();
    let refused = ways(&setup).unwrap_err();
    assert!(refused.reason.contains(&back.sha256()[..16]), "{refused}");
    BridgeRegistry::of(&setup.registry).publish(&back).unwrap();
    let found = ways(&setup).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].way.route(), Route::Mapped);
    // From queries of three dimensions to items of two.
    assert!(found[0].way.leads(3, 2) && !found[0].way.leads(2, 3));
    assert!(found[0].thresholds.is_some());
    record_route(&setup, Route::Bridged, Index::Raw);
    assert_eq!(ways(&setup).unwrap().len(), 2);
}

#[test]
fn a_certificate_whose_bridge_is_gone_or_damaged_does_not_count_until_it_is_back() {
    let setup = setup();
    record_route(&setup, Route::Bridged, Index::Raw);
    let bridges = BridgeRegistry::of(&setup.registry);
    let records = RegistryRecords::for_gallery(setup.registry.clone(), setup.gallery()).unwrap();
    let check = || records.check("v0002", "v0004");
    let again = || records.look_again();
    let hash = bridge(&setup).sha256();
    let refused = check().unwrap_err();
    assert!(refused.reason.contains(&hash[..16]), "{refused}");
    assert!(
        refused.reason.contains("certify again with --record"),
        "{refused}"
    );
    // Damaged, and another one beside it.
    let name = bridges.publish(&bridge(&setup)).unwrap();
    let weights = bridges
        .folder()
        .join(&name)
        .join(perennial_bridge::WEIGHTS_FILE);
    let whole = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &whole[..whole.len() / 2]).unwrap();
    bridges
        .publish(&bridge_between(SpaceRef::unnamed(3), SpaceRef::unnamed(2)))
        .unwrap();
    again();
    let refused = check().unwrap_err();
    assert!(refused.reason.contains("b0001 cannot be read"), "{refused}");
    // Repaired.
    std::fs::write(&weights, &whole).unwrap();
    again();
    assert_eq!(check().unwrap().way.route(), Route::Bridged);
    // Replaced by another one, in place.
    let other = bridge_between(SpaceRef::unnamed(3), SpaceRef::unnamed(2));
    other.write(bridges.folder().join(&name)).unwrap();
    again();
    let refused = check().unwrap_err();
    assert!(
        refused.reason.contains(
            "any more: b0001/bridge.toml or b0001/weights.safetensors has other content now"
        ),
        "{refused}"
    );
    bridge(&setup).write(bridges.folder().join(&name)).unwrap();
    again();
    check().unwrap();
    // Deleted.
    std::fs::remove_file(&weights).unwrap();
    again();
    let refused = check().unwrap_err();
    assert!(
        refused.reason.contains("b0001/weights.safetensors is gone"),
        "{refused}"
    );
    std::fs::remove_dir_all(bridges.folder()).unwrap();
    again();
    assert!(check().is_err());
    // Back under another number.
    assert_eq!(bridges.publish(&bridge(&setup)).unwrap(), "b0001");
    again();
    check().unwrap();
}

#[test]
fn a_certificate_that_is_gone_or_changed_does_not_count_any_more_and_is_named() {
    let setup = setup();
    BridgeRegistry::of(&setup.registry)
        .publish(&bridge(&setup))
        .unwrap();
    let certificate = measured(&setup, &bridge(&setup), Route::Bridged, Index::Raw);
    let path = StoredCertificates::add(&setup.registry, &certificate).unwrap();
    let file = path.file_name().unwrap().to_str().unwrap();
    let records = RegistryRecords::for_gallery(setup.registry.clone(), setup.gallery()).unwrap();
    let check = || {
        records.look_again();
        records.check("v0002", "v0004")
    };
    check().unwrap();
    // Written over in place: its folder stays as it was.
    let whole = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, whole.replace("\"queries\": 120", "\"queries\": 121")).unwrap();
    let refused = check().unwrap_err();
    let named = format!("certificates/{file}: was changed after it was written");
    assert!(refused.reason.contains(&named), "{refused}");
    std::fs::remove_file(&path).unwrap();
    let refused = check().unwrap_err();
    let named = format!("certificates/{file}: is not there any more");
    assert!(refused.reason.contains(&named), "{refused}");
    // Of other pairs it says nothing.
    let other = records.check("v0003", "v0004").unwrap_err();
    assert!(!other.reason.contains(file), "{other}");
    std::fs::write(&path, &whole).unwrap();
    check().unwrap();
}

#[test]
fn the_next_way_says_which_better_one_lost_its_bridge() {
    let setup = setup();
    let bridges = BridgeRegistry::of(&setup.registry);
    // A way that half of the old queries' errors are left in, by another bridge, so that files can go one by one.
    let pairs = (axes(60), plane(60, 0));
    let pairs = Pairs::new(&pairs.0, 3, &pairs.1, 2).unwrap();
    let [new, old] = ["v0002", "v0004"].map(|name| setup.registry.get(name).unwrap().space());
    let other = fit(&pairs, &Recipe::Orthogonal, new, old).unwrap();
    let best = bridges.publish(&bridge(&setup)).unwrap();
    bridges.publish(&other).unwrap();
    record_route(&setup, Route::Bridged, Index::Raw);
    let weaker = measured(&setup, &other, Route::Dual { weight: 0.9 }, Index::Raw);
    StoredCertificates::add(&setup.registry, &weaker).unwrap();
    let records = RegistryRecords::for_gallery(setup.registry.clone(), setup.gallery()).unwrap();
    let found = records.ways("v0002", "v0004").unwrap();
    assert_eq!(found[0].way.route(), Route::Bridged);
    assert_eq!(found[0].instead_of, None);
    std::fs::remove_dir_all(bridges.folder().join(&best)).unwrap();
    records.look_again();
    let found = records.ways("v0002", "v0004").unwrap();
    assert_eq!(found[0].way.route(), Route::Dual { weight: 0.9 });
    let said = found[0].instead_of.as_ref().unwrap();
    assert!(said.contains("b0001/bridge.toml is gone"), "{said}");
}

#[test]
fn a_bridge_of_other_spaces_than_the_certificate_names_is_refused() {
    let setup = setup();
    // As somebody could write it who changes the spaces of a certificate and its hash.
    let foreign = bridge_between(
        SpaceRef::named(SpaceId::new("v0002").unwrap(), 3),
        SpaceRef::named(SpaceId::new("elsewhere").unwrap(), 2),
    );
    BridgeRegistry::of(&setup.registry)
        .publish(&foreign)
        .unwrap();
    let honest = measured(&setup, &bridge(&setup), Route::Bridged, Index::Raw);
    let text = honest
        .to_json()
        .replace(&bridge(&setup).sha256(), &foreign.sha256());
    let unsigned = text.replace(honest.sha256(), "");
    let hash = perennial_core::sha256_hex(unsigned.as_bytes());
    let forged = Certificate::parse(text.replace(honest.sha256(), &hash).as_bytes()).unwrap();
    StoredCertificates::add(&setup.registry, &forged).unwrap();
    let refused = ways(&setup).unwrap_err();
    assert!(
        refused.reason.contains("leads from v0002 to elsewhere"),
        "{refused}"
    );
}

#[test]
fn the_newest_certificate_of_a_way_counts() {
    let setup = setup();
    BridgeRegistry::of(&setup.registry)
        .publish(&bridge(&setup))
        .unwrap();
    record_route(&setup, Route::Bridged, Index::Raw);
    // A later measurement in which the bridge lost: the queries of the new encoder are of the next class.
    let mut worse = data(&setup);
    worse.old_queries.values = plane(120, 0);
    worse.new_queries.values.rotate_right(3);
    let bridge = bridge(&setup);
    let later = CertificateRequest {
        data: &worse,
        search: Search::through(&bridge, Route::Bridged, Index::Raw),
        demands: Demands::new(1),
        sources: crate::Sources::default(),
        created: "2026-11-26T00:00:00Z".to_owned(),
    }
    .run()
    .unwrap();
    StoredCertificates::add(&setup.registry, &later).unwrap();
    let refused = ways(&setup).unwrap_err();
    assert!(
        refused.reason.contains("route bridged: incompatible"),
        "{refused}"
    );
    record_route(&setup, DUAL, Index::Raw);
    assert_eq!(ways(&setup).unwrap().len(), 1);
    // A policy that names an evaluation set counts records only.
    setup.policy("[evaluation_set]\nqueries = \"set:test\"\ngallery = \"set:test\"");
    let refused = ways(&setup).unwrap_err();
    assert!(
        refused.reason.contains("names an evaluation set"),
        "{refused}"
    );
}

#[test]
fn a_registered_space_of_an_outside_encoder_is_an_end_if_it_has_canaries() {
    let setup = setup();
    let add = |name: &str, canaries: Option<&[u8]>| {
        let spec = SpaceSpec::new(
            SpaceId::new(name).unwrap(),
            2,
            Metric::Cosine,
            Modality::Image,
            String::new(),
            "2026-11-25T00:00:00Z".to_owned(),
        );
        setup
            .registry
            .add_space(spec, canaries)
            .unwrap()
            .reference()
    };
    let outside = add("clip", Some(b"canaries"));
    add("nameless", None);
    let new = setup.registry.get("v0002").unwrap().space();
    let bridge = bridge_between(new, outside.clone());
    BridgeRegistry::of(&setup.registry)
        .publish(&bridge)
        .unwrap();
    let mut data = data(&setup);
    data.old_queries.space = outside.clone();
    data.old_gallery.space = outside;
    let certificate = CertificateRequest {
        data: &data,
        search: Search::through(&bridge, Route::Bridged, Index::Raw),
        demands: Demands::new(1),
        sources: crate::Sources::default(),
        created: "2026-11-25T00:00:00Z".to_owned(),
    }
    .run()
    .unwrap();
    StoredCertificates::add(&setup.registry, &certificate).unwrap();
    let check = |gallery: &str| setup.check("v0002", gallery);
    assert_eq!(check("clip").unwrap().way.route(), Route::Bridged);
    let refused = check("nameless").unwrap_err();
    assert!(refused.reason.contains("no canaries"), "{refused}");
    assert!(
        refused
            .remedy
            .unwrap()
            .to_string()
            .contains("--old-space nameless")
    );
    assert!(check("unknown").unwrap_err().reason.contains("unknown"));
    // An alias is no name of stored items.
    setup.registry.set_alias("live", "v0004").unwrap();
    assert!(check("live").is_err());
}
