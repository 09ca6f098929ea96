//! Whether all of a JPEG is there.
//!
//! The decoder fills what is missing with grey, as browsers do, and says nothing.

const END_OF_IMAGE: u8 = 0xd9;
const START_OF_SCAN: u8 = 0xda;

/// Whether the segments and scans of a JPEG lead to its end mark. What follows the mark does not matter: cameras append previews,
/// telephones append films.
pub(super) fn reaches_its_end(bytes: &[u8]) -> bool {
    let mut rest = bytes.get(2..).unwrap_or_default();
    loop {
        let Some((marker, after)) = next_marker(rest) else {
            return false;
        };
        rest = match marker {
            END_OF_IMAGE => return true,
            // Without a length.
            0x01 | 0xd0..=0xd8 => after,
            _ => {
                let Some(segment) = segment(after) else {
                    return false;
                };
                &after[segment.len()..]
            }
        };
        if marker == START_OF_SCAN {
            rest = after_scan(rest);
        }
    }
}

/// The next marker and what follows it; bytes in front of it are passed over, as the decoder does.
fn next_marker(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let mut rest = bytes;
    loop {
        let start = rest.iter().position(|&byte| byte == 0xff)?;
        rest = &rest[start..];
        let fill = rest.iter().position(|&byte| byte != 0xff)?;
        let marker = rest[fill];
        rest = &rest[fill + 1..];
        if marker != 0 {
            return Some((marker, rest));
        }
    }
}

/// A segment with its length, which counts itself.
fn segment(bytes: &[u8]) -> Option<&[u8]> {
    let length = u16::from_be_bytes(*bytes.first_chunk()?);
    bytes.get(..usize::from(length.max(2)))
}

/// What follows the coded pixels of a scan: in them, 0xff stands only before 0 and restart marks.
fn after_scan(mut bytes: &[u8]) -> &[u8] {
    loop {
        let Some(at) = bytes.iter().position(|&byte| byte == 0xff) else {
            return &[];
        };
        match bytes.get(at + 1) {
            Some(0 | 0xd0..=0xd7) => bytes = &bytes[at + 2..],
            // A fill byte: the next one counts.
            Some(0xff) => bytes = &bytes[at + 1..],
            _ => return &bytes[at..],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A JPEG's skeleton: an application segment that holds a whole picture of its own, a scan, an end.
    fn skeleton() -> Vec<u8> {
        [
            &b"\xff\xd8"[..],
            b"\xff\xe1\x00\x08\xff\xd8\xff\xd9..",
            b"\xff\xff\xff\xda\x00\x04ab",
            b"pixels\xff\x00\xff\xd3more\xff\xff\x00",
            b"\xff\xd9",
        ]
        .concat()
    }

    #[test]
    fn the_end_mark_of_a_preview_is_not_the_end() {
        let whole = skeleton();
        assert!(reaches_its_end(&whole));
        for length in 0..whole.len() {
            assert!(!reaches_its_end(&whole[..length]), "{length}");
        }
    }

    #[test]
    fn what_follows_the_end_does_not_matter() {
        let mut whole = skeleton();
        whole.extend(b"\xff\xda\x00\x04ab trailing");
        assert!(reaches_its_end(&whole));
    }
}
