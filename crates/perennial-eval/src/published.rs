//! The figures that the method's authors published, for comparison with runs of the same scenario.
//!
//! **Source.** *Stationary Representations: Optimally Approximating Compatibility and Implications for Improved Model Replacements*
//! (arXiv 2405.02581, CVPR 2024), its extension *A Stationary (and Therefore Compatible) Representation is All You Need* (TPAMI 2026,
//! arXiv 2606.12488), from which the figures are unless said otherwise, and the notebooks released with the code.
//! Everything here is a fraction, where the publications give accuracies in percent.

use std::fmt;

use serde::Serialize;

/// Where [`figures`] come from, for the foot of a table.
pub const SOURCE: &str = "arXiv 2405.02581 and its extension, TPAMI 2026";

/// How exactly a figure was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// As a number.
    Exact,
    /// As a round number for several methods.
    About,
    /// As an upper bound.
    Below,
}

/// One published figure, a fraction.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Figure {
    /// The number.
    pub value: f64,
    /// How exactly it was published.
    pub precision: Precision,
}

impl Figure {
    /// What stands before the number.
    pub fn qualifier(&self) -> &'static str {
        match self.precision {
            Precision::Exact => "",
            Precision::About => "~",
            Precision::Below => "<",
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = if self.precision == Precision::Exact {
            4
        } else {
            2
        };
        write!(f, "{}{:.digits$}", self.qualifier(), self.value)
    }
}

/// The published figures of one method in one scenario.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Published {
    /// The method as the publication calls it.
    pub method: &'static str,
    /// The kind of method here that does the same, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<&'static str>,
    /// `article`, or `notebooks` for figures of the released notebooks.
    pub from: &'static str,
    /// AC.
    pub average_compatibility: Figure,
    /// AA.
    pub average_accuracy: Figure,
    /// ACA, where it was published.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub average_compatible_accuracy: Option<Figure>,
}

impl Published {
    /// The figure of a measure, by its name in [`MEASURES`](crate::method_table::MEASURES).
    pub fn figure(&self, measure: &str) -> Option<Figure> {
        match measure {
            "AC" => Some(self.average_compatibility),
            "AA" => Some(self.average_accuracy),
            "ACA" => self.average_compatible_accuracy,
            _ => None,
        }
    }
}

const fn exact(value: f64) -> Figure {
    Figure {
        value,
        precision: Precision::Exact,
    }
}

const fn about(value: f64) -> Figure {
    Figure {
        value,
        precision: Precision::About,
    }
}

const fn below(value: f64) -> Figure {
    Figure {
        value,
        precision: Precision::Below,
    }
}

const fn of(
    method: &'static str,
    kind: Option<&'static str>,
    average_compatibility: Figure,
    average_accuracy: Figure,
) -> Published {
    Published {
        method,
        kind,
        from: "article",
        average_compatibility,
        average_accuracy,
        average_compatible_accuracy: None,
    }
}

const fn of_notebooks(
    method: &'static str,
    average_compatibility: f64,
    average_accuracy: f64,
) -> Published {
    Published {
        from: "notebooks",
        ..of(
            method,
            None,
            exact(average_compatibility),
            exact(average_accuracy),
        )
    }
}

const fn of_cl2r(
    method: &'static str,
    kind: Option<&'static str>,
    [
        average_compatibility,
        average_accuracy,
        average_compatible_accuracy,
    ]: [f64; 3],
) -> Published {
    Published {
        average_compatible_accuracy: Some(exact(average_compatible_accuracy)),
        ..of(
            method,
            kind,
            exact(average_compatibility),
            exact(average_accuracy),
        )
    }
}

const IAMCL2R_7: [Published; 8] = [
    of("ER", Some("er"), exact(0.0), about(0.36)),
    of("FAN", None, exact(0.0), about(0.36)),
    of("BCT-ER", None, exact(0.0), about(0.36)),
    of("CVS", None, exact(0.0), about(0.36)),
    of("d-Simplex-FD", Some("fd"), exact(0.05), exact(0.5658)),
    of("d-Simplex-HOC", Some("hoc"), exact(0.95), exact(0.6813)),
    of_notebooks("ER", 0.0, 0.3518),
    of_notebooks("d-Simplex-HOC", 0.95, 0.6890),
];

const IAMCL2R_31: [Published; 5] = [
    of("ER", Some("er"), below(0.01), about(0.31)),
    of("d-Simplex-FD", Some("fd"), exact(0.21), exact(0.5627)),
    of("d-Simplex-HOC", Some("hoc"), exact(0.65), exact(0.6740)),
    of_notebooks("ER", 0.0, 0.3032),
    of_notebooks("d-Simplex-HOC", 0.65, 0.6807),
];

const CL2R_31: [Published; 7] = [
    of_cl2r("ER", Some("er"), [0.02, 0.4078, 0.0093]),
    of_cl2r("FAN", None, [0.07, 0.4312, 0.0342]),
    of_cl2r("BCT-ER", None, [0.01, 0.4196, 0.0040]),
    of_cl2r("LCE-ER", None, [0.14, 0.3845, 0.0593]),
    of_cl2r("CVS", None, [0.07, 0.4633, 0.0293]),
    of_cl2r("d-Simplex-FD", Some("fd"), [0.34, 0.4482, 0.1537]),
    of_cl2r("d-Simplex-HOC", Some("hoc"), [0.49, 0.4734, 0.2344]),
];

/// The published figures of a scenario; none for a name that [`scenario`] does not give.
pub fn figures(scenario: &str) -> &'static [Published] {
    match scenario {
        "iamcl2r-7" => &IAMCL2R_7,
        "iamcl2r-31" => &IAMCL2R_31,
        "cl2r-31" => &CL2R_31,
        _ => &[],
    }
}

/// The published scenario that a run belongs to, by the names of its training set (`cifar100`) and of its evaluation sets (such as
/// `cifar10/test`), its number of tasks, its number of replacements, and whether its first version was pre-trained.
///
/// A run may still differ from the published recipe, in its network, its epochs or its pre-trained models.
pub fn scenario(
    training: &str,
    evaluation: [&str; 2],
    tasks: usize,
    replacements: usize,
    pretrained: bool,
) -> Option<&'static str> {
    let cifar10 = |name: &str| {
        name.strip_prefix("cifar10")
            .is_some_and(|rest| !rest.starts_with('0'))
    };
    if training != "cifar100" || !evaluation.into_iter().all(cifar10) {
        return None;
    }
    match (tasks, replacements, pretrained) {
        (7, 2, true) => Some("iamcl2r-7"),
        (31, 2, true) => Some("iamcl2r-31"),
        (31, 0, false) => Some("cl2r-31"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCENARIOS: [&str; 3] = ["iamcl2r-7", "iamcl2r-31", "cl2r-31"];

    #[test]
    fn all_figures_are_fractions_and_every_scenario_has_both_methods() {
        for name in SCENARIOS {
            for row in figures(name) {
                for measure in ["AC", "AA", "ACA"] {
                    let value = row.figure(measure).map_or(0.0, |figure| figure.value);
                    assert!((0.0..=1.0).contains(&value), "{name} {}", row.method);
                }
            }
            for kind in ["er", "hoc"] {
                let same = figures(name).iter().filter(|row| row.kind == Some(kind));
                assert_eq!(same.count(), 1, "{name} {kind}");
            }
        }
        assert!(figures("7 tasks").is_empty());
        let hoc = figures("cl2r-31").last().unwrap();
        assert_eq!(hoc.figure("ACA").unwrap().to_string(), "0.2344");
        assert_eq!(hoc.figure("BC"), None);
        let er = &figures("iamcl2r-31")[0];
        assert_eq!(er.figure("AC").unwrap().to_string(), "<0.01");
        assert_eq!(er.figure("AA").unwrap().to_string(), "~0.31");
    }

    #[test]
    fn a_scenario_is_more_than_its_number_of_tasks() {
        let sets = ["cifar10/batch1", "cifar10/test (20 of 10,000 images)"];
        let of = |tasks, replacements, pretrained| {
            scenario("cifar100", sets, tasks, replacements, pretrained)
        };
        assert_eq!(of(7, 2, true), Some("iamcl2r-7"));
        assert_eq!(of(31, 2, true), Some("iamcl2r-31"));
        assert_eq!(of(31, 0, false), Some("cl2r-31"));
        // CL2R as published begins with random weights.
        assert_eq!(of(31, 0, true), None);
        assert_eq!(of(7, 2, false), None);
        assert_eq!(of(7, 1, true), None);
        assert_eq!(scenario("generated", sets, 7, 2, true), None);
        let trained = ["cifar100/test", "cifar10/test"];
        assert_eq!(scenario("cifar100", trained, 7, 2, true), None);
    }
}
