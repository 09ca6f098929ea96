//! The page of a certificate or of advice for one upgrade: the verdict first, then what it rests on.
//!
//! [`CertificatePage`] is plain data. Whoever measures fills in what is known; a section without data is left out. All figures are
//! fractions, differences of figures are differences of fractions. Every text is escaped; a picture is shown only if it is a
//! base64 `data:` URI of a usual bitmap format.

use maud::{Markup, html};

use super::numbers::Grouped;
use super::{embedding_map, flips, histogram, measures, page, sources, ways};
use crate::Provenance;

pub use super::embedding_map::{EmbeddingMap, EmbeddingMaps, MapPoint};
pub use super::flips::{Flip, FlipItem};
pub use super::histogram::ScoreHistogram;
pub use super::measures::MeasureRow;
pub use super::outcome::{Outcome, Task};
pub use super::sources::{CertificateProvenance, SourceFile};
pub use super::ways::{Advice, Cost, ShareCurve, ShareLine, Way, WayQuality};

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
