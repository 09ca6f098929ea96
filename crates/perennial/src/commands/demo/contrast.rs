//! What a replacement did to the galleries stored before it: the numbers, and what may be said about them.

use std::collections::BTreeSet;

use perennial_eval::{Compatibility, VerdictCounts};
use serde::Serialize;

/// A gallery is lost when queries find at most this many times what guessing finds.
const LOST_AT_CHANCE_TIMES: f64 = 2.0;
/// A gallery is usable when queries find at least this share of what its own model found.
const USABLE_SHARE: f64 = 0.8;

/// Accuracies around a replacement, fractions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Crossing {
    /// The earlier models on their own galleries, on average.
    pub before: f64,
    /// The models since the replacement on those galleries, on average.
    pub across: f64,
    /// The models since the replacement on galleries of their own, on average: what embedding all images again would give.
    pub after: f64,
    /// Guessing: one over the number of classes in the gallery.
    pub chance: f64,
    /// The pairs of models that the replacement separates, by what their intervals decide.
    pub pairs: VerdictCounts,
    /// AC of all pairs, those within each side of the replacement included.
    pub average_compatibility: f64,
}

/// What became of the old gallery. Everything that is said about a product follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GalleryOutcome {
    /// Queries find at most twice what guessing finds.
    Lost,
    /// Queries find less than before, and nothing is compatible or some pair is incompatible.
    Lower,
    /// Some pairs are incompatible, although queries find no less than before on average.
    Mixed,
    /// No pair is incompatible, and queries find about as much as before.
    Level,
    /// No pair is incompatible, some are compatible, and queries find more than before.
    Higher,
}

impl Crossing {
    /// `replaced` is the first model (0-based) that descends from the replacement.
    pub fn of(report: &Compatibility, replaced: usize, gallery_labels: &[u32]) -> Self {
        let rows = report.matrix().rows();
        let self_test = |model: usize| rows[model][model];
        let crossing = rows[replaced..]
            .iter()
            .flat_map(|row| &row[..replaced])
            .copied();
        let classes = gallery_labels.iter().collect::<BTreeSet<_>>().len();
        let separated: Vec<_> = report
            .matrix()
            .cross_tests()
            .zip(report.pairs())
            .filter(|((query, gallery, ..), _)| *query >= replaced && *gallery < replaced)
            .map(|(_, pair)| pair.clone())
            .collect();
        Self {
            before: mean((0..replaced).map(self_test)),
            across: mean(crossing),
            after: mean((replaced..rows.len()).map(self_test)),
            chance: 1.0 / classes.max(1) as f64,
            pairs: VerdictCounts::of(&separated),
            average_compatibility: report.metrics().average_compatibility.unwrap_or(0.0),
        }
    }

    /// What became of the old gallery.
    pub fn outcome(&self) -> GalleryOutcome {
        let nothing_compatible = self.average_compatibility <= 0.0;
        if self.across <= LOST_AT_CHANCE_TIMES * self.chance && self.across < self.before {
            GalleryOutcome::Lost
        } else if self.pairs.incompatible == 0 && !nothing_compatible {
            if self.across > self.before && self.pairs.compatible > 0 {
                GalleryOutcome::Higher
            } else {
                GalleryOutcome::Level
            }
        } else if self.across < self.before || nothing_compatible {
            GalleryOutcome::Lower
        } else {
            GalleryOutcome::Mixed
        }
    }

    /// Whether queries still find most of what the old models found, whatever is decided about single pairs.
    pub fn is_usable(&self) -> bool {
        self.outcome() != GalleryOutcome::Lost && self.across >= USABLE_SHARE * self.before
    }

    /// What became of a gallery of `items`, in words that follow from the numbers alone.
    pub fn describe(&self, items: usize) -> String {
        let found = format!(
            "The new models find {} in the old gallery; the old models found {} there.",
            percent(self.across),
            percent(self.before)
        );
        let pairs = self.pairs_in_words();
        let share = if self.before > 0.0 {
            format!("That is {:.0} % of it. ", 100.0 * self.across / self.before)
        } else {
            String::new()
        };
        let verdict = match self.outcome() {
            GalleryOutcome::Lost => format!(
                "That is at most twice what guessing finds ({}): without a bridge, the old gallery is lost, and all {items} images\nmust be embedded again.",
                percent(self.chance)
            ),
            GalleryOutcome::Lower if self.pairs.incompatible == 0 => format!(
                "{share}{pairs}\nThese queries do not decide whether search gets worse; \
                 embedding all {items} images again would avoid it."
            ),
            GalleryOutcome::Lower => format!(
                "{share}{pairs}\nSearch gets worse unless all {items} images are embedded again."
            ),
            GalleryOutcome::Mixed => format!(
                "{pairs}\nSome searches get worse unless all {items} images are embedded again."
            ),
            GalleryOutcome::Level => {
                format!(
                    "{pairs}\nSearch stays about as good, and all {items} stored items are kept."
                )
            }
            GalleryOutcome::Higher => {
                format!("{pairs}\nSearch gets better, and all {items} stored items are kept.")
            }
        };
        format!("{found}\n{verdict}")
    }

    fn pairs_in_words(&self) -> String {
        let VerdictCounts {
            compatible,
            undecided,
            incompatible,
        } = self.pairs;
        format!(
            "Pairs of models across the replacement: {compatible} compatible, {undecided} undecided, {incompatible} incompatible."
        )
    }
}

/// What both galleries show together.
pub fn conclude(ordinary: &Crossing, simplex: &Crossing) -> String {
    let of = |title: &str, crossing: &Crossing| match crossing.outcome() {
        GalleryOutcome::Lost => format!("the {title} gallery is lost without a bridge"),
        GalleryOutcome::Lower => format!(
            "queries of the {title} gallery are answered right in {} of cases, before it in {}",
            percent(crossing.across),
            percent(crossing.before)
        ),
        GalleryOutcome::Mixed => {
            format!(
                "{} of {} pairs of models across the replacement are incompatible in the {title} gallery",
                crossing.pairs.incompatible,
                crossing.pairs.pairs()
            )
        }
        GalleryOutcome::Level => {
            format!("the {title} gallery is kept and searched about as well as before")
        }
        GalleryOutcome::Higher => {
            format!("the {title} gallery is kept and searched better than before")
        }
    };
    format!(
        "After the replacement, {};\n{}.",
        of("ordinary", ordinary),
        of("simplex", simplex)
    )
}

/// A fraction in percent.
pub fn percent(fraction: f64) -> String {
    format!("{:.1} %", 100.0 * fraction)
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
    sum / f64::from(count.max(1))
}

#[cfg(test)]
mod tests {
    use perennial_eval::{Bootstrap, ProbeSet, Retrieval, TieRule};

    use super::*;

    const QUERIES: usize = 1000;

    fn report(rows: &[Vec<f64>]) -> Compatibility {
        let test = |accuracy: f64| {
            let right = (accuracy * QUERIES as f64).round() as usize;
            Retrieval {
                ncm_top1: right as f64 / QUERIES as f64,
                cmc1: 0.5,
                cmc5: 0.6,
                cmc10: 0.7,
                map: 0.4,
                per_query_ncm_correct: (0..QUERIES).map(|query| query < right).collect(),
                queries_without_match: 0,
            }
        };
        let tests: Vec<Vec<Retrieval>> = rows
            .iter()
            .map(|row| row.iter().copied().map(test).collect())
            .collect();
        let set = ProbeSet {
            argument: None,
            name: "generated".to_owned(),
            count: QUERIES,
            sha256: "00".repeat(32),
        };
        let names = (1..=rows.len()).map(|number| format!("v{number:04}"));
        Compatibility::new(
            names.collect(),
            &tests,
            set.clone(),
            set,
            TieRule::Strict,
            Bootstrap::new(1),
        )
        .unwrap()
    }

    #[test]
    fn means_and_pairs_are_taken_on_the_right_sides() {
        let rows = [
            vec![0.4],
            vec![0.45, 0.5],
            vec![0.1, 0.1, 0.7],
            vec![0.6, 0.5, 0.7, 0.8],
        ];
        let found = Crossing::of(&report(&rows), 2, &[3, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} {b}");
        close(found.before, 0.45);
        close(found.across, 0.325);
        close(found.after, 0.75);
        close(found.chance, 0.1);
        close(found.average_compatibility, 2.0 / 6.0);
        let counts = (
            found.pairs.compatible,
            found.pairs.undecided,
            found.pairs.incompatible,
        );
        // Equal outcomes of all queries are compatible, as those of equal embeddings are.
        assert_eq!(counts, (2, 0, 2));
    }

    fn crossing(before: f64, across: f64, pairs: (usize, usize, usize), ac: f64) -> Crossing {
        Crossing {
            before,
            across,
            after: 0.7,
            chance: 0.1,
            pairs: VerdictCounts {
                compatible: pairs.0,
                undecided: pairs.1,
                incompatible: pairs.2,
            },
            average_compatibility: ac,
        }
    }

    #[test]
    fn outcomes_follow_from_the_numbers() {
        for (numbers, expected, words) in [
            (
                crossing(0.4, 0.08, (0, 0, 4), 0.0),
                GalleryOutcome::Lost,
                "lost",
            ),
            (
                crossing(0.4, 0.19, (0, 0, 4), 0.2),
                GalleryOutcome::Lost,
                "guessing finds (10.0 %)",
            ),
            (
                crossing(0.4, 0.3, (0, 0, 4), 0.1),
                GalleryOutcome::Lower,
                "75 % of it",
            ),
            (
                crossing(0.4, 0.39, (0, 4, 0), 0.0),
                GalleryOutcome::Lower,
                "worse",
            ),
            (
                crossing(0.4, 0.41, (2, 0, 2), 0.5),
                GalleryOutcome::Mixed,
                "Some searches",
            ),
            (
                crossing(0.4, 0.39, (0, 4, 0), 0.2),
                GalleryOutcome::Level,
                "about as good",
            ),
            (
                crossing(0.4, 0.42, (0, 4, 0), 0.5),
                GalleryOutcome::Level,
                "about as good",
            ),
            (
                crossing(0.4, 0.45, (3, 1, 0), 0.8),
                GalleryOutcome::Higher,
                "better",
            ),
            // A first model that hardly beats guessing loses nothing to a better one.
            (
                crossing(0.12, 0.19, (4, 0, 0), 1.0),
                GalleryOutcome::Higher,
                "better",
            ),
        ] {
            assert_eq!(numbers.outcome(), expected, "{numbers:?}");
            let text = numbers.describe(1000);
            assert!(text.contains(words), "{expected:?}: {text}");
        }
    }

    /// Nobody has to embed the items again to search as well as before.
    fn keeps_the_items(outcome: GalleryOutcome) -> bool {
        matches!(outcome, GalleryOutcome::Level | GalleryOutcome::Higher)
    }

    /// Whatever the numbers, `kept` is said only where nothing is incompatible and something is compatible, and both the
    /// gallery's own sentence and the conclusion agree.
    #[test]
    fn kept_is_never_said_without_compatible_pairs() {
        let steps = [0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.39, 0.4, 0.41, 0.6, 1.0];
        let pairs = [
            (0, 0, 4),
            (0, 4, 0),
            (4, 0, 0),
            (1, 1, 2),
            (2, 2, 0),
            (0, 1, 3),
        ];
        let mut kept = 0;
        for before in steps {
            for across in steps {
                for pairs in pairs {
                    for ac in [0.0, 1.0 / 6.0, 0.5, 1.0] {
                        let numbers = crossing(before, across, pairs, ac);
                        let lost = crossing(0.4, 0.08, (0, 0, 4), 0.0);
                        for text in [numbers.describe(1000), conclude(&lost, &numbers)] {
                            let says_kept = text.contains("kept");
                            assert_eq!(says_kept, keeps_the_items(numbers.outcome()), "{text}");
                            assert!(
                                !says_kept || (ac > 0.0 && pairs.2 == 0),
                                "{numbers:?}: {text}"
                            );
                            if text.contains("better") && !text.contains("worse") {
                                assert!(across > before, "{numbers:?}: {text}");
                            }
                            if text.contains("lost") && text != conclude(&lost, &numbers) {
                                assert!(across <= 0.2, "{numbers:?}: {text}");
                            }
                            kept += usize::from(says_kept);
                        }
                    }
                }
            }
        }
        assert!(kept > 0, "the case occurs");
    }
}
