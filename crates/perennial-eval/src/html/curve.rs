//! Lines over an axis: the averages after each version, and quality against the share that is re-embedded.

use maud::{Markup, html};

use super::numbers::{At, Plain, shortened};
use super::page;
use crate::Compatibility;

/// Least distance of two labels at the ends of the lines.
const LABEL_DISTANCE: f64 = 18.0;
/// Line styles in the style sheet, `s0` to `s4`; more lines use them again.
const STYLES: usize = 5;

/// One line of a chart.
pub(super) struct Line {
    pub name: String,
    /// Places in the chart's units, from left to right, with what is told about each. What is not finite is left out.
    pub points: Vec<(f64, f64, String)>,
    /// Whether each point has a dot; a level that is the same everywhere has none.
    pub dotted: bool,
}

/// A drawing of a few lines.
pub(super) struct Chart {
    /// The drawing in a sentence, for those who do not see it.
    pub described: String,
    /// What the ends of the horizontal axis stand for.
    pub range: (f64, f64),
    /// What is written below the horizontal axis, from left to right; only as many as there is room for are shown.
    pub headings: Vec<(f64, String)>,
    /// The lowest and the highest value of the vertical axis.
    pub values: (f64, f64),
    pub lines: Vec<Line>,
}

/// The measures of one drawing, in its own units.
#[derive(Clone, Copy)]
struct Frame {
    class: &'static str,
    width: f64,
    height: f64,
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    /// Space of a name below the axis.
    heading: f64,
    /// Whether the lines carry their names at their ends; otherwise the legend below the drawing tells them apart.
    labelled: bool,
}

const WIDE: Frame = Frame {
    class: "curve wide",
    width: 960.0,
    height: 300.0,
    left: 44.0,
    right: 190.0,
    top: 14.0,
    bottom: 40.0,
    heading: 70.0,
    labelled: true,
};

/// For a phone, where the wide one would be too small to read or cut off.
const NARROW: Frame = Frame {
    class: "curve narrow",
    width: 328.0,
    height: 240.0,
    left: 44.0,
    right: 8.0,
    top: 12.0,
    bottom: 34.0,
    heading: 56.0,
    labelled: false,
};

/// The section of a report on the averages after each version.
pub(super) fn section(report: &Compatibility) -> Markup {
    let metrics = report.metrics();
    let line = |name: &str, values: &mut dyn Iterator<Item = Option<f64>>| Line {
        name: name.to_owned(),
        points: values
            .enumerate()
            .filter_map(|(index, value)| {
                let told = format!("after {} versions: {:.4}", index + 1, value?);
                Some((index as f64, value?, told))
            })
            .collect(),
        dotted: true,
    };
    let accuracy = &metrics.average_accuracy_per_task;
    let compatibility = &metrics.average_compatibility_per_task;
    let last = metrics.average_compatibility.unwrap_or(0.0);
    let names = report.versions().iter().enumerate();
    let chart = Chart {
        described: format!(
            "Average accuracy goes from {:.3} to {:.3}, average compatibility from {:.3} to {last:.3}.",
            accuracy[0],
            metrics.average_accuracy,
            compatibility.iter().flatten().next().unwrap_or(&0.0),
        ),
        range: (0.0, report.versions().len().saturating_sub(1) as f64),
        headings: names.map(|(at, name)| (at as f64, name.clone())).collect(),
        values: (0.0, 1.0),
        lines: vec![
            line("accuracy", &mut accuracy.iter().copied().map(Some)),
            line("compatibility", &mut compatibility.iter().copied()),
        ],
    };
    let content = html! {
        p { "Average accuracy and average compatibility over the versions up to each one, as fractions." }
        (chart.figure())
    };
    page::section("curve", "After each version", content)
}

/// A range with round ends and round quarters that holds all values; 0 to 1 where there are none.
pub(super) fn value_range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (least, most) = values
        .filter(|value| value.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value), high.max(value))
        });
    if least > most {
        return (0.0, 1.0);
    }
    // Steps of 0.05 and a width in steps of 0.1: a quarter of the width has at most three decimals.
    let low = (least * 20.0 + 1e-9).floor() / 20.0;
    let high = low + ((most - low) * 10.0 - 1e-9).ceil().max(1.0) / 10.0;
    // An axis of fractions ends at 1.
    let beyond = if most <= 1.0 {
        (high - 1.0).max(0.0)
    } else {
        0.0
    };
    (low - beyond, high - beyond)
}

impl Chart {
    /// Whether a line's name is cut at the end of its line.
    fn cut(&self) -> bool {
        self.lines
            .iter()
            .any(|line| ending(line).chars().count() > WIDE.label_room())
    }

    /// The drawing, once for wide and once for narrow screens, and its legend.
    pub(super) fn figure(&self) -> Markup {
        html! {
            figure {
                @for frame in [WIDE, NARROW] {
                    svg class=(frame.class) viewBox={ "0 0 " (frame.width) " " (frame.height) } role="img" aria-label=(self.described) {
                        (frame.axes(self))
                        @for (index, line) in self.lines.iter().enumerate() { (frame.line(self, index, line)) }
                        @if frame.labelled { (frame.labels(self)) }
                    }
                }
                // Names too long for the ends of the lines stand below the wide drawing as well.
                div.legend.narrow[!self.cut()] aria-hidden="true" {
                    @for (index, line) in self.lines.iter().enumerate() {
                        span class={ "key " (style(index)) } { i.line {} (ending(line)) }
                    }
                }
            }
        }
    }
}

fn style(index: usize) -> String {
    format!("s{}", index % STYLES)
}

fn known(line: &Line) -> impl Iterator<Item = &(f64, f64, String)> {
    let finite = |point: &&(f64, f64, String)| point.0.is_finite() && point.1.is_finite();
    line.points.iter().filter(finite)
}

/// A line's name and last value.
fn ending(line: &Line) -> String {
    match known(line).last() {
        Some((_, value, _)) => format!("{} {}", line.name, Plain(*value, 3)),
        None => line.name.clone(),
    }
}

impl Frame {
    fn x(self, chart: &Chart, at: f64) -> At {
        let inset = 20.0;
        let span = self.width - self.left - self.right - 2.0 * inset;
        let (low, high) = chart.range;
        let width = if high > low { high - low } else { 1.0 };
        At(self.left + inset + span * (at - low) / width)
    }

    fn y(self, chart: &Chart, value: f64) -> f64 {
        let (low, high) = chart.values;
        self.top + (self.height - self.top - self.bottom) * (1.0 - (value - low) / (high - low))
    }

    fn axes(self, chart: &Chart) -> Markup {
        let (low, high) = chart.values;
        let ticks = [0.0, 0.25, 0.5, 0.75, 1.0].map(|part| low + part * (high - low));
        let room = ((self.width - self.left - self.right) / self.heading).max(1.0) as usize;
        let every = chart.headings.len().div_ceil(room).max(1);
        html! {
            @for tick in ticks {
                @let y = At(self.y(chart, tick));
                line.grid x1=(self.left) x2=(self.width - self.right) y1=(y) y2=(y) {}
                text.end x=(self.left - 6.0) y=(y) dy=".35em" { ((tick * 1e3).round() / 1e3) }
            }
            @for (at, name) in chart.headings.iter().step_by(every) {
                text x=(self.x(chart, *at)) y=(self.height - self.bottom + 22.0) {
                    (shortened(name, (self.heading / 7.0) as usize))
                }
            }
        }
    }

    fn line(self, chart: &Chart, index: usize, line: &Line) -> Markup {
        let place =
            |at: f64, value: f64| format!("{},{} ", self.x(chart, at), At(self.y(chart, value)));
        let points: String = known(line)
            .map(|&(at, value, _)| place(at, value))
            .collect();
        html! {
            g class=(style(index)) {
                polyline points=(points) {}
                @if line.dotted {
                    @for (at, value, told) in known(line) {
                        circle cx=(self.x(chart, *at)) cy=(At(self.y(chart, *value))) r="4" { title { (told) } }
                    }
                }
            }
        }
    }

    /// How many characters a name at the end of a line has room for.
    fn label_room(self) -> usize {
        ((self.right - 8.0) / 7.2) as usize
    }

    /// Names the lines at their right ends, apart from one another.
    fn labels(self, chart: &Chart) -> Markup {
        let mut places: Vec<(usize, f64)> = chart
            .lines
            .iter()
            .enumerate()
            .filter_map(|(index, line)| Some((index, self.y(chart, known(line).last()?.1))))
            .collect();
        places.sort_by(|a, b| a.1.total_cmp(&b.1));
        spread(&mut places);
        let room = self.label_room();
        html! {
            @for (index, y) in places {
                text class={ "start label " (style(index)) } x=(self.width - self.right + 8.0) y=(At(y)) dy=".35em" {
                    (shortened(&ending(&chart.lines[index]), room))
                }
            }
        }
    }
}

/// Moves places in ascending order apart to [`LABEL_DISTANCE`], each group about its own middle.
fn spread(places: &mut [(usize, f64)]) {
    // Groups of touching labels: first member, sum of their places, number.
    let mut groups: Vec<(usize, f64, usize)> = Vec::new();
    let middle = |group: &(usize, f64, usize)| group.1 / group.2 as f64;
    let half = |group: &(usize, f64, usize)| (group.2 as f64) * LABEL_DISTANCE / 2.0;
    for (index, &(_, place)) in places.iter().enumerate() {
        groups.push((index, place, 1));
        while let [.., before, last] = groups[..] {
            if middle(&last) - half(&last) >= middle(&before) + half(&before) {
                break;
            }
            groups.truncate(groups.len() - 2);
            groups.push((before.0, before.1 + last.1, before.2 + last.2));
        }
    }
    for group in &groups {
        let top = middle(group) - half(group) + LABEL_DISTANCE / 2.0;
        for (offset, place) in places[group.0..group.0 + group.2].iter_mut().enumerate() {
            place.1 = top + offset as f64 * LABEL_DISTANCE;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_never_overlap_and_stay_about_their_lines() {
        let mut places: Vec<(usize, f64)> = [10.0, 12.0, 100.0, 101.0, 102.0, 200.0]
            .into_iter()
            .enumerate()
            .collect();
        spread(&mut places);
        assert!(
            places
                .windows(2)
                .all(|pair| pair[1].1 - pair[0].1 >= LABEL_DISTANCE - 1e-9)
        );
        assert_eq!((places[0].1, places[1].1), (2.0, 20.0));
        assert_eq!(places[3].1, 101.0);
        assert_eq!(places[5].1, 200.0);
    }

    #[test]
    fn ranges_hold_the_values_and_have_round_quarters() {
        for values in [
            vec![0.31, 0.42],
            vec![0.0],
            vec![1.0],
            vec![0.96, 1.0],
            vec![0.05, 0.99],
        ] {
            let (low, high) = value_range(values.iter().copied());
            assert!(
                values
                    .iter()
                    .all(|value| (low - 1e-9..=high + 1e-9).contains(value)),
                "{values:?}: {low} {high}"
            );
            assert!(high <= 1.0 + 1e-9 && high - low > 0.0999, "{low} {high}");
            let quarter = (high - low) / 4.0 * 1e3;
            assert!((quarter - quarter.round()).abs() < 1e-6, "{low} {high}");
        }
        assert_eq!(value_range([f64::NAN].into_iter()), (0.0, 1.0));
    }
}
