//! A certificate: the JSON document that says what was measured between two spaces, and what follows.
//!
//! It is bound by hash to the files that it was measured on and to the bridge, and carries a hash of itself, so that changed bytes are
//! noticed. The hash protects against damage and careless editing; it is no signature.

use std::io;
use std::path::{Path, PathBuf};

use perennial_bridge::Index;
use perennial_core::{Output, SpaceRef, read_at_most, sha256_hex};
use perennial_eval::Bootstrap;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::answer_group::AnswerGroup;
use crate::evaluation_data::Task;
use crate::finding::Finding;
use crate::measured::{Demands, Measured};
use crate::recorded_merge::RecordedMerge;
use crate::route::Route;
use crate::thresholds::Thresholds;

/// The version of the document.
pub const SCHEMA_VERSION: u32 = 1;
const KIND: &str = "perennial-certificate";
const MAX_BYTES: u64 = 1 << 24;

/// One file of the evaluation set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Its name, without folders.
    pub name: String,
    /// SHA-256 of its bytes.
    pub sha256: String,
    /// Its number of rows.
    pub rows: u64,
}

/// The files that a certificate was measured on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sources {
    /// Queries, embedded by the old encoder.
    pub old_queries: Option<Source>,
    /// Stored embeddings, of the old encoder.
    pub old_gallery: Option<Source>,
    /// Queries, embedded by the new encoder.
    pub new_queries: Option<Source>,
    /// The gallery's originals, embedded by the new encoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_gallery: Option<Source>,
    /// Labels or relevance judgements, where they are files of their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub truth: Vec<Source>,
    /// Paired embeddings that the bridge was fitted on for this measurement.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fit: Vec<Source>,
}

/// The bridge that queries go through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BridgeUse {
    /// Its kind and strength, such as `orthogonal` or `ridge:0.001`.
    pub kind: String,
    /// The hash of its content.
    pub sha256: String,
    /// Pairs that it was fitted on.
    pub pairs: u64,
}

/// The result for one kind of retrieval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskResult {
    /// What was searched for.
    pub task: Task,
    /// What follows.
    pub finding: Finding,
    /// Why it is not compatible.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// Queries that have at least one right item in the gallery.
    pub answerable_queries: u64,
    /// Every measure.
    pub measures: Vec<Measured>,
    /// The similarities from which on hits of this search are accepted, where there were impostor pairs enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thresholds: Option<Thresholds>,
    /// Those of the new encoder's own queries on its own embeddings of the gallery, raw, where these were given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_self_thresholds: Option<Thresholds>,
    /// Those of the old encoder's own queries on the stored embeddings, raw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_self_thresholds: Option<Thresholds>,
    /// How hits of this search are best ranked together with the new encoder's own on items that it has embedded, where these were given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merge: Option<RecordedMerge>,
    /// What groups of queries find by that merge where the gallery is partly embedded again, where queries have their answers in one part. Older
    /// programs do not read certificates with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<AnswerGroup>,
}

/// The document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    schema_version: u32,
    kind: String,
    /// When it was measured, RFC 3339 in UTC.
    pub created: String,
    /// The space of the new queries.
    pub query_space: SpaceRef,
    /// The space of the stored embeddings.
    pub gallery_space: SpaceRef,
    /// How queries were searched.
    pub route: Route,
    /// Whether stored embeddings were compared as they are or centred.
    pub index: Index,
    /// The bridge, where the route has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge: Option<BridgeUse>,
    /// The files.
    pub sources: Sources,
    /// Queries of the evaluation set.
    pub queries: u64,
    /// Gallery items of the evaluation set.
    pub gallery_items: u64,
    /// What was demanded.
    pub demands: Demands,
    /// The worst finding of all tasks.
    pub finding: Finding,
    /// One result for each kind of retrieval that was measured.
    pub tasks: Vec<TaskResult>,
    /// Share of the new encoder's own ten nearest neighbours that the route finds as well. It certifies nothing: it measures likeness to
    /// the new model, not quality.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agreement_at_10: Option<f64>,
    /// Anything else that a reader should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// SHA-256 of this document with an empty text here.
    sha256: String,
}

/// A certificate that cannot be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// The file could not be read or written; the message names it.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The file is no certificate.
    #[error("{}: {problem}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },
}

/// Everything about a certificate that is known before its hash.
pub(crate) struct Draft {
    pub created: String,
    pub spaces: [SpaceRef; 2],
    pub route: Route,
    pub index: Index,
    pub bridge: Option<BridgeUse>,
    pub sources: Sources,
    pub queries: u64,
    pub gallery_items: u64,
    pub demands: Demands,
    pub tasks: Vec<TaskResult>,
    pub agreement_at_10: Option<f64>,
    pub warnings: Vec<String>,
}

impl Certificate {
    pub(crate) fn new(draft: Draft) -> Self {
        let finding = draft
            .tasks
            .iter()
            .map(|task| task.finding)
            .fold(None, |worst: Option<Finding>, one| {
                Some(worst.map_or(one, |worst| worst.worst(one)))
            })
            // Nothing was measured.
            .unwrap_or(Finding::CannotTell);
        let [query_space, gallery_space] = draft.spaces;
        let mut certificate = Self {
            schema_version: SCHEMA_VERSION,
            kind: KIND.to_owned(),
            created: draft.created,
            query_space,
            gallery_space,
            route: draft.route,
            index: draft.index,
            bridge: draft.bridge,
            sources: draft.sources,
            queries: draft.queries,
            gallery_items: draft.gallery_items,
            demands: draft.demands,
            finding,
            tasks: draft.tasks,
            agreement_at_10: draft.agreement_at_10,
            warnings: draft.warnings,
            sha256: String::new(),
        };
        certificate.sha256 = certificate.hash();
        certificate
    }

    /// The result for a kind of retrieval, where it was measured.
    pub fn task(&self, task: Task) -> Option<&TaskResult> {
        self.tasks.iter().find(|result| result.task == task)
    }

    /// Why searches of a gallery cannot go by this certificate, whatever was found, and what to do; nothing where they can.
    ///
    /// Its bridge must be in the registry as well, which the certificate cannot know.
    pub fn obstacle(&self) -> Option<String> {
        if let Some(problem) = self.few_resamples() {
            return Some(problem);
        }
        // Mapped vectors are centred by their bridge, in an index of their own.
        let stored = matches!(self.route, Route::Bridged | Route::Dual { .. });
        if stored && self.index == Index::Centred {
            let problem = "it was measured on a centred index, and galleries compare stored vectors as they are; certify again with --index raw";
            return Some(problem.to_owned());
        }
        let mut ends = [&self.query_space, &self.gallery_space].into_iter();
        let unknown = ends.find(|space| space.fingerprint.is_none())?;
        Some(format!(
            "{unknown} is not known by fingerprint; measure model versions as VERSION@SET:SPLIT, or name a version or a registered space with \
             canaries (`perennial spaces add --canaries`) by --old-space and --new-space"
        ))
    }

    /// Whether its intervals come from so few resamples that they may pass by chance, and what to do.
    pub(crate) fn few_resamples(&self) -> Option<String> {
        let found = self.demands.bootstrap.resamples;
        let needed = Bootstrap::DEFAULT_RESAMPLES;
        (found < needed).then(|| {
            format!(
                "its intervals come from {found} bootstrap resamples, and at least {needed} are needed; certify again with --resamples {needed}"
            )
        })
    }

    /// The hash of the document.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The document.
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self)
            .expect("a certificate has string keys and finite numbers");
        text.push('\n');
        text
    }

    /// Reads a certificate and checks that nobody changed it.
    ///
    /// # Errors
    /// A file that cannot be read, is no certificate, or does not have the hash that it states.
    pub fn read(path: &Path) -> Result<Self, CertificateError> {
        let bytes = read_at_most(path, MAX_BYTES)?;
        Self::parse(&bytes).map_err(|problem| CertificateError::Content {
            path: path.to_owned(),
            problem,
        })
    }

    /// Reads the bytes of a certificate.
    ///
    /// # Errors
    /// The problem, without the file's name.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Head {
            kind: String,
            schema_version: u32,
        }
        let head: Head = serde_json::from_slice(bytes).map_err(|error| {
            format!("is not a certificate ({error}); write one with `perennial certify --out`")
        })?;
        if head.kind != KIND {
            return Err(format!("is a document of kind {:?}, not {KIND}", head.kind));
        }
        if head.schema_version != SCHEMA_VERSION {
            return Err(format!(
                "has schema_version {}, this program reads {SCHEMA_VERSION}; certify again with this program",
                head.schema_version
            ));
        }
        let certificate: Self = serde_json::from_slice(bytes)
            .map_err(|error| format!("is a damaged certificate ({error}); certify again"))?;
        let actual = certificate.hash();
        if actual != certificate.sha256 {
            return Err(format!(
                "was changed after it was written: its content has the hash {actual}, but it states {}; certify again",
                certificate.sha256
            ));
        }
        Ok(certificate)
    }

    /// Writes the document.
    ///
    /// # Errors
    /// The file cannot be written; an earlier one then stays as it was.
    pub fn write_to(&self, output: Output) -> io::Result<()> {
        output.commit(self.to_json())
    }

    fn hash(&self) -> String {
        let unsigned = Self {
            sha256: String::new(),
            ..self.clone()
        };
        sha256_hex(unsigned.to_json().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate() -> Certificate {
        Certificate::new(Draft {
            created: "2026-11-25T00:00:00Z".to_owned(),
            spaces: [SpaceRef::unnamed(3), SpaceRef::unnamed(2)],
            route: Route::Dual { weight: 0.25 },
            index: Index::Raw,
            bridge: None,
            sources: Sources::default(),
            queries: 3,
            gallery_items: 4,
            demands: Demands::new(7),
            tasks: Vec::new(),
            agreement_at_10: Some(1.0 / 3.0),
            warnings: Vec::new(),
        })
    }

    #[test]
    fn what_was_written_is_read() {
        let written = certificate();
        assert_eq!(
            Certificate::parse(written.to_json().as_bytes()).unwrap(),
            written
        );
        assert_eq!(written.finding, Finding::CannotTell);
    }

    #[test]
    fn a_certificate_from_before_thresholds_is_read_and_keeps_its_hash() {
        let text = include_str!("certificate/without_thresholds.json");
        let read = Certificate::parse(text.as_bytes()).unwrap();
        assert_eq!(read.to_json(), text);
        assert_eq!(read.tasks.len(), 1);
        assert_eq!(read.tasks[0].thresholds, None);
        let obstacle = read.obstacle().unwrap();
        assert!(
            obstacle.starts_with("after is not known by fingerprint"),
            "{obstacle}"
        );
    }

    #[test]
    fn changed_bytes_are_noticed() {
        let text = certificate().to_json();
        for (found, put) in [
            ("\"cannot-tell\"", "\"compatible\""),
            ("\"weight\": 0.25", "\"weight\": 0.5"),
            ("\"queries\": 3", "\"queries\": 3000"),
        ] {
            let changed = text.replace(found, put);
            assert_ne!(changed, text);
            let problem = Certificate::parse(changed.as_bytes()).unwrap_err();
            assert!(problem.contains("was changed"), "{problem}");
        }
        for (changed, named) in [
            (text.replace("perennial-certificate", "other"), "kind"),
            (
                text.replace("\"schema_version\": 1", "\"schema_version\": 9"),
                "schema_version 9",
            ),
            (text[..text.len() / 2].to_owned(), "is not a certificate"),
            (text.replace("\"queries\"", "\"querys\""), "damaged"),
            ("[]".to_owned(), "is not a certificate"),
        ] {
            let problem = Certificate::parse(changed.as_bytes()).unwrap_err();
            assert!(problem.contains(named), "{problem}");
        }
    }
}
