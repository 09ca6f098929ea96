//! The limits of items, requests and answers, one for each, wherever it is checked or named.

/// The largest payload, in bytes of compact JSON.
pub const MAX_PAYLOAD_BYTES: usize = 16 * 1024;
/// The most objects and lists inside one another in a payload, itself counted. Readers of JSON refuse more than 128, those of whole requests and answers
/// among them, so a deeper one could be stored but not be read.
pub const MAX_PAYLOAD_DEPTH: usize = 100;
/// The largest dimension of an embedding.
pub const MAX_DIM: usize = 16_384;
/// The most spaces that a gallery ever knows. Each partition counts the items of every space, so memory grows with their product.
pub const MAX_SPACES: usize = 4096;
/// The most items, ids or queries in one call.
pub const MAX_BATCH: usize = 10_000;
/// The most hits of one query and the most items of one page.
pub const MAX_LIMIT: usize = 1000;
/// How far the length of an embedding may be from 1.
pub const NORM_TOLERANCE: f32 = 1e-3;
