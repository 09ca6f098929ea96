//! What a layer is worth, on rows that it was not trained on.

use perennial_bridge::Bridge;
use perennial_core::Simplex;
use perennial_eval::{Relevance, Test, outcomes};
use perennial_train::earlier::ClassCentres;
use perennial_train::head::HeadConfig;
use perennial_upgrade::Rows;
use serde::Serialize;

use super::inputs::Inputs;

/// Fractions of rows. Those of retrieval compare held-out rows with the class means of the rows that were trained on.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figures {
    /// Of the rows that were trained on: their nearest vertex is that of their class.
    pub trained_nearest_prototype: f64,
    /// The same of held-out rows; null where nothing is held out, as are all others.
    pub nearest_prototype: Option<f64>,
    /// Self-test, nearest class mean: held-out embeddings find class means of the layer's own.
    pub self_test: Option<f64>,
    /// The same of the features without the layer.
    pub features_self_test: Option<f64>,
    /// Against the older version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<ReferenceFigures>,
}

/// Against the older version.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ReferenceFigures {
    /// Held-out embeddings of the layer find class means of the older version.
    pub cross_test: f64,
    /// Held-out embeddings of the older version do.
    pub self_test: f64,
    /// The difference: above 0, the layer searches the old gallery better than the older version does.
    pub margin: f64,
    /// Held-out rows whose old embedding is nearest to the vertex of their class: near chance, the labels are numbered otherwise.
    pub nearest_prototype: f64,
}

impl Figures {
    /// `rows` are those that were trained on, and those held out.
    pub fn measure(
        inputs: &Inputs,
        layer: &Bridge,
        config: &HeadConfig,
        [fit, held_out]: [&[usize]; 2],
    ) -> anyhow::Result<Self> {
        let mut values = Vec::new();
        layer.apply(&inputs.features.values, &mut values)?;
        let embedded = Rows {
            values,
            dim: layer.to().dim,
            space: layer.to().clone(),
        };
        let trained_nearest_prototype =
            nearest_prototype(&embedded.select(fit), &of(inputs, fit), config)?;
        if held_out.is_empty() {
            return Ok(Self {
                trained_nearest_prototype,
                ..Self::default()
            });
        }
        let classes = [of(inputs, fit), of(inputs, held_out)];
        let side = |rows: &Rows, which: &[usize]| units(rows.select(which));
        let queries = side(&embedded, held_out)?;
        let test = |queries: &Rows, gallery: &Rows| nearest_class_mean(queries, gallery, &classes);
        let reference = match &inputs.reference {
            None => None,
            Some(reference) => {
                let (gallery, own) = (side(reference, fit)?, side(reference, held_out)?);
                let (cross_test, self_test) = (test(&queries, &gallery)?, test(&own, &gallery)?);
                Some(ReferenceFigures {
                    cross_test,
                    self_test,
                    margin: cross_test - self_test,
                    nearest_prototype: nearest_prototype(&own, &classes[1], config)?,
                })
            }
        };
        let plain = [
            side(&inputs.features, held_out)?,
            side(&inputs.features, fit)?,
        ];
        Ok(Self {
            trained_nearest_prototype,
            nearest_prototype: Some(nearest_prototype(&queries, &classes[1], config)?),
            self_test: Some(test(&queries, &side(&embedded, fit)?)?),
            features_self_test: Some(test(&plain[0], &plain[1])?),
            reference,
        })
    }

    /// Doubts, one sentence each.
    pub fn warnings(&self, classes: usize) -> Vec<String> {
        let mut warnings = Vec::new();
        let Some(reference) = &self.reference else {
            return warnings;
        };
        // A version that knows these classes is far above chance even where it is weak.
        if classes > 3 && reference.nearest_prototype < 2.0 / classes as f64 {
            warnings.push(format!(
                "embeddings of --reference are at the vertices of their classes in {:.1} % of the held-out rows, which is no more than chance: the \
                 older version may number its classes otherwise, or was trained on others; compare --end, --slot and the labels",
                100.0 * reference.nearest_prototype
            ));
        }
        warnings
    }

    /// As lines of text.
    pub fn describe(&self) -> String {
        let percent = |value: f64| format!("{:.1} %", 100.0 * value);
        let mut text = format!(
            "nearest prototype right: {} of the rows trained on",
            percent(self.trained_nearest_prototype)
        );
        let Some(held_out) = self.nearest_prototype else {
            text.push('\n');
            return text;
        };
        text.push_str(&format!(", {} of those held out\n", percent(held_out)));
        let of = |value: Option<f64>| percent(value.unwrap_or_default());
        text.push_str(&format!(
            "nearest class mean right (self-test): {}; features without the layer: {}\n",
            of(self.self_test),
            of(self.features_self_test)
        ));
        if let Some(reference) = &self.reference {
            text.push_str(&format!(
                "on the class means of --reference (cross-test): {}; its own queries: {}; margin {:+.1} %\n",
                percent(reference.cross_test),
                percent(reference.self_test),
                100.0 * reference.margin
            ));
        }
        text
    }
}

fn of(inputs: &Inputs, rows: &[usize]) -> Vec<u32> {
    rows.iter().map(|&row| inputs.classes[row]).collect()
}

fn units(mut rows: Rows) -> anyhow::Result<Rows> {
    perennial_core::normalize_rows(&mut rows.values, rows.dim)?;
    Ok(rows)
}

fn nearest_prototype(rows: &Rows, classes: &[u32], config: &HeadConfig) -> anyhow::Result<f64> {
    let (simplex, map) = (Simplex::new(config.loss.vertices)?, config.vertex_map());
    let right = rows
        .values
        .chunks_exact(rows.dim)
        .zip(classes)
        .filter(|(row, class)| map.vertex(**class as usize) == Some(simplex.nearest(row)))
        .count();
    Ok(right as f64 / classes.len().max(1) as f64)
}

/// **Shapes**: `classes` are those of the gallery's rows and of the queries.
fn nearest_class_mean(
    queries: &Rows,
    gallery: &Rows,
    [of_gallery, of_queries]: &[Vec<u32>; 2],
) -> anyhow::Result<f64> {
    let centres = ClassCentres::new(&gallery.values, gallery.dim, of_gallery);
    let mut known = of_gallery.clone();
    known.sort_unstable();
    known.dedup();
    let has_centre = centres.known(&known);
    let known: Vec<u32> = known
        .into_iter()
        .zip(has_centre)
        .filter_map(|(class, has_centre)| has_centre.then_some(class))
        .collect();
    let means = centres.rows(&known);
    // Of a gallery with one item a class, the class means are the items.
    let test = Test {
        queries: &queries.values,
        gallery: &means,
        dim: queries.dim,
        relevance: &Relevance::Classes {
            queries: of_queries,
            gallery: &known,
        },
        own: None,
    };
    let right = outcomes(&test)?.nearest_class_correct.unwrap_or_default();
    let count = right.iter().filter(|right| **right).count();
    Ok(count as f64 / right.len().max(1) as f64)
}
