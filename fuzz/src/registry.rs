//! The text files of a registry.

use std::path::PathBuf;

use perennial_core::{CompatibilityRecords, ModelVersion, Registry, SlotPlace, SlotRequest};

use crate::Target;
use crate::scratch::Scratch;

/// A registry whose files may be overwritten.
struct Files {
    scratch: Scratch,
    registry: Registry,
}

impl Files {
    fn new() -> Self {
        let scratch = Scratch::new();
        let registry = Registry::create(scratch.path()).unwrap();
        Self { scratch, registry }
    }

    /// Adds a version that exists but says nothing.
    fn add(&self, version: &str) -> PathBuf {
        let folder = self.scratch.path().join(version);
        std::fs::create_dir(&folder).unwrap();
        let path = folder.join("model.toml");
        std::fs::write(&path, "").unwrap();
        path
    }
}

/// `model.toml`, as text and as a file of the registry.
pub struct ModelToml {
    files: Files,
    path: PathBuf,
}

impl Target for ModelToml {
    fn new() -> Self {
        let files = Files::new();
        let path = files.add("v0003");
        Self { files, path }
    }

    fn run(&mut self, bytes: &[u8]) -> bool {
        std::fs::write(&self.path, bytes).unwrap();
        let stored = self.files.registry.get("v0003");
        let parsed = std::str::from_utf8(bytes)
            .ok()
            .and_then(|text| ModelVersion::from_toml(text).ok());
        let Some(version) = parsed else {
            assert!(stored.is_err());
            return false;
        };
        match stored {
            Ok(stored) => assert_eq!(stored, version),
            Err(_) => assert_ne!(version.name, "v0003"),
        }
        version.draft().validate().unwrap();
        let text = version.to_toml();
        let again = ModelVersion::from_toml(&text).unwrap();
        assert_eq!(again, version);
        assert_eq!(again.to_toml(), text);
        true
    }
}

/// `aliases.toml`.
pub struct Aliases(Files);

impl Target for Aliases {
    fn new() -> Self {
        let files = Files::new();
        files.add("v0001");
        files.add("v0002");
        Self(files)
    }

    fn run(&mut self, bytes: &[u8]) -> bool {
        let path = self.0.scratch.write("aliases.toml", bytes);
        let registry = &self.0.registry;
        let read = registry.aliases();
        let set = registry.set_alias("fuzzed", "v0002");
        let Ok(mut aliases) = read else {
            assert!(set.is_err());
            assert_eq!(std::fs::read(&path).unwrap(), bytes);
            return false;
        };
        for (alias, version) in &aliases {
            Registry::check_alias(alias).unwrap();
            if let Ok(resolved) = registry.resolve(alias) {
                assert!(&resolved == version || alias == "fuzzed");
            }
        }
        set.unwrap();
        aliases.insert("fuzzed".to_owned(), "v0002".to_owned());
        assert_eq!(registry.aliases().unwrap(), aliases);
        true
    }
}

/// `compatibility.json`.
pub struct Compatibility(Files);

impl Target for Compatibility {
    fn new() -> Self {
        Self(Files::new())
    }

    fn run(&mut self, bytes: &[u8]) -> bool {
        let path = self.0.scratch.write("compatibility.json", bytes);
        let registry = &self.0.registry;
        let Ok(records) = CompatibilityRecords::of(registry) else {
            assert!(CompatibilityRecords::add(registry, []).is_err());
            assert_eq!(std::fs::read(&path).unwrap(), bytes);
            return false;
        };
        // Written unchanged, it reads back unchanged.
        CompatibilityRecords::add(registry, []).unwrap();
        assert_eq!(CompatibilityRecords::of(registry).unwrap(), records);
        // The same measurements once more replace themselves.
        CompatibilityRecords::add(registry, records.records.clone()).unwrap();
        let merged = CompatibilityRecords::of(registry).unwrap();
        assert!(merged.records.len() <= records.records.len());
        for record in &merged.records {
            assert!(records.records.contains(record));
            let of_pair = merged.of_pair(&record.query_version, &record.gallery_version);
            assert!(of_pair.count() >= 1);
        }
        CompatibilityRecords::add(registry, merged.records.clone()).unwrap();
        assert_eq!(CompatibilityRecords::of(registry).unwrap(), merged);
        true
    }
}

/// `slots.toml`.
pub struct Slots(Files);

/// Vertices of the simplex on which a slot is asked for.
const VERTICES: usize = 16;

impl Target for Slots {
    fn new() -> Self {
        Self(Files::new())
    }

    fn run(&mut self, bytes: &[u8]) -> bool {
        let path = self.0.scratch.write("slots.toml", bytes);
        let registry = &self.0.registry;
        let read = registry.slots();
        let allocated = registry.allocate_slot(SlotRequest {
            vertices: VERTICES,
            owner: "fuzzed".to_owned(),
            classes: 2,
            place: SlotPlace::Back,
            created: "2026-11-22T21:35:00Z".to_owned(),
        });
        let Ok(mut slots) = read else {
            assert!(allocated.is_err());
            assert_eq!(std::fs::read(&path).unwrap(), bytes);
            return false;
        };
        for slot in &slots {
            assert!(slot.first < slot.end && slot.end <= slot.vertices);
            let others = slots.iter().filter(|other| *other != slot);
            let mut others = others.filter(|other| other.vertices == slot.vertices);
            assert!(
                !others.any(|other| other.overlaps(&slot.range()) || other.owner == slot.owner)
            );
        }
        match allocated {
            // The simplex is full, or has such an owner.
            Err(_) => assert_eq!(std::fs::read(&path).unwrap(), bytes),
            Ok(slot) => {
                slots.push(slot);
                slots.sort_by_key(|slot| (slot.vertices, slot.first));
                assert_eq!(registry.slots().unwrap(), slots);
            }
        }
        let of_simplex = |vertices| slots.iter().filter(move |slot| slot.vertices == vertices);
        if let Ok(grown) = registry.grow_slots(VERTICES, 2 * VERTICES) {
            assert_eq!(grown.len(), of_simplex(VERTICES).count());
            assert_eq!(registry.slots_of(2 * VERTICES).unwrap(), grown);
        }
        true
    }
}
