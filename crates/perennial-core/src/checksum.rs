//! Content hashes.

use std::fmt::Write;
use std::io::{self, Read};

use sha2::{Digest, Sha256};

/// The SHA-256 of `bytes` as 64 lower-case hexadecimal digits.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The first eight bytes of the SHA-256 of `bytes`, as a big-endian number: short, for lists in which things are looked up. It is no
/// protection against somebody who wants two things to have one hash.
pub fn short_hash(bytes: &[u8]) -> u64 {
    let hash: [u8; 32] = Sha256::digest(bytes).into();
    let (first, _) = hash.split_at(8);
    first
        .iter()
        .fold(0, |number, &byte| number << 8 | u64::from(byte))
}

/// The SHA-256 of everything that a reader holds, as [`sha256_hex`] writes it, in constant memory.
///
/// # Errors
/// Those of the reader.
pub fn sha256_of(reader: &mut impl Read) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(hex(&hash.finalize())),
            Ok(read) => hash.update(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut hex = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        write!(hex, "{byte:02x}").expect("writing to a String cannot fail");
    }
    hex
}

/// Whether `text` has the form that [`sha256_hex`] produces.
pub(crate) fn is_sha256_hex(text: &str) -> bool {
    text.len() == 64
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_the_published_test_vectors() {
        // FIPS 180-4 examples.
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256_hex(b""), empty);
        assert_eq!(sha256_hex(b"abc"), abc);
        assert_eq!(sha256_of(&mut &b"abc"[..]).unwrap(), abc);
        assert_eq!(short_hash(b"abc"), 0xba78_16bf_8f01_cfea);
        assert!(is_sha256_hex(abc) && !is_sha256_hex(&abc.to_uppercase()) && !is_sha256_hex("ab"));
    }
}
