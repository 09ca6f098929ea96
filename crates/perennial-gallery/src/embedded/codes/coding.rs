//! What a row's codes stand for, and bounds on what they leave out.

/// The largest code.
pub(super) const CODE_MAX: f32 = 127.0;

/// What the codes of a row stand for.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(in super::super) struct Coding {
    /// What a code of 1 stands for.
    pub(in super::super) scale: f32,
    /// Length of what the codes stand for.
    pub(in super::super) length: f32,
    /// Norm of the quantization error.
    pub(in super::super) error: f32,
    /// The part of a similarity that depends on the row and the centre alone.
    pub(in super::super) offset: f32,
}

/// How values become whole numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Steps {
    /// Whole numbers in a value of 1.
    pub(super) factor: f32,
    /// What a whole number of 1 stands for.
    pub(super) scale: f32,
}

impl Steps {
    /// Those by which values of a reach have one of `most`.
    #[inline(always)]
    pub(super) fn of(most: f32, reach: f32) -> Self {
        // Infinite for zeros and what hardly differs from them: those are all error.
        let factor = most / reach;
        match factor.is_finite() {
            true => Self {
                factor,
                scale: reach / most,
            },
            false => Self {
                factor: 0.0,
                scale: 0.0,
            },
        }
    }
}

/// The root of a sum of squares with so many additions in f32, rounded up, so that a bound stays one. What such a sum lacks of squares that f32 cannot
/// tell apart is at most 1e-45 for each of [`MAX_DIM`](crate::limits::MAX_DIM) values, and the root of that is below 1e-19.
#[inline(always)]
pub(super) fn up(square: f64, additions: usize) -> f32 {
    let rounding = 1e-5 + additions as f64 * f64::from(f32::EPSILON);
    (square.sqrt() * (1.0 + rounding)) as f32 + 1e-19
}
