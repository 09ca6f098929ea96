//! Average accuracy and average compatibility after each version.

use std::fmt::{self, Write};

use super::{Escaped, shortened};
use crate::Compatibility;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 44.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 40.0;
/// Least distance of the two labels at the ends of the lines.
const LABEL_DISTANCE: f64 = 18.0;

pub(super) fn write_section(out: &mut String, report: &Compatibility) -> fmt::Result {
    let metrics = report.metrics();
    let accuracy: Vec<Option<f64>> = metrics
        .average_accuracy_per_task
        .iter()
        .copied()
        .map(Some)
        .collect();
    let compatibility = &metrics.average_compatibility_per_task;
    write!(
        out,
        "<section aria-labelledby=\"curve\">\n<h2 id=\"curve\">After each version</h2>\n\
         <p>The same averages over the versions so far, as fractions.</p>\n<figure>\n\
         <div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-labelledby=\"curve\">\
         <svg class=\"curve\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-labelledby=\"curve curve-text\">\n\
         <desc id=\"curve-text\">Average accuracy goes from {:.3} to {:.3}, average compatibility from {:.3} to {:.3}.</desc>\n",
        metrics.average_accuracy_per_task[0],
        metrics.average_accuracy,
        compatibility.iter().flatten().next().unwrap_or(&0.0),
        metrics.average_compatibility.unwrap_or(0.0),
    )?;
    write_axes(out, report.versions())?;
    write_line(out, "accuracy", &accuracy)?;
    write_line(out, "compatibility", compatibility)?;
    write_labels(
        out,
        metrics.average_accuracy,
        metrics.average_compatibility.unwrap_or(0.0),
    )?;
    out.push_str("</svg></div>\n</figure>\n</section>\n");
    Ok(())
}

fn x(index: usize, count: usize) -> f64 {
    let span = WIDTH - LEFT - RIGHT - 40.0;
    LEFT + 20.0 + span * index as f64 / (count - 1).max(1) as f64
}

fn y(value: f64) -> f64 {
    TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - value)
}

fn write_axes(out: &mut String, versions: &[String]) -> fmt::Result {
    for tick in [0.0, 0.25, 0.5, 0.75, 1.0] {
        writeln!(
            out,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{0}\" y1=\"{1}\" y2=\"{1}\"/><text class=\"end\" x=\"{2}\" y=\"{1}\" dy=\".35em\">{tick}</text>",
            WIDTH - RIGHT,
            y(tick),
            LEFT - 8.0
        )?;
    }
    // About 70 pixels per heading.
    let every = versions.len().div_ceil(10);
    for (index, name) in versions.iter().enumerate().step_by(every) {
        writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{}\">{}</text>",
            x(index, versions.len()),
            HEIGHT - BOTTOM + 22.0,
            Escaped(&shortened(name, 10))
        )?;
    }
    Ok(())
}

fn write_line(out: &mut String, class: &str, values: &[Option<f64>]) -> fmt::Result {
    let points = || {
        let known = values
            .iter()
            .enumerate()
            .filter_map(|(index, value)| Some((index, (*value)?)));
        known.map(|(index, value)| (index, value, x(index, values.len()), y(value)))
    };
    write!(out, "<g class=\"{class}\"><polyline points=\"")?;
    for (_, _, x, y) in points() {
        write!(out, "{x:.1},{y:.1} ")?;
    }
    out.push_str("\"/>\n");
    for (index, value, x, y) in points() {
        writeln!(
            out,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"><title>after {} versions: {value:.4}</title></circle>",
            index + 1
        )?;
    }
    out.push_str("</g>\n");
    Ok(())
}

/// Names the lines at their right ends, apart from one another.
fn write_labels(out: &mut String, accuracy: f64, compatibility: f64) -> fmt::Result {
    let (mut upper, mut lower) = (y(accuracy), y(compatibility));
    let overlap = LABEL_DISTANCE - (upper - lower).abs();
    if overlap > 0.0 {
        let shift = if accuracy >= compatibility {
            overlap / 2.0
        } else {
            -overlap / 2.0
        };
        (upper, lower) = (upper - shift, lower + shift);
    }
    let left = WIDTH - RIGHT + 8.0;
    for (class, name, value, at) in [
        ("accuracy", "accuracy", accuracy, upper),
        ("compatibility", "compatibility", compatibility, lower),
    ] {
        writeln!(
            out,
            "<text class=\"start label {class}\" x=\"{left}\" y=\"{at:.1}\" dy=\".35em\">{name} {value:.3}</text>"
        )?;
    }
    Ok(())
}
