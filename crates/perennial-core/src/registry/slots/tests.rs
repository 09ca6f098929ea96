use super::*;
use crate::registry::tests::simplex_draft;

fn registry() -> (tempfile::TempDir, Registry) {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::create(folder.path()).unwrap();
    (folder, registry)
}

fn request(owner: &str, classes: usize, place: SlotPlace) -> SlotRequest {
    SlotRequest {
        vertices: 16,
        owner: owner.to_owned(),
        classes,
        place,
        created: "2026-11-22T21:35:00Z".to_owned(),
    }
}

fn allocate(registry: &Registry, owner: &str, classes: usize, place: SlotPlace) -> String {
    match registry.allocate_slot(request(owner, classes, place)) {
        Ok(slot) => slot.describe(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn slots_do_not_overlap_and_survive_the_file() {
    let (_folder, registry) = registry();
    assert!(registry.slots().unwrap().is_empty());
    let of = |owner: &str, classes, place| allocate(&registry, owner, classes, place);
    assert_eq!(of("base", 4, SlotPlace::Front), "vertices 0..4 of base");
    assert_eq!(of("a", 3, SlotPlace::Back), "vertices 13..16 of a");
    assert_eq!(of("b", 3, SlotPlace::At(8)), "vertices 8..11 of b");
    // Two vertices are free above b, four below.
    assert_eq!(of("c", 2, SlotPlace::Back), "vertices 11..13 of c");
    assert_eq!(of("d", 3, SlotPlace::Back), "vertices 5..8 of d");
    for (found, expected) in [
        (
            of("a", 1, SlotPlace::Back),
            "vertices 13..16 of a are allocated already",
        ),
        (of("e", 2, SlotPlace::Back), "no 2 neighbouring vertices"),
        (
            of("e", 2, SlotPlace::At(4)),
            "collide with vertices 5..8 of d",
        ),
        (
            of("e", 1, SlotPlace::Front),
            "collide with vertices 0..4 of base",
        ),
        (
            of("e", 2, SlotPlace::At(15)),
            "no range within a simplex of 16",
        ),
        (of("e", 0, SlotPlace::At(4)), "no range"),
        (of("e", usize::MAX, SlotPlace::At(4)), "no range"),
        (of("e f", 1, SlotPlace::At(4)), "owner \"e f\""),
    ] {
        assert!(found.contains(expected), "{found}");
    }
    assert_eq!(of("e", 1, SlotPlace::Back), "vertices 4..5 of e");
    let owners: Vec<String> = registry
        .slots_of(16)
        .unwrap()
        .into_iter()
        .map(|slot| slot.owner)
        .collect();
    assert_eq!(owners, ["base", "e", "d", "b", "c", "a"]);
    assert!(registry.slots_of(8).unwrap().is_empty());
}

#[test]
fn writers_at_once_get_different_vertices() {
    let (_folder, registry) = registry();
    std::thread::scope(|scope| {
        for writer in ["a", "b"] {
            let registry = registry.clone();
            scope.spawn(move || {
                for number in 0..8 {
                    let owner = format!("{writer}{number}");
                    registry
                        .allocate_slot(request(&owner, 1, SlotPlace::Back))
                        .unwrap();
                }
            });
        }
    });
    let slots = registry.slots().unwrap();
    let firsts: Vec<usize> = slots.iter().map(|slot| slot.first).collect();
    assert_eq!(firsts, (0..16).collect::<Vec<_>>());
}

#[test]
fn vertices_of_published_versions_are_left_alone_unless_they_are_named() {
    let (_folder, registry) = registry();
    let mut draft = simplex_draft(16);
    let classifier = &mut draft.network_mut().unwrap().classifier;
    classifier.classes = 2;
    classifier.pretrained_classes = 3;
    classifier.skipped_vertices = 1;
    registry.publish(draft, b"weights").unwrap();
    assert_eq!(registry.taken_vertices(16).unwrap(), [0..3, 13..15]);
    let of = |owner: &str, classes, place| allocate(&registry, owner, classes, place);
    assert_eq!(of("a", 1, SlotPlace::Back), "vertices 15..16 of a");
    assert_eq!(of("b", 2, SlotPlace::Back), "vertices 11..13 of b");
    assert_eq!(of("c", 2, SlotPlace::At(13)), "vertices 13..15 of c");
    let refused = registry.grow_slots(16, 32).unwrap_err().to_string();
    assert!(
        refused.contains("v0001 trained on the simplex of 16") && refused.contains("bridge"),
        "{refused}"
    );
}

#[test]
fn an_unused_simplex_grows() {
    let (_folder, registry) = registry();
    allocate(&registry, "a", 3, SlotPlace::Back);
    let message = |from, to| registry.grow_slots(from, to).unwrap_err().to_string();
    assert!(message(16, 16).contains("only grows"));
    assert!(message(8, 16).contains("nothing to grow"));
    assert!(message(16, usize::MAX).contains("exceeds the limit"));
    let grown = registry.grow_slots(16, 20).unwrap();
    assert_eq!(grown[0].describe(), "vertices 13..16 of a");
    assert_eq!(registry.slots().unwrap(), grown);
    let other = SlotRequest {
        vertices: 20,
        ..request("b", 4, SlotPlace::Back)
    };
    assert_eq!(registry.allocate_slot(other).unwrap().first, 16);
}

#[test]
fn damaged_files_are_named() {
    let (folder, registry) = registry();
    let path = folder.path().join(FILE);
    let slot = |owner: &str, first: usize, end: usize| {
        format!(
            "[[slot]]\nvertices = 16\nowner = \"{owner}\"\nfirst = {first}\nend = {end}\ncreated = \"x\"\n"
        )
    };
    for (text, expected) in [
        ("format_version = 2\n".to_owned(), "format_version is 2"),
        ("format_version = 1\nslots = 3\n".to_owned(), "slots"),
        (
            format!("format_version = 1\n{}{}", slot("a", 0, 4), slot("b", 3, 5)),
            "vertices 0..4 of a collide with vertices 3..5 of b",
        ),
        (
            format!("format_version = 1\n{}{}", slot("a", 0, 4), slot("a", 4, 5)),
            "a has two slots",
        ),
        (
            format!("format_version = 1\n{}", slot("a", 4, 17)),
            "no range within",
        ),
    ] {
        std::fs::write(&path, &text).unwrap();
        let error = registry.slots().unwrap_err().to_string();
        assert!(
            error.contains("slots.toml") && error.contains(expected),
            "{error}"
        );
        // A writer keeps the damaged file, for somebody to look at.
        registry
            .allocate_slot(request("z", 1, SlotPlace::Back))
            .unwrap_err();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }
}
