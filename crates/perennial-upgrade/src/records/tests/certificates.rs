//! Certificates of route own in the registry.

use super::*;

/// A certificate that queries of `v0002` may search items of `v0001`: unit vectors of as many classes as there are dimensions, and an old
/// encoder that is worse.
pub(super) fn certificate(setup: &Setup, relevant: bool) -> crate::Certificate {
    certificate_of(setup, relevant, crate::Demands::new(1))
}

fn certificate_of(setup: &Setup, relevant: bool, demands: crate::Demands) -> crate::Certificate {
    use crate::{CertificateRequest, EvaluationData, Names, Rows, Search, Truth};

    let space = |name: &str| setup.registry.get(name).unwrap().space();
    let classes = |count: usize| (0..count).map(|row| (row % 3) as u32).collect::<Vec<u32>>();
    let vectors = |count: usize, wrong_every: usize| -> Vec<f32> {
        (0..count)
            .flat_map(|row| {
                let shift = usize::from(wrong_every > 0 && row % wrong_every == 0);
                let mut vector = [0.0; 3];
                vector[(row + shift) % 3] = 1.0;
                vector
            })
            .collect()
    };
    let rows = |values: Vec<f32>, name: &str| Rows {
        values,
        dim: 3,
        space: space(name),
    };
    let mut truths = vec![Truth::Classes {
        queries: classes(90),
        gallery: classes(30),
    }];
    if relevant {
        let right = (0..90).map(|query| (0..30).filter(|item| item % 3 == query % 3).collect());
        truths.push(Truth::Items(right.collect()));
    }
    let data = EvaluationData {
        old_queries: rows(vectors(90, 3), "v0001"),
        old_gallery: rows(vectors(30, 0), "v0001"),
        new_queries: rows(vectors(90, 0), "v0002"),
        new_gallery: None,
        truths,
        own: None,
        names: Names::default(),
    };
    CertificateRequest {
        data: &data,
        search: Search::own(),
        demands,
        sources: crate::Sources::default(),
        created: "2026-11-25T00:00:00Z".to_owned(),
    }
    .run()
    .unwrap()
}

#[test]
fn a_certificate_of_few_resamples_does_not_count() {
    let setup = Setup::new();
    let mut demands = crate::Demands::new(1);
    demands.bootstrap.resamples = 1;
    crate::StoredCertificates::add(&setup.registry, &certificate_of(&setup, false, demands))
        .unwrap();
    let error = setup.check("v0002", "v0001").unwrap_err().to_string();
    assert!(error.contains("1 bootstrap resamples"), "{error}");
    let (setup, recorded) = (Setup::new(), demands.to_record());
    assert_eq!(recorded.bootstrap.resamples, 2000);
    crate::StoredCertificates::add(&setup.registry, &certificate_of(&setup, false, recorded))
        .unwrap();
    assert!(setup.check("v0002", "v0001").is_ok());
}

#[test]
fn a_certificate_in_the_registry_certifies_its_pair_alone() {
    let setup = Setup::new();
    assert!(setup.check("v0002", "v0001").is_err());
    crate::StoredCertificates::add(&setup.registry, &certificate(&setup, false)).unwrap();
    let certified = setup.check("v0002", "v0001").unwrap();
    assert!(certified.basis.contains("by certificate") && !certified.undecided);
    assert!(setup.check("v0001", "v0002").is_err());
    assert!(setup.check("v0003", "v0001").is_err());
    setup.policy("min_margin = 0.9");
    assert!(
        setup
            .check("v0002", "v0001")
            .unwrap_err()
            .reason
            .contains("incompatible")
    );
}

#[test]
fn class_means_do_not_certify_a_search_for_items() {
    let setup = Setup::new();
    setup.policy("task = \"item-like\"");
    setup.measure("v0002", "v0001", "cifar10", [0.1, 0.2]);
    let refused = setup.check("v0002", "v0001").unwrap_err();
    assert!(refused.reason.contains("item-like"), "{refused}");
    assert!(refused.remedy.unwrap().to_string().contains("--relevance"));
    crate::StoredCertificates::add(&setup.registry, &certificate(&setup, false)).unwrap();
    assert!(setup.check("v0002", "v0001").is_err());
    crate::StoredCertificates::add(&setup.registry, &certificate(&setup, true)).unwrap();
    assert!(
        setup
            .check("v0002", "v0001")
            .unwrap()
            .basis
            .contains("item-like")
    );
}

#[test]
fn a_changed_certificate_certifies_nothing() {
    let setup = Setup::new();
    let path =
        crate::StoredCertificates::add(&setup.registry, &certificate(&setup, false)).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("\"queries\": 90", "\"queries\": 9000")).unwrap();
    assert!(setup.check("v0002", "v0001").is_err());
}
