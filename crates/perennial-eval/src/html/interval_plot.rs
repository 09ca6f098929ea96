//! Margins with their intervals as dots and whiskers on one scale that always shows zero.

use maud::{Markup, html};

use super::numbers::At;
use crate::{Interval, Verdict};

const WIDTH: f64 = 164.0;
/// The height of a row, so that the zero lines join.
const HEIGHT: f64 = 36.0;
/// Space at either end, so that a dot is never cut.
const INSET: f64 = 6.0;

/// The class and the sign with which a verdict is shown.
pub(super) fn appearance(verdict: Verdict) -> (&'static str, &'static str) {
    match verdict {
        Verdict::Compatible => ("good", "\u{2713}"),
        Verdict::Undecided => ("open", "?"),
        Verdict::Incompatible => ("bad", "!"),
    }
}

/// The common horizontal scale of all intervals; it always holds zero.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    low: f64,
    high: f64,
}

impl Scale {
    /// The scale that holds all of these; what is not finite is passed over.
    pub(super) fn of(margins: impl IntoIterator<Item = (f64, Option<Interval>)>) -> Self {
        let values = margins.into_iter().flat_map(|(margin, interval)| {
            let bounds = interval.map(|interval| [interval.low, interval.high]);
            bounds.into_iter().flatten().chain([margin])
        });
        let (low, high) = values
            .filter(|value| value.is_finite())
            .fold((0.0_f64, 0.0_f64), |(low, high), value| {
                (low.min(value), high.max(value))
            });
        if high - low < 1e-6 {
            return Self {
                low: -0.01,
                high: 0.01,
            };
        }
        Self { low, high }
    }

    fn x(self, value: f64) -> At {
        At(INSET + (WIDTH - 2.0 * INSET) * (value - self.low) / (self.high - self.low))
    }

    /// The heading of the column: where zero is.
    pub(super) fn axis(self) -> Markup {
        html! {
            svg width=(WIDTH) height="20" role="img" aria-label="Margin and interval, plotted" {
                text x=(self.x(0.0)) y="14" { "0" }
            }
        }
    }

    /// One margin; without an interval only its dot, and nothing for what is not finite.
    pub(super) fn plot(self, margin: f64, interval: Option<Interval>) -> Markup {
        let middle = HEIGHT / 2.0;
        let interval = interval.filter(|bounds| bounds.low.is_finite() && bounds.high.is_finite());
        html! {
            svg width=(WIDTH) height=(HEIGHT) aria-hidden="true" {
                line.zero-line x1=(self.x(0.0)) x2=(self.x(0.0)) y1="0" y2=(HEIGHT) {}
                @if let Some(bounds) = interval {
                    line.interval x1=(self.x(bounds.low)) x2=(self.x(bounds.high)) y1=(middle) y2=(middle) {}
                }
                @if margin.is_finite() { circle cx=(self.x(margin)) cy=(middle) r="4" {} }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_and_all_values_are_on_the_scale() {
        let interval = Some(Interval {
            low: 0.1,
            high: 0.3,
        });
        let scale = Scale::of([(0.2, interval), (f64::NAN, None)]);
        assert_eq!(scale.x(0.0).to_string(), "6.0");
        assert_eq!(scale.x(0.3).to_string(), "158.0");
        assert!(!scale.plot(f64::NAN, None).into_string().contains("circle"));
        // Nothing to show still has a scale.
        assert_eq!(Scale::of([]).x(0.0).to_string(), "82.0");
    }
}
