//! A gallery of two spaces, and the ways between them.

use std::sync::Arc;

use perennial_bridge::{Bridge, Pairs, Recipe, fit_uncentred};
use perennial_core::{SpaceId, SpaceRef};
use perennial_gallery::{Item, VectorStore};
use perennial_upgrade::{Certified, CertifiedWay};
use serde_json::{Value, json};

use crate::encoder::{draft, turned};
use crate::harness::{Running, Setup, image};

/// Half of them are stored by the old version, half by the new one.
pub const OLD: [[u8; 3]; 4] = [[250, 10, 10], [10, 240, 20], [240, 240, 30], [20, 20, 20]];
pub const NEW: [[u8; 3]; 4] = [
    [10, 20, 250],
    [250, 20, 240],
    [30, 230, 240],
    [245, 245, 245],
];
pub const NEW_ANGLE: f32 = 0.9;
/// What the bridge takes for the old angle: it is a little off, as bridges are.
pub const BRIDGED_ANGLE: f32 = 0.2;

/// The embedding by a version with these constants.
pub fn embedded(colour: [u8; 3], mean: f32, angle: f32, dim: usize) -> Vec<f32> {
    let pixel = colour.map(|byte| (f32::from(byte) / 255.0 - mean) / 0.5);
    let mut row = turned(pixel, angle).to_vec();
    row.resize(dim, 0.0);
    row
}

/// From v0002 (5 dimensions) to v0001 (3 dimensions).
pub fn bridge() -> Arc<Bridge> {
    let levels = [0, 70, 128, 200, 255];
    let colours = || {
        let two = levels.into_iter().flat_map(move |r| levels.map(|g| (r, g)));
        two.flat_map(move |(r, g)| levels.map(|b| [r, g, b]))
    };
    let rows = |angle, dim| -> Vec<f32> {
        let rows = colours().flat_map(|colour| embedded(colour, 0.5, angle, dim));
        rows.collect()
    };
    let (new, old) = (rows(NEW_ANGLE, 5), rows(BRIDGED_ANGLE, 3));
    let pairs = Pairs::new(&new, 5, &old, 3).unwrap();
    let space = |name: &str, dim| SpaceRef::named(SpaceId::new(name).unwrap(), dim);
    let (from, to) = (space("v0002", 5), space("v0001", 3));
    Arc::new(fit_uncentred(&pairs, &Recipe::Orthogonal, from, to).unwrap())
}

pub fn dual(weight: f64) -> Certified {
    let bridge = bridge();
    Certified::through(CertifiedWay::Dual { bridge, weight }, "dual measured")
}

pub fn bridged() -> Certified {
    Certified::through(CertifiedWay::Bridged(bridge()), "bridge measured")
}

/// v0001 of 3 dimensions with these weights and an own normalisation, v0002 of 5 dimensions, and items 1 to 4 of the one, 11 to 14 of the other.
/// v0002 is live.
pub fn mixed(old_weights: &str) -> Setup {
    let setup = Setup::new(&[]);
    let mut old = draft(3);
    old.network_mut().unwrap().preprocessing.mean = vec![0.4; 3];
    setup.registry.publish(old, old_weights.as_bytes()).unwrap();
    let new = NEW_ANGLE.to_string();
    setup.registry.publish(draft(5), new.as_bytes()).unwrap();
    setup.registry.set_alias("live", "v0002").unwrap();
    store(&setup, "v0001", 1, OLD, |colour| {
        embedded(colour, 0.4, 0.0, 3)
    });
    store(&setup, "v0002", 11, NEW, |colour| {
        embedded(colour, 0.5, NEW_ANGLE, 5)
    });
    setup
}

pub fn store(
    setup: &Setup,
    version: &str,
    first: u64,
    colours: [[u8; 3]; 4],
    embed: impl Fn([u8; 3]) -> Vec<f32>,
) {
    let items = (first..).zip(colours).map(|(id, colour)| Item {
        id: id.into(),
        embedding: embed(colour),
        model_version: version.to_owned(),
        label: None,
        payload: serde_json::Map::new(),
    });
    setup.store.upsert(items.collect()).unwrap();
}

pub fn search(service: &Running, body: Value) -> Value {
    service.call("POST", "/search", &body).expect(200)
}

pub fn by_picture(service: &Running, colour: [u8; 3]) -> Value {
    search(service, json!({"image": image(colour)}))
}

pub fn metrics(service: &Running) -> String {
    String::from_utf8(service.get("/metrics").body).unwrap()
}

/// Whether the metrics say that so many items of `v0001` are left out for this reason, and none for any other.
pub fn leaves_out(service: &Running, reason: &str, items: u64) -> bool {
    let metrics = metrics(service);
    let lines = metrics.lines();
    let lines = lines.filter_map(|line| {
        let line = line.strip_prefix(r#"perennial_items_not_searched{space="v0001",reason=""#)?;
        line.split_once(r#""} "#)
    });
    let lines: Vec<(&str, &str)> = lines.collect();
    let expected = items.to_string();
    lines.len() == 5
        && lines.iter().any(|(one, _)| *one == reason)
        && lines.iter().all(|(one, left)| match *one == reason {
            true => *left == expected,
            false => *left == "0",
        })
}

/// The part that searches a space.
pub fn part<'a>(answer: &'a Value, space: &str) -> &'a Value {
    let mut parts = answer["parts"].as_array().unwrap().iter();
    let part = parts.find(|part| part["spaces"].as_array().unwrap().contains(&json!(space)));
    part.unwrap_or_else(|| panic!("no part with {space} in {answer}"))
}
