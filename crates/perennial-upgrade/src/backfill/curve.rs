//! The curve of a backfill: how much is embedded again, and what that is expected to bring.

use serde::{Deserialize, Serialize};

use super::stop::Progress;

/// Points that are kept at most; with more, every second one is dropped.
const MAX_POINTS: usize = 200;
/// A new point needs this much more of the gallery, a fraction.
const STEP: f64 = 0.005;

/// One moment of a backfill.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CurvePoint {
    /// Seconds that the backfill had worked.
    pub seconds: f64,
    /// Items that it had embedded again.
    pub done: u64,
    /// Share of the gallery that was of the live version, a fraction.
    pub share: f64,
    /// The expected quality then, where the certificates tell: an expectation, not a measurement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_quality: Option<f64>,
}

/// Points in the order of time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Curve(Vec<CurvePoint>);

impl Curve {
    /// Adds a point if it is far enough from the last one, or if `last` says that none follows.
    pub fn add(&mut self, progress: &Progress, last: bool) {
        let point = CurvePoint {
            seconds: progress.seconds,
            done: progress.done,
            share: progress.share(),
            expected_quality: progress.quality,
        };
        let is_news = self.0.last().is_none_or(|before| {
            (point.share - before.share).abs() >= STEP || (last && *before != point)
        });
        if !is_news {
            return;
        }
        if self.0.len() >= MAX_POINTS {
            let mut index = 0;
            self.0.retain(|_| {
                index += 1;
                index % 2 == 1
            });
        }
        self.0.push(point);
    }

    /// The points, oldest first.
    pub fn points(&self) -> &[CurvePoint] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_curve_is_bounded_and_keeps_its_ends() {
        let mut curve = Curve::default();
        let items = 100_000;
        for done in 0..=items {
            let progress = Progress {
                items,
                live_items: done,
                done,
                ..Progress::default()
            };
            curve.add(&progress, done == items);
        }
        let points = curve.points();
        assert!(points.len() <= MAX_POINTS && points.len() > 50);
        assert_eq!((points[0].share, points.last().unwrap().share), (0.0, 1.0));
        assert!(points.is_sorted_by(|one, next| one.share < next.share));
    }
}
