use perennial_core::{
    Architecture, Classifier, ClassifierKind, CompatibilityRecord, ConfidenceInterval,
    EmbeddingSource, Flips, Interval, Preprocessing, ProbeSet, Role, TieRule, TrainedNetwork,
    VersionDraft, VersionEncoder,
};
use tempfile::TempDir;

use super::measured_pairs::quoted;
use super::*;

mod certificates;
mod kills;
mod routes;
#[cfg(unix)]
mod unread;

/// A registry with three versions of different weights, and a gallery's folder.
struct Setup {
    folder: TempDir,
    registry: Registry,
}

pub(crate) fn draft() -> VersionDraft {
    VersionDraft {
        dim: 3,
        encoder: VersionEncoder::Network(TrainedNetwork {
            architecture: Architecture {
                backbone: "small".to_owned(),
                stem: String::new(),
                width: 4,
                input: [3, 8, 8],
                embedding: EmbeddingSource::Layer,
            },
            preprocessing: Preprocessing {
                mean: vec![0.5; 3],
                std: vec![0.25; 3],
            },
            classifier: Classifier {
                kind: ClassifierKind::Linear,
                vertices: None,
                vertex_end: None,
                skipped_vertices: 0,
                classes: 2,
                pretrained_classes: 0,
            },
        }),
        centred: false,
        parent: None,
        role: Role::Imported,
        method: "none".to_owned(),
        data: "nothing".to_owned(),
        seed: 0,
        created: "2026-11-22T21:35:00Z".to_owned(),
    }
}

impl Setup {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::create(folder.path().join("registry")).unwrap();
        for weights in ["1", "2", "3"] {
            registry.publish(draft(), weights.as_bytes()).unwrap();
        }
        std::fs::create_dir(folder.path().join("gallery")).unwrap();
        Self { folder, registry }
    }

    fn gallery(&self) -> PathBuf {
        self.folder.path().join("gallery")
    }

    fn policy(&self, text: &str) {
        std::fs::write(Policy::path(&self.gallery()), text).unwrap();
    }

    fn check(&self, query: &str, gallery: &str) -> Result<Certified, NotCertified> {
        RegistryRecords::for_gallery(self.registry.clone(), self.gallery())
            .unwrap()
            .check(query, gallery)
    }

    /// A measurement on an evaluation set, with its 95 % interval.
    fn measure(&self, query: &str, gallery: &str, set: &str, [low, high]: [f64; 2]) {
        let weights = |name| Some(self.registry.get(name).unwrap().weights_sha256);
        let record = CompatibilityRecord {
            query_weights: weights(query),
            gallery_weights: weights(gallery),
            ..record(query, gallery, set, [low, high])
        };
        CompatibilityRecords::add(&self.registry, [record]).unwrap();
    }
}

fn record(query: &str, gallery: &str, set: &str, [low, high]: [f64; 2]) -> CompatibilityRecord {
    let probes = || ProbeSet {
        name: format!("{set}/test"),
        argument: Some(format!("{set}:test")),
        count: 1000,
        sha256: perennial_core::sha256_hex(set.as_bytes()),
    };
    let margin = f64::midpoint(low, high);
    CompatibilityRecord {
        query_version: query.to_owned(),
        gallery_version: gallery.to_owned(),
        query_weights: None,
        gallery_weights: None,
        self_test: 0.5,
        cross_test: 0.5 + margin,
        margin,
        interval: Interval { low, high },
        intervals: vec![ConfidenceInterval {
            confidence: 0.99,
            bounds: Interval {
                low: low - 0.05,
                high: high + 0.05,
            },
        }],
        cross_test_intervals: Vec::new(),
        // As few as the margin allows.
        flips: Some(Flips {
            positive: (margin.max(0.0) * 1000.0).round() as u64,
            negative: (margin.min(0.0) * -1000.0).round() as u64,
        }),
        queries: probes(),
        gallery: probes(),
        tie_rule: TieRule::Strict,
        created: "2026-11-22T21:35:00Z".to_owned(),
    }
}

#[test]
fn the_expected_quality_has_the_interval_of_the_cross_test_where_it_was_recorded() {
    let setup = Setup::new();
    let weights = |name| Some(setup.registry.get(name).unwrap().weights_sha256);
    let older = CompatibilityRecord {
        query_weights: weights("v0002"),
        gallery_weights: weights("v0001"),
        ..record("v0002", "v0001", "set", [0.01, 0.03])
    };
    let add = |record| CompatibilityRecords::add(&setup.registry, [record]).unwrap();
    add(older.clone());
    let expected = || setup.check("v0002", "v0001").unwrap().expected;
    let of_older = expected();
    assert_eq!(
        (of_older[0].measure.as_str(), of_older[0].value),
        ("ncm", older.cross_test)
    );
    assert_eq!(of_older[0].interval, None);
    // Measured again by a program that keeps it.
    let interval = |confidence, low, high| ConfidenceInterval {
        confidence,
        bounds: Interval { low, high },
    };
    add(CompatibilityRecord {
        cross_test_intervals: vec![interval(0.95, 0.4, 0.6), interval(0.99, 0.3, 0.7)],
        ..older
    });
    assert_eq!(
        expected()[0].interval,
        Some(Interval {
            low: 0.4,
            high: 0.6
        })
    );
    setup.policy("confidence = 0.99");
    let strict = &expected()[0];
    assert_eq!(
        (strict.interval, strict.confidence),
        (
            Some(Interval {
                low: 0.3,
                high: 0.7
            }),
            0.99
        )
    );
    setup.policy("confidence = 0.9");
    assert!(setup.check("v0002", "v0001").is_err(), "no margin at 0.9");
}

#[test]
fn the_interval_decides_under_the_policy() {
    let setup = Setup::new();
    setup.measure("v0002", "v0001", "set", [0.01, 0.03]);
    assert!(!setup.check("v0002", "v0001").unwrap().undecided);
    setup.policy("confidence = 0.99");
    assert!(setup.check("v0002", "v0001").unwrap().undecided);
    setup.policy("confidence = 0.99\nundecided = \"refuse\"");
    let error = setup.check("v0002", "v0001").unwrap_err().to_string();
    assert!(error.contains("undecided: cross-test 0.5200"), "{error}");
    setup.policy("min_margin = 0.1");
    let error = setup.check("v0002", "v0001").unwrap_err().to_string();
    assert!(
        error.contains("incompatible") && error.contains("required +0.1"),
        "{error}"
    );
    setup.policy("confidence = 0.9");
    let error = setup.check("v0002", "v0001").unwrap_err();
    assert!(error.reason.contains("no interval"), "{error}");
    assert!(error.remedy.is_some());
}

#[test]
fn few_queries_and_few_changed_ones_certify_nothing() {
    let setup = Setup::new();
    let weights = |name| Some(setup.registry.get(name).unwrap().weights_sha256);
    let add = |set: &str, count: usize, flips: Option<[u64; 2]>| {
        let mut record = CompatibilityRecord {
            query_weights: weights("v0002"),
            gallery_weights: weights("v0001"),
            flips: flips.map(|[positive, negative]| Flips { positive, negative }),
            ..record("v0002", "v0001", set, [0.0, 0.002])
        };
        record.queries.count = count;
        CompatibilityRecords::add(&setup.registry, [record]).unwrap();
    };
    // Two queries that both versions get right.
    add("few", 2, Some([0, 0]));
    let error = setup.check("v0002", "v0001").unwrap_err();
    assert!(
        error
            .reason
            .contains("too few queries: 2, at least 30 are needed"),
        "{error}"
    );
    assert!(error.remedy.is_some());
    // One of a thousand gained. The larger set counts from here on, although it was not the first.
    add("many", 1000, Some([1, 0]));
    let certified = setup.check("v0002", "v0001").unwrap();
    assert!(certified.undecided);
    setup.policy("undecided = \"refuse\"");
    let error = setup.check("v0002", "v0001").unwrap_err().to_string();
    assert!(
        error.contains("1 of 1000 queries gained, 0 lost"),
        "{error}"
    );
    add("many", 1000, None);
    let error = setup.check("v0002", "v0001").unwrap_err().to_string();
    assert!(
        error.contains("does not say how many queries changed"),
        "{error}"
    );
    add("many", 1000, Some([10, 0]));
    assert!(!setup.check("v0002", "v0001").unwrap().undecided);
}

#[test]
fn a_record_has_a_direction() {
    let setup = Setup::new();
    setup.measure("v0002", "v0001", "set", [0.01, 0.03]);
    assert!(setup.check("v0002", "v0001").is_ok());
    let error = setup.check("v0001", "v0002").unwrap_err();
    assert!(error.reason.contains("never measured"), "{error}");
    let remedy = error.remedy.unwrap().to_string();
    let command = "perennial evaluate --versions v0002 v0001 --queries SET:SPLIT --gallery SET:SPLIT --registry ";
    assert!(remedy.starts_with(command), "{remedy}");
}

#[test]
fn another_evaluation_set_neither_certifies_nor_refuses() {
    let setup = Setup::new();
    setup.measure("v0002", "v0001", "first", [0.01, 0.03]);
    setup.measure("v0002", "v0001", "other", [-0.3, -0.2]);
    assert!(setup.check("v0002", "v0001").is_ok());
    // A pair that was measured only elsewhere stays refused, with the command for the set that counts.
    setup.measure("v0003", "v0001", "other", [0.2, 0.3]);
    let error = setup.check("v0003", "v0001").unwrap_err();
    assert!(error.reason.contains("measured on other/test"), "{error}");
    let remedy = error.remedy.unwrap().to_string();
    let command =
        "perennial evaluate --versions v0001 v0003 --queries first:test --gallery first:test";
    assert!(remedy.starts_with(command), "{remedy}");
    // The policy moves the set that counts.
    setup.policy("[evaluation_set]\nqueries = \"other:test\"\ngallery = \"other:test\"");
    assert!(setup.check("v0003", "v0001").is_ok());
    assert!(setup.check("v0002", "v0001").is_err());
}

#[test]
fn records_are_bound_to_weights() {
    let setup = Setup::new();
    // As a 0.1 program wrote it, and as one of other weights would look.
    CompatibilityRecords::add(
        &setup.registry,
        [record("v0002", "v0001", "set", [0.1, 0.2])],
    )
    .unwrap();
    let error = setup.check("v0002", "v0001").unwrap_err();
    assert!(error.reason.contains("older program"), "{error}");
    let other = CompatibilityRecord {
        query_weights: Some("0".repeat(64)),
        gallery_weights: Some("1".repeat(64)),
        ..record("v0002", "v0001", "set", [0.1, 0.2])
    };
    CompatibilityRecords::add(&setup.registry, [other]).unwrap();
    let error = setup.check("v0002", "v0001").unwrap_err();
    assert!(error.reason.contains("other weights"), "{error}");
    setup.measure("v0002", "v0001", "set", [0.1, 0.2]);
    assert!(setup.check("v0002", "v0001").is_ok());
    std::fs::remove_dir_all(setup.registry.root().join("v0002")).unwrap();
    let error = setup.check("v0002", "v0001").unwrap_err();
    assert!(error.reason.contains("weights of v0002"), "{error}");
}

#[test]
fn one_model_under_two_names_is_compatible_with_itself() {
    let setup = Setup::new();
    let same = setup.registry.publish(draft(), b"1").unwrap();
    for pair in [["v0001", &same.name], [&same.name, "v0001"]] {
        assert!(!setup.check(pair[0], pair[1]).unwrap().undecided);
    }
    // The same weights behind other preprocessing are another encoder.
    let mut other = draft();
    other.network_mut().unwrap().preprocessing.mean = vec![0.4; 3];
    let other = setup.registry.publish(other, b"1").unwrap();
    assert!(setup.check(&other.name, "v0001").is_err());
}

#[test]
fn damaged_records_certify_nothing() {
    let setup = Setup::new();
    std::fs::write(CompatibilityRecords::path(&setup.registry), "{").unwrap();
    let error = setup.check("v0002", "v0001").unwrap_err().to_string();
    assert!(error.contains("is damaged"), "{error}");
    assert!(error.contains("compatibility.json"), "{error}");
    assert!(!error.contains(setup.folder.path().to_str().unwrap()));
}

#[test]
fn reasons_do_not_say_where_the_registry_lies() {
    let setup = Setup::new();
    let refused = |query: &str| setup.check(query, "v0001").unwrap_err().to_string();
    let unknown = refused("v0009");
    assert!(unknown.contains("\"v0009\" in the registry"), "{unknown}");
    let model = setup.registry.root().join("v0002/model.toml");
    std::fs::write(&model, "no TOML").unwrap();
    let damaged = refused("v0002");
    assert!(damaged.contains(": v0002/model.toml: "), "{damaged}");
    // What is no file cannot be read either.
    std::fs::remove_file(&model).unwrap();
    std::fs::create_dir(&model).unwrap();
    let unreadable = refused("v0002");
    for said in [unknown, damaged, unreadable] {
        assert!(
            !said.contains(setup.folder.path().to_str().unwrap()),
            "{said}"
        );
    }
}

#[test]
fn force_outlasts_the_process() {
    let setup = Setup::new();
    let open = || RegistryRecords::for_gallery(setup.registry.clone(), setup.gallery()).unwrap();
    let records = open();
    let refused = records.check("v0002", "v0001").unwrap_err();
    records
        .keep_accepted(std::slice::from_ref(&refused), false)
        .unwrap();
    records.keep_accepted(&[refused], true).unwrap();
    assert_eq!(
        open().accepted(),
        [("v0002".to_owned(), "v0001".to_owned())]
    );
    std::fs::write(setup.gallery().join("accepted.toml"), "pair = 3").unwrap();
    assert!(RegistryRecords::for_gallery(setup.registry.clone(), setup.gallery()).is_err());
}

#[test]
fn what_a_promotion_accepts_counts_once_its_version_is_live() {
    let setup = Setup::new();
    let open = || RegistryRecords::for_gallery(setup.registry.clone(), setup.gallery()).unwrap();
    let records = open();
    let refused = [records.check("v0002", "v0001").unwrap_err()];
    // As the process left it that ended before the pointer moved.
    records.keep_accepted(&refused, true).unwrap();
    assert!(open().accepted().is_empty());
    setup.registry.set_alias("live", "v0002").unwrap();
    assert_eq!(open().accepted().len(), 1);
    setup.registry.set_alias("live", "v0001").unwrap();
    records.take_back_accepted(&refused).unwrap();
    setup.registry.set_alias("live", "v0002").unwrap();
    assert!(open().accepted().is_empty());
    // What counts in any case is not taken back.
    records.keep_accepted(&refused, false).unwrap();
    records.take_back_accepted(&refused).unwrap();
    assert_eq!(open().accepted().len(), 1);
}

#[test]
fn arguments_are_quoted_for_the_shell() {
    assert_eq!(quoted("cifar10:test"), "cifar10:test");
    assert_eq!(quoted("folder:my pictures"), "'folder:my pictures'");
    assert_eq!(quoted("it's"), r"'it'\''s'");
}
