//! What a plan expects of a migration beside its time and disk: quality, from a certificate, and money.

use perennial_connect::migrate::PlanReport;
use perennial_core::{ConfidenceInterval, Interval};
use perennial_eval::Measure;
use perennial_upgrade::advise::Cost;
use perennial_upgrade::{Certificate, Rates, Task};
use serde::Serialize;

/// One measure of the index, as it is and as it will be.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExpectedQuality {
    pub task: Task,
    pub measure: Measure,
    /// The old queries on the old vectors.
    pub before: f64,
    /// The new queries on the new vectors; nothing where the certificate was measured without the new encoder's gallery.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<f64>,
    /// Of what comes after, at this confidence; nothing where the certificate has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after_interval: Option<Interval>,
    /// Of the difference, at this confidence; nothing where the certificate has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub margin: Option<Interval>,
    pub confidence: f64,
    /// What embedding everything again would give, where that was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedded_again: Option<f64>,
}

/// What mapped copies are expected to find, by their certificate.
pub fn of_mapped(certificate: &Certificate, task: Task) -> Vec<ExpectedQuality> {
    of(certificate, Some(task), true)
}

/// What new embeddings are expected to find, by a certificate of any route that was measured with the new encoder's gallery.
pub fn of_embedded(certificate: &Certificate) -> Vec<ExpectedQuality> {
    of(certificate, None, false)
}

fn of(certificate: &Certificate, task: Option<Task>, mapped: bool) -> Vec<ExpectedQuality> {
    let confidence = certificate.demands.confidence;
    let tasks = certificate.tasks.iter();
    let tasks = tasks.filter(|result| task.is_none_or(|task| result.task == task));
    let measures = tasks.flat_map(|result| {
        let deciding = result.measures.iter().filter(|one| one.decides);
        deciding.map(|one| ExpectedQuality {
            task: result.task,
            measure: one.comparison.measure,
            before: one.comparison.old,
            after: match mapped {
                true => Some(one.comparison.new),
                false => one.new_self_test,
            },
            after_interval: interval(
                match mapped {
                    true => &one.new_intervals,
                    false => &one.new_self_intervals,
                },
                confidence,
            ),
            margin: one.interval(confidence).filter(|_| mapped),
            confidence,
            embedded_again: one.new_self_test.filter(|_| mapped),
        })
    });
    measures.collect()
}

fn interval(intervals: &[ConfidenceInterval], confidence: f64) -> Option<Interval> {
    let mut found = intervals.iter();
    let found = found.find(|one| (one.confidence - confidence).abs() < 1e-9);
    found.map(|one| one.bounds)
}

/// What a migration costs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ExpectedCost {
    /// Rows that the new encoder must embed.
    pub items_embedded: u64,
    /// How long that takes, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedding_seconds: Option<f64>,
    /// All of it, in the user's currency: of embedding, and of the hours of the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price: Option<f64>,
}

/// The cost by what the user says of the encoder and the machine.
pub fn cost(report: &PlanReport, rates: &Rates, price_per_hour: Option<f64>) -> ExpectedCost {
    let items = match report.way {
        "mapped" => 0,
        _ => report.rows.saturating_sub(report.without_vector),
    };
    let embedding = Cost::embedding(items, rates);
    let seconds = match items {
        0 => report.seconds,
        // Without the encoder's speed, most of the hours are not known.
        _ => embedding.seconds.zip(report.seconds).map(|(a, b)| a + b),
    };
    let hours = seconds
        .zip(price_per_hour)
        .map(|(seconds, price)| seconds / 3600.0 * price);
    let prices = [embedding.price.filter(|_| items > 0), hours];
    ExpectedCost {
        items_embedded: items,
        embedding_seconds: embedding.seconds.filter(|_| items > 0),
        price: prices.into_iter().flatten().reduce(|a, b| a + b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(way: &'static str) -> PlanReport {
        PlanReport {
            table: "t".to_owned(),
            rows: 2_000_500,
            without_vector: 500,
            dimensions: Default::default(),
            vector_type: "vector".to_owned(),
            indexes: Vec::new(),
            table_bytes: None,
            storage: None,
            new_dim: 4,
            way,
            certified: None,
            copies_bytes: 0,
            beside_bytes: 0,
            index_bytes: None,
            replicas: 1,
            disk_bytes: 0,
            assumptions: Vec::new(),
            rates: None,
            seconds: Some(1800.0),
            warnings: Vec::new(),
        }
    }

    #[test]
    fn mapping_costs_hours_alone_and_embedding_its_price_too() {
        let rates = Rates {
            items: None,
            items_per_second: Some(1000.0),
            price_per_thousand: Some(0.02),
        };
        let mapped = cost(&report("mapped"), &rates, Some(3.0));
        assert_eq!((mapped.items_embedded, mapped.price), (0, Some(1.5)));
        assert_eq!(mapped.embedding_seconds, None);
        let embedded = cost(&report("side by side"), &rates, Some(3.6));
        assert_eq!(embedded.items_embedded, 2_000_000);
        assert_eq!(embedded.embedding_seconds, Some(2000.0));
        // 40 for the embeddings, and 3,800 seconds of the machine.
        assert!((embedded.price.unwrap() - 43.8).abs() < 1e-9);
        let unknown = cost(&report("side by side"), &Rates::default(), Some(3.6));
        assert_eq!((unknown.price, unknown.embedding_seconds), (None, None));
    }
}
