//! Pictures that are left out, as an unfinished result keeps them.

use perennial_data::pictures::{LeftOutFile, Reason};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
pub struct Refused {
    file: String,
    reason: String,
    problem: String,
}

impl Refused {
    /// `None` where the reason is one of another release.
    pub fn left_out(&self) -> Option<LeftOutFile> {
        Some(LeftOutFile {
            file: self.file.clone(),
            reason: Reason::of_name(&self.reason)?,
            problem: self.problem.clone(),
        })
    }
}

impl From<&LeftOutFile> for Refused {
    fn from(file: &LeftOutFile) -> Self {
        Self {
            file: file.file.clone(),
            reason: file.reason.name().to_owned(),
            problem: file.problem.clone(),
        }
    }
}
