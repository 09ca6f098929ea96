//! The demo's table: what each way to handle the replacement of an encoder makes of the old gallery, and what it costs.

use perennial_bridge::{Index, Pairs, Recipe, fit};
use perennial_core::{Embeddings, SpaceId, SpaceRef};
use perennial_eval::{Measure, Outcomes};
use perennial_upgrade::measured::{Bounds, search_outcomes};
use perennial_upgrade::{
    DEFAULT_WEIGHT, Demands, EvaluationData, Finding, Measured, Names, Route, Rows, Search, Truth,
};
use serde::Serialize;

use super::contrast::percent;

/// Embeddings of one encoder.
pub struct Encoded {
    /// Queries of the evaluation set.
    pub queries: Embeddings,
    /// Gallery of the evaluation set.
    pub gallery: Embeddings,
    /// Images of other classes, to fit a bridge on.
    pub fit: Embeddings,
}

/// One way, measured on all queries.
#[derive(Clone, Debug, Serialize)]
pub struct Way {
    pub name: String,
    /// Share of queries whose nearest class mean is right.
    pub ncm: f64,
    /// Share of queries whose first hit is of the right class.
    pub recall_at_1: f64,
    /// Against the old encoder on the same gallery; none for the old encoder itself and for embedding everything again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finding: Option<Finding>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub measures: Vec<Measured>,
}

/// All ways of one product.
#[derive(Clone, Debug, Serialize)]
pub struct Ways {
    /// The old encoder on its own gallery.
    pub before: Way,
    /// The new encoder's queries on the old gallery, as they are.
    pub swapped: Way,
    /// The same through a bridge.
    pub bridged: Way,
    /// The old query and the bridged new one, added.
    pub dual: Way,
    /// The new encoder on a gallery of its own.
    pub embedded_again: Way,
    /// Unlabelled images that the bridge was fitted on.
    pub fit_images: usize,
    /// Seconds that embedding the gallery again took.
    pub seconds: f64,
}

impl Ways {
    /// Measures the ways from the old to the new encoder. `seconds` is what embedding the gallery with the new one took.
    pub fn measure(old: &Encoded, new: &Encoded, seconds: f64) -> anyhow::Result<Self> {
        let labels = |set: &Embeddings| set.labels().unwrap_or_default().to_vec();
        let data = EvaluationData {
            old_queries: rows(&old.queries),
            old_gallery: rows(&old.gallery),
            new_queries: rows(&new.queries),
            new_gallery: Some(rows(&new.gallery)),
            truths: vec![Truth::Classes {
                queries: labels(&old.queries),
                gallery: labels(&old.gallery),
            }],
            own: None,
            names: Names::default(),
        };
        let truth = &data.truths[0];
        let (from, to) = (rows(&new.fit), rows(&old.fit));
        let pairs = Pairs::new(&from.values, from.dim, &to.values, to.dim)?;
        let bridge = fit(
            &pairs,
            &Recipe::Orthogonal,
            from.space.clone(),
            to.space.clone(),
        )?;
        // Stored vectors stay as they are, as in any index that cannot be changed.
        let bounds = Bounds::of(&data, truth, None)?;
        let demands = Demands::new(0);
        let against = |name: &str, search: &Search<'_>| -> anyhow::Result<Way> {
            let found = search_outcomes(&data, truth, search)?;
            let measures = bounds.compare(&found, Index::Raw, &demands)?;
            let (finding, _) = perennial_upgrade::measured::judge(&measures, &demands);
            Ok(Way {
                finding: Some(finding),
                measures,
                ..way(name, &found)
            })
        };
        let images = old.fit.len();
        let route = Route::Dual {
            weight: DEFAULT_WEIGHT,
        };
        let again = bounds.new_self_test().cloned().unwrap_or_default();
        Ok(Self {
            before: way("old encoder, nothing changed", bounds.old()),
            swapped: against("new encoder on the old gallery", &Search::own())?,
            bridged: against(
                &format!("+ bridge, fitted on {images} unlabelled images"),
                &Search::through(&bridge, Route::Bridged, Index::Raw),
            )?,
            dual: against(
                "+ dual queries: old and new encoder",
                &Search::through(&bridge, route, Index::Raw),
            )?,
            embedded_again: way(
                &format!("all {} images embedded again", old.gallery.len()),
                &again,
            ),
            fit_images: images,
            seconds,
        })
    }

    fn rows(&self) -> [&Way; 5] {
        [
            &self.before,
            &self.swapped,
            &self.bridged,
            &self.dual,
            &self.embedded_again,
        ]
    }
}

fn rows(embeddings: &Embeddings) -> Rows {
    let dim = embeddings.dim();
    let space = match SpaceId::new(embeddings.model_version()) {
        Ok(id) => SpaceRef::named(id, dim),
        Err(_) => SpaceRef::unnamed(dim),
    };
    Rows::embedded(embeddings, space)
}

fn way(name: &str, found: &Outcomes) -> Way {
    Way {
        name: name.to_owned(),
        ncm: Measure::NearestClassMean.mean(found).unwrap_or(0.0),
        recall_at_1: Measure::RecallAt(1).mean(found).unwrap_or(0.0),
        finding: None,
        measures: Vec::new(),
    }
}

/// The table of all products, with the meaning of its figures.
pub fn table(products: &[(&str, &Ways)], queries: usize, chance: f64) -> String {
    let width = products
        .iter()
        .flat_map(|(_, ways)| ways.rows())
        .map(|way| way.name.chars().count() + 2)
        .max()
        .unwrap_or(0);
    let mut text = format!(
        "{:width$}  {:>11}  {:>9}  change of the right class\n",
        "", "right class", "right hit"
    );
    for (title, ways) in products {
        text.push_str(&format!("{title}\n"));
        for way in ways.rows() {
            let name = format!("  {}", way.name);
            text.push_str(&format!(
                "{name:<width$}  {:>11}  {:>9}{}\n",
                percent(way.ncm),
                percent(way.recall_at_1),
                change(way)
            ));
        }
    }
    text.push_str(&format!(
        "\nRight class: share of {queries} queries whose nearest class mean in the gallery is of their class (guessing: {}); right hit: whose\n\
         first hit is. In brackets: 95 % interval of the difference to the old encoder on the same gallery. Only the last line of each block\n\
         embeds stored images again ({:.1} s here; with millions of images, days).\n",
        percent(chance),
        products.first().map_or(0.0, |(_, ways)| ways.seconds)
    ));
    text
}

fn change(way: &Way) -> String {
    let ncm = way
        .measures
        .iter()
        .find(|one| one.comparison.measure == Measure::NearestClassMean);
    let Some(found) = ncm else {
        return String::new();
    };
    let points = |fraction: f64| format!("{:+.1}", 100.0 * fraction);
    let bounds = found.interval(0.95).map_or_else(String::new, |bounds| {
        format!(" [{}, {}]", points(bounds.low), points(bounds.high))
    });
    format!(
        "  {} points{bounds}, {}",
        points(found.comparison.margin),
        perennial_upgrade::Finding::from(found.verdict)
    )
}

/// What the table shows, in sentences that follow from its figures.
pub fn conclude(ordinary: &Ways, simplex: &Ways) -> String {
    let compared = |way: &Way, before: &Way| {
        if way.ncm > before.ncm {
            "above what it was"
        } else {
            "below what it was"
        }
    };
    format!(
        "The ordinary encoder's old gallery: {} right with the new encoder as it is, {} through a bridge ({}), {} with dual queries\n\
         ({}); it was {}. The simplex encoder's needs nothing fitted: {} before, {} after.\n",
        percent(ordinary.swapped.ncm),
        percent(ordinary.bridged.ncm),
        compared(&ordinary.bridged, &ordinary.before),
        percent(ordinary.dual.ncm),
        compared(&ordinary.dual, &ordinary.before),
        percent(ordinary.before.ncm),
        percent(simplex.before.ncm),
        percent(simplex.swapped.ncm),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(ncm: f64) -> Way {
        Way {
            name: "way".to_owned(),
            ncm,
            recall_at_1: ncm / 2.0,
            finding: None,
            measures: Vec::new(),
        }
    }

    fn ways(values: [f64; 5]) -> Ways {
        let [before, swapped, bridged, dual, embedded_again] = values.map(plain);
        Ways {
            before,
            swapped,
            bridged,
            dual,
            embedded_again,
            fit_images: 1000,
            seconds: 1.26,
        }
    }

    #[test]
    fn every_way_has_a_line_that_is_not_too_long() {
        let (ordinary, simplex) = (
            ways([0.25, 0.095, 0.31, 0.33, 0.48]),
            ways([0.251, 0.303, 0.3, 0.32, 0.487]),
        );
        let text = table(&[("ordinary", &ordinary), ("simplex", &simplex)], 1000, 0.1);
        for figure in [
            "25.0 %",
            "9.5 %",
            "31.0 %",
            "33.0 %",
            "48.0 %",
            "30.3 %",
            "48.7 %",
            "guessing: 10.0 %",
        ] {
            assert!(text.contains(figure), "{figure}: {text}");
        }
        assert!(
            text.lines().all(|line| line.chars().count() <= 140),
            "{text}"
        );
    }

    #[test]
    fn sentences_follow_from_the_figures() {
        let better = ways([0.25, 0.095, 0.31, 0.33, 0.48]);
        let worse = ways([0.25, 0.095, 0.21, 0.23, 0.48]);
        assert_eq!(conclude(&better, &better).matches("above").count(), 2);
        assert_eq!(conclude(&worse, &better).matches("below").count(), 2);
    }

    #[test]
    fn a_rotated_space_is_bridged_back() {
        // Three well separated classes; the new encoder sees the same vectors with swapped and negated axes.
        let set = |name: &str, shift: u32, turned: bool| {
            let rows = 60usize;
            let (mut vectors, mut labels) = (Vec::new(), Vec::new());
            for row in 0..rows {
                let class = row % 3;
                let noise = |place: usize| {
                    let mixed = (row as u32)
                        .wrapping_mul(2_654_435_761)
                        .wrapping_add(shift * 97 + place as u32 * 31);
                    0.3 * ((mixed >> 8) % 1000) as f32 / 1000.0 - 0.15
                };
                let mut vector = [noise(0), noise(1), noise(2)];
                vector[class] += 1.0;
                let [a, b, c] = vector;
                vectors.extend(if turned { [-b, c, a] } else { vector });
                labels.push(class as u32);
            }
            let ids = (0..rows as u64).collect();
            Embeddings::normalized(name, 3, vectors, ids, Some(labels)).unwrap()
        };
        let encoded = |name: &str, turned: bool| Encoded {
            queries: set(name, 1, turned),
            gallery: set(name, 2, turned),
            fit: set(name, 3, turned),
        };
        let found = Ways::measure(&encoded("old", false), &encoded("new", true), 0.0).unwrap();
        assert_eq!(found.before.ncm, 1.0);
        assert!(found.swapped.ncm < 0.5, "{found:?}");
        assert_eq!((found.bridged.ncm, found.dual.ncm), (1.0, 1.0));
        assert_eq!(found.embedded_again.ncm, 1.0);
    }
}
