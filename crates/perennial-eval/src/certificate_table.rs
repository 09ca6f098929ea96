//! Certificates side by side: what `perennial compare` shows of certificates.

use serde::Serialize;

use crate::Interval;
use crate::text_table::{TextTable, latex, markdown};

/// One certificate.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ComparedCertificate {
    /// Its name: the file's, or one that the user gave.
    pub certificate: String,
    /// The space of the queries.
    pub query_space: String,
    /// The space of the stored embeddings.
    pub gallery_space: String,
    /// How queries were searched.
    pub route: String,
    /// The bridge's kind, where the route has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bridge: Option<String>,
    /// The worst finding of all kinds of retrieval.
    pub finding: String,
    /// Every measure of every kind of retrieval.
    pub measures: Vec<CertifiedMeasure>,
}

/// One measure of a certificate. Fractions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CertifiedMeasure {
    /// The kind of retrieval, such as `class-like`.
    pub task: String,
    /// What follows for it.
    pub finding: String,
    /// The measure, such as `recall@1`.
    pub measure: String,
    /// Whether it is one of those that decide.
    pub decides: bool,
    /// The old encoder's queries on the stored embeddings.
    pub before: f64,
    /// The new encoder's queries by the route.
    pub after: f64,
    /// `after - before`.
    pub margin: f64,
    /// The confidence of the interval, such as 0.95.
    pub confidence: f64,
    /// The interval of the margin.
    pub interval: Option<Interval>,
}

/// The certificates as a section of Markdown.
pub fn to_markdown(certificates: &[ComparedCertificate]) -> String {
    format!(
        "## Certificates\n\nFractions; before: the old encoder's own queries, after: the new encoder's by the route. * decides.\n\n{}",
        markdown::render(&table(certificates))
    )
}

/// The certificates as LaTeX.
pub fn to_latex(certificates: &[ComparedCertificate]) -> String {
    latex::render(&table(certificates))
}

/// One row for each measure, with rounded numbers. Certificates that measured nothing have one row.
pub fn table(certificates: &[ComparedCertificate]) -> TextTable {
    let mut table = TextTable::new()
        .text("certificate")
        .text("queries")
        .text("stored")
        .text("route")
        .text("retrieval")
        .text("finding")
        .text("measure")
        .numbers("before")
        .numbers("after")
        .numbers("margin")
        .numbers("interval");
    for one in certificates {
        let start = |[task, finding, measure]: [String; 3]| {
            let route = match &one.bridge {
                Some(bridge) => format!("{}, {bridge}", one.route),
                None => one.route.clone(),
            };
            vec![
                one.certificate.clone(),
                one.query_space.clone(),
                one.gallery_space.clone(),
                route,
                task,
                finding,
                measure,
            ]
        };
        for found in &one.measures {
            let mark = if found.decides { " *" } else { "" };
            let mut cells = start([
                found.task.clone(),
                found.finding.clone(),
                format!("{}{mark}", found.measure),
            ]);
            cells.extend([
                format!("{:.4}", found.before),
                format!("{:.4}", found.after),
                format!("{:+.4}", found.margin),
                found.interval.map_or("-".to_owned(), |bounds| {
                    let percent = (found.confidence * 1000.0).round() / 10.0;
                    format!("[{:+.4}, {:+.4}] ({percent} %)", bounds.low, bounds.high)
                }),
            ]);
            table.push(cells);
        }
        if one.measures.is_empty() {
            let mut cells = start(["-".to_owned(), one.finding.clone(), "-".to_owned()]);
            cells.extend(std::iter::repeat_n("-".to_owned(), 4));
            table.push(cells);
        }
    }
    table
}

/// One row for each measure with every digit, for CSV.
pub fn rows(certificates: &[ComparedCertificate]) -> TextTable {
    let mut table = TextTable::new()
        .text("certificate")
        .text("query_space")
        .text("gallery_space")
        .text("route")
        .text("bridge")
        .text("certificate_finding")
        .text("task")
        .text("finding")
        .text("measure")
        .text("decides")
        .numbers("before")
        .numbers("after")
        .numbers("margin")
        .numbers("confidence")
        .numbers("interval_low")
        .numbers("interval_high");
    for one in certificates {
        let start = || {
            vec![
                one.certificate.clone(),
                one.query_space.clone(),
                one.gallery_space.clone(),
                one.route.clone(),
                one.bridge.clone().unwrap_or_default(),
                one.finding.clone(),
            ]
        };
        for found in &one.measures {
            let mut cells = start();
            let bound =
                |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
            cells.extend([
                found.task.clone(),
                found.finding.clone(),
                found.measure.clone(),
                found.decides.to_string(),
                found.before.to_string(),
                found.after.to_string(),
                found.margin.to_string(),
                found.confidence.to_string(),
                bound(found.interval.map(|bounds| bounds.low)),
                bound(found.interval.map(|bounds| bounds.high)),
            ]);
            table.push(cells);
        }
        if one.measures.is_empty() {
            let mut cells = start();
            cells.extend(std::iter::repeat_n(String::new(), 10));
            table.push(cells);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text_table::csv;

    fn certificates() -> [ComparedCertificate; 2] {
        let measured = CertifiedMeasure {
            task: "class-like".to_owned(),
            finding: "compatible".to_owned(),
            measure: "ncm".to_owned(),
            decides: true,
            before: 0.4,
            after: 0.425,
            margin: 0.025,
            confidence: 0.95,
            interval: Some(Interval {
                low: 0.01,
                high: 0.04,
            }),
        };
        let first = ComparedCertificate {
            certificate: "a|b.json".to_owned(),
            query_space: "new_1".to_owned(),
            gallery_space: "old_1".to_owned(),
            route: "dual (weight 0.5)".to_owned(),
            bridge: Some("orthogonal".to_owned()),
            finding: "compatible".to_owned(),
            measures: vec![
                measured.clone(),
                CertifiedMeasure {
                    measure: "recall@10".to_owned(),
                    decides: false,
                    interval: None,
                    ..measured
                },
            ],
        };
        let second = ComparedCertificate {
            certificate: "empty, really".to_owned(),
            bridge: None,
            finding: "cannot tell".to_owned(),
            measures: Vec::new(),
            ..first.clone()
        };
        [first, second]
    }

    #[test]
    fn golden_markdown() {
        assert_eq!(
            to_markdown(&certificates())
                .lines()
                .skip(4)
                .collect::<Vec<_>>(),
            [
                "| certificate   | queries | stored | route                         | retrieval  | finding     | measure   | before |  after |  margin |                  interval |",
                "| ------------- | ------- | ------ | ----------------------------- | ---------- | ----------- | --------- | -----: | -----: | ------: | ------------------------: |",
                "| a\\|b.json     | new_1   | old_1  | dual (weight 0.5), orthogonal | class-like | compatible  | ncm \\*    | 0.4000 | 0.4250 | +0.0250 | [+0.0100, +0.0400] (95 %) |",
                "| a\\|b.json     | new_1   | old_1  | dual (weight 0.5), orthogonal | class-like | compatible  | recall@10 | 0.4000 | 0.4250 | +0.0250 |                         - |",
                "| empty, really | new_1   | old_1  | dual (weight 0.5)             | -          | cannot tell | -         |      - |      - |       - |                         - |",
            ]
        );
    }

    #[test]
    fn golden_csv_and_latex() {
        assert_eq!(
            csv::render(&rows(&certificates())),
            "certificate,query_space,gallery_space,route,bridge,certificate_finding,task,finding,measure,decides,before,after,margin,confidence,\
             interval_low,interval_high\n\
             a|b.json,new_1,old_1,dual (weight 0.5),orthogonal,compatible,class-like,compatible,ncm,true,0.4,0.425,0.025,0.95,0.01,0.04\n\
             a|b.json,new_1,old_1,dual (weight 0.5),orthogonal,compatible,class-like,compatible,recall@10,false,0.4,0.425,0.025,0.95,,\n\
             \"empty, really\",new_1,old_1,dual (weight 0.5),,cannot tell,,,,,,,,,,\n"
        );
        let text = to_latex(&certificates());
        assert!(text.contains(
            "a$|$b.json & new\\_1 & old\\_1 & dual (weight 0.5), orthogonal & class-like & compatible & ncm * & 0.4000 & 0.4250 & \
             $+$0.0250 & {}[$+$0.0100, $+$0.0400] (95 \\%) \\\\\n"
        ), "{text}");
    }
}
