//! Seeds of every random draw, derived from the experiment's seed and the place of the draw.
//!
//! Nothing random is carried from one epoch to the next, so a resumed run needs no generator state to continue as the
//! uninterrupted one would have.

use sha2::{Digest, Sha256};

/// What a draw is for; part of its seed, so that no two purposes share draws.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    Weights,
    Classifier,
    ClassOrder,
    Batches,
    Memory,
}

/// The seed of one draw.
pub(crate) fn seed_for(seed: u64, purpose: Purpose, task: usize, epoch: usize) -> u64 {
    let digest = Sha256::new()
        .chain_update(seed.to_le_bytes())
        .chain_update([purpose as u8])
        .chain_update((task as u64).to_le_bytes())
        .chain_update((epoch as u64).to_le_bytes())
        .finalize();
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&digest[..8]);
    u64::from_le_bytes(bytes)
}
