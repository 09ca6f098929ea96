//! Checks that the parts of a report fit together, so that nothing which shows it has to.

use std::collections::HashSet;

use super::content::{Content, Missing};
use super::error::ReportError;
use crate::{Interval, metrics};

pub(super) fn check(content: &Content) -> Result<(), ReportError> {
    let tasks = content.matrix.tasks();
    let versions = &content.versions;
    if versions.len() != tasks {
        let reason = format!("{} names for a matrix of {tasks} models", versions.len());
        return Err(invalid("versions", reason));
    }
    let mut known = HashSet::new();
    for (index, name) in versions.iter().enumerate() {
        check_name(name, &format!("versions[{index}]"))?;
        if !known.insert(name) {
            return Err(invalid(
                "versions",
                format!("`{name}` appears twice; names must differ"),
            ));
        }
    }
    for (key, probe) in [("queries", &content.queries), ("gallery", &content.gallery)] {
        check_name(&probe.name, &format!("{key}.name"))?;
        check_name(&probe.sha256, &format!("{key}.sha256"))?;
        if probe.count == 0 {
            return Err(invalid(
                &format!("{key}.count"),
                "it is 0; a test needs images",
            ));
        }
    }
    if !content
        .metrics
        .agree_with(&metrics(&content.matrix, content.tie_rule))
    {
        return Err(invalid(
            "metrics",
            "they are not those of `matrix` under `tie_rule`; compute them again",
        ));
    }
    check_missing(content)?;
    check_metric_intervals(content)?;
    check_retrieval(content)?;
    check_pairs(content)
}

fn check_missing(content: &Content) -> Result<(), ReportError> {
    let missing = &content.without_embedding;
    let tasks = content.matrix.tasks();
    if !missing.is_empty() && missing.len() != tasks {
        let reason = format!("{} entries for {tasks} models", missing.len());
        return Err(invalid("without_embedding", reason));
    }
    let [queries, gallery] = [content.queries.count, content.gallery.count];
    let too_many = |one: &&Missing| one.queries > queries || one.gallery > gallery;
    match missing.iter().find(too_many) {
        None => Ok(()),
        Some(_) => Err(invalid(
            "without_embedding",
            "it counts more images than there are",
        )),
    }
}

fn check_metric_intervals(content: &Content) -> Result<(), ReportError> {
    let Some(found) = &content.metric_intervals else {
        return Ok(());
    };
    let all = [
        found.average_compatibility,
        Some(found.average_accuracy),
        found.average_compatible_accuracy,
    ];
    for Interval { low, high } in all.into_iter().flatten() {
        if !(0.0 <= low && low <= high && high <= 1.0) {
            let reason = format!("[{low}, {high}] is not an interval between 0 and 1");
            return Err(invalid("metric_intervals", reason));
        }
    }
    Ok(())
}

fn check_retrieval(content: &Content) -> Result<(), ReportError> {
    let lengths: Vec<usize> = content.retrieval.iter().map(Vec::len).collect();
    if lengths != Vec::from_iter(1..=content.matrix.tasks()) {
        let reason =
            format!("the rows have {lengths:?} entries; expected 1, 2, ... as in `matrix`");
        return Err(invalid("retrieval", reason));
    }
    for (row, (scores, cells)) in content
        .retrieval
        .iter()
        .zip(content.matrix.rows())
        .enumerate()
    {
        for (column, (scores, &cell)) in scores.iter().zip(cells).enumerate() {
            let key = format!("retrieval[{row}][{column}]");
            let all = [
                scores.ncm_top1,
                scores.cmc1,
                scores.cmc5,
                scores.cmc10,
                scores.map,
            ];
            if !all.iter().all(|score| (0.0..=1.0).contains(score)) {
                return Err(invalid(&key, "a score is not a fraction between 0 and 1"));
            }
            if !same(scores.ncm_top1, cell) {
                let reason = format!("`ncm_top1` is {}, `matrix` says {cell}", scores.ncm_top1);
                return Err(invalid(&key, reason));
            }
        }
    }
    Ok(())
}

fn check_pairs(content: &Content) -> Result<(), ReportError> {
    let tests: Vec<_> = content.matrix.cross_tests().collect();
    if content.pairs.len() != tests.len() {
        let reason = format!(
            "{} entries for {} pairs of models",
            content.pairs.len(),
            tests.len()
        );
        return Err(invalid("pairs", reason));
    }
    for (index, (pair, (t, k, cross, self_old))) in content.pairs.iter().zip(tests).enumerate() {
        let key = format!("pairs[{index}]");
        let (query, gallery) = (&content.versions[t], &content.versions[k]);
        if pair.query_version != *query || pair.gallery_version != *gallery {
            let reason =
                format!("expected query version `{query}` on the gallery of `{gallery}` here");
            return Err(invalid(&key, reason));
        }
        if !(same(pair.cross, cross)
            && same(pair.self_old, self_old)
            && same(pair.margin, cross - self_old))
        {
            return Err(invalid(
                &key,
                "`cross`, `self_old` or `margin` contradict `matrix`",
            ));
        }
        let Interval { low, high } = pair.interval;
        if !(-1.0 <= low && low <= high && high <= 1.0) {
            let reason = format!("[{low}, {high}] is not an interval between -1 and 1");
            return Err(invalid(&key, reason));
        }
        if let Some(flips) = pair.flips {
            let queries = content.queries.count as f64;
            let margin = (flips.positive as f64 - flips.negative as f64) / queries;
            if !same(margin, pair.margin) {
                return Err(invalid(&key, "`flips` contradict `margin`"));
            }
        }
        for one in &pair.cross_intervals {
            let Interval { low, high } = one.bounds;
            if !(0.0 <= low && low <= high && high <= 1.0) {
                let reason = format!(
                    "`cross_intervals`: [{low}, {high}] is not an interval between 0 and 1"
                );
                return Err(invalid(&key, reason));
            }
        }
    }
    Ok(())
}

/// Equal up to the rounding of a division or a decimal notation.
fn same(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9
}

/// Names end up in terminals and tables.
fn check_name(name: &str, key: &str) -> Result<(), ReportError> {
    if name.trim().is_empty() || name.chars().count() > 200 || name.chars().any(char::is_control) {
        let shown: String = name.chars().take(40).collect();
        return Err(invalid(
            key,
            format!("{shown:?} is not a name of 1 to 200 printable characters"),
        ));
    }
    Ok(())
}

pub(super) fn invalid(key: &str, reason: impl Into<String>) -> ReportError {
    ReportError::Content {
        key: key.to_owned(),
        reason: reason.into(),
    }
}
