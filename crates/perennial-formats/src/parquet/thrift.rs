//! The headers of pages, which say how much a page takes before anything is decoded.

use std::io::{self, Read};

/// Structures in structures are followed this deep.
const MAX_DEPTH: usize = 16;

/// What a page's header says, as it says it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct PageHeader {
    /// Bytes of the header itself.
    pub(super) bytes: u64,
    pub(super) kind: i64,
    pub(super) expanded: i64,
    pub(super) stored: i64,
    /// Bytes of a version 2 page that stand before its compressed part.
    pub(super) levels: i64,
    pub(super) compressed: bool,
}

/// Pages of this kind hold no data, and are passed over.
pub(super) const INDEX_PAGE: i64 = 1;

pub(super) fn page_header(source: &mut dyn Read) -> io::Result<PageHeader> {
    let mut header = PageHeader {
        compressed: true,
        ..PageHeader::default()
    };
    let mut given = 0;
    let mut compact = Compact { source, bytes: 0 };
    compact.structure(&mut Vec::new(), &mut |path, value| {
        let slot = match path {
            [1] => &mut header.kind,
            [2] => &mut header.expanded,
            [3] => &mut header.stored,
            [8, 5] | [8, 6] => {
                header.levels = header.levels.saturating_add(value.max(0));
                return;
            }
            [8, 7] => {
                header.compressed = value != 0;
                return;
            }
            _ => return,
        };
        *slot = value;
        given |= 1 << path[0];
    })?;
    header.bytes = compact.bytes;
    let sizes = header.expanded >= 0 && header.stored >= 0;
    if given == 0b1110 && sizes {
        Ok(header)
    } else {
        Err(damaged())
    }
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a damaged page header")
}

/// Thrift's compact protocol.
struct Compact<'a> {
    source: &'a mut dyn Read,
    bytes: u64,
}

impl Compact<'_> {
    fn byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.source.read_exact(&mut byte)?;
        self.bytes += 1;
        Ok(byte[0])
    }

    fn varint(&mut self) -> io::Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(damaged())
    }

    fn zigzag(&mut self) -> io::Result<i64> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    fn pass(&mut self, bytes: u64) -> io::Result<()> {
        let passed = io::copy(&mut self.source.take(bytes), &mut io::sink())?;
        self.bytes += passed;
        if passed < bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    /// Walks a structure, and shows whole numbers and truth values with the numbers of the fields that lead there.
    fn structure(
        &mut self,
        path: &mut Vec<i64>,
        found: &mut dyn FnMut(&[i64], i64),
    ) -> io::Result<()> {
        let mut field = 0;
        loop {
            let start = self.byte()?;
            let kind = start & 0x0f;
            if kind == 0 {
                return Ok(());
            }
            let step = i64::from(start >> 4);
            let next = if step == 0 {
                self.zigzag()?
            } else {
                field + step
            };
            // In this order they are written, and none comes twice, so that there is one way to read them.
            if next <= field || next > i64::from(i16::MAX) {
                return Err(damaged());
            }
            field = next;
            path.push(field);
            match kind {
                1 | 2 => found(path, i64::from(kind == 1)),
                5 => {
                    let value = i32::try_from(self.zigzag()?).map_err(|_| damaged())?;
                    found(path, value.into());
                }
                _ => self.value(kind, path, found)?,
            }
            path.pop();
        }
    }

    fn value(
        &mut self,
        kind: u8,
        path: &mut Vec<i64>,
        found: &mut dyn FnMut(&[i64], i64),
    ) -> io::Result<()> {
        if path.len() >= MAX_DEPTH {
            return Err(damaged());
        }
        match kind {
            3 => self.pass(1),
            4..=6 => self.varint().map(drop),
            7 => self.pass(8),
            8 => {
                let bytes = self.varint()?;
                self.pass(bytes)
            }
            12 => self.structure(path, found),
            9 | 10 => {
                let start = self.byte()?;
                let count = match start >> 4 {
                    15 => self.varint()?,
                    short => short.into(),
                };
                path.push(0);
                for _ in 0..count {
                    match start & 0x0f {
                        1 | 2 => self.pass(1)?,
                        item => self.value(item, path, &mut |_, _| {})?,
                    }
                }
                path.pop();
                Ok(())
            }
            // Maps and the rest are in no page header.
            _ => Err(damaged()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_walked_to_their_end() {
        // A data page of 40 bytes, 20 of them stored, with statistics that are passed over.
        let bytes = [
            0x15, 0, 0x15, 80, 0x15, 40, 0x2c, 0x15, 6, 0x15, 0, 0x15, 6, 0x15, 6, 0x1c, 0x18, 2,
            9, 9, 0x16, 8, 0, 0, 0,
        ];
        let header = page_header(&mut bytes.as_slice()).unwrap();
        assert_eq!((header.kind, header.expanded, header.stored), (0, 40, 20));
        assert_eq!((header.bytes, header.levels), (25, 0));
        // Of version 2: 3 and 4 bytes of levels, and nothing compressed.
        let second = [
            0x15, 6, 0x15, 80, 0x15, 40, 0x5c, 0x55, 6, 0x15, 8, 0x12, 0, 0,
        ];
        let header = page_header(&mut second.as_slice()).unwrap();
        assert_eq!((header.kind, header.levels), (3, 7));
        assert!(!header.compressed);
        for end in 0..bytes.len() {
            assert!(page_header(&mut &bytes[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn sizes_that_are_missing_negative_or_given_twice_are_refused() {
        let cases: [&[u8]; 5] = [
            &[0x15, 0, 0x15, 80, 0],
            &[0x15, 0, 0x15, 81, 0x15, 40, 0],
            &[0x15, 0, 0x15, 80, 0x15, 40, 0x05, 6, 40, 0],
            // A list that says it is long, and a text.
            &[0x15, 0, 0x15, 80, 0x15, 40, 0x19, 0xf5, 0xff, 0xff, 0x7f],
            &[0x15, 0, 0x15, 80, 0x15, 40, 0x18, 0xff, 0xff, 0x7f, 1],
        ];
        for bytes in cases {
            assert!(page_header(&mut &bytes[..]).is_err(), "{bytes:?}");
        }
    }
}
