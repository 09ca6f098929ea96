use perennial_core::{ClassifierKind, Modality, VersionDraft};
use perennial_encode::{EncodeError, Encoder, Input, PrepareError, Prepared, Values};

use super::*;
use crate::certification::tests::{Ways, bridge};
use crate::certification::{Certified, CertifiedWay, Need};
use crate::expected_quality::ExpectedQuality;
use crate::recorded_merge::{MergeKind, RecordedMerge};
use crate::records::tests::draft;
use crate::stored::tests::stored;

struct Nothing;

impl Encoder for Nothing {
    fn accepts(&self) -> &[Modality] {
        &[Modality::Image]
    }

    fn prepare(&self, _: Input<'_>) -> Result<Prepared, PrepareError> {
        Ok(Prepared {
            values: Values::Pixels(Vec::new()),
        })
    }

    fn dim(&self) -> usize {
        3
    }

    fn model_version(&self) -> &str {
        "v0001"
    }

    fn encode(&self, _: &[Prepared]) -> Result<Vec<f32>, EncodeError> {
        Ok(Vec::new())
    }
}

/// `v0001` with 3 dimensions, of a simplex of 4 vertices or with a linear classifier.
fn model(vertices: Option<usize>) -> LoadedModel {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::create(folder.path().join("registry")).unwrap();
    let mut draft: VersionDraft = draft();
    if vertices.is_some() {
        let classifier = &mut draft.network_mut().unwrap().classifier;
        classifier.kind = ClassifierKind::Simplex;
        classifier.vertices = vertices;
        classifier.vertex_end = Some(perennial_core::VertexEnd::Front);
    }
    let version = registry.publish(draft, b"1").unwrap();
    LoadedModel::new(version, Arc::new(Nothing))
}

/// The verdict about `v0001` beside the stored spaces.
fn verdict(
    vertices: Option<usize>,
    spaces: &[(&str, usize, Option<usize>)],
    ways: Vec<(&'static str, &'static str, Vec<Certified>)>,
) -> Verdict {
    let certification = Certification::new(Arc::new(Ways(ways)), false);
    let mut verdict = Verdict::default();
    verdict.check_stored(&model(vertices), &stored(spaces), &certification);
    verdict
}

fn check<'a>(verdict: &'a Verdict, name: &str) -> &'a Check {
    let mut checks = verdict.checks().iter();
    checks.find(|check| check.name == name).unwrap()
}

fn through(gallery: &'static str, dim: usize, weight: Option<f64>) -> Certified {
    let bridge = bridge(("v0001", 3), (gallery, dim));
    let way = match weight {
        Some(weight) => CertifiedWay::Dual { bridge, weight },
        None => CertifiedWay::Bridged(bridge),
    };
    Certified::through(way, "margins R@1 +0.0300 [+0.0100, +0.0500]")
}

#[test]
fn a_bridge_leads_to_spaces_of_other_dimensions_and_of_another_simplex() {
    let ways = vec![
        ("v0001", "v0002", vec![through("v0002", 2, Some(0.5))]),
        ("v0001", "v0003", vec![through("v0003", 5, None)]),
    ];
    let spaces = [("v0002", 2, Some(3)), ("v0003", 5, None)];
    let verdict = verdict(Some(4), &spaces, ways);
    assert!(verdict.allows(false), "{verdict:?}");
    assert_eq!(
        check(&verdict, "dimension").detail,
        "3; bridges lead to 2 and 5"
    );
    assert_eq!(check(&verdict, "simplex").outcome, Outcome::Passed);
    let dual = &check(&verdict, "compatibility with v0002").detail;
    for part in [
        "10 items by route dual (weight 0.5)",
        "second forward pass per query, by the encoder of v0002",
        "R@1 +0.0300 [+0.0100, +0.0500]",
    ] {
        assert!(dual.contains(part), "{dual}");
    }
    let bridged = &check(&verdict, "compatibility with v0003").detail;
    assert!(
        bridged.contains("route bridged (one matrix product"),
        "{bridged}"
    );
}

#[test]
fn the_verdict_says_what_quality_to_expect_and_what_a_query_costs() {
    let quality = |measure: &str, value, interval| ExpectedQuality {
        measure: measure.to_owned(),
        value,
        interval,
        confidence: 0.95,
    };
    let interval = perennial_core::Interval {
        low: 0.701,
        high: 0.755,
    };
    let way = Certified {
        expected: vec![
            quality("recall@1", 0.728, Some(interval)),
            quality("map", 0.61, None),
        ],
        merge: Some(RecordedMerge {
            kind: MergeKind::Cosines,
            scale: None,
            shift: 0.125,
            queries: 60,
        }),
        ..through("v0002", 2, None)
    };
    let ways = vec![("v0001", "v0002", vec![way])];
    let mut verdict = verdict(Some(4), &[("v0002", 2, Some(3))], ways);
    let detail = &check(&verdict, "compatibility with v0002").detail;
    let said =
        "; expected recall@1 0.7280 [0.7010, 0.7550], map 0.6100; hits merged by cosines +0.125";
    assert!(detail.ends_with(said), "{detail}");
    verdict.note_cost(&QueryCost::default());
    assert_eq!(check(&verdict, "cost per query").detail, "not measured");
    assert!(verdict.allows(false));
}

#[test]
fn without_a_bridge_another_dimension_refuses_whatever_the_force() {
    let alone = verdict(None, &[("v0002", 2, None)], Vec::new());
    assert!(alone.is_broken() && !alone.allows(true));
    assert!(
        check(&alone, "dimension")
            .detail
            .contains("no certified bridge")
    );
    // Beside items that can be reached, force lets the others become unreachable, and says so.
    let beside = verdict(None, &[("v0001", 3, None), ("v0002", 2, None)], Vec::new());
    assert!(!beside.is_broken() && !beside.allows(false) && beside.allows(true));
    let detail = &check(&beside, "compatibility with v0002").detail;
    assert!(detail.contains("10 items become unreachable"), "{detail}");
    // A certificate of route own across dimensions, which no honest measurement gives.
    let own = vec![("v0001", "v0002", vec![Certified::by("own")])];
    let odd = verdict(None, &[("v0002", 2, None)], own);
    assert!(odd.is_broken());
    assert!(odd.problem().contains("does not lead"), "{}", odd.problem());
    assert!(!verdict(None, &[], Vec::new()).is_broken());
}

#[test]
fn the_simplex_matters_where_route_own_leads() {
    let spaces = [("v0002", 3, Some(9))];
    let own = || vec![("v0001", "v0002", vec![Certified::by("own")])];
    let other = verdict(Some(4), &spaces, own());
    assert!(other.needs_force() && !other.is_broken());
    assert_eq!(check(&other, "simplex").outcome, Outcome::Failed);
    let undecided = vec![Certified {
        undecided: true,
        ..through("v0002", 3, Some(0.25))
    }];
    let bridged = verdict(Some(4), &spaces, vec![("v0001", "v0002", undecided)]);
    assert!(bridged.allows(false));
    assert_eq!(
        check(&bridged, "compatibility with v0002").outcome,
        Outcome::Warned
    );
    let same = verdict(Some(4), &[("v0002", 3, Some(4))], own());
    assert!(
        check(&same, "simplex")
            .detail
            .contains("same as the gallery")
    );
}

#[test]
fn what_was_accepted_by_force_passes_with_a_warning_where_it_can_be_compared() {
    let certification = Certification::new(Arc::new(Ways(Vec::new())), false);
    let stored = stored(&[("v0002", 3, None), ("v0003", 2, None)]);
    let check_again = || {
        let mut verdict = Verdict::default();
        verdict.check_stored(&model(None), &stored, &certification);
        verdict
    };
    let first = check_again();
    assert_eq!(first.refused().len(), 2);
    certification.accept(first.refused());
    let second = check_again();
    assert_eq!(
        check(&second, "compatibility with v0002").outcome,
        Outcome::Warned
    );
    assert_eq!(
        check(&second, "compatibility with v0003").outcome,
        Outcome::Failed
    );
}

#[test]
fn an_old_encoder_that_cannot_be_used_needs_another_route_or_force() {
    let encoder = |ways: Vec<Certified>, usable: bool| {
        let ways = vec![("v0001", "v0002", ways)];
        let certification = Certification::new(Arc::new(Ways(ways)), false);
        let (model, stored) = (model(None), stored(&[("v0002", 2, None)]));
        let mut verdict = Verdict::default();
        verdict.check_stored(&model, &stored, &certification);
        verdict.check_needs(&model.version, &stored, &certification, &|need| {
            assert!(matches!(need, Need::OldEncoder("v0002")));
            match usable {
                true => Ok(None),
                false => Err("it is damaged".to_owned()),
            }
        });
        verdict
    };
    let dual = || through("v0002", 2, Some(0.5));
    let bridged = || through("v0002", 2, None);
    let outcome = |verdict: &Verdict| check(verdict, "encoder of v0002").outcome;

    let usable = encoder(vec![dual()], true);
    assert!(usable.allows(false));
    assert_eq!(outcome(&usable), Outcome::Passed);

    let lost = encoder(vec![dual()], false);
    assert_eq!(outcome(&lost), Outcome::Failed);
    assert!(!lost.allows(false) && lost.allows(true) && !lost.is_broken());
    assert!(lost.problem().contains("it is damaged"), "{lost:?}");
    // Force leaves these items out of reach, so there is no pair to accept.
    assert!(lost.refused().is_empty());

    let fallback = encoder(vec![dual(), bridged()], false);
    assert!(fallback.allows(false));
    assert_eq!(outcome(&fallback), Outcome::Warned);
    let detail = &check(&fallback, "encoder of v0002").detail;
    assert!(detail.contains("by route bridged"), "{detail}");

    let own = encoder(vec![bridged()], false);
    assert!(
        own.checks()
            .iter()
            .all(|check| !check.name.starts_with("encoder"))
    );
}
