//! What is wrong with a JPEG.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::codec) enum Defect {
    /// A scan, or the end mark, is missing.
    Cut,
    /// The coded pixels contain what no encoder writes.
    Damaged,
}
