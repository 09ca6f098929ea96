//! A certificate in a terminal.

use std::fmt::Write;

use perennial_upgrade::{Certificate, Finding, Measured, TaskResult};

/// The verdict first, then the figures of every task.
pub fn render(certificate: &Certificate, color: bool) -> String {
    let mut text = String::new();
    let paint = |finding: Finding| painted(finding, color);
    let _ = writeln!(
        text,
        "{}: queries of {} by route {} on the stored embeddings of {}",
        paint(certificate.finding),
        certificate.query_space,
        certificate.route,
        certificate.gallery_space
    );
    if let Some(bridge) = &certificate.bridge {
        let _ = writeln!(
            text,
            "bridge {}, fitted on {} pairs, sha256 {}",
            bridge.kind,
            bridge.pairs,
            &bridge.sha256[..12.min(bridge.sha256.len())]
        );
    }
    for task in &certificate.tasks {
        let _ = writeln!(
            text,
            "\n{} retrieval: {}, {} queries, {} items",
            task.task,
            paint(task.finding),
            certificate.queries,
            certificate.gallery_items
        );
        for reason in &task.reasons {
            let _ = writeln!(text, "  {reason}");
        }
        text.push_str(&table(task, certificate.demands.confidence));
        text.push_str(&groups(task, certificate.demands.confidence));
        text.push_str(&thresholds(task));
    }
    if let Some(agreement) = certificate.agreement_at_10 {
        let _ = writeln!(
            text,
            "\nagreement with the new encoder's own first ten: {agreement:.3} (certifies nothing)"
        );
    }
    for warning in &certificate.warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    text
}

fn table(task: &TaskResult, confidence: f64) -> String {
    let mut text = format!(
        "  {:<11} {:>7} {:>7} {:>7}  {:<27} {:>8} {:>8} {:>9}\n",
        "measure",
        "before",
        "after",
        "re-emb.",
        format!("margin [{} %]", confidence * 100.0),
        "gained",
        "lost",
        "recovery"
    );
    for one in &task.measures {
        text.push_str(&line(one, confidence));
    }
    text.push_str("  * decides");
    let by_interval = task.measures.iter().filter(|one| one.decides);
    let by_interval: Vec<String> = by_interval
        .filter(|one| one.comparison.mcnemar.is_none())
        .map(|one| one.comparison.measure.to_string())
        .collect();
    if !by_interval.is_empty() {
        let _ = write!(
            text,
            "; {} by the interval alone, since such measures have no exact paired test",
            by_interval.join(" and ")
        );
    }
    text.push('\n');
    text
}

/// What each group of queries finds where the gallery is partly embedded again.
fn groups(task: &TaskResult, confidence: f64) -> String {
    let (Some(merge), false) = (&task.merge, task.groups.is_empty()) else {
        return String::new();
    };
    let shift = match merge.effective_shift() {
        0.0 => String::new(),
        shift => format!(" {shift:+.3} for old items"),
    };
    let mut text = format!(
        "  partly embedded again, merged by {}{shift}, which {} queries chose; of the others:\n  {:<8} {:<8} {:>7}  {:<10} {:>7} {:>7}  {}\n",
        merge.name(),
        merge.queries,
        "embedded",
        "answers",
        "queries",
        "measure",
        "before",
        "after",
        format_args!("margin [{} %]", confidence * 100.0),
    );
    for group in &task.groups {
        for one in &group.measures {
            let found = &one.comparison;
            let share = format!("{:.0} %", group.share * 100.0);
            let _ = writeln!(
                text,
                "  {share:<8} {:<8} {:>7}  {:<10} {:>7.4} {:>7.4}  {:+.4} {}",
                group.answers.to_string(),
                group.queries,
                found.measure.to_string(),
                found.old,
                found.new,
                found.margin,
                interval(one, confidence)
            );
        }
    }
    text
}

/// Similarities from which on hits may be accepted, one line per rate.
fn thresholds(task: &TaskResult) -> String {
    let Some(found) = &task.thresholds else {
        return String::new();
    };
    let mut text = format!(
        "  accepted from this similarity on, by the share of wrong pairs accepted with it ({} such pairs):\n",
        found.impostor_pairs
    );
    for one in &found.rates {
        let rate = one.false_accept_rate;
        let _ = write!(text, "    {rate:<8} {:.4}", one.similarity);
        let others = [
            ("before", &task.old_self_thresholds),
            ("re-embedded", &task.new_self_thresholds),
        ];
        for (name, other) in others {
            if let Some(similarity) = other.as_ref().and_then(|other| other.at(rate)) {
                let _ = write!(text, "  {name} {similarity:.4}");
            }
        }
        text.push('\n');
    }
    text
}

fn line(one: &Measured, confidence: f64) -> String {
    let found = &one.comparison;
    let optional = |value: Option<f64>, digits: usize| match value {
        Some(value) => format!("{value:.digits$}"),
        None => "-".to_owned(),
    };
    let interval = interval(one, confidence);
    format!(
        "  {:<11} {:>7.4} {:>7.4} {:>7}  {:+.4} {:<19} {:>8.4} {:>8.4} {:>9}\n",
        format!("{}{}", found.measure, if one.decides { " *" } else { "" }),
        found.old,
        found.new,
        optional(one.new_self_test, 4),
        found.margin,
        interval,
        found.positive_flips,
        found.negative_flips,
        optional(one.upgrade_recovery, 2)
    )
}

/// The interval of the margin.
fn interval(one: &Measured, confidence: f64) -> String {
    one.interval(confidence).map_or_else(String::new, |bounds| {
        format!("[{:+.4}, {:+.4}]", bounds.low, bounds.high)
    })
}

/// The finding, coloured on a terminal.
pub fn painted(finding: Finding, color: bool) -> String {
    let text = finding.to_string();
    if !color {
        return text;
    }
    let code = match finding {
        Finding::Compatible => 32,
        Finding::Undecided | Finding::CannotTell => 33,
        Finding::Incompatible => 31,
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}
