//! A bridge from 8 to 4 dimensions, and requests that use it.

use std::path::Path;
use std::sync::LazyLock;

use perennial_bridge::{Bridge, Pairs, Recipe, fit};
use perennial_connect::migrate::{RunReport, RunRequest, Source, run};
use perennial_connect::{ConnectError, Observer, Silent};
use perennial_core::SpaceRef;
use perennial_upgrade::MappedPermission;

use crate::database::{Database, vector_of};

pub static BRIDGE: LazyLock<Bridge> = LazyLock::new(|| {
    let old: Vec<f32> = (1..=64).flat_map(vector_of).collect();
    // Not a linear function of the old vectors, so that the bridge is an ordinary one.
    let new: Vec<f32> = (1..=64)
        .flat_map(|id| {
            let old = vector_of(id);
            [0, 2, 4, 6].map(|at| old[at] + 0.3 * old[at + 1] * old[at + 1])
        })
        .collect();
    let pairs = Pairs::new(&old, 8, &new, 4).unwrap();
    let recipe = Recipe::Orthogonal;
    fit(&pairs, &recipe, SpaceRef::unnamed(8), SpaceRef::unnamed(4)).unwrap()
});

static PERMISSION: LazyLock<MappedPermission> = LazyLock::new(|| MappedPermission {
    basis: "as the tests have it".to_owned(),
    undecided: false,
    certificate: "0".repeat(64),
});

pub fn mapped(old: &[f32]) -> Vec<f32> {
    let mut new = Vec::new();
    BRIDGE.apply(old, &mut new).unwrap();
    new
}

/// A mapped run of `items`.
pub fn request() -> RunRequest<'static> {
    RunRequest {
        table: "items".parse().unwrap(),
        key: Some("id".to_owned()),
        vector: Some("embedding".to_owned()),
        name: "new".to_owned(),
        source: Source::Mapped {
            bridge: &BRIDGE,
            permission: &PERMISSION,
        },
        rate: None,
        index: true,
    }
}

/// A run of `items` from a file.
pub fn from_file(path: &Path) -> RunRequest<'static> {
    RunRequest {
        source: Source::File(path.to_owned()),
        ..request()
    }
}

pub fn run_quietly(
    database: &Database,
    request: &RunRequest<'_>,
) -> Result<RunReport, ConnectError> {
    run(&database.address(), request, &mut Silent)
}

pub fn run_watched(
    database: &Database,
    request: &RunRequest<'_>,
    observer: &mut dyn Observer,
) -> Result<RunReport, ConnectError> {
    run(&database.address(), request, observer)
}
