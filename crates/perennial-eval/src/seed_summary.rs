//! A measure over several seeds: mean, deviation and the interval of the mean.

use std::f64::consts::FRAC_PI_2;

use serde::Serialize;

use crate::Interval;

/// One measure over the seeds of a method. Fractions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SeedSummary {
    /// Number of values.
    pub count: usize,
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation, with `n - 1` in the denominator; none for one value.
    pub deviation: Option<f64>,
    /// The 95 % interval of the mean by Student's t; none for one value. It is not cut at 0 and 1, because a cut interval would hide that
    /// a few seeds say little.
    pub interval: Option<Interval>,
    /// The values, in the order of the seeds.
    pub values: Vec<f64>,
}

impl SeedSummary {
    /// Summarises values; `None` without any.
    ///
    /// **Shapes.** `values` `[n]`, finite, one for each seed.
    pub fn of(values: Vec<f64>) -> Option<Self> {
        let count = values.len();
        if count == 0 {
            return None;
        }
        let mean = values.iter().sum::<f64>() / count as f64;
        let deviation = (count > 1).then(|| {
            let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
            (squares / (count - 1) as f64).sqrt()
        });
        let interval = deviation.map(|deviation| {
            let half = student_t_975(count - 1) * deviation / (count as f64).sqrt();
            Interval {
                low: mean - half,
                high: mean + half,
            }
        });
        Some(Self {
            count,
            mean,
            deviation,
            interval,
            values,
        })
    }
}

/// The 97.5 % quantile of Student's t distribution, found by bisection of its exact distribution function.
///
/// # Panics
/// For no degree of freedom.
pub fn student_t_975(degrees: usize) -> f64 {
    assert!(degrees > 0, "Student's t needs a degree of freedom");
    // Bisection of the angle atan(t / sqrt(degrees)), which has bounds where t has none.
    let (mut low, mut high) = (0.0, FRAC_PI_2);
    for _ in 0..64 {
        let middle = f64::midpoint(low, high);
        if within(middle, degrees) < 0.95 {
            low = middle;
        } else {
            high = middle;
        }
    }
    low.tan() * (degrees as f64).sqrt()
}

/// The probability of `|T| <= sqrt(degrees) tan(angle)`.
///
/// **Source.** Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4.
fn within(angle: f64, degrees: usize) -> f64 {
    let (sine, cosine) = angle.sin_cos();
    // The series starts at cos^0 for even degrees and at cos^1 for odd ones.
    let first = degrees % 2;
    let mut term = if first == 0 { 1.0 } else { cosine };
    let mut sum = 0.0;
    let mut power = first;
    while power + 2 <= degrees {
        sum += term;
        term *= (power + 1) as f64 / (power + 2) as f64 * cosine * cosine;
        power += 2;
    }
    if first == 0 {
        sine * sum
    } else {
        (angle + sine * sum) / FRAC_PI_2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_printed_tables() {
        for (degrees, expected) in [
            (1, 12.706),
            (2, 4.303),
            (3, 3.182),
            (4, 2.776),
            (5, 2.571),
            (6, 2.447),
            (7, 2.365),
            (10, 2.228),
            (29, 2.045),
            (30, 2.042),
            (100, 1.984),
            (1000, 1.962),
        ] {
            let found = student_t_975(degrees);
            assert!((found - expected).abs() < 5e-4, "{degrees}: {found}");
        }
    }

    #[test]
    fn three_values_by_hand() {
        // Deviations -0.1, 0, 0.1: variance 0.02 / 2; half width 4.3027 x 0.1 / sqrt(3).
        let found = SeedSummary::of(vec![0.5, 0.6, 0.7]).unwrap();
        assert_eq!(found.count, 3);
        assert!((found.mean - 0.6).abs() < 1e-12);
        assert!((found.deviation.unwrap() - 0.1).abs() < 1e-12);
        let Interval { low, high } = found.interval.unwrap();
        assert!((low - (0.6 - 0.248_414)).abs() < 1e-5, "{low}");
        assert!((high - (0.6 + 0.248_414)).abs() < 1e-5, "{high}");
    }

    #[test]
    fn one_value_has_no_deviation_and_none_no_summary() {
        let found = SeedSummary::of(vec![0.25]).unwrap();
        assert_eq!(
            (found.mean, found.deviation, found.interval),
            (0.25, None, None)
        );
        assert_eq!(SeedSummary::of(Vec::new()), None);
        let equal = SeedSummary::of(vec![0.5, 0.5]).unwrap();
        assert_eq!(
            equal.interval,
            Some(Interval {
                low: 0.5,
                high: 0.5
            })
        );
    }
}
