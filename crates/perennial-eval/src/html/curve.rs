//! Average accuracy and average compatibility after each version.

use std::fmt::{self, Write};

use super::{Escaped, shortened};
use crate::Compatibility;

/// Least distance of the two labels at the ends of the lines.
const LABEL_DISTANCE: f64 = 18.0;

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
    /// Space of a version's name below the axis.
    heading: f64,
    /// Whether the lines carry their names at their ends; otherwise the legend below the drawing tells them apart.
    labelled: bool,
}

const WIDE: Frame = Frame {
    class: "curve wide",
    width: 960.0,
    height: 300.0,
    left: 44.0,
    right: 150.0,
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
    left: 36.0,
    right: 8.0,
    top: 12.0,
    bottom: 34.0,
    heading: 56.0,
    labelled: false,
};

pub(super) fn write_section(out: &mut String, report: &Compatibility) -> fmt::Result {
    let metrics = report.metrics();
    let accuracy: Vec<Option<f64>> = metrics
        .average_accuracy_per_task
        .iter()
        .copied()
        .map(Some)
        .collect();
    let compatibility = &metrics.average_compatibility_per_task;
    let (last_accuracy, last_compatibility) = (
        metrics.average_accuracy,
        metrics.average_compatibility.unwrap_or(0.0),
    );
    let described = format!(
        "Average accuracy goes from {:.3} to {last_accuracy:.3}, average compatibility from {:.3} to {last_compatibility:.3}.",
        metrics.average_accuracy_per_task[0],
        compatibility.iter().flatten().next().unwrap_or(&0.0),
    );
    out.push_str(
        "<section aria-labelledby=\"curve\">\n<h2 id=\"curve\">After each version</h2>\n\
         <p>Average accuracy and average compatibility over the versions up to each one, as fractions.</p>\n<figure>\n",
    );
    for frame in [WIDE, NARROW] {
        writeln!(
            out,
            "<svg class=\"{}\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{described}\">",
            frame.class, frame.width, frame.height
        )?;
        frame.write_axes(out, report.versions())?;
        frame.write_line(out, "accuracy", &accuracy)?;
        frame.write_line(out, "compatibility", compatibility)?;
        if frame.labelled {
            frame.write_labels(out, last_accuracy, last_compatibility)?;
        }
        out.push_str("</svg>\n");
    }
    writeln!(
        out,
        "<div class=\"legend narrow\" aria-hidden=\"true\"><span class=\"key accuracy\"><i class=\"line\"></i>accuracy {last_accuracy:.3}</span>\
         <span class=\"key compatibility\"><i class=\"line\"></i>compatibility {last_compatibility:.3}</span></div>"
    )?;
    out.push_str("</figure>\n</section>\n");
    Ok(())
}

impl Frame {
    fn x(self, index: usize, count: usize) -> f64 {
        let inset = 20.0;
        let span = self.width - self.left - self.right - 2.0 * inset;
        self.left + inset + span * index as f64 / (count - 1).max(1) as f64
    }

    fn y(self, value: f64) -> f64 {
        self.top + (self.height - self.top - self.bottom) * (1.0 - value)
    }

    fn write_axes(self, out: &mut String, versions: &[String]) -> fmt::Result {
        for tick in [0.0, 0.25, 0.5, 0.75, 1.0] {
            writeln!(
                out,
                "<line class=\"grid\" x1=\"{0}\" x2=\"{1}\" y1=\"{2}\" y2=\"{2}\"/><text class=\"end\" x=\"{3}\" y=\"{2}\" dy=\".35em\">{tick}</text>",
                self.left,
                self.width - self.right,
                self.y(tick),
                self.left - 6.0
            )?;
        }
        let room = ((self.width - self.left - self.right) / self.heading).max(1.0) as usize;
        let every = versions.len().div_ceil(room);
        for (index, name) in versions.iter().enumerate().step_by(every) {
            writeln!(
                out,
                "<text x=\"{:.1}\" y=\"{}\">{}</text>",
                self.x(index, versions.len()),
                self.height - self.bottom + 22.0,
                Escaped(&shortened(name, (self.heading / 7.0) as usize))
            )?;
        }
        Ok(())
    }

    fn write_line(self, out: &mut String, class: &str, values: &[Option<f64>]) -> fmt::Result {
        let points = || {
            let known = values
                .iter()
                .enumerate()
                .filter_map(|(index, value)| Some((index, (*value)?)));
            known.map(|(index, value)| (index, value, self.x(index, values.len()), self.y(value)))
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
    fn write_labels(self, out: &mut String, accuracy: f64, compatibility: f64) -> fmt::Result {
        let (mut upper, mut lower) = (self.y(accuracy), self.y(compatibility));
        let overlap = LABEL_DISTANCE - (upper - lower).abs();
        if overlap > 0.0 {
            let shift = if accuracy >= compatibility {
                overlap / 2.0
            } else {
                -overlap / 2.0
            };
            (upper, lower) = (upper - shift, lower + shift);
        }
        let left = self.width - self.right + 8.0;
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
}
