//! Certificates and advice as pages for a browser.

mod flips;
mod scores;

use perennial_core::Verdict;
use perennial_eval::html::certificate_page::{
    Advice as AdvicePart, CertificatePage, CertificateProvenance, Cost as CostPart, EmbeddingMap,
    EmbeddingMaps, MapPoint, MeasureRow, Outcome, ShareCurve, ShareLine, SourceFile,
    Task as TaskPart, TaskVerdict, Way as WayPart, WayQuality,
};
use perennial_eval::pca::Plane;

use crate::advise::{Advice, TaskAdvice, Way};
use crate::certificate::{Certificate, Source, Sources};
use crate::evaluation_data::{EvaluationData, Task};
use crate::finding::Finding;
use crate::measured::{Demands, MeasureError, Measured};
use crate::route::{Prepared, Search, unit};

pub use flips::Pictures;

/// Points of each side on the map.
const POINTS: usize = 600;

/// What a page shows beside the document.
#[derive(Clone, Default)]
pub struct PageContext<'a> {
    /// The command line that repeats the measurement.
    pub command: Option<String>,
    /// Name and version of the program.
    pub program: Option<String>,
    /// Pictures of what was searched for and found, where there are some.
    pub pictures: Option<&'a dyn Pictures>,
}

/// The page of a certificate. `data` and `search` are those that it was measured with.
///
/// # Errors
/// A search that cannot be prepared, or vectors that cannot be compared.
pub fn certificate_page(
    certificate: &Certificate,
    data: &EvaluationData,
    search: &Search<'_>,
    context: &PageContext<'_>,
) -> Result<CertificatePage, MeasureError> {
    let confidence = certificate.demands.confidence;
    let mut page = CertificatePage {
        query_space: certificate.query_space.to_string(),
        item_space: certificate.gallery_space.to_string(),
        bridge: certificate
            .bridge
            .as_ref()
            .map(|bridge| format!("{}, fitted on {} pairs", bridge.kind, bridge.pairs)),
        queries: usize::try_from(certificate.queries).ok(),
        items: usize::try_from(certificate.gallery_items).ok(),
        warnings: certificate.warnings.clone(),
        confidence,
        provenance: provenance(
            &certificate.sources,
            &certificate.demands,
            &certificate.created,
            context,
        ),
        ..CertificatePage::default()
    };
    for result in &certificate.tasks {
        let sentence = match result.reasons.as_slice() {
            [] => format!(
                "no deciding measure is below the old encoder's own queries, by route {}",
                certificate.route
            ),
            reasons => reasons.join("; "),
        };
        page.verdicts.push(TaskVerdict {
            task: task(result.task),
            outcome: outcome(result.finding),
            sentence,
            remedy: remedy(result.finding),
        });
        let rows = result.measures.iter();
        page.measures.extend(
            rows.map(|one| {
                measure_row(one, result.task, &certificate.route.to_string(), confidence)
            }),
        );
        for group in &result.groups {
            let route = format!(
                "{}, {:.0} % embedded again, answers {}",
                certificate.route,
                group.share * 100.0,
                group.answers
            );
            let rows = group.measures.iter();
            let rows = rows.map(|one| measure_row(one, result.task, &route, confidence));
            page.measures.extend(rows);
        }
    }
    let before = Prepared {
        queries: unit(&data.old_queries)?,
        gallery: unit(&data.old_gallery)?,
        dim: data.old_gallery.dim,
    };
    let after = search.prepare(data)?;
    if let Some(truth) = data.truths.first() {
        page.scores = vec![
            scores::histogram("before: old queries", truth, before.as_ref())?,
            scores::histogram("after: new queries by this route", truth, after.as_ref())?,
        ];
        let both = [before.as_ref(), after.as_ref()];
        page.flips = flips::flips(data, truth, both, context.pictures)?;
    }
    page.maps = maps(data, &after);
    Ok(page)
}

/// The page of advice, for its first kind of retrieval.
pub fn advice_page(
    advice: &Advice,
    number: usize,
    context: &PageContext<'_>,
) -> Option<CertificatePage> {
    let found = advice.tasks.get(number)?;
    let recommended = found
        .ways
        .iter()
        .position(|way| way.name == found.recommendation.way);
    let confidence = advice.demands.confidence;
    let best = recommended.and_then(|position| found.ways.get(position));
    Some(CertificatePage {
        query_space: advice.query_space.to_string(),
        item_space: advice.gallery_space.to_string(),
        queries: usize::try_from(found.judging_queries).ok(),
        warnings: found
            .ways
            .iter()
            .find(|way| way.finding == Finding::CannotTell)
            .map_or_else(Vec::new, |way| way.reasons.clone()),
        confidence,
        measures: best.map_or_else(Vec::new, |way| {
            let rows = way.measures.iter();
            rows.map(|one| measure_row(one, found.task, &way.name, confidence))
                .collect()
        }),
        advice: Some(AdvicePart {
            sentence: format!(
                "{}: {}",
                found.recommendation.way, found.recommendation.reason
            ),
            ways: found
                .ways
                .iter()
                .map(|way| way_part(way, confidence))
                .collect(),
            recommended,
            currency: String::new(),
            shares: shares(found),
        }),
        provenance: provenance(&advice.sources, &advice.demands, &advice.created, context),
        ..CertificatePage::default()
    })
}

fn task(task: Task) -> TaskPart {
    match task {
        Task::ClassLike => TaskPart::ClassLike,
        Task::ItemLike => TaskPart::ItemLike,
    }
}

fn outcome(finding: Finding) -> Outcome {
    match finding {
        Finding::Compatible => Verdict::Compatible.into(),
        Finding::Undecided => Verdict::Undecided.into(),
        Finding::Incompatible => Verdict::Incompatible.into(),
        Finding::CannotTell => Outcome::CannotTell,
    }
}

fn remedy(finding: Finding) -> Option<String> {
    let text = match finding {
        Finding::Compatible => return None,
        Finding::Undecided => "Measure with more queries.",
        Finding::CannotTell => "Change the evaluation set as the reason says, and certify again.",
        Finding::Incompatible => {
            "Try another route or more fit pairs; `perennial advise` measures all ways at once."
        }
    };
    Some(text.to_owned())
}

fn measure_row(one: &Measured, of: Task, route: &str, confidence: f64) -> MeasureRow {
    let found = &one.comparison;
    let binary = found.mcnemar.is_some();
    MeasureRow {
        measure: found.measure.to_string(),
        task: task(of),
        route: route.to_owned(),
        old_self: found.old,
        cross: found.new,
        new_self: one.new_self_test,
        margin: found.margin,
        interval: one.interval(confidence),
        positive_flips: binary.then_some(found.positive_flips),
        negative_flips: binary.then_some(found.negative_flips),
        upgrade_recovery: one.upgrade_recovery,
        outcome: one.verdict.into(),
    }
}

fn way_part(way: &Way, confidence: f64) -> WayPart {
    let mut notes = Vec::new();
    if way.cost.needs_old_encoder {
        notes.push("the old encoder keeps running");
    }
    if way.cost.needs_originals {
        notes.push("needs the items' originals");
    }
    if way.cost.rewrites_index {
        notes.push("rewrites stored vectors");
    }
    let flips = way
        .measures
        .iter()
        .find(|one| one.comparison.mcnemar.is_some());
    WayPart {
        name: way.name.clone(),
        note: (!notes.is_empty()).then(|| notes.join(", ")),
        quality: way
            .measures
            .iter()
            .filter(|one| one.decides)
            .map(|one| WayQuality {
                measure: one.comparison.measure.to_string(),
                value: one.comparison.new,
                margin: Some(one.comparison.margin),
                interval: one.interval(confidence),
            })
            .collect(),
        negative_flips: flips.map(|one| one.comparison.negative_flips),
        once: CostPart {
            seconds: way.cost.seconds.filter(|&seconds| seconds > 0.0),
            money: way.cost.price.filter(|&price| price > 0.0),
        },
        per_million_queries: CostPart::default(),
    }
}

fn shares(found: &TaskAdvice) -> Option<ShareCurve> {
    let (measure, _) = found.curve.first()?.measures.first()?;
    let points = found.curve.iter().filter_map(|point| {
        let (_, value) = point.measures.iter().find(|(other, _)| other == measure)?;
        Some((point.share, *value))
    });
    let levels = found.ways.iter().filter_map(|way| {
        let value = way
            .measures
            .iter()
            .find(|one| one.comparison.measure == *measure)?;
        let shown = matches!(
            way.kind,
            crate::advise::WayKind::DoNothing
                | crate::advise::WayKind::DualQueries
                | crate::advise::WayKind::ReembedAll
        );
        shown.then(|| (way.name.clone(), value.comparison.new))
    });
    Some(ShareCurve {
        measure: measure.to_string(),
        lines: vec![ShareLine {
            name: match &found.curve_merge {
                Some(merge) => format!("most retrieved first; hits merged by {merge}"),
                None => "most retrieved first".to_owned(),
            },
            points: points.collect(),
        }],
        levels: levels.collect(),
    })
}

fn provenance(
    sources: &Sources,
    demands: &Demands,
    created: &str,
    context: &PageContext<'_>,
) -> CertificateProvenance {
    let single = [
        ("old queries", &sources.old_queries),
        ("old gallery", &sources.old_gallery),
        ("new queries", &sources.new_queries),
        ("new gallery", &sources.new_gallery),
    ];
    let single = single
        .into_iter()
        .filter_map(|(role, source)| Some((role, source.as_ref()?)));
    let several = |role: &'static str, list: &'_ [Source]| -> Vec<(&'static str, Source)> {
        list.iter().map(|source| (role, source.clone())).collect()
    };
    let mut files: Vec<(&str, Source)> = single
        .map(|(role, source)| (role, source.clone()))
        .collect();
    files.extend(several("labels or judgements", &sources.truth));
    files.extend(several("fit", &sources.fit));
    CertificateProvenance {
        files: files
            .into_iter()
            .map(|(role, source)| SourceFile {
                role: role.to_owned(),
                name: source.name,
                rows: usize::try_from(source.rows).ok(),
                sha256: Some(source.sha256),
                ..SourceFile::default()
            })
            .collect(),
        settings: vec![
            ("Required margin".to_owned(), demands.min_margin.to_string()),
            ("Confidence".to_owned(), demands.confidence.to_string()),
            (
                "Resamples".to_owned(),
                demands.bootstrap.resamples.to_string(),
            ),
        ],
        seed: Some(demands.bootstrap.seed),
        measured: Some(created.to_owned()),
        program: context.program.clone(),
        command: context.command.clone(),
    }
}

/// Stored vectors and queries on the plane of the stored vectors, before and after.
fn maps(data: &EvaluationData, after: &Prepared) -> EmbeddingMaps {
    let map = |name: &str, queries: &[f32], gallery: &[f32], dim: usize| {
        let some = |rows: &[f32]| rows[..rows.len().min(POINTS * dim)].to_vec();
        let (queries, gallery) = (some(queries), some(gallery));
        let plane = Plane::fit(&gallery, dim).ok()?;
        let points = |rows: &[f32], newer: bool| -> Vec<MapPoint> {
            let points = rows.chunks_exact(dim).map(|row| plane.project(row));
            points
                .map(|[x, y]| MapPoint {
                    x,
                    y,
                    group: usize::from(newer),
                    newer,
                })
                .collect()
        };
        let [first, second] = plane.explained();
        Some(EmbeddingMap {
            name: name.to_owned(),
            explained: Some(first + second),
            points: [points(&gallery, false), points(&queries, true)].concat(),
        })
    };
    let mut found = Vec::new();
    let same = data.new_queries.dim == data.old_gallery.dim;
    if same && let (Ok(queries), Ok(gallery)) = (unit(&data.new_queries), unit(&data.old_gallery)) {
        found.extend(map("as they are", &queries, &gallery, data.old_gallery.dim));
    }
    found.extend(map(
        "by this route",
        &after.queries,
        &after.gallery,
        after.dim,
    ));
    EmbeddingMaps {
        groups: vec!["stored items".to_owned(), "new queries".to_owned()],
        maps: found,
    }
}
