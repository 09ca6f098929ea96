//! Stored probes: a version that computes something else than it did is refused.

use serde_json::{Value, json};

use crate::encoder::expected;
use crate::harness::{Running, Setup};

const RED: [u8; 3] = [250, 10, 10];

/// The same registry, gallery and probes in a new process, so to say.
fn again(before: &Running) -> Setup {
    let mut setup = Setup::new(&[]);
    setup.registry = before.setup.registry.clone();
    setup.store = before.setup.store.clone();
    setup.config.probes = before.setup.config.probes.clone();
    setup
}

fn check<'a>(checks: &'a Value, name: &str) -> &'a Value {
    let list = checks.as_array().unwrap();
    list.iter().find(|check| check["name"] == name).unwrap()
}

#[test]
fn a_changed_program_does_not_start_with_the_old_version() {
    let first = Setup::new(&["0"]).start();
    let file = first.setup.folder.path().join("probes/v0001.safetensors");
    let stored = std::fs::read(&file).unwrap();
    again(&first).start().stop().unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), stored, "written once");

    // Less than the tolerance is rounding.
    let setup = again(&first);
    setup.drift.set(1e-4);
    setup.start().stop().unwrap();
    let changed = || {
        let setup = again(&first);
        setup.drift.set(0.3);
        setup
    };
    let error = changed().try_start().err().unwrap().to_string();
    assert!(
        error.contains("v0001 cannot be served")
            && error.contains("probe 0: the embedding differs"),
        "{error}"
    );
    assert_eq!(std::fs::read(&file).unwrap(), stored);
    // The way out where the change is meant.
    std::fs::remove_file(&file).unwrap();
    changed().start().stop().unwrap();
    assert_ne!(std::fs::read(&file).unwrap(), stored);
}

#[test]
fn a_swap_back_is_held_against_the_first_time() {
    let setup = Setup::new(&["0", "0.5"]);
    let folder = setup.folder.path().join("probes");
    let service = setup.start();
    let dry = json!({"version": "v0002", "dry_run": true});
    let answer = service.call("PUT", "/aliases/live", &dry).expect(200);
    let detail = check(&answer["checks"], "stored_probes")["detail"].clone();
    assert!(detail.as_str().unwrap().contains("first time"), "{detail}");
    assert!(!folder.join("v0002.safetensors").exists());
    service.swap("v0002").expect(200);
    assert!(folder.join("v0002.safetensors").exists());
    let back = service.swap("v0001").expect(200);
    let detail = check(&back["checks"], "stored_probes")["detail"].clone();
    assert!(detail.as_str().unwrap().contains("within 0"), "{detail}");

    service.setup.drift.set(0.3);
    let order = json!({"version": "v0002", "force": true});
    let refused = service.call("PUT", "/aliases/live", &order);
    assert_eq!(refused.code(409), "check_failed");
    let error = &refused.json()["error"];
    assert_eq!(
        check(&error["details"]["checks"], "stored_probes")["passed"],
        false
    );
    assert_eq!(service.get("/models").expect(200)["live"], "v0001");
    service.setup.drift.set(0.0);
    service.swap("v0002").expect(200);
}

#[test]
fn a_damaged_probe_file_is_named_and_never_trusted() {
    let setup = Setup::new(&["0", "0.5"]);
    let file = setup.folder.path().join("probes/v0002.safetensors");
    let service = setup.start();
    service.swap("v0002").expect(200);
    let stored = std::fs::read(&file).unwrap();
    service.swap("v0001").expect(200);
    let text = String::from_utf8_lossy(&stored).into_owned();
    let header = u64::from_le_bytes(stored[..8].try_into().unwrap()) as usize;
    assert!(text.contains("perennial-probes"));
    let flipped = |at: usize| {
        let mut bytes = stored.clone();
        bytes[at] ^= 0x40;
        bytes
    };
    let mut huge = stored.clone();
    huge[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    for (what, damaged) in [
        ("empty", Vec::new()),
        ("cut off", stored[..stored.len() - 1].to_vec()),
        ("a header of 2^64 bytes", huge),
        // The sign or exponent of the first value.
        ("another value", flipped(8 + header + 3)),
        ("an image", flipped(stored.len() - 200)),
        ("too large", vec![0; 17 << 20]),
    ] {
        std::fs::write(&file, &damaged).unwrap();
        let refused = service.swap("v0002");
        assert_eq!(refused.code(409), "check_failed", "{what}");
        let error = refused.json();
        let message = error["error"]["message"].as_str().unwrap();
        assert!(message.contains("stored_probes"), "{what}: {message}");
        assert!(!message.contains(service.setup.folder.path().to_str().unwrap()));
    }
    std::fs::write(&file, &stored).unwrap();
    service.swap("v0002").expect(200);
}

#[test]
fn another_model_under_a_known_name_is_refused_while_items_of_the_name_are_stored() {
    let first = Setup::new(&["0"]).start();
    let other = |store| {
        let mut setup = Setup::new(&["0.5"]);
        if store {
            setup.store = first.setup.store.clone();
        }
        setup.config.probes = first.setup.config.probes.clone();
        setup
    };
    let item = json!({"id": 1, "embedding": expected(RED, 0.0), "model_version": "v0001"});
    first.call("PUT", "/gallery/items", &item).expect(200);
    let error = other(true).try_start().err().unwrap().to_string();
    assert!(error.contains("another model with this name"), "{error}");
    // An empty gallery owes nothing to the old model.
    other(false).start().stop().unwrap();
    let error = again(&first).try_start().err().unwrap().to_string();
    assert!(error.contains("another model with this name"), "{error}");
}
