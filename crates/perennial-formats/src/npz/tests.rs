use super::*;
use crate::testing::{example, file, problem, read, written};

fn npz(entries: &[(&str, Vec<u8>)], method: CompressionMethod) -> Vec<u8> {
    let options = SimpleFileOptions::default().compression_method(method);
    let mut zip = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        zip.start_file(*name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn array(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    [header_bytes(descr, shape), data.to_vec()].concat()
}

fn matrix(values: &[f32], rows: usize) -> Vec<u8> {
    let data: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    array("<f4", &format!("({rows}, {})", values.len() / rows), &data)
}

#[test]
fn stored_and_compressed_archives_are_read() {
    let vectors: Vec<f32> = (0..6).map(|value| value as f32).collect();
    for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
        let bytes = npz(
            &[
                ("labels.npy", array("|i1", "(3,)", &[1, 2, 255])),
                ("arr_0.npy", matrix(&vectors, 3)),
                ("ids.npy", array("|S1", "(3,)", b"a7b")),
            ],
            method,
        );
        let set = read(&bytes).unwrap();
        assert_eq!(set.vectors(), vectors);
        assert_eq!(
            set.ids().unwrap(),
            ["a".into(), ItemId::Number(7), "b".into()]
        );
        assert_eq!(set.labels().unwrap()[2], Label::Number(-1));
        let (_folder, path) = file(&bytes);
        let mut reader = crate::open(&path).unwrap();
        assert_eq!(reader.next(2).unwrap().unwrap().vectors(), &vectors[..4]);
        assert_eq!(reader.next(2).unwrap().unwrap().vectors(), &vectors[4..]);
        assert!(reader.next(2).unwrap().is_none());
    }
}

#[test]
fn ids_and_labels_may_be_named_in_the_singular() {
    let named = |id: &str, label: &str| {
        let numbers = |name: &str, value| (format!("{name}.npy"), array("|u1", "(1,)", &[value]));
        let entries = [
            ("embeddings.npy".to_owned(), matrix(&[1.0, 2.0], 1)),
            numbers(id, 7),
            numbers(label, 3),
        ];
        let entries: Vec<(&str, Vec<u8>)> = entries
            .iter()
            .map(|(name, bytes)| (name.as_str(), bytes.clone()))
            .collect();
        read(npz(&entries, CompressionMethod::Stored)).unwrap()
    };
    let set = named("id", "label");
    assert_eq!(set.ids().unwrap(), [7_u64.into()]);
    assert_eq!(set.labels(), named("ids", "labels").labels());
}

#[test]
fn wrong_content_is_named() {
    let stored = CompressionMethod::Stored;
    let vectors = || ("embeddings.npy", matrix(&[1.0, 2.0], 2));
    for (entries, says) in [
        (vec![], "holds no array `embeddings`"),
        (vec![("x.npy", matrix(&[1.0], 1))], "but \"x\" (<f4 [1, 1])"),
        (
            vec![("embeddings.npy", array("|O", "(1, 1)", b"\x80\x04."))],
            "array `embeddings`: the array is `|O`",
        ),
        (
            vec![vectors(), ("ids.npy", array("|u1", "(1,)", &[1]))],
            "1 ids for 2 vectors",
        ),
        (
            vec![vectors(), ("labels.npy", array("<f4", "(2,)", &[0; 8]))],
            "array `labels`",
        ),
        (
            vec![vectors(), ("space.npy", array("<U1", "(0,)", &[]))],
            "`space` must hold one text",
        ),
        (
            vec![("embeddings.npy", array("<f4", "(2, 1)", &[0; 4]))],
            "needs 8",
        ),
    ] {
        let error = problem(npz(&entries, stored));
        assert!(error.contains(says), "{error} | {says}");
    }
    assert!(problem(b"PK\x03\x04").contains("damaged npz archive"));
}

#[test]
fn a_wrong_sum_is_noticed() {
    let ids = array("|u1", "(2,)", &[1, 2]);
    let mut bytes = npz(
        &[
            ("embeddings.npy", matrix(&[1.0, 2.0], 2)),
            ("ids.npy", ids.clone()),
        ],
        CompressionMethod::Stored,
    );
    let place = bytes
        .windows(ids.len())
        .position(|part| part == ids)
        .unwrap();
    bytes[place + ids.len() - 1] = 3;
    assert!(problem(bytes).contains("array `ids`: could not be read"));
}

#[test]
fn archives_that_expand_without_end_are_refused() {
    // Zeros are what deflate packs best, and even they do not get smaller than a thousandth.
    let zeros = matrix(&vec![0.0; 1 << 20], 1 << 10);
    let bytes = npz(&[("embeddings.npy", zeros)], CompressionMethod::Deflated);
    assert!(read(&bytes).unwrap().check_directions().is_err());
    let small = npz(
        &[("embeddings.npy", matrix(&[1.0], 1))],
        CompressionMethod::Deflated,
    );
    let size = header_bytes("<f4", "(1, 1)").len() as u32 + 4;
    let mut bomb = small.clone();
    let places: Vec<usize> = (0..small.len() - 4)
        .filter(|&at| small[at..at + 4] == size.to_le_bytes())
        .collect();
    assert!(!places.is_empty());
    for place in places {
        bomb[place..place + 4].copy_from_slice(&0x7fff_0000_u32.to_le_bytes());
    }
    assert!(read(&bomb).is_err());
}

#[test]
fn texts_and_space_are_written_as_numpy_reads_them() {
    let bytes = written(Format::Npz, &example(), 2, true);
    let mut zip = ZipArchive::new(std::io::Cursor::new(bytes)).unwrap();
    let names: Vec<String> = zip
        .file_names()
        .map(|name| name.unwrap().into_owned())
        .collect();
    assert_eq!(
        names,
        ["embeddings.npy", "ids.npy", "labels.npy", "space.npy"]
    );
    let mut space = Vec::new();
    zip.by_name("space.npy")
        .unwrap()
        .read_to_end(&mut space)
        .unwrap();
    assert!(String::from_utf8_lossy(&space).contains("'descr': '<U11'"));
}

/// The only entry of an archive of these bytes, which both of the archive's headers describe as they are told to.
fn claimed(bytes: &[u8], method: u16, packed: u64, size: u64) -> Vec<u8> {
    let name = b"embeddings.npy";
    let sizes = [
        &[1, 0, 16, 0][..],
        &size.to_le_bytes(),
        &packed.to_le_bytes(),
    ]
    .concat();
    let common = [
        &[45, 0, 0, 0][..],
        &method.to_le_bytes(),
        &[0; 4],
        &crc32fast::hash(bytes).to_le_bytes(),
        &[0xff; 8],
        &(name.len() as u16).to_le_bytes(),
        &(sizes.len() as u16).to_le_bytes(),
    ]
    .concat();
    let local = [&b"PK\x03\x04"[..], &common, name, &sizes, bytes].concat();
    let list = [&b"PK\x01\x02\x2d\x00"[..], &common, &[0; 14], name, &sizes].concat();
    let end = [
        &b"PK\x05\x06\0\0\0\0\x01\0\x01\0"[..],
        &(list.len() as u32).to_le_bytes(),
        &(local.len() as u32).to_le_bytes(),
        &[0, 0],
    ]
    .concat();
    [local, list, end].concat()
}

#[test]
fn sizes_that_the_file_does_not_have_are_refused_before_memory_is_taken() {
    let honest = matrix(&[1.0, 2.0], 2);
    let length = honest.len() as u64;
    let set = read(claimed(&honest, 0, length, length)).unwrap();
    assert_eq!(set.vectors(), [1.0, 2.0]);
    // In Fortran's order the whole array is put into memory before its first row is known.
    let mut fortran = header_bytes("<f4", "(1073741824, 16)");
    let order = fortran
        .windows(5)
        .position(|five| five == b"False")
        .unwrap();
    fortran[order..order + 5].copy_from_slice(b"True ");
    let size = fortran.len() as u64 + (1 << 36);
    for method in [0, 8] {
        let text = problem(claimed(&fortran, method, size, size));
        assert!(text.contains("more than it can"), "{text}");
    }
}

#[test]
fn changed_bytes_are_noticed_however_they_are_read() {
    let vectors: Vec<f32> = (0..300).map(|value| value as f32).collect();
    let bytes = npz(
        &[("embeddings.npy", matrix(&vectors, 100))],
        CompressionMethod::Stored,
    );
    assert_eq!(read(&bytes).unwrap().vectors(), vectors);
    let place = bytes
        .windows(4)
        .position(|four| four == 250.0_f32.to_le_bytes())
        .unwrap();
    let mut changed = bytes;
    changed[place + 1] ^= 1;
    assert!(problem(&changed).contains("array `embeddings`: could not be read: its checksum"));
    let (_folder, path) = file(&changed);
    let mut reader = crate::open(&path).unwrap();
    let read = std::iter::from_fn(|| reader.next(7).transpose());
    assert!(read.collect::<Result<Vec<_>, _>>().is_err());
}
