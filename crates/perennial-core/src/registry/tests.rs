use tempfile::TempDir;

use super::*;

fn draft() -> VersionDraft {
    let text = include_str!("../../testdata/model.toml");
    ModelVersion::from_toml(text).unwrap().draft()
}

/// A version with local classes on a simplex of this many vertices.
pub(super) fn simplex_draft(vertices: usize) -> VersionDraft {
    let mut draft = draft();
    draft.dim = vertices - 1;
    draft.network_mut().unwrap().classifier.vertices = Some(vertices);
    draft
}

fn registry() -> (TempDir, Registry) {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::create(folder.path().join("deep/registry")).unwrap();
    (folder, registry)
}

#[test]
fn published_versions_come_back_whole() {
    let (_folder, registry) = registry();
    assert_eq!(registry.list().unwrap(), []);
    let first = registry.publish(draft(), b"weights one").unwrap();
    let second = registry.publish(draft(), b"weights two").unwrap();
    assert_eq!(
        (first.name.as_str(), second.name.as_str()),
        ("v0001", "v0002")
    );
    assert_eq!(first.draft(), draft());
    assert_eq!(registry.get("v0001").unwrap(), first);
    assert_eq!(registry.load_weights(&second).unwrap(), b"weights two");
    assert_eq!(
        registry.weights_path(&second),
        registry.root().join("v0002/weights.safetensors")
    );

    let reopened = Registry::open(registry.root()).unwrap();
    assert_eq!(reopened.list().unwrap(), [first, second]);
}

#[test]
fn nothing_but_versions_numbers_and_the_lock_is_left() {
    let (_folder, registry) = registry();
    let abandoned = registry.root().join(".publish-abandoned");
    std::fs::create_dir(&abandoned).unwrap();
    std::fs::write(abandoned.join("weights.safetensors"), "half").unwrap();
    let foreign = registry.root().join(".publish-notes");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("notes.txt"), "mine").unwrap();
    assert!(registry.names().unwrap().is_empty());

    registry.publish(draft(), b"w").unwrap();
    let mut names: Vec<_> = std::fs::read_dir(registry.root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, [".lock", ".publish-notes", "numbers.toml", "v0001"]);
    assert_eq!(std::fs::read(foreign.join("notes.txt")).unwrap(), b"mine");
}

#[test]
fn concurrent_publishers_get_versions_of_their_own() {
    let (_folder, registry) = registry();
    std::thread::scope(|scope| {
        for publisher in 0..4u8 {
            let registry = registry.clone();
            scope.spawn(move || {
                for round in 0..3u8 {
                    let weights = [publisher, round];
                    let version = registry.publish(draft(), &weights).unwrap();
                    registry
                        .set_alias(&format!("p{publisher}"), &version.name)
                        .unwrap();
                    assert_eq!(registry.load_weights(&version).unwrap(), weights);
                }
            });
        }
    });
    let versions = registry.list().unwrap();
    let mut weights: Vec<_> = versions
        .iter()
        .map(|v| registry.load_weights(v).unwrap())
        .collect();
    weights.sort();
    weights.dedup();
    assert_eq!((versions.len(), weights.len()), (12, 12));
    assert_eq!(registry.aliases().unwrap().len(), 4);
}

#[test]
fn a_broken_draft_publishes_nothing() {
    let (_folder, registry) = registry();
    let mut broken = draft();
    broken.dim = 5;
    let error = registry.publish(broken, b"w").unwrap_err().to_string();
    assert!(error.contains("classifier.vertices"), "{error}");
    assert!(registry.publish(draft(), b"").is_err());
    assert!(registry.names().unwrap().is_empty());
}

#[test]
fn an_occupied_folder_is_never_overwritten() {
    let (_folder, registry) = registry();
    registry.publish(draft(), b"w").unwrap();
    let foreign = registry.root().join("v0007");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("notes.txt"), "mine").unwrap();
    assert_eq!(registry.publish(draft(), b"w").unwrap().name, "v0008");
    assert_eq!(std::fs::read(foreign.join("notes.txt")).unwrap(), b"mine");
    assert_eq!(registry.names().unwrap(), ["v0001", "v0008"]);
}

#[test]
fn changed_weights_are_detected() {
    let (_folder, registry) = registry();
    let version = registry.publish(draft(), b"weights").unwrap();
    let path = registry.weights_path(&version);
    std::fs::write(&path, b"wEights").unwrap();
    let error = registry.load_weights(&version).unwrap_err();
    assert!(
        matches!(error, RegistryError::WeightsHash { .. }),
        "{error}"
    );
    std::fs::write(&path, b"weigh").unwrap();
    let error = registry.load_weights(&version).unwrap_err();
    assert!(
        matches!(
            error,
            RegistryError::WeightsSize {
                expected: 7,
                actual: 5,
                ..
            }
        ),
        "{error}"
    );
    std::fs::remove_file(&path).unwrap();
    let error = registry.load_weights(&version).unwrap_err().to_string();
    assert!(error.contains("weights.safetensors"), "{error}");
}

#[test]
fn a_version_under_another_name_is_refused() {
    let (_folder, registry) = registry();
    registry.publish(draft(), b"w").unwrap();
    std::fs::rename(registry.root().join("v0001"), registry.root().join("v0002")).unwrap();
    let error = registry.get("v0002").unwrap_err().to_string();
    assert!(
        error.contains("v0002") && error.contains("name: is v0001"),
        "{error}"
    );

    std::fs::write(registry.root().join("v0002/model.toml"), [0xff]).unwrap();
    let error = registry.list().unwrap_err().to_string();
    assert!(
        error.contains("model.toml") && error.contains("UTF-8"),
        "{error}"
    );
}

#[test]
fn aliases_move_and_resolve() {
    let (_folder, registry) = registry();
    registry.publish(draft(), b"1").unwrap();
    registry.publish(draft(), b"2").unwrap();
    assert!(registry.aliases().unwrap().is_empty());
    assert_eq!(registry.set_alias("live", "v0001").unwrap(), "v0001");
    assert_eq!(registry.set_alias("next-1.0", "live").unwrap(), "v0001");
    assert_eq!(registry.set_alias("live", "v0002").unwrap(), "v0002");
    assert_eq!(registry.get("live").unwrap().name, "v0002");
    assert_eq!(registry.resolve("next-1.0").unwrap(), "v0001");
    let text = std::fs::read_to_string(registry.root().join("aliases.toml")).unwrap();
    assert_eq!(text, "live = \"v0002\"\n\"next-1.0\" = \"v0001\"\n");
}

#[test]
fn unusable_aliases_are_refused() {
    let (_folder, registry) = registry();
    registry.publish(draft(), b"1").unwrap();
    for alias in [
        "",
        "a/b",
        "..",
        ".hidden",
        "-x",
        "v1",
        "V0001",
        "a b",
        "a\\b",
        "é",
        &"a".repeat(65),
    ] {
        let error = registry.set_alias(alias, "v0001").unwrap_err();
        assert!(
            matches!(error, RegistryError::AliasName { .. }),
            "{alias}: {error}"
        );
    }
    assert!(matches!(
        registry.set_alias("live", "v0009"),
        Err(RegistryError::Unknown { .. })
    ));
    assert!(registry.aliases().unwrap().is_empty());
}

#[test]
fn a_hostile_alias_file_is_named() {
    let (_folder, registry) = registry();
    registry.publish(draft(), b"1").unwrap();
    for (text, says) in [
        ("live = \"../../etc\"", "not a version name"),
        ("\"../x\" = \"v0001\"", "is refused"),
        ("live = 3", "invalid type"),
        ("live", "aliases.toml"),
    ] {
        std::fs::write(registry.root().join("aliases.toml"), text).unwrap();
        let error = registry.resolve("live").unwrap_err().to_string();
        assert!(
            error.contains("aliases.toml") && error.contains(says),
            "{text}: {error}"
        );
        // A broken alias file must not hide the versions themselves, nor be overwritten.
        assert!(registry.get("v0001").is_ok());
        assert!(registry.set_alias("other", "v0001").is_err());
    }
}

#[test]
fn a_name_in_use_by_an_alias_is_not_given_again() {
    let (_folder, registry) = registry();
    registry.publish(draft(), b"1").unwrap();
    registry.publish(draft(), b"2").unwrap();
    registry.set_alias("live", "v0002").unwrap();
    std::fs::remove_dir_all(registry.root().join("v0002")).unwrap();
    let error = registry.get("live").unwrap_err();
    assert!(
        matches!(error, RegistryError::DanglingAlias { .. }),
        "{error}"
    );
    assert_eq!(registry.publish(draft(), b"3").unwrap().name, "v0003");
}

#[test]
fn an_unknown_version_lists_what_exists() {
    let (_folder, registry) = registry();
    let says = |name: &str| registry.get(name).unwrap_err().to_string();
    assert!(says("live").contains("holds no version yet"));
    for _ in 0..3 {
        registry.publish(draft(), b"w").unwrap();
    }
    registry.set_alias("live", "v0002").unwrap();
    let error = says("lve");
    assert!(
        error.contains("it holds live -> v0002, v0003, v0002, v0001"),
        "{error}"
    );
    assert!(error.ends_with("did you mean live?"), "{error}");
    for name in ["v3", "3", "V03", "v00003"] {
        assert!(says(name).ends_with("did you mean v0003?"), "{name}");
    }
    for name in ["../v0001", "", &"x".repeat(500)] {
        assert!(
            matches!(registry.get(name), Err(RegistryError::Unknown { .. })),
            "{name}"
        );
    }
    assert!(!says("something else").contains("did you mean"));
}

#[test]
fn a_missing_registry_is_named() {
    let error = Registry::open("/nonexistent/registry")
        .unwrap_err()
        .to_string();
    assert!(error.contains("/nonexistent/registry"), "{error}");
}
