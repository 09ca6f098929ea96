//! What one measurement is, and how it is taken.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Shorter work is repeated within a sample, so that the clock's own cost does not count.
const SHORTEST_SAMPLE: Duration = Duration::from_millis(20);

/// Times of one piece of work, in seconds unless the name says otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// What was done, with everything that decides its cost; equal names are comparable between runs.
    pub name: String,
    /// Samples taken.
    pub samples: usize,
    /// The middle sample, in seconds.
    pub median_s: f64,
    /// The fastest sample, in seconds.
    pub fastest_s: f64,
    /// The slowest sample, in seconds.
    pub slowest_s: f64,
    /// Distance between the quartiles as a fraction of the median.
    pub spread: f64,
    /// Units of work a second, by the median.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Arithmetic done as a fraction of what a large matrix product reaches on this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gemm_share: Option<f64>,
    /// Memory read as a fraction of what a plain sum over memory reaches on this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_share: Option<f64>,
    /// Share of the right answers that an approximate method found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recall: Option<f64>,
}

/// Work a second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// How many.
    pub per_second: f64,
    /// Of what, such as `images`.
    pub unit: String,
}

/// One time against another that was taken in turn with it, in one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    /// The measurement above.
    pub name: String,
    /// The measurement below.
    pub against: String,
    /// The median of the samples' ratios.
    pub time_ratio: f64,
    /// What it should not exceed.
    pub aim: f64,
}

/// The median of the samples' ratios.
pub fn median_ratio(above: &[f64], below: &[f64]) -> f64 {
    let ratios = above.iter().zip(below).map(|(above, below)| above / below);
    Measurement::of("ratio", ratios.collect()).median_s
}

/// Seconds that `work` takes.
pub fn seconds<T>(work: impl FnOnce() -> T) -> f64 {
    let start = Instant::now();
    std::hint::black_box(work());
    start.elapsed().as_secs_f64()
}

/// Runs `work` until it is warm, then takes `samples` samples of it.
pub fn measure<T>(
    name: impl Into<String>,
    samples: usize,
    mut work: impl FnMut() -> T,
) -> Measurement {
    let mut timed = || {
        let start = Instant::now();
        std::hint::black_box(work());
        start.elapsed()
    };
    timed();
    let once = timed().max(Duration::from_nanos(1));
    let calls = (SHORTEST_SAMPLE.as_nanos() / once.as_nanos()).clamp(1, 1 << 20) as u32;
    let seconds = (0..samples.max(1))
        .map(|_| (0..calls).map(|_| timed()).sum::<Duration>().as_secs_f64() / f64::from(calls))
        .collect();
    Measurement::of(name, seconds)
}

impl Measurement {
    /// From samples in seconds, at least one.
    pub fn of(name: impl Into<String>, mut seconds: Vec<f64>) -> Self {
        seconds.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let place = share * (seconds.len() - 1) as f64;
            let (low, high) = (
                seconds[place.floor() as usize],
                seconds[place.ceil() as usize],
            );
            low + (high - low) * place.fract()
        };
        Self {
            name: name.into(),
            samples: seconds.len(),
            median_s: at(0.5),
            fastest_s: at(0.0),
            slowest_s: at(1.0),
            spread: (at(0.75) - at(0.25)) / at(0.5),
            rate: None,
            gemm_share: None,
            memory_share: None,
            recall: None,
        }
    }

    /// States how many units one call handles.
    pub fn per_call(mut self, count: usize, unit: &str) -> Self {
        self.rate = Some(Rate {
            per_second: count as f64 / self.median_s,
            unit: unit.to_owned(),
        });
        self
    }

    /// States the arithmetic of one call, against the machine's peak in operations a second.
    pub fn operations(mut self, operations: f64, peak: f64) -> Self {
        self.gemm_share = Some(operations / self.median_s / peak);
        self
    }

    /// States the bytes that one call cannot help reading, against the machine's peak in bytes a second.
    pub fn bytes(mut self, bytes: f64, peak: f64) -> Self {
        self.memory_share = Some(bytes / self.median_s / peak);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_quartiles() {
        let found = Measurement::of("x", vec![4.0, 1.0, 2.0, 3.0]).per_call(5, "images");
        assert_eq!(
            (found.median_s, found.fastest_s, found.slowest_s),
            (2.5, 1.0, 4.0)
        );
        assert!((found.spread - 0.6).abs() < 1e-12);
        assert_eq!(found.rate.map(|rate| rate.per_second), Some(2.0));
        assert_eq!(Measurement::of("one", vec![7.0]).spread, 0.0);
    }

    #[test]
    fn ratios_are_taken_sample_by_sample() {
        assert_eq!(median_ratio(&[2.0, 9.0, 4.0], &[1.0, 3.0, 4.0]), 2.0);
    }

    #[test]
    fn every_call_is_counted() {
        let mut calls = 0;
        let found = measure("count", 3, || calls += 1);
        assert!(found.samples == 3 && calls > 5 && found.median_s > 0.0);
    }
}
