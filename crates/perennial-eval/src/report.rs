//! `compatibility.json`: everything that was measured, in one file that other tools can read.

mod consistency;
mod content;
mod error;

use std::path::Path;

use perennial_core::{CompatibilityRecord, FileKind};
use serde::{Deserialize, Serialize};

use crate::comparison::compare_pairs;
use crate::{
    Bootstrap, CompatibilityMatrix, MetricIntervals, Metrics, PairComparison, ProbeSet, Retrieval,
    RetrievalScores, TieRule, Verdict, metric_intervals, metrics,
};
use content::Content;

pub use content::Missing;
pub use error::{ReportError, SCHEMA_VERSION};

const OLDEST_SCHEMA_VERSION: u32 = 1;

/// What a `compatibility.json` looks like from outside.
pub const FILE_KIND: FileKind = FileKind {
    name: "a compatibility report",
    recognise: |head| {
        let text = String::from_utf8_lossy(head);
        text.starts_with('{')
            && text.contains("\"schema_version\"")
            && text.contains("\"versions\"")
    },
};

/// Largest `compatibility.json` that is read; a thousand models need less.
const SIZE_LIMIT: u64 = 512 << 20;

/// What was measured on a sequence of model versions; the content of `compatibility.json`. Its parts always fit together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Content")]
pub struct Compatibility(Content);

impl Compatibility {
    /// Puts the tests of all pairs of versions together: matrix, metrics, comparisons.
    ///
    /// **Shapes.** `versions` `[T]`, oldest first; `tests[t][k]` for `k <= t` is query version `t` on the gallery of version
    /// `k`, every test on the same queries in the same order.
    ///
    /// # Errors
    /// [`ReportError`] where `tests` is not a lower triangle, tests differ in their queries, or a name is unusable.
    pub fn new(
        versions: Vec<String>,
        tests: &[Vec<Retrieval>],
        queries: ProbeSet,
        gallery: ProbeSet,
        tie_rule: TieRule,
        bootstrap: Bootstrap,
    ) -> Result<Self, ReportError> {
        fn triangle<'a, T>(
            tests: &'a [Vec<Retrieval>],
            part: impl Fn(&'a Retrieval) -> T,
        ) -> Vec<Vec<T>> {
            tests
                .iter()
                .map(|row| row.iter().map(&part).collect())
                .collect()
        }
        if let Some(test) = tests
            .iter()
            .flatten()
            .find(|test| test.per_query_ncm_correct.len() != queries.count)
        {
            let tested = test.per_query_ncm_correct.len();
            return Err(consistency::invalid(
                "queries.count",
                format!("it is {}, but a test has {tested} queries", queries.count),
            ));
        }
        let correct = triangle(tests, |test| test.per_query_ncm_correct.as_slice());
        let pairs = compare_pairs(&versions, &correct, &bootstrap)?;
        let matrix = CompatibilityMatrix::new(triangle(tests, |test| test.ncm_top1))?;
        Self::try_from(Content {
            schema_version: SCHEMA_VERSION,
            versions,
            queries,
            gallery,
            tie_rule,
            bootstrap,
            metrics: metrics(&matrix, tie_rule),
            metric_intervals: Some(metric_intervals(&correct, tie_rule, &bootstrap)?),
            matrix,
            without_embedding: Vec::new(),
            pairs,
            retrieval: triangle(tests, Retrieval::scores),
        })
    }

    /// The same with the numbers of images of which each version has no embedding.
    ///
    /// # Errors
    /// [`ReportError`] where there is not one entry for each version, or more such images than there are.
    pub fn with_missing(mut self, missing: Vec<Missing>) -> Result<Self, ReportError> {
        let any = missing.iter().any(|one| *one != Missing::default());
        self.0.without_embedding = if any { missing } else { Vec::new() };
        Self::try_from(self.0)
    }

    /// Images of which each version has no embedding, `[T]`; empty where all have an embedding of every image.
    pub fn missing(&self) -> &[Missing] {
        &self.0.without_embedding
    }

    /// The versions that have no embedding of some images, in words; nothing where there are none.
    pub fn missing_sentence(&self) -> Option<String> {
        let versions = self.versions().iter().zip(self.missing());
        let some = versions.filter(|(_, missing)| **missing != Missing::default());
        let some: Vec<String> = some
            .map(|(version, Missing { queries, gallery })| {
                format!("{version}: {queries} queries, {gallery} gallery images")
            })
            .collect();
        (!some.is_empty()).then(|| {
            format!(
                "Without an embedding (all zeros), counted as missed or never found: {}.",
                some.join("; ")
            )
        })
    }

    /// A pair that was measured on this report's sets as an entry for a registry's records. `weights` are the hashes of the
    /// query version's and the gallery version's weights; `created` is RFC 3339 in UTC.
    pub fn record(
        &self,
        pair: &PairComparison,
        [query_weights, gallery_weights]: [&str; 2],
        created: &str,
    ) -> CompatibilityRecord {
        CompatibilityRecord {
            query_version: pair.query_version.clone(),
            gallery_version: pair.gallery_version.clone(),
            query_weights: Some(query_weights.to_owned()),
            gallery_weights: Some(gallery_weights.to_owned()),
            self_test: pair.self_old,
            cross_test: pair.cross,
            margin: pair.margin,
            interval: pair.interval,
            intervals: pair.intervals.clone(),
            cross_test_intervals: pair.cross_intervals.clone(),
            flips: pair.flips,
            queries: self.queries().clone(),
            gallery: self.gallery().clone(),
            tie_rule: self.tie_rule(),
            created: created.to_owned(),
        }
    }

    /// Reads the JSON text of a report.
    ///
    /// # Errors
    /// [`ReportError`] for another schema, a missing key, or parts that contradict one another.
    pub fn from_json(text: &str) -> Result<Self, ReportError> {
        #[derive(Deserialize)]
        struct Header {
            schema_version: u32,
        }
        let header: Header = serde_json::from_str(text)?;
        if !(OLDEST_SCHEMA_VERSION..=SCHEMA_VERSION).contains(&header.schema_version) {
            return Err(ReportError::Schema {
                found: header.schema_version,
            });
        }
        let mut report: Self = serde_json::from_str(text)?;
        if header.schema_version != SCHEMA_VERSION {
            report.0.schema_version = SCHEMA_VERSION;
            for pair in &mut report.0.pairs {
                pair.verdict = Verdict::of(pair.interval, 0.0);
            }
        }
        Ok(report)
    }

    /// The report as indented JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self)
            .expect("a report has only string keys and finite numbers")
    }

    /// Reads a report file.
    ///
    /// # Errors
    /// [`ReportError`] naming the file, as [`Compatibility::from_json`], and for a file that is missing or beyond 512 MiB.
    pub fn read(path: &Path) -> Result<Self, ReportError> {
        let bytes = perennial_core::read_at_most(path, SIZE_LIMIT)?;
        let in_file = |source: ReportError| ReportError::File {
            path: path.to_owned(),
            source: Box::new(source),
        };
        let text = String::from_utf8(bytes).map_err(|error| {
            in_file(std::io::Error::new(std::io::ErrorKind::InvalidData, error).into())
        })?;
        Self::from_json(&text).map_err(in_file)
    }

    /// Writes the report file in one step: readers see the old content or the new one.
    ///
    /// # Errors
    /// [`ReportError::Io`] naming the file.
    pub fn write(&self, path: &Path) -> Result<(), ReportError> {
        let mut text = self.to_json();
        text.push('\n');
        Ok(perennial_core::write_atomically(path, text)?)
    }

    /// Names of the model versions, oldest first, `[T]`.
    pub fn versions(&self) -> &[String] {
        &self.0.versions
    }

    /// The query probe set.
    pub fn queries(&self) -> &ProbeSet {
        &self.0.queries
    }

    /// The gallery probe set.
    pub fn gallery(&self) -> &ProbeSet {
        &self.0.gallery
    }

    /// How exact ties count.
    pub fn tie_rule(&self) -> TieRule {
        self.0.tie_rule
    }

    /// How the intervals were drawn.
    pub fn bootstrap(&self) -> Bootstrap {
        self.0.bootstrap
    }

    /// Nearest-class-mean top-1 of all pairs.
    pub fn matrix(&self) -> &CompatibilityMatrix {
        &self.0.matrix
    }

    /// Metrics of the matrix.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Intervals of AC, AA and ACA over the queries; none in reports of earlier programs.
    pub fn metric_intervals(&self) -> Option<MetricIntervals> {
        self.0.metric_intervals
    }

    /// The comparisons `k < t`, row by row, `[T (T - 1) / 2]`.
    pub fn pairs(&self) -> &[PairComparison] {
        &self.0.pairs
    }

    /// What the interval of a pair decides: queries of version `t` on the gallery of version `k`, counted from 0, `k < t`.
    ///
    /// # Panics
    /// For positions that are no pair of the report.
    pub fn decision(&self, t: usize, k: usize) -> Verdict {
        assert!(k < t, "version {t} on the gallery of {k} is no pair");
        self.pairs()[t * (t - 1) / 2 + k].verdict
    }

    /// The comparisons, smallest margin first.
    pub fn weakest_pairs(&self) -> Vec<&PairComparison> {
        let mut pairs: Vec<_> = self.pairs().iter().collect();
        pairs.sort_by(|a, b| a.margin.total_cmp(&b.margin));
        pairs
    }

    /// All retrieval scores, `retrieval()[t][k]` for `k <= t`.
    pub fn retrieval(&self) -> &[Vec<RetrievalScores>] {
        &self.0.retrieval
    }
}

impl TryFrom<Content> for Compatibility {
    type Error = ReportError;

    fn try_from(content: Content) -> Result<Self, ReportError> {
        consistency::check(&content)?;
        Ok(Self(content))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn probe(count: usize) -> ProbeSet {
        ProbeSet {
            name: "generated".to_owned(),
            argument: None,
            count,
            sha256: "00".repeat(32),
        }
    }

    fn tested(right: usize) -> Retrieval {
        Retrieval {
            ncm_top1: right as f64 / 10.0,
            cmc1: 0.5,
            cmc5: 0.6,
            cmc10: 0.7,
            map: 0.4,
            per_query_ncm_correct: (0..10).map(|query| query < right).collect(),
            queries_without_match: 0,
        }
    }

    fn build(names: [&str; 2], queries: usize) -> Result<Compatibility, ReportError> {
        let tests = [vec![tested(5)], vec![tested(4), tested(8)]];
        let versions = names.map(str::to_owned).to_vec();
        Compatibility::new(
            versions,
            &tests,
            probe(queries),
            probe(30),
            TieRule::Strict,
            Bootstrap::new(1),
        )
    }

    #[test]
    fn the_parts_come_from_the_tests() {
        let report = build(["v0001", "v0002"], 10).unwrap();
        assert_eq!(report.matrix().rows(), [vec![0.5], vec![0.4, 0.8]]);
        assert_eq!(report.metrics().incompatible_pairs_count, 1);
        // One of ten queries is lost, which settles nothing.
        assert_eq!(report.pairs()[0].verdict, crate::Verdict::Undecided);
        assert_eq!(report.retrieval()[1][0].map, 0.4);
        assert_eq!(Compatibility::from_json(&report.to_json()).unwrap(), report);
    }

    #[test]
    fn images_without_an_embedding_are_told_by_version() {
        let report = || build(["v0001", "v0002"], 10).unwrap();
        let none = report().with_missing(vec![Missing::default(); 2]).unwrap();
        assert_eq!((&none, none.missing_sentence()), (&report(), None));
        assert!(!none.to_json().contains("without_embedding"));
        let one = |queries, gallery| Missing { queries, gallery };
        let some = report().with_missing(vec![one(0, 0), one(2, 1)]).unwrap();
        let sentence = some.missing_sentence().unwrap();
        assert!(
            sentence.ends_with("found: v0002: 2 queries, 1 gallery images."),
            "{sentence}"
        );
        assert_eq!(Compatibility::from_json(&some.to_json()).unwrap(), some);
        for wrong in [vec![one(1, 0)], vec![one(11, 0), one(0, 0)]] {
            let error = report().with_missing(wrong).unwrap_err().to_string();
            assert!(error.contains("`without_embedding`"), "{error}");
        }
    }

    #[test]
    fn reports_of_the_first_program_are_read() {
        let report = build(["v0001", "v0002"], 10).unwrap();
        let mut old: Value = serde_json::from_str(&report.to_json()).unwrap();
        old["schema_version"] = json!(1);
        old["pairs"][0]["verdict"] = json!("tie");
        assert_eq!(Compatibility::from_json(&old.to_string()).unwrap(), report);
    }

    #[test]
    fn unusable_names_and_counts_are_refused() {
        let error = |names, queries| build(names, queries).unwrap_err().to_string();
        assert_eq!(
            error(["a", "a"], 10),
            "key `versions`: `a` appears twice; names must differ"
        );
        assert!(
            error(["a", "\u{1b}[2J"], 10)
                .starts_with("key `versions[1]`: \"\\u{1b}[2J\" is not a name")
        );
        assert_eq!(
            error(["a", "b"], 9),
            "key `queries.count`: it is 9, but a test has 10 queries"
        );
    }

    #[test]
    fn contradictions_are_refused() {
        let good: Value =
            serde_json::from_str(&build(["v0001", "v0002"], 10).unwrap().to_json()).unwrap();
        let mut surplus = good.clone();
        surplus["added_later"] = json!(true);
        assert!(Compatibility::from_json(&surplus.to_string()).is_ok());
        for (pointer, value, expected) in [
            ("/schema_version", json!(7), "`schema_version` is 7"),
            ("/versions", json!(["v0001"]), "1 names for a matrix of 2"),
            ("/matrix/1/0", json!(40.0), "cell [1][0] is 40"),
            ("/matrix/1/0", json!(0.45), "`metrics`"),
            ("/metrics/average_compatibility", json!(1.0), "`metrics`"),
            (
                "/tie_rule",
                json!("sometimes"),
                "unknown variant `sometimes`",
            ),
            ("/pairs", json!([]), "0 entries for 1 pairs"),
            (
                "/pairs/0/gallery_version",
                json!("v0002"),
                "`pairs[0]`: expected query version `v0002` on the gallery of `v0001`",
            ),
            ("/pairs/0/margin", json!(0.1), "contradict `matrix`"),
            ("/pairs/0/interval/low", json!(0.5), "is not an interval"),
            (
                "/pairs/0/flips/negative",
                json!(3),
                "`flips` contradict `margin`",
            ),
            (
                "/metric_intervals/average_accuracy/high",
                json!(1.5),
                "`metric_intervals`",
            ),
            ("/retrieval", json!([]), "`retrieval`"),
            (
                "/retrieval/1/1/map",
                json!(-0.1),
                "`retrieval[1][1]`: a score is not a fraction",
            ),
            (
                "/retrieval/1/1/ncm_top1",
                json!(0.1),
                "`ncm_top1` is 0.1, `matrix` says 0.8",
            ),
            ("/queries/count", json!(0), "`queries.count`"),
            ("/gallery/name", json!(""), "`gallery.name`"),
        ] {
            let mut bad = good.clone();
            *bad.pointer_mut(pointer).unwrap() = value;
            let error = Compatibility::from_json(&bad.to_string())
                .unwrap_err()
                .to_string();
            assert!(error.contains(expected), "{pointer}: {error}");
        }
        let keys = good.as_object().unwrap().keys();
        for key in keys.filter(|&key| key != "metric_intervals") {
            let mut bad = good.clone();
            bad.as_object_mut().unwrap().remove(key);
            let error = Compatibility::from_json(&bad.to_string())
                .unwrap_err()
                .to_string();
            assert!(
                error.contains(&format!("missing field `{key}`")),
                "{key}: {error}"
            );
        }
    }
}
