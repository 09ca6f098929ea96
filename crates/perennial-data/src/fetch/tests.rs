//! Downloads from a server on this machine that misbehaves to order.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};

use flate2::Compression;
use flate2::write::GzEncoder;
use md5::{Digest, Md5};

use super::*;
use crate::image_set::hexadecimal;

/// How the server answers one request.
enum Reply {
    /// As a good server does, ranges included.
    Good,
    /// The same, but the connection ends after so many bytes of the body.
    Cut(usize),
    /// The whole file, whatever range was asked for.
    Whole,
    Status(&'static str),
}

struct Server {
    url: String,
    /// The `Range` header of every request, as it came.
    ranges: Receiver<Option<String>>,
}

impl Server {
    /// Answers as many requests as there are replies.
    fn start(body: Vec<u8>, replies: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/data/", listener.local_addr().unwrap());
        let (send, ranges) = channel();
        std::thread::spawn(move || {
            for reply in replies {
                let (mut stream, _) = listener.accept().unwrap();
                let mut range = None;
                for line in BufReader::new(&stream)
                    .lines()
                    .map_while(Result::ok)
                    .take_while(|line| !line.is_empty())
                {
                    if let Some(value) = line.to_ascii_lowercase().strip_prefix("range: ") {
                        range = Some(value.to_string());
                    }
                }
                let start = range
                    .as_deref()
                    .and_then(|range| range[6..].trim_end_matches('-').parse::<usize>().ok());
                let _ = send.send(range);
                let (status, start) = match (&reply, start) {
                    (Reply::Status(status), _) => (*status, body.len()),
                    (Reply::Whole, _) | (_, None) => ("200 OK", 0),
                    (_, Some(start)) if start >= body.len() => {
                        ("416 Range Not Satisfiable", body.len())
                    }
                    (_, Some(start)) => ("206 Partial Content", start),
                };
                let rest = &body[start..];
                let mut head = format!(
                    "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n",
                    rest.len()
                );
                if status.starts_with("206") {
                    head += &format!(
                        "Content-Range: bytes {start}-{}/{}\r\n",
                        body.len() - 1,
                        body.len()
                    );
                }
                let sent = if let Reply::Cut(bytes) = reply {
                    &rest[..bytes]
                } else {
                    rest
                };
                let _ = stream
                    .write_all(format!("{head}\r\n").as_bytes())
                    .and_then(|()| stream.write_all(sent));
            }
        });
        Self { url, ranges }
    }

    fn ranges(&self) -> Vec<Option<String>> {
        self.ranges.try_iter().collect()
    }
}

fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (path, content) in entries {
        let mut header = tar::Header::new_gnu();
        // Written by hand, since the builder refuses the hostile paths that some tests need.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        tar.append(&header, *content).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

/// Not compressible, so that the archive is long enough to be cut.
fn noise() -> Vec<u8> {
    let mut state = 1_u32;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    })
    .take(200_000)
    .collect()
}

fn small() -> (Vec<u8>, ArchiveSpec) {
    let body = archive(&[
        ("set/", b""),
        ("set/a.bin", &noise()),
        ("set/names.txt", b"one\ntwo\n"),
    ]);
    let spec = ArchiveSpec {
        archive: "set.tar.gz".into(),
        md5: hexadecimal(&Md5::digest(&body)),
        max_archive_bytes: 1 << 20,
        folder: "set".into(),
        files: vec![
            ArchiveFile {
                name: "a.bin".into(),
                size: FileSize::Exactly(200_000),
            },
            ArchiveFile {
                name: "names.txt".into(),
                size: FileSize::AtMost(100),
            },
        ],
    };
    (body, spec)
}

fn get(spec: &ArchiveSpec, folder: &Path, server: &Server) -> Result<Fetched, FetchError> {
    fetch_archive(spec, folder, &server.url, None, &mut |_| {})
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn downloads_verifies_and_unpacks() {
    let (body, spec) = small();
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(body.clone(), vec![Reply::Good]);
    let mut last = None;
    let fetched = fetch_archive(&spec, folder.path(), &server.url, None, &mut |progress| {
        last = Some(progress)
    })
    .unwrap();
    assert!(!fetched.already_present);
    assert_eq!(
        std::fs::read(fetched.folder.join("a.bin")).unwrap(),
        noise()
    );
    assert_eq!(names(&fetched.folder), ["a.bin", "names.txt"]);
    assert_eq!(names(folder.path()), ["set"], "the archive is deleted");
    let total = body.len() as u64;
    assert_eq!(
        last,
        Some(Progress {
            received_bytes: total,
            total_bytes: Some(total)
        })
    );
    // The second time nothing is asked of the server, which would not answer.
    assert!(get(&spec, folder.path(), &server).unwrap().already_present);
    assert_eq!(server.ranges(), [None]);
}

#[test]
fn goes_on_after_a_cut_in_the_same_call_and_in_a_later_one() {
    let (body, spec) = small();
    let folder = tempfile::tempdir().unwrap();
    let replies = vec![
        Reply::Cut(100_000),
        Reply::Cut(50_000),
        Reply::Status("503 Unavailable"),
        Reply::Good,
    ];
    let server = Server::start(body, replies);
    let error = get(&spec, folder.path(), &server).unwrap_err();
    assert!(
        matches!(error, FetchError::Status { status: 503, .. }),
        "{error}"
    );
    assert_eq!(
        std::fs::metadata(folder.path().join("set.tar.gz.partial"))
            .unwrap()
            .len(),
        150_000
    );
    get(&spec, folder.path(), &server).unwrap();
    let ranges: Vec<_> = server.ranges().into_iter().flatten().collect();
    assert_eq!(ranges, ["bytes=100000-", "bytes=150000-", "bytes=150000-"]);
}

#[test]
fn a_server_without_ranges_sends_the_whole_file_again() {
    let (body, spec) = small();
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(body, vec![Reply::Cut(1000), Reply::Whole]);
    get(&spec, folder.path(), &server).unwrap();
    assert_eq!(server.ranges().len(), 2);
}

#[test]
fn a_finished_download_needs_no_request() {
    let (body, spec) = small();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("set.tar.gz.partial"), &body).unwrap();
    get(&spec, folder.path(), &Server::start(body, vec![])).unwrap();
}

#[test]
fn a_beginning_from_another_archive_is_thrown_away() {
    let (body, spec) = small();
    for length in [5000, body.len() + 10] {
        let mut beginning = vec![7; length];
        beginning[..2].copy_from_slice(&body[..2]);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("set.tar.gz.partial"), beginning).unwrap();
        let server = Server::start(body.clone(), vec![Reply::Good, Reply::Good]);
        get(&spec, folder.path(), &server).unwrap();
        assert_eq!(server.ranges().last(), Some(&None));
    }
}

#[test]
fn a_file_that_is_no_archive_is_neither_taken_nor_overwritten() {
    let (body, spec) = small();
    for content in ["my notes", "x"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("set.tar.gz.partial");
        std::fs::write(&path, content).unwrap();
        let server = Server::start(body.clone(), vec![]);
        let error = get(&spec, folder.path(), &server).unwrap_err().to_string();
        assert!(error.contains("no beginning of an archive"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
    }
}

#[test]
fn a_file_in_the_place_of_the_folder_is_seen_before_the_download() {
    let (body, spec) = small();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("set"), "mine").unwrap();
    let server = Server::start(body, vec![]);
    get(&spec, folder.path(), &server).unwrap_err();
    assert!(server.ranges().is_empty());
    assert_eq!(names(folder.path()), ["set"]);
}

#[test]
fn a_wrong_checksum_unpacks_nothing() {
    let (body, mut spec) = small();
    spec.md5 = "0".repeat(32);
    let folder = tempfile::tempdir().unwrap();
    let error = get(
        &spec,
        folder.path(),
        &Server::start(body, vec![Reply::Good]),
    )
    .unwrap_err();
    assert!(
        matches!(&error, FetchError::Checksum { found, .. } if found.len() == 32),
        "{error}"
    );
    assert!(names(folder.path()).is_empty());
}

#[test]
fn a_missing_archive_names_the_address() {
    let (body, spec) = small();
    let folder = tempfile::tempdir().unwrap();
    let error = get(
        &spec,
        folder.path(),
        &Server::start(body, vec![Reply::Status("404 Not Found")]),
    )
    .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("/data/set.tar.gz: the server answers with status 404"),
        "{error}"
    );
}

#[test]
fn an_unreachable_server_is_an_error() {
    let (_, spec) = small();
    let folder = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let url = format!("http://127.0.0.1:{port}");
    let error = fetch_archive(&spec, folder.path(), &url, None, &mut |_| {}).unwrap_err();
    assert!(matches!(error, FetchError::Request { .. }), "{error}");
}

#[test]
fn an_oversized_download_is_refused_before_it_is_stored() {
    let (body, mut spec) = small();
    spec.max_archive_bytes = 1000;
    let folder = tempfile::tempdir().unwrap();
    let error = get(
        &spec,
        folder.path(),
        &Server::start(body, vec![Reply::Good]),
    )
    .unwrap_err();
    assert!(
        matches!(error, FetchError::TooLarge { limit: 1000, .. }),
        "{error}"
    );
    assert!(names(folder.path()).is_empty());
}

#[test]
fn files_of_the_user_are_not_overwritten() {
    let (body, spec) = small();
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("set/a.bin");
    std::fs::create_dir(folder.path().join("set")).unwrap();
    std::fs::write(&own, b"mine").unwrap();
    let server = Server::start(body.clone(), vec![Reply::Good]);
    let error = get(&spec, folder.path(), &server).unwrap_err();
    assert!(
        matches!(
            error,
            FetchError::InTheWay {
                found: 4,
                expected: 200_000,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(std::fs::read(&own).unwrap(), b"mine");
    assert!(server.ranges().is_empty());
}

#[test]
fn only_the_expected_files_are_unpacked() {
    let (_, spec) = small();
    let noise = noise();
    let extras: [(&str, &[u8]); 4] = [
        ("../escaped.bin", b"x"),
        ("/tmp/escaped.bin", b"x"),
        ("set/../../escaped.bin", b"x"),
        ("set/extra.bin", b"x"),
    ];
    let with = |entries: &[(&str, &[u8])]| {
        let body = archive(&[&extras, entries].concat());
        let spec = ArchiveSpec {
            md5: hexadecimal(&Md5::digest(&body)),
            ..spec.clone()
        };
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("data");
        let result = get(&spec, &folder, &Server::start(body, vec![Reply::Good]));
        assert_eq!(names(outer.path()), ["data"]);
        (
            result.map_err(|error| error.to_string()),
            names(&folder.join("set")),
        )
    };
    let (result, files) = with(&[("set/a.bin", &noise)]);
    assert!(result.is_ok() && files == ["a.bin"], "{result:?} {files:?}");
    let (result, files) = with(&[("set/a.bin", b"short")]);
    assert!(result.unwrap_err().contains("a.bin has 5 bytes") && files.is_empty());
    let (result, files) = with(&[("set/names.txt", b"one")]);
    assert!(result.unwrap_err().contains("a.bin is missing") && files == ["names.txt"]);
}

#[test]
fn a_cut_archive_does_not_leave_a_cut_file() {
    let (body, spec) = small();
    let body = body[..body.len() / 2].to_vec();
    let spec = ArchiveSpec {
        md5: hexadecimal(&Md5::digest(&body)),
        ..spec
    };
    let folder = tempfile::tempdir().unwrap();
    assert!(
        get(
            &spec,
            folder.path(),
            &Server::start(body, vec![Reply::Good])
        )
        .is_err()
    );
    assert!(names(&folder.path().join("set")).is_empty());
}

#[test]
fn a_running_download_is_not_disturbed() {
    let (body, spec) = small();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("set.tar.gz.partial");
    let file = std::fs::File::create(&path).unwrap();
    file.lock().unwrap();
    let error = get(&spec, folder.path(), &Server::start(body, vec![])).unwrap_err();
    assert!(matches!(error, FetchError::Busy { .. }), "{error}");
}

#[test]
fn the_official_archives_fit_the_readers() {
    for archive in DatasetArchive::ALL {
        let spec = archive.spec();
        assert_eq!(DatasetArchive::from_name(archive.name()), Some(archive));
        assert_eq!(spec.md5.len(), 32);
        let record = if archive == DatasetArchive::Cifar10 {
            3073
        } else {
            3074
        };
        for file in spec.files {
            if let FileSize::Exactly(bytes) = file.size {
                assert_eq!(bytes % record, 0, "{}", file.name);
            }
        }
    }
    assert_eq!(DatasetArchive::from_name("mnist"), None);
}
