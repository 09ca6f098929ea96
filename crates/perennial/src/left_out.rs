//! How commands tell which files of a folder were left out.

use std::collections::BTreeMap;

use perennial_data::pictures::{LeftOut, Reason};
use serde::Serialize;

/// Files named for each reason; `--json` has all.
const NAMED: usize = 5;

/// The files that were left out, for JSON.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LeftOutAnswer {
    total: usize,
    by_reason: BTreeMap<&'static str, usize>,
    files: Vec<File>,
}

#[derive(Clone, Debug, Serialize)]
struct File {
    file: String,
    reason: &'static str,
    problem: String,
}

impl From<&LeftOut> for LeftOutAnswer {
    fn from(left_out: &LeftOut) -> Self {
        let counts = left_out.counts().into_iter();
        let files = left_out.files().iter();
        Self {
            total: left_out.len(),
            by_reason: counts
                .map(|(reason, count)| (reason.name(), count))
                .collect(),
            files: files
                .map(|file| File {
                    file: file.file.clone(),
                    reason: file.reason.name(),
                    problem: file.problem.clone(),
                })
                .collect(),
        }
    }
}

/// The same as lines of text, each beginning with `indent`: a count for each reason, with the first files of those that are losses.
pub fn lines(left_out: &LeftOut, indent: &str) -> String {
    let mut text = String::new();
    for (reason, count) in left_out.counts() {
        text.push_str(&format!("{indent}{count:>8}  {}\n", reason.words()));
        let mut files = left_out
            .files()
            .iter()
            .filter(|file| file.reason == reason && reason != Reason::Hidden);
        for file in files.by_ref().take(NAMED) {
            text.push_str(&format!("{indent}            {file}\n"));
        }
        match files.count() {
            0 => {}
            more => text.push_str(&format!(
                "{indent}            and {more} more; --json names all\n"
            )),
        }
    }
    text
}
