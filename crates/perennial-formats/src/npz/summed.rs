//! A part of a file with its sum.

use std::io::{self, Read};

use crc32fast::Hasher;

/// So many bytes of a source. The last of them are given out only if the CRC-32 of all is the expected one.
pub(super) struct Summed<R> {
    source: R,
    left: u64,
    hasher: Hasher,
    expected: u32,
}

impl<R: Read> Summed<R> {
    pub(super) fn new(source: R, bytes: u64, expected: u32) -> Self {
        Self {
            source,
            left: bytes,
            hasher: Hasher::new(),
            expected,
        }
    }
}

impl<R: Read> Read for Summed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        if most == 0 {
            return Ok(0);
        }
        let read = self.source.read(&mut buffer[..most])?;
        self.hasher.update(&buffer[..read]);
        self.left -= read as u64;
        if self.left == 0 && self.hasher.clone().finalize() != self.expected {
            let problem = "its checksum is another one, so bytes of it were changed; copy or write the file again";
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        }
        Ok(read)
    }
}
