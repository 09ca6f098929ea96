//! Keys.

use perennial_connect::{Address, ConnectError};

use crate::cluster::double;
use crate::double::{Fault, Kind};
use crate::spaces::request;

const SECRET: &str = "s3cret-key";

#[test]
fn a_key_is_sent_and_never_shown() {
    let Some(cluster) = double() else { return };
    cluster.items(5);
    cluster.inside().state().key = Some(SECRET.to_owned());
    let run = |key: Option<&str>| {
        let address = Address::new(&cluster.url()).unwrap();
        let address = address
            .with_secret(|name| (name == "QDRANT_API_KEY").then(|| key.map(str::to_owned))?);
        perennial_connect::migrate::run(
            &address.unwrap(),
            &request(&cluster),
            &mut perennial_connect::Silent,
        )
    };
    for key in [None, Some("other-s3cret")] {
        let error = run(key).unwrap_err();
        assert!(matches!(error, ConnectError::Usage(_)), "{error}");
        let text = format!("{error} {error:?}");
        assert!(
            text.contains("QDRANT_API_KEY") && !text.contains("s3cret"),
            "{text}"
        );
    }
    assert_eq!(run(Some(SECRET)).unwrap().written, 5);
    // A server that repeats it.
    let said = r#"{"result": "s3cret-key"}"#;
    cluster
        .inside()
        .fail(Fault::new("GET /aliases", 0, Kind::Say(said)));
    let error = run(Some(SECRET)).unwrap_err();
    assert!(!format!("{error} {error:?}").contains(SECRET), "{error:?}");
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let Some(cluster) = double() else { return };
    let address = Address::new("qdrant://127.0.0.1:1/items").unwrap();
    let error = perennial_connect::migrate::run(
        &address,
        &request(&cluster),
        &mut perennial_connect::Silent,
    );
    let error = error.unwrap_err();
    assert!(error.may_pass(), "{error}");
    assert!(error.to_string().contains("127.0.0.1:1/items"), "{error}");
}
