//! The last seconds, for the page: rates and latencies.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The window, in seconds.
const WINDOW: u64 = 10;

/// Latency classes: the bound grows by a fifth from each to the next, from 0.1 ms to about two minutes.
const CLASSES: usize = 78;
const SHORTEST: f64 = 1e-4;
const GROWTH: f64 = 1.2;

/// Counts of the last 10 seconds, by the second.
pub(crate) struct Recent {
    start: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    seconds: VecDeque<Second>,
    totals: Totals,
}

struct Second {
    at: u64,
    searches: u64,
    upserts: u64,
    latencies: [u32; CLASSES],
}

/// Counts since the start.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Totals {
    pub(crate) requests: u64,
    pub(crate) failed: u64,
    pub(crate) swaps_moved: u64,
    pub(crate) swaps_refused: u64,
}

/// What the page shows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rates {
    pub(crate) searches_per_second: f64,
    pub(crate) upserts_per_second: f64,
    pub(crate) p50_seconds: Option<f64>,
    pub(crate) p99_seconds: Option<f64>,
    pub(crate) totals: Totals,
}

impl Recent {
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
            state: Mutex::default(),
        }
    }

    /// A request of any kind has been answered; only the server's failures count as failed.
    pub(crate) fn answered(&self, failed: bool) {
        self.with(|state, _| {
            state.totals.requests += 1;
            state.totals.failed += u64::from(failed);
        });
    }

    pub(crate) fn searched(&self, took: Duration) {
        self.with(|state, now| {
            let second = state.second(now);
            second.searches += 1;
            second.latencies[class(took)] += 1;
        });
    }

    pub(crate) fn upserted(&self, items: u64, took: Duration) {
        self.with(|state, now| {
            let second = state.second(now);
            second.upserts += items;
            second.latencies[class(took)] += 1;
        });
    }

    pub(crate) fn swapped(&self, moved: bool) {
        self.with(|state, _| {
            state.totals.swaps_moved += u64::from(moved);
            state.totals.swaps_refused += u64::from(!moved);
        });
    }

    pub(crate) fn rates(&self) -> Rates {
        self.with(|state, now| {
            let mut latencies = [0u64; CLASSES];
            let (mut searches, mut upserts) = (0, 0);
            for second in state
                .seconds
                .iter()
                .filter(|second| second.at + WINDOW > now)
            {
                searches += second.searches;
                upserts += second.upserts;
                for (sum, &count) in latencies.iter_mut().zip(&second.latencies) {
                    *sum += u64::from(count);
                }
            }
            // A service younger than the window has not had all of it.
            let length = (now + 1).min(WINDOW) as f64;
            Rates {
                searches_per_second: searches as f64 / length,
                upserts_per_second: upserts as f64 / length,
                p50_seconds: quantile(&latencies, 0.5),
                p99_seconds: quantile(&latencies, 0.99),
                totals: state.totals,
            }
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut State, u64) -> T) -> T {
        let now = self.start.elapsed().as_secs();
        // Counters stay usable after a panic while they were locked.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut state, now)
    }
}

impl State {
    fn second(&mut self, now: u64) -> &mut Second {
        if self.seconds.back().is_none_or(|last| last.at < now) {
            self.seconds.push_back(Second {
                at: now,
                searches: 0,
                upserts: 0,
                latencies: [0; CLASSES],
            });
            while self.seconds.len() > WINDOW as usize {
                self.seconds.pop_front();
            }
        }
        let last = self.seconds.len() - 1;
        &mut self.seconds[last]
    }
}

fn class(took: Duration) -> usize {
    let steps = (took.as_secs_f64() / SHORTEST).max(1.0).log(GROWTH).ceil();
    (steps as usize).min(CLASSES - 1)
}

/// The upper bound of the class that holds the quantile.
fn quantile(latencies: &[u64; CLASSES], fraction: f64) -> Option<f64> {
    let total: u64 = latencies.iter().sum();
    let rank = (total as f64 * fraction).ceil() as u64;
    let mut below = 0;
    latencies.iter().enumerate().find_map(|(class, &count)| {
        below += count;
        (count > 0 && below >= rank).then(|| SHORTEST * GROWTH.powi(class as i32))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_a_class() {
        let recent = Recent::new();
        assert!(recent.rates().p50_seconds.is_none());
        for _ in 0..98 {
            recent.searched(Duration::from_millis(10));
        }
        for _ in 0..2 {
            recent.upserted(100, Duration::from_secs(1));
        }
        let rates = recent.rates();
        let (p50, p99) = (rates.p50_seconds.unwrap(), rates.p99_seconds.unwrap());
        assert!(
            (0.01..0.0121).contains(&p50) && (1.0..1.21).contains(&p99),
            "{p50} {p99}"
        );
        assert!(rates.searches_per_second > 9.0 && rates.upserts_per_second > 19.0);
        recent.searched(Duration::from_secs(10_000));
        recent.searched(Duration::ZERO);
    }
}
