//! Files that are no library of onnxruntime, and one that is if `PERENNIAL_ONNXRUNTIME` names it. In a process of its own: it loads one library.
#![allow(clippy::unwrap_used)]

use perennial_encode::{GraphRuntime, LibraryError};

#[cfg(not(feature = "onnxruntime"))]
#[test]
fn a_build_without_onnxruntime_says_so() {
    let error = GraphRuntime::Onnxruntime("libonnxruntime.so".into())
        .open()
        .unwrap_err();
    assert!(matches!(error, LibraryError::NotBuilt { .. }));
    assert!(
        error.to_string().contains("--features onnxruntime"),
        "{error}"
    );
}

#[cfg(feature = "onnxruntime")]
#[test]
fn what_is_no_library_is_refused_with_its_name_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("libonnxruntime.so");
    std::fs::write(&text, "not a library").unwrap();
    let open = |file: &std::path::Path| {
        let error = GraphRuntime::Onnxruntime(file.to_owned())
            .open()
            .unwrap_err();
        let said = error.to_string();
        assert!(said.contains(file.to_str().unwrap()), "{said}");
        assert!(said.contains("docs/encoders.md"), "{said}");
        error
    };
    let error = open(&folder.path().join("missing.so"));
    assert!(matches!(error, LibraryError::Missing { .. }), "{error}");
    let error = open(folder.path());
    assert!(matches!(error, LibraryError::Missing { .. }), "{error}");
    let error = open(&text);
    assert!(matches!(error, LibraryError::NotLoaded { .. }), "{error}");
    // A library that every program has loaded.
    #[cfg(target_os = "linux")]
    {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let other = maps
            .lines()
            .filter_map(|line| line.split_whitespace().last())
            .find(|name| name.contains("/libc.so") || name.contains("/libc-"));
        match other {
            None => eprintln!("another library: skipped, libc is not a shared one here"),
            Some(other) => {
                let error = open(other.as_ref());
                assert!(matches!(error, LibraryError::Other { .. }), "{error}");
            }
        }
    }
    let Some(library) = std::env::var_os("PERENNIAL_ONNXRUNTIME") else {
        eprintln!("onnxruntime: skipped, PERENNIAL_ONNXRUNTIME names no library");
        return;
    };
    // What was refused before does not stand in its way.
    let runtime = GraphRuntime::Onnxruntime(library.into());
    let name = runtime.open().unwrap();
    assert!(name.starts_with("onnxruntime 1."), "{name}");
    assert_eq!(runtime.open().unwrap(), name);
    let error = GraphRuntime::Onnxruntime(text).open().unwrap_err();
    assert!(matches!(error, LibraryError::Second { .. }), "{error}");
}
