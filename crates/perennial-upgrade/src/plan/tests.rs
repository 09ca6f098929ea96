use std::sync::{Arc, Mutex};

use super::*;
use crate::bridge_map::BridgeMap;
use crate::certification::tests::{Listed, Ways, bridge};
use crate::stored::tests::stored;
use crate::thresholds::RateThreshold;

fn never(_: Need<'_>) -> bool {
    false
}

fn always(_: Need<'_>) -> bool {
    true
}

/// `space by route` of every part.
fn routes(plan: &SearchPlan) -> Vec<String> {
    let line = |part: &PlannedPart| {
        let spaces: Vec<&str> = part.spaces.iter().map(SpaceId::as_str).collect();
        format!("{} by {}", spaces.join("+"), part.way.route())
    };
    plan.parts.iter().map(line).collect()
}

fn certification(ways: Vec<(&'static str, &'static str, Vec<Certified>)>) -> Certification {
    Certification::new(Arc::new(Ways(ways)), false)
}

/// Dual before bridged, from `v0002` of 3 to `v0001` of 2 dimensions.
fn dual_then_bridged() -> Vec<Certified> {
    let bridge = bridge(("v0002", 3), ("v0001", 2));
    let dual = CertifiedWay::Dual {
        bridge: Arc::clone(&bridge),
        weight: 0.5,
    };
    vec![
        Certified::through(dual, "by dual"),
        Certified::through(CertifiedWay::Bridged(bridge), "by bridge"),
    ]
}

#[test]
fn the_best_way_that_the_query_can_take_is_chosen() {
    let certification = certification(vec![("v0002", "v0001", dual_then_bridged())]);
    let stored = stored(&[("v0001", 2, None), ("v0002", 3, None)]);
    let asked = Mutex::new(Vec::new());
    let plan = |available: &dyn Fn(Need<'_>) -> bool| {
        let available = |need: Need<'_>| {
            asked.lock().unwrap().push(need.to_string());
            available(need)
        };
        let asking = Asking::Version("v0002");
        SearchPlan::of(&certification, asking, 3, &stored, None, &available)
    };
    let best = plan(&always);
    assert_eq!(
        routes(&best),
        ["v0001 by dual (weight 0.5)", "v0002 by own"]
    );
    assert_eq!(best.parts[0].fallback, None);
    assert_eq!(best.old_encoders(), BTreeSet::from(["v0001".to_owned()]));
    assert_eq!(
        best.items_by_route(),
        BTreeMap::from([("dual", 10), ("own", 10)])
    );
    let without = plan(&never);
    assert_eq!(routes(&without), ["v0001 by bridged", "v0002 by own"]);
    let fallback = without.parts[0].fallback.as_deref().unwrap();
    assert!(
        fallback.contains("needs the encoder of v0001"),
        "{fallback}"
    );
    assert_eq!(without.parts[0].basis, "by bridge");
    assert!(without.old_encoders().is_empty());
    assert_eq!(without.not_searched, []);
    // Own versions are never asked about.
    assert_eq!(
        *asked.lock().unwrap(),
        ["encoder of v0001", "encoder of v0001"]
    );
}

#[test]
fn mapped_vectors_are_searched_by_the_query_as_it_is_in_its_own_dimension() {
    let back = Arc::new(BridgeMap::new(bridge(("v0001", 2), ("v0002", 3))));
    let mapped = Certified::through(CertifiedWay::Mapped(Arc::clone(&back)), "by map");
    let ways = std::iter::once(mapped).chain(dual_then_bridged()).collect();
    let certification = certification(vec![("v0002", "v0001", ways)]);
    let stored = stored(&[("v0001", 2, None), ("v0002", 3, None)]);
    let plan = |asking, available: &dyn Fn(Need<'_>) -> bool| {
        SearchPlan::of(&certification, asking, 3, &stored, None, available)
    };
    let best = plan(Asking::Version("v0002"), &always);
    assert_eq!(routes(&best), ["v0001 by mapped", "v0002 by own"]);
    let part = &best.parts[0];
    assert_eq!((part.dim, part.search_dim()), (2, 3));
    assert_eq!(best.mapped_indexes().len(), 1);
    assert!(best.mapped_indexes()[0].is(&part.spaces[0], back.key()));
    assert!(best.old_encoders().is_empty());
    let query = [0.6, 0.8, 0.0];
    let mut centred = query.to_vec();
    back.bridge().centre_to(&mut centred).unwrap();
    assert_eq!(part.queries(&query, None).unwrap(), centred);
    assert_eq!(part.compared(&[0.0, 1.0, 1.0, 0.0]).len(), 6);
    // A stored item of the new space is a query like any other.
    let by_item = plan(Asking::Item("v0002"), &always);
    assert_eq!(routes(&by_item), ["v0001 by mapped", "v0002 by own"]);
    // Where the index is not kept, the next way is taken, which says so.
    let without = plan(Asking::Version("v0002"), &|need| {
        !matches!(need, Need::MappedIndex { .. })
    });
    assert_eq!(
        routes(&without),
        ["v0001 by dual (weight 0.5)", "v0002 by own"]
    );
    let fallback = without.parts[0].fallback.as_deref().unwrap();
    assert!(
        fallback.contains("an index of v0001's vectors"),
        "{fallback}"
    );
    assert!(without.mapped_indexes().is_empty());
}

#[test]
fn a_space_without_a_way_is_left_out_with_the_reason() {
    let only_dual = dual_then_bridged().drain(..1).collect();
    let certification = certification(vec![("v0002", "v0001", only_dual)]);
    let stored = stored(&[("clip", 5, None), ("v0001", 2, None), ("v0002", 3, None)]);
    let plan = |among: Option<&[String]>| {
        let asking = Asking::Version("v0002");
        SearchPlan::of(&certification, asking, 3, &stored, among, &never)
    };
    let all = plan(None);
    assert_eq!(routes(&all), ["v0002 by own"]);
    assert_eq!((all.not_searched_items(), all.searched_items()), (20, 10));
    let left: Vec<&str> = all
        .not_searched
        .iter()
        .map(|left| left.space.as_str())
        .collect();
    assert_eq!(left, ["clip", "v0001"]);
    assert!(
        all.not_searched[1]
            .reason
            .contains("needs the encoder of v0001")
    );
    let causes: Vec<_> = all.not_searched.iter().map(|left| left.cause).collect();
    assert_eq!(
        causes,
        [LeftOutCause::NotCertified, LeftOutCause::OldEncoder]
    );
    assert_eq!(all.refused.len(), 2);
    assert_eq!(plan(Some(&["clip".to_owned()])).not_searched_items(), 10);
    assert_eq!(plan(Some(&["v0002".to_owned()])).not_searched, []);
    // Force helps where a query can be compared at all.
    let mut forced = plan(None);
    forced.force(3, &stored);
    assert_eq!((routes(&forced), forced.refused.len()), (routes(&all), 2));
}

#[test]
fn force_searches_refused_spaces_of_the_same_dimension_by_route_own() {
    let certification = Certification::new(Arc::new(Listed(Vec::new())), false);
    let stored = stored(&[("v0001", 3, None), ("v0002", 3, None), ("v0003", 4, None)]);
    let asking = Asking::Version("v0002");
    let of = || SearchPlan::of(&certification, asking, 3, &stored, None, &always);
    let mut plan = of();
    plan.force(3, &stored);
    assert_eq!(routes(&plan), ["v0002+v0001 by own"]);
    assert!(plan.parts[0].undecided && plan.parts[0].basis.contains("by force"));
    assert_eq!((plan.refused.len(), plan.not_searched_items()), (1, 10));
    // What was accepted before needs no force now, where it has one dimension.
    certification.accept(&of().refused);
    let plan = of();
    assert_eq!(routes(&plan), ["v0001+v0002 by own"]);
    assert_eq!(plan.not_searched[0].space.as_str(), "v0003");
    assert_eq!(plan.not_searched[0].cause, LeftOutCause::Dimension);
}

#[test]
fn an_item_takes_route_own_in_either_direction_or_a_bridge_and_is_never_dual() {
    let own = vec![Certified::by("own")];
    let certification = certification(vec![
        ("v0003", "v0002", own),
        ("v0002", "v0001", dual_then_bridged()),
    ]);
    let stored = stored(&[("v0001", 2, None), ("v0002", 3, None), ("v0003", 3, None)]);
    let plan = |name, dim| {
        SearchPlan::of(
            &certification,
            Asking::Item(name),
            dim,
            &stored,
            None,
            &always,
        )
    };
    assert_eq!(
        routes(&plan("v0002", 3)),
        ["v0001 by bridged", "v0002+v0003 by own"]
    );
    let of_old = plan("v0001", 2);
    assert_eq!(routes(&of_old), ["v0001 by own"]);
    assert_eq!(of_old.refused.len(), 2);
}

#[test]
fn one_part_of_route_own_keeps_the_thresholds_of_all_its_spaces() {
    let with = |rates: &[(f64, f32)]| {
        let rates = rates
            .iter()
            .map(|&(false_accept_rate, similarity)| RateThreshold {
                false_accept_rate,
                similarity,
            });
        Certified {
            thresholds: Some(Thresholds {
                impostor_pairs: 1000,
                rates: rates.collect(),
            }),
            ..Certified::by("measured")
        }
    };
    let certification = certification(vec![
        ("v0004", "v0001", vec![with(&[(0.1, 0.3), (0.01, 0.5)])]),
        ("v0004", "v0002", vec![with(&[(0.1, 0.4)])]),
        (
            "v0004",
            "v0003",
            vec![Certified {
                undecided: true,
                ..Certified::by("unmeasured")
            }],
        ),
    ]);
    let plan = |spaces| {
        let asking = Asking::Version("v0004");
        let stored = stored(spaces);
        let plan = SearchPlan::of(&certification, asking, 3, &stored, None, &always);
        plan.parts[0].clone()
    };
    let both = plan(&[("v0001", 3, None), ("v0002", 3, None)]);
    assert_eq!((both.items, both.undecided), (20, false));
    let thresholds = both.thresholds.unwrap();
    assert_eq!((thresholds.at(0.1), thresholds.at(0.01)), (Some(0.4), None));
    let all = plan(&[("v0001", 3, None), ("v0002", 3, None), ("v0003", 3, None)]);
    assert!(all.undecided && all.thresholds.is_none());
}

#[test]
fn queries_of_a_part_are_unit_rows_of_its_space() {
    let stored = stored(&[("v0001", 2, None), ("v0002", 3, None)]);
    let certification = certification(vec![("v0002", "v0001", dual_then_bridged())]);
    let plan = |available| {
        let asking = Asking::Version("v0002");
        SearchPlan::of(&certification, asking, 3, &stored, None, available)
    };
    let new = [1.0, 0.0, 0.0, 0.0, 0.0, 1.0];
    let (dual, bridged) = (plan(&always), plan(&never));
    assert_eq!(dual.parts[1].queries(&new, None).unwrap(), new);
    let mapped = bridged.parts[0].queries(&new, None).unwrap();
    let old = [0.0, 1.0, 1.0, 0.0];
    let added = dual.parts[0].queries(&new, Some(&old)).unwrap();
    for rows in [&mapped, &added] {
        assert_eq!(rows.len(), 4);
        for row in rows.chunks_exact(2) {
            assert!((row[0].hypot(row[1]) - 1.0).abs() < 1e-5);
        }
    }
    assert_ne!(mapped, added);
    for problem in [
        dual.parts[0].queries(&new, None),
        dual.parts[0].queries(&new, Some(&old[..2])),
        bridged.parts[0].queries(&new[..4], None),
        bridged.parts[1].queries(&new[..4], None),
        bridged.parts[0].queries(&[f32::NAN, 0.0, 0.0], None),
    ] {
        problem.unwrap_err();
    }
}
