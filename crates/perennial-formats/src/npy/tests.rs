use super::*;
use crate::testing::{file, problem, read, written};

fn npy(version: u8, header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = [b"\x93NUMPY".as_slice(), &[version, 0]].concat();
    let length = header.len() as u32;
    bytes.extend_from_slice(&length.to_le_bytes()[..if version == 1 { 2 } else { 4 }]);
    [&bytes, header.as_bytes(), data].concat()
}

fn array(descr: &str, order: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n");
    npy(1, &header, data)
}

#[test]
fn all_floats_orders_and_versions_are_read() {
    let expected = VectorSet::new(2, vec![1.5, -2.0, 0.25, 4.0]).unwrap();
    let doubles: Vec<u8> = [1.5_f64, -2.0, 0.25, 4.0]
        .iter()
        .flat_map(|v| v.to_le_bytes())
        .collect();
    let header = "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 2), }          \n";
    for version in [1, 2, 3] {
        assert_eq!(read(npy(version, header, &doubles)).unwrap(), expected);
    }
    let big: Vec<u8> = [1.5_f32, -2.0, 0.25, 4.0]
        .iter()
        .flat_map(|v| v.to_be_bytes())
        .collect();
    assert_eq!(
        read(array("'>f4'", "False", "(2, 2)", &big)).unwrap(),
        expected
    );
    let halves = [0x3e00_u16, 0xc000, 0x3400, 0x4400]
        .iter()
        .flat_map(|v| v.to_le_bytes());
    let halves: Vec<u8> = halves.collect();
    assert_eq!(
        read(array("'<f2'", "False", "(2, 2)", &halves)).unwrap(),
        expected
    );
}

#[test]
fn fortran_order_is_transposed() {
    let (rows, dim) = (5, 37);
    let value = |row: usize, column: usize| (100 * row + column) as f32;
    let data: Vec<u8> = (0..dim)
        .flat_map(|column| (0..rows).map(move |row| value(row, column)))
        .flat_map(f32::to_le_bytes)
        .collect();
    let (_folder, path) = file(array("'<f4'", "True", "(5, 37)", &data));
    let set = crate::read(&path).unwrap();
    let mut reader = crate::open(&path).unwrap();
    for first in [0, 2, 4] {
        let batch = reader.next(2).unwrap().unwrap();
        for row in first..first + batch.len() {
            assert_eq!(batch.row(row - first), set.row(row));
            assert_eq!(set.row(row)[36], value(row, 36));
        }
    }
    assert!(reader.next(2).unwrap().is_none());
}

#[test]
fn what_does_not_fit_is_explained() {
    let with = |descr: &str, order: &str, shape: &str| array(descr, order, shape, &[0; 8]);
    let cases = [
        (b"\x93NUMPY".to_vec(), "not an npy array"),
        (npy(9, "", &[]), "version 9 is unknown"),
        (npy(1, "not a dictionary", &[]), "cannot be parsed"),
        (
            with("[('a', '<f4')]", "False", "(1, 2)"),
            "arrays of records",
        ),
        (with("'|O'", "False", "(1, 1)"), "astype('<f4')"),
        (with("'<c8'", "False", "(1, 1)"), "the array is `<c8`"),
        (
            with("'<i4'", "False", "(1, 2)"),
            "vectors need f16, f32 or f64",
        ),
        (with("'<f4'", "False", "(2,)"), "2-D array"),
        (
            with("'<f4'", "False", "(3, 1)"),
            "8 bytes of values where shape [3, 1] needs 12",
        ),
        (
            with("'<f4'", "False", "(4611686018427387904, 4)"),
            "more than any file holds",
        ),
        (
            with("'<f4'", "False", "(1000000000, 1000000)"),
            "the file was cut",
        ),
        (with("'<f4'", "False", "(-1, 2)"), "cannot be parsed"),
        (
            array("'<f4'", "False", "(1000000000000, 0)", &[]),
            "0 dimensions",
        ),
        (
            with("'<f8'", "False", "(1, 1)").replace_last(0x7f),
            "row 0 holds a value that is NaN",
        ),
    ];
    for (bytes, message) in cases {
        let error = problem(bytes);
        assert!(error.contains(message), "{error} | {message}");
    }
    let mut bytes = b"\x93NUMPY\x02\x00".to_vec();
    bytes.extend(u32::MAX.to_le_bytes());
    assert!(problem(bytes).contains("the header claims 4294967295 bytes"));
}

trait ReplaceLast {
    fn replace_last(self, byte: u8) -> Vec<u8>;
}

impl ReplaceLast for Vec<u8> {
    /// A double of which the two highest bytes are this one is far above the largest f32.
    fn replace_last(mut self, byte: u8) -> Vec<u8> {
        let end = self.len();
        self[end - 2..].fill(byte);
        self
    }
}

#[test]
fn texts_and_integers_are_read_as_columns() {
    let (_folder, path) = file(array(
        "'>U2'",
        "False",
        "(2,)",
        b"\0\0\0a\0\0\0b\0\0\0\x31\0\0\0\0",
    ));
    let ids = Array::open(&path).unwrap().ids().unwrap();
    assert_eq!(ids, ["ab".into(), ItemId::Number(1)]);
    let (_folder, path) = file(array("'|S2'", "False", "(2,)", b"a\0bc"));
    let labels = Array::open(&path).unwrap().labels().unwrap();
    assert_eq!(labels, ["a".into(), "bc".into()]);
    for (bytes, says) in [
        (array("'<U0'", "False", "(1000000000000,)", &[]), "no width"),
        (
            array("'<U1'", "False", "(1,)", &[0, 0, 0, 255]),
            "no valid text",
        ),
        (array("'<U1'", "False", "(1,)", &[0; 4]), "is empty"),
        (
            array("'<i4'", "False", "(1,)", &[255; 4]),
            "the id of row 0 is -1",
        ),
        (array("'<i4'", "False", "(1, 1)", &[0; 4]), "1-D array"),
    ] {
        let (_folder, path) = file(bytes);
        let error = Array::open(&path).unwrap().ids().unwrap_err().to_string();
        assert!(error.contains(says), "{error} | {says}");
    }
}

#[test]
fn files_are_written_as_numpy_does() {
    let set = VectorSet::new(2, vec![1.0, 2.0, 3.0, 4.0]).unwrap();
    let bytes = written(Format::Npy, &set, 1, true);
    assert_eq!(bytes, written(Format::Npy, &set, 2, false));
    assert_eq!(bytes.len(), 128 + 16);
    assert!(bytes[..128].starts_with(
        b"\x93NUMPY\x01\x00v\0{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), } "
    ));
    assert_eq!(bytes[127], b'\n');
}

#[test]
fn a_wrong_number_of_rows_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npy");
    let (output, format) = crate::prepare(&path).unwrap();
    let header = Header {
        dim: 1,
        rows: Some(2),
        space: None,
        format,
    };
    let mut writer = crate::create(output, format, &header).unwrap();
    writer
        .write(&VectorSet::new(1, vec![1.0]).unwrap())
        .unwrap();
    assert!(
        writer
            .write(&VectorSet::new(2, vec![1.0; 2]).unwrap())
            .is_err()
    );
    let error = writer.finish().unwrap_err().to_string();
    assert!(error.contains("1 rows were written where 2"), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
