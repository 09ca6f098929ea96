//! Inputs, and results held against sums in double precision.

use proptest::prelude::*;

/// Numbers between -1 and 1.
pub fn values(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// Whether every value is the expected one, within `tolerance * (1 + |expected|)`.
pub fn close(found: &[f32], expected: &[f64], tolerance: f64) -> Result<(), TestCaseError> {
    prop_assert_eq!(found.len(), expected.len());
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(*found) - expected).abs();
        prop_assert!(
            error <= tolerance * (1.0 + expected.abs()),
            "{}: {} instead of {}",
            at,
            found,
            expected
        );
    }
    Ok(())
}
