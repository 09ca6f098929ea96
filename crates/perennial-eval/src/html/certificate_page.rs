//! The page of a certificate or of advice for one upgrade: the verdict first, then what it rests on.
//!
//! [`CertificatePage`] is plain data. Whoever measures fills in what is known; a section without data is left out. All figures are
//! fractions, differences of figures are differences of fractions. Every text is escaped; a picture is shown only if it is a
//! base64 `data:` URI of a usual bitmap format.

use maud::{Markup, html};
use perennial_core::{Interval, ItemId, Verdict};

use super::interval_plot::appearance;
use super::numbers::Grouped;
use super::{embedding_map, flips, histogram, measures, page, sources, ways};
use crate::Provenance;

/// Everything that the page of one upgrade shows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CertificatePage {
    /// The space of the queries: the new encoder's.
    pub query_space: String,
    /// The space of the stored items: the old encoder's.
    pub item_space: String,
    /// The bridge between the two, where one was used.
    pub bridge: Option<String>,
    /// Number of queries.
    pub queries: Option<usize>,
    /// Number of gallery items.
    pub items: Option<usize>,
    /// One verdict for each task that was measured.
    pub verdicts: Vec<TaskVerdict>,
    /// What limits the verdicts, such as fit pairs that are also queries. Whole sentences.
    pub warnings: Vec<String>,
    /// Confidence of every interval on the page, such as 0.95; 0 stands for 0.95.
    pub confidence: f64,
    /// The measures behind the verdicts.
    pub measures: Vec<MeasureRow>,
    /// The ways to upgrade, ranked.
    pub advice: Option<Advice>,
    /// Scores of matches and non-matches, such as before and after bridging.
    pub scores: Vec<ScoreHistogram>,
    /// Both spaces in two dimensions, such as before and after bridging.
    pub maps: EmbeddingMaps,
    /// Queries whose first hit changed from right to wrong or from wrong to right.
    pub flips: Vec<Flip>,
    /// Files, settings, seed, date and command.
    pub provenance: CertificateProvenance,
}

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Task {
    /// Any item of the query's class is right.
    ClassLike,
    /// One item, or a few judged ones, are right.
    ItemLike,
}

impl Task {
    /// The task's name: `class-like` or `item-like`.
    pub fn name(self) -> &'static str {
        match self {
            Self::ClassLike => "class-like",
            Self::ItemLike => "item-like",
        }
    }

    /// When a hit is right.
    fn meaning(self) -> &'static str {
        match self {
            Self::ClassLike => "any item of the query's class is a right hit",
            Self::ItemLike => "one item, or a few judged ones, are the right hits",
        }
    }
}

/// What a measurement says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The interval of the margin decided, or left it open.
    Decided(Verdict),
    /// The measurement is not able to decide, such as with too few queries.
    CannotTell,
}

impl From<Verdict> for Outcome {
    fn from(verdict: Verdict) -> Self {
        Self::Decided(verdict)
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Decided(verdict) => verdict.fmt(f),
            Self::CannotTell => f.write_str("cannot tell"),
        }
    }
}

impl Outcome {
    /// The class and the sign with which it is shown.
    fn appearance(self) -> (&'static str, &'static str) {
        match self {
            Self::Decided(verdict) => appearance(verdict),
            Self::CannotTell => ("open", "\u{2013}"),
        }
    }

    /// The word in its coloured pill; the row or box around it has the class of [`Self::appearance`].
    pub(super) fn badge(self) -> Markup {
        html! { span.badge { b aria-hidden="true" { (self.appearance().1) } " " (self) } }
    }

    pub(super) fn class(self) -> &'static str {
        self.appearance().0
    }
}

/// The verdict for one task.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskVerdict {
    /// What is looked for.
    pub task: Task,
    /// What the measurement says.
    pub outcome: Outcome,
    /// The reason in one sentence.
    pub sentence: String,
    /// What to do about it, in one sentence, where there is something to do.
    pub remedy: Option<String>,
}

/// One measure of one route.
#[derive(Debug, Clone, PartialEq)]
pub struct MeasureRow {
    /// Name of the measure, such as `recall@10`. Rows of one measure stand together.
    pub measure: String,
    /// The task that the measure belongs to.
    pub task: Task,
    /// The route, such as `dual, w = 0.5`.
    pub route: String,
    /// Old queries on the old gallery.
    pub old_self: f64,
    /// New queries by this route on the old gallery.
    pub cross: f64,
    /// New queries on the gallery embedded again, where that was measured.
    pub new_self: Option<f64>,
    /// Cross-test minus old self-test.
    pub margin: f64,
    /// Its interval, where one was drawn.
    pub interval: Option<Interval>,
    /// Share of the queries that were wrong before and are right by this route; none for measures that are not right or wrong.
    pub positive_flips: Option<f64>,
    /// Share of the queries that were right before and are wrong by this route.
    pub negative_flips: Option<f64>,
    /// (cross - old self) / (new self - old self); none where the new self-test is unknown or no better.
    pub upgrade_recovery: Option<f64>,
    /// What the interval decides.
    pub outcome: Outcome,
}

/// The ways to upgrade.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Advice {
    /// The recommendation in one sentence; the page's headline.
    pub sentence: String,
    /// The ways, best first.
    pub ways: Vec<Way>,
    /// Position of the recommended way, counted from 0.
    pub recommended: Option<usize>,
    /// The money's unit, such as `EUR`.
    pub currency: String,
    /// Quality against the share of the items that is embedded again.
    pub shares: Option<ShareCurve>,
}

/// One way to upgrade.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Way {
    /// The way, such as `dual queries, w = 0.5`.
    pub name: String,
    /// What it needs or rests on, such as `the old encoder keeps running`.
    pub note: Option<String>,
    /// Its quality in each measure.
    pub quality: Vec<WayQuality>,
    /// Share of the queries that doing nothing answers and this way does not.
    pub negative_flips: Option<f64>,
    /// What it costs once.
    pub once: Cost,
    /// What a million queries cost more than today.
    pub per_million_queries: Cost,
}

/// The quality of a way in one measure.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WayQuality {
    /// Name of the measure, such as `mrr@10`.
    pub measure: String,
    /// The figure.
    pub value: f64,
    /// What it is above doing nothing, where the two were compared.
    pub margin: Option<f64>,
    /// Interval of the margin.
    pub interval: Option<Interval>,
}

/// Time and money, as far as known.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cost {
    /// Seconds of computing.
    pub seconds: Option<f64>,
    /// Money in the advice's currency.
    pub money: Option<f64>,
}

/// Quality against the share of the items that is embedded again.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ShareCurve {
    /// Name of the measure.
    pub measure: String,
    /// One line for each order of re-embedding.
    pub lines: Vec<ShareLine>,
    /// Qualities that do not depend on the share, with their names, such as that of dual queries.
    pub levels: Vec<(String, f64)>,
}

/// One line of a [`ShareCurve`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ShareLine {
    /// The order, such as `most asked first`.
    pub name: String,
    /// Share and quality, by ascending share.
    pub points: Vec<(f64, f64)>,
}

/// Scores of matches and of non-matches in equal steps from `low` to `high`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ScoreHistogram {
    /// Whose scores they are, such as `before: old queries`.
    pub name: String,
    /// Where the first step begins.
    pub low: f64,
    /// Where the last step ends.
    pub high: f64,
    /// How many scores of queries with right items each step holds.
    pub matches: Vec<usize>,
    /// The same for wrong items. As many steps.
    pub non_matches: Vec<usize>,
}

/// Both spaces as pictures in two dimensions; [`crate::pca::Plane`] makes the places.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EmbeddingMaps {
    /// Names of the groups that have colours: classes or spaces.
    pub groups: Vec<String>,
    /// The maps, such as before and after bridging.
    pub maps: Vec<EmbeddingMap>,
}

/// One map.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EmbeddingMap {
    /// Its name, such as `before bridging`.
    pub name: String,
    /// Share of the variance that the two dimensions hold, where known.
    pub explained: Option<f64>,
    /// The points.
    pub points: Vec<MapPoint>,
}

/// One embedding on a map.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MapPoint {
    /// First coordinate.
    pub x: f64,
    /// Second coordinate.
    pub y: f64,
    /// Position of its group in [`EmbeddingMaps::groups`]; another number is drawn grey.
    pub group: usize,
    /// Whether the new encoder made it: a cross instead of a dot.
    pub newer: bool,
}

/// A query whose first hit changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Flip {
    /// Whether it is right now and was wrong before; otherwise the reverse.
    pub gained: bool,
    /// The query.
    pub query: FlipItem,
    /// The first hit before.
    pub old_hit: FlipItem,
    /// The first hit now.
    pub new_hit: FlipItem,
}

/// A query or a hit.
#[derive(Debug, Clone, PartialEq)]
pub struct FlipItem {
    /// Its id.
    pub id: ItemId,
    /// Its class, where it has one.
    pub label: Option<String>,
    /// A small picture as a base64 `data:` URI (PNG, JPEG, GIF, WebP or AVIF).
    pub picture: Option<String>,
}

/// How the figures came about.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CertificateProvenance {
    /// The files that were read.
    pub files: Vec<SourceFile>,
    /// Names and values of the settings.
    pub settings: Vec<(String, String)>,
    /// Seed of everything that is drawn.
    pub seed: Option<u64>,
    /// When it was measured: RFC 3339 in UTC.
    pub measured: Option<String>,
    /// Name and version of the program.
    pub program: Option<String>,
    /// The command line that repeats it.
    pub command: Option<String>,
}

/// A file that was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceFile {
    /// What it was used as, such as `old queries`.
    pub role: String,
    /// Its name or path.
    pub name: String,
    /// Its rows, where it has some.
    pub rows: Option<usize>,
    /// Its dimension, where it has one.
    pub dim: Option<usize>,
    /// SHA-256 of its content, hexadecimal.
    pub sha256: Option<String>,
}

impl CertificatePage {
    /// The page.
    pub fn render(&self) -> String {
        let headline = self.headline();
        let content = html! {
            (self.header(&headline))
            (self.limits())
            @if let Some(advice) = &self.advice { (ways::section(advice, &self.percent())) }
            (measures::section(&self.measures, &self.percent()))
            (histogram::section(&self.scores))
            (embedding_map::section(&self.maps))
            (flips::section(&self.flips))
            (sources::section(&self.provenance))
            (method())
        };
        page::page(&format!("{}: {headline}", self.kind()), content)
    }

    fn kind(&self) -> &'static str {
        match self.advice {
            Some(_) => "Upgrade advice",
            None => "Compatibility certificate",
        }
    }

    /// The recommendation, or else the verdicts in a sentence.
    fn headline(&self) -> String {
        if let Some(advice) = &self.advice
            && !advice.sentence.is_empty()
        {
            return advice.sentence.clone();
        }
        let mut parts: Vec<(Outcome, Vec<&str>)> = Vec::new();
        for verdict in &self.verdicts {
            match parts.iter_mut().find(|part| part.0 == verdict.outcome) {
                Some(part) => part.1.push(verdict.task.name()),
                None => parts.push((verdict.outcome, vec![verdict.task.name()])),
            }
        }
        let parts: Vec<String> = parts
            .iter()
            .map(|(outcome, tasks)| format!("{outcome} for {} retrieval", tasks.join(" and ")))
            .collect();
        let sentence = parts.join(", ");
        let mut letters = sentence.chars();
        match letters.next() {
            Some(first) => first.to_uppercase().chain(letters).collect(),
            None => "No task was measured".to_owned(),
        }
    }

    /// The confidence in per cent, such as `95 %`.
    fn percent(&self) -> String {
        let known = self.confidence > 0.0 && self.confidence < 1.0;
        let confidence = if known { self.confidence } else { 0.95 };
        format!("{}\u{a0}%", (confidence * 1e4).round() / 1e2)
    }

    fn header(&self, headline: &str) -> Markup {
        let lead = html! {
            @if !self.query_space.is_empty() && !self.item_space.is_empty() { p.lead {
                "Queries of the space " b { (self.query_space) } " on stored items of the space " b { (self.item_space) }
                @match &self.bridge {
                    Some(bridge) => { ", through the bridge " b { (bridge) } "." }
                    None => "."
                }
            } }
            @if !self.verdicts.is_empty() {
                div.verdicts { @for verdict in &self.verdicts { (verdict.card()) } }
            }
        };
        let provenance = &self.provenance;
        let measured = Provenance {
            measured: provenance.measured.clone(),
            ..Provenance::default()
        };
        let facts = [
            (
                "Queries",
                self.queries.map(|count| Grouped(count).to_string()),
            ),
            (
                "Gallery items",
                self.items.map(|count| Grouped(count).to_string()),
            ),
            ("Seed", provenance.seed.map(|seed| seed.to_string())),
            ("Measured", measured.date()),
        ];
        let facts: Vec<(&str, Markup)> = facts
            .into_iter()
            .filter_map(|(name, value)| value.map(|value| (name, html! { (value) })))
            .collect();
        let kicker = format!("Perennial: {}", self.kind().to_lowercase());
        page::header(&kicker, headline, lead, &facts)
    }

    fn limits(&self) -> Markup {
        if self.warnings.is_empty() {
            return html! {};
        }
        let content = html! { ul { @for warning in &self.warnings { li { (warning) } } } };
        page::section("limits", "What limits the verdict", content)
    }
}

impl TaskVerdict {
    fn card(&self) -> Markup {
        html! {
            div class={ "verdict " (self.outcome.class()) } {
                p.task { b { (self.task.name()) " retrieval" } " " small { (self.task.meaning()) } }
                p { (self.outcome.badge()) " " (self.sentence) }
                @if let Some(remedy) = &self.remedy { p.remedy { b { "What to do: " } (remedy) } }
            }
        }
    }
}

fn method() -> Markup {
    html! {
        footer {
            h2 { "How to read this" }
            ul {
                li { "A " b { "self-test" } " embeds queries and gallery with one encoder; the " b { "cross-test" } " searches the old \
                    gallery with the new encoder's queries by a route." }
                li { "The " b { "margin" } " is the cross-test minus the old self-test. A task is " b { "compatible" } " where no part of the \
                    margin's interval lies below the least margin asked for, " b { "incompatible" } " where all of it does, and "
                    b { "undecided" } " otherwise." }
                li { b { "Routes" } ": own, the new encoder's query as it is; bridged, the new query mapped into the old space; dual, the old \
                    and the bridged new query added; mapped, the new query on stored vectors mapped into the new space." }
                li { b { "Flips" } " are shares of all queries: gained, wrong before and right now; lost, right before and wrong now." }
                li { b { "Upgrade recovery" } " is the margin over what embedding everything again would gain: 1 is all of it, 0 is as before, \
                    and a negative one is worse than doing nothing." }
                li { "A measure that is right or wrong for each query, such as recall@1 or nearest class mean, is compatible only if McNemar's exact \
                    paired test agrees as well. Measures of degree, such as mAP and MRR, have no exact paired test: their interval alone decides. \
                    Where few queries change it is too narrow: with 100 queries of which one in twenty changes it let 11 % of simulated upgrades of \
                    equal quality pass, where 2.5 % are meant. A judged item of any grade above 0 is right; grades are not weighed." }
                li { "The intervals describe the choice of queries. They do not describe how much another training or another fit would \
                    differ." }
                li { "All figures are fractions; signed figures are differences of fractions." }
            }
        }
    }
}
