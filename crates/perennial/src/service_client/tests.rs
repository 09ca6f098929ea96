use super::*;

#[test]
fn addresses() {
    for (text, url) in [
        ("http://127.0.0.1:7700", "http://127.0.0.1:7700"),
        ("http://127.0.0.1:7700/", "http://127.0.0.1:7700"),
        (
            "https://host.example/photos/",
            "https://host.example/photos",
        ),
        ("http://[::1]:7700", "http://[::1]:7700"),
    ] {
        assert_eq!(address(text).unwrap().0, url);
    }
    for (text, says) in [
        ("", "--server : "),
        ("127.0.0.1:7700", "lacks http://"),
        ("localhost", "lacks http://"),
        ("ftp://host", "must begin with http://"),
        ("http://me:secret@host", "pass --key"),
        ("http://host/?a=b", "`?`"),
        ("http://", "--server http://"),
    ] {
        let error = address(text).map(|_| ()).unwrap_err();
        assert!(error.is::<UsageError>());
        assert!(error.to_string().contains(says), "{text}: {error}");
    }
}

#[test]
fn values_survive_an_address() {
    assert_eq!(query_value("a b/ü\"&="), "a%20b%2F%C3%BC%22%26%3D");
    assert_eq!(query_value("v0001-a._~"), "v0001-a._~");
}

#[test]
fn proxies_are_for_other_machines() {
    for host in ["localhost", "127.0.0.1", "127.8.0.1", "[::1]"] {
        assert!(is_loopback(host), "{host}");
    }
    for host in ["localhost.example", "10.0.0.1", "[2001:db8::1]", "example"] {
        assert!(!is_loopback(host), "{host}");
    }
}

fn origins(argument: Option<&str>, set: &[&str]) -> [Option<&'static str>; 2] {
    let keys = ClientKeys::new(argument, |name| {
        set.contains(&name).then(|| "0123456789abcdef".to_owned())
    })
    .unwrap();
    [Scope::Read, Scope::Write].map(|scope| keys.of(scope).map(|key| key.origin))
}

#[test]
fn every_scope_has_its_key() {
    let (read, write) = ("PERENNIAL_READ_KEY", "PERENNIAL_WRITE_KEY");
    assert_eq!(origins(None, &[]), [None, None]);
    assert_eq!(origins(None, &[read]), [Some(read), None]);
    assert_eq!(origins(None, &[write]), [Some(write), Some(write)]);
    assert_eq!(origins(None, &[read, write]), [Some(read), Some(write)]);
    assert_eq!(origins(Some("k"), &[read, write]), [Some("--key"); 2]);
    let error = ClientKeys::new(Some("two words"), |_| None).err().unwrap();
    assert!(!error.to_string().contains("two"), "{error}");
}
