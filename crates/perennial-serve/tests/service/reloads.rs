//! New keys while the service runs.

use perennial_serve::{Keys, Reloaded, Scope, ServeError};

use crate::client::Call;
use crate::harness::Setup;
use crate::keys::{READ, WRITE, keys};

const NEW: &str = "a-key-that-came-later";

pub fn new_keys() -> Result<Keys, ServeError> {
    let mut keys = Keys::default();
    keys.add(Scope::Read, NEW, "test")?;
    Ok(keys)
}

#[test]
fn keys_are_replaced_all_at_once_or_not_at_all() {
    let mut setup = Setup::new(&["0"]);
    setup.config.keys = keys();
    let service = setup.start();
    let status = |key: &str| {
        Call::new("GET", "/models")
            .key(key)
            .send(service.address)
            .status
    };
    assert_eq!([status(READ), status(WRITE), status(NEW)], [200, 200, 401]);

    let refused = |keys: Result<Keys, ServeError>| service.reloader.reload(|| keys).unwrap_err();
    let damaged = Keys::from_file(&service.setup.folder.path().join("missing"));
    assert!(refused(damaged).to_string().contains("missing"));
    // No keys would open the service.
    assert!(
        refused(Ok(Keys::default()))
            .to_string()
            .contains("open the service")
    );
    assert_eq!([status(READ), status(WRITE), status(NEW)], [200, 200, 401]);

    let reloaded = service.reloader.reload(new_keys).unwrap().unwrap();
    assert_eq!(
        reloaded,
        Reloaded {
            read_keys: 1,
            write_keys: 0,
            certificate_expires: None
        }
    );
    assert_eq!([status(READ), status(WRITE), status(NEW)], [401, 401, 200]);
    let metrics = Call::new("GET", "/metrics").key(NEW).send(service.address);
    let metrics = String::from_utf8(metrics.body).unwrap();
    for line in [
        "perennial_reloads_total{outcome=\"failed\"} 2",
        "perennial_reloads_total{outcome=\"done\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}

#[test]
fn after_the_end_there_is_nothing_to_reload() {
    let service = Setup::new(&["0"]).start();
    let reloader = service.reloader.clone();
    service.stop().unwrap();
    assert_eq!(reloader.reload(new_keys).unwrap(), None);
}
