use super::*;

const TEXTS: FileKind = FileKind {
    name: "a text of ours",
    recognise: |head| head.starts_with(b"ours"),
};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn refusal(path: impl Into<PathBuf>) -> String {
    Output::prepare(path).unwrap_err().to_string()
}

#[test]
fn what_cannot_be_written_is_refused_before_the_work() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("file"), "x").unwrap();
    assert!(refusal(path("no/such/out")).contains("no/such does not exist; create it first"));
    assert!(refusal(folder.path()).contains("is a folder"));
    assert!(refusal(path("..")).contains("is a folder"));
    assert!(refusal(path("new/")).contains("folder"));
    assert!(refusal("").contains("an empty path"));
    // A file where a folder should be.
    assert!(refusal(path("file/out")).contains("file"));
    assert_eq!(names(folder.path()), ["file"]);
}

#[test]
fn preparing_changes_nothing_and_committing_replaces() {
    let folder = folder();
    let path = folder.path().join("out");
    let output = Output::prepare(&path).unwrap();
    assert!(names(folder.path()).is_empty());
    output.commit("first").unwrap();
    let output = Output::prepare(&path).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"first");
    output.commit("second").unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"second");
    assert_eq!(names(folder.path()), ["out"]);
}

#[test]
fn only_files_of_the_own_kind_are_replaced() {
    let folder = folder();
    let path = folder.path().join("out");
    for (content, replaceable) in [("ours, old", true), ("", true), ("my notes", false)] {
        std::fs::write(&path, content).unwrap();
        let prepared = Output::prepare_kind(&path, TEXTS);
        assert_eq!(prepared.is_ok(), replaceable, "{content}");
        if let Err(error) = prepared {
            assert!(
                error.to_string().contains("is not a text of ours"),
                "{error}"
            );
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
    }
    // With nobody to ask, a plain output takes the file's place.
    Output::prepare(&path).unwrap().commit("new").unwrap();
}

#[test]
fn folders_are_checked_without_being_made() {
    let folder = folder();
    check_folder(&folder.path().join("a/b/c")).unwrap();
    check_folder(folder.path()).unwrap();
    assert!(names(folder.path()).is_empty());
    std::fs::write(folder.path().join("file"), "x").unwrap();
    for name in ["file", "file/inner"] {
        let error = check_folder(&folder.path().join(name)).unwrap_err();
        assert!(error.to_string().contains("is not a folder"), "{error}");
    }
}

#[test]
fn only_new_folders_are_named_as_new() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    std::fs::create_dir(path("old")).unwrap();
    let made = make_folders(&path("old/a/b")).unwrap();
    assert_eq!(made, [path("old/a"), path("old/a/b")]);
    assert!(make_folders(&path("old/a")).unwrap().is_empty());
}

#[cfg(unix)]
mod unix {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;

    use super::*;

    fn pipe(path: &Path) {
        let made = std::process::Command::new("mkfifo").arg(path).status();
        assert!(made.unwrap().success());
    }

    #[test]
    fn links_are_followed_and_stay() {
        let folder = folder();
        let path = |name: &str| folder.path().join(name);
        std::fs::create_dir(path("elsewhere")).unwrap();
        std::fs::write(path("elsewhere/target"), "old").unwrap();
        symlink("elsewhere/target", path("link")).unwrap();
        symlink("link", path("chain")).unwrap();
        Output::prepare(path("chain"))
            .unwrap()
            .commit("new")
            .unwrap();
        assert_eq!(std::fs::read(path("elsewhere/target")).unwrap(), b"new");
        assert_eq!(names(&path("elsewhere")), ["target"]);

        symlink(path("elsewhere/made"), path("dangling")).unwrap();
        Output::prepare(path("dangling"))
            .unwrap()
            .commit("made")
            .unwrap();
        assert_eq!(std::fs::read(path("elsewhere/made")).unwrap(), b"made");
        for link in ["link", "chain", "dangling"] {
            assert!(std::fs::symlink_metadata(path(link)).unwrap().is_symlink());
        }

        symlink("nowhere/at/all", path("lost")).unwrap();
        assert!(refusal(path("lost")).contains("nowhere/at does not exist"));
        symlink("loop", path("loop")).unwrap();
        assert!(refusal(path("loop")).contains("links"));
        symlink("elsewhere", path("folder")).unwrap();
        assert!(refusal(path("folder")).contains("is a folder"));
    }

    #[test]
    fn devices_stay_devices_and_say_when_they_are_full() {
        let folder = folder();
        let link = folder.path().join("null");
        symlink("/dev/null", &link).unwrap();
        for path in [Path::new("/dev/null"), &link] {
            Output::prepare(path).unwrap().commit("gone").unwrap();
        }
        let null = std::fs::metadata("/dev/null").unwrap().file_type();
        assert!(null.is_char_device());
        if Path::new("/dev/full").exists() {
            let error = Output::prepare("/dev/full")
                .unwrap()
                .commit("x")
                .unwrap_err();
            assert!(error.to_string().contains("/dev/full"), "{error}");
        }
    }

    #[test]
    fn pipes_are_written_to_once_somebody_reads() {
        let folder = folder();
        let path = folder.path().join("pipe");
        pipe(&path);
        assert!(refusal(&path).contains("start the reader first"));
        let reader = {
            let path = path.clone();
            std::thread::spawn(move || std::fs::read(path).unwrap())
        };
        let output = Output::prepare(&path).unwrap();
        // More than a pipe holds: writing has to wait for the reader.
        let content = vec![7; 1 << 20];
        output.commit(&content).unwrap();
        assert_eq!(reader.join().unwrap(), content);
        assert!(std::fs::metadata(&path).unwrap().file_type().is_fifo());
    }

    #[test]
    fn sockets_are_refused() {
        let folder = folder();
        let path = folder.path().join("socket");
        let _listener = UnixListener::bind(&path).unwrap();
        assert!(refusal(&path).contains("is a socket"));
    }

    #[test]
    fn descriptors_are_written_to() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let number = std::os::fd::AsRawFd::as_raw_fd(&writer);
        let output = Output::prepare(format!("/dev/fd/{number}")).unwrap();
        output.commit("through a descriptor").unwrap();
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through a descriptor");
        for name in ["-", "/dev/stdout", "/dev/fd/1"] {
            let output = Output::prepare(name).unwrap();
            assert!(output.is_stdout());
            assert_ne!(output.path(), Path::new("-"));
        }
    }

    #[test]
    fn the_mode_of_a_replaced_file_stays() {
        let folder = folder();
        let path = folder.path().join("out");
        std::fs::write(&path, "old").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        Output::prepare(&path).unwrap().commit("new").unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
    }

    #[test]
    fn write_protection_is_seen_before_the_work() {
        let folder = folder();
        let path = folder.path().join("out");
        std::fs::write(&path, "old").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o444)).unwrap();
        // The superuser is not held up by it.
        if File::options().write(true).open(&path).is_err() {
            assert!(refusal(&path).contains("cannot be written"));
        }
        // This nobody may write to.
        assert!(refusal("/proc/perennial-output").contains("/proc/perennial-output"));
        assert!(check_folder(Path::new("/proc/perennial/output")).is_err());
    }
}

#[test]
fn a_result_in_pieces_takes_its_name_at_the_end() {
    let folder = folder();
    let path = folder.path().join("out");
    std::fs::write(&path, "old").unwrap();
    let mut file = Output::prepare(&path).unwrap().begin().unwrap();
    file.write_all(b"ne").unwrap();
    let mut scratch = file.scratch().unwrap();
    scratch.write_all(b"aside").unwrap();
    file.write_all(b"w").unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"old");
    file.finish().unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"new");
    let mut dropped = Output::prepare(&path).unwrap().begin().unwrap();
    dropped.write_all(b"never").unwrap();
    drop(dropped);
    assert_eq!(std::fs::read(&path).unwrap(), b"new");
    assert_eq!(names(folder.path()), ["out"]);
}
