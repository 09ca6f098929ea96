//! The demo's first lines: one small table with what each product's gallery is worth and what the replacement costs.

use serde::Serialize;

use super::contrast::{Crossing, percent};

/// What it takes to search the old images no worse than before the replacement.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Cost {
    /// Stored items that stay as they are.
    pub items_kept: usize,
    /// Images that the new model has to embed.
    pub images_embedded_again: usize,
    /// What that takes, as measured on this machine.
    pub seconds: f64,
}

impl Cost {
    /// `seconds` is what embedding all `items` images with the new model took.
    pub fn of(crossing: &Crossing, items: usize, seconds: f64) -> Self {
        if crossing.outcome().keeps_the_items() {
            Self {
                items_kept: items,
                images_embedded_again: 0,
                seconds: 0.0,
            }
        } else {
            Self {
                items_kept: 0,
                images_embedded_again: items,
                seconds,
            }
        }
    }
}

/// One row of the table.
pub struct Row<'a> {
    pub title: &'a str,
    pub crossing: &'a Crossing,
    pub cost: Cost,
}

/// The table of all products, with its heading and the meaning of its figures.
pub fn table(rows: &[Row<'_>], queries: usize) -> String {
    let mut lines = vec![
        [
            "",
            "old gallery",
            "old gallery",
            "if all were",
            "items",
            "images",
            "",
        ]
        .map(str::to_owned),
        [
            "",
            "before",
            "after",
            "embedded again",
            "kept",
            "embedded again",
            "seconds",
        ]
        .map(str::to_owned),
    ];
    for Row {
        title,
        crossing,
        cost,
    } in rows
    {
        lines.push([
            (*title).to_owned(),
            percent(crossing.before),
            percent(crossing.across),
            percent(crossing.after),
            cost.items_kept.to_string(),
            cost.images_embedded_again.to_string(),
            format!("{:.1}", cost.seconds),
        ]);
    }
    let width = |column: usize| {
        lines
            .iter()
            .map(|line| line[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..7).map(width).collect();
    let quality: usize = widths[1..4].iter().sum::<usize>() + 4;
    let mut text = String::new();
    text.push_str(&format!(
        "{:first$}  {:<quality$}  to search as well as before\n",
        "",
        "search quality",
        first = widths[0],
    ));
    for line in &lines {
        let cells: Vec<String> = line
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(column, (cell, &width))| match column {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            })
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    let chance = rows.first().map_or(0.0, |row| row.crossing.chance);
    text.push_str(&format!(
        "\nSearch quality: share of {queries} queries answered right (guessing: {}). Before: by the models before the\n\
         replacement. After: by the models since, without embedding a stored image again.\n",
        percent(chance)
    ));
    text
}

#[cfg(test)]
mod tests {
    use perennial_eval::VerdictCounts;

    use super::*;

    fn crossing(across: f64, compatible: usize) -> Crossing {
        Crossing {
            before: 0.3,
            across,
            after: 0.6,
            chance: 0.1,
            pairs: VerdictCounts {
                compatible,
                undecided: 0,
                incompatible: 4 - compatible,
            },
            average_compatibility: compatible as f64 / 4.0,
        }
    }

    #[test]
    fn a_kept_gallery_costs_nothing_and_a_lost_one_all_of_it() {
        let lost = Cost::of(&crossing(0.08, 0), 1000, 1.26);
        let kept = Cost::of(&crossing(0.36, 4), 1000, 1.26);
        assert_eq!((lost.items_kept, lost.images_embedded_again), (0, 1000));
        assert_eq!((kept.items_kept, kept.images_embedded_again), (1000, 0));
        assert_eq!((lost.seconds, kept.seconds), (1.26, 0.0));
        // Less than before is not as well as before.
        assert_eq!(Cost::of(&crossing(0.25, 0), 1000, 1.26), lost);
    }

    #[test]
    fn the_table_is_small_and_says_what_was_measured() {
        let (ordinary, simplex) = (crossing(0.08, 0), crossing(0.36, 4));
        let rows = [
            ("ordinary classifier", &ordinary),
            ("simplex classifier", &simplex),
        ]
        .map(|(title, crossing)| Row {
            title,
            crossing,
            cost: Cost::of(crossing, 1000, 1.26),
        });
        let text = table(&rows, 1000);
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines.iter().all(|line| line.chars().count() <= 110),
            "{text}"
        );
        let cells = |line: &str| -> Vec<String> {
            line.split("  ")
                .map(str::trim)
                .filter(|cell| !cell.is_empty())
                .map(str::to_owned)
                .collect()
        };
        assert_eq!(
            cells(lines[3]),
            [
                "ordinary classifier",
                "30.0 %",
                "8.0 %",
                "60.0 %",
                "0",
                "1000",
                "1.3"
            ]
        );
        assert_eq!(
            cells(lines[4]),
            [
                "simplex classifier",
                "30.0 %",
                "36.0 %",
                "60.0 %",
                "1000",
                "0",
                "0.0"
            ]
        );
        assert!(text.contains("guessing: 10.0 %"), "{text}");
    }
}
