//! The unit in which codes lie in memory.

/// Bytes of a line: those that the processor's cache fetches at a time.
pub(super) const LINE: usize = 64;

/// Bytes that lie in one line of the processor's cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(64))]
pub(super) struct Line(pub(super) [u8; LINE]);

impl Line {
    pub(super) const ZERO: Self = Self([0; LINE]);
}
