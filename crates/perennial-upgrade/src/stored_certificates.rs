//! The certificates of a registry: `registry/certificates/SHA256.json`.

use std::io;
use std::path::PathBuf;

use perennial_core::{Registry, SpaceRef, write_atomically};

use crate::certificate::{Certificate, CertificateError};
use crate::evaluation_data::Task;
use crate::finding::Finding;
use crate::measured::{Demands, judge};
use crate::policy::Policy;
use crate::route::Route;

const FOLDER: &str = "certificates";
/// Hexadecimal digits of the hash in a file's name.
const NAME_DIGITS: usize = 16;

/// All certificates of a registry that can be read.
#[derive(Debug, Clone, Default)]
pub struct StoredCertificates {
    certificates: Vec<Certificate>,
}

impl StoredCertificates {
    /// The folder of a registry's certificates.
    pub fn folder(registry: &Registry) -> PathBuf {
        registry.root().join(FOLDER)
    }

    /// Reads a registry's certificates. Damaged and changed files are logged and left out: they certify nothing.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn of(registry: &Registry) -> io::Result<Self> {
        let folder = Self::folder(registry);
        if !folder.is_dir() {
            return Ok(Self::default());
        }
        let mut paths = Vec::new();
        for entry in fs_err::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|ending| ending == "json") {
                paths.push(path);
            }
        }
        paths.sort();
        let mut certificates = Vec::new();
        for path in paths {
            match Certificate::read(&path) {
                Ok(certificate) => certificates.push(certificate),
                Err(error) => tracing::warn!(%error, "a certificate is left out"),
            }
        }
        Ok(Self { certificates })
    }

    /// All of them, in the order of their files' names.
    pub(crate) fn all(&self) -> &[Certificate] {
        &self.certificates
    }

    /// Stores a certificate in a registry and returns its file.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn add(
        registry: &Registry,
        certificate: &Certificate,
    ) -> Result<PathBuf, CertificateError> {
        let folder = Self::folder(registry);
        fs_err::create_dir_all(&folder)?;
        let hash = certificate.sha256();
        let name = format!("{}.json", &hash[..NAME_DIGITS.min(hash.len())]);
        let path = folder.join(name);
        write_atomically(&path, certificate.to_json())?;
        Ok(path)
    }

    /// The newest certificate of a search of one space by queries of another as they are, for this kind of retrieval.
    ///
    /// Both spaces must be known by fingerprint: names alone may have come to mean another encoder.
    pub fn of_pair(
        &self,
        query: &SpaceRef,
        gallery: &SpaceRef,
        task: Task,
    ) -> Option<&Certificate> {
        let same = |one: &SpaceRef, other: &SpaceRef| {
            one.fingerprint.is_some()
                && one.fingerprint == other.fingerprint
                && one.dim == other.dim
        };
        self.certificates
            .iter()
            .filter(|certificate| {
                certificate.route == Route::Own
                    && certificate.task(task).is_some()
                    && same(&certificate.query_space, query)
                    && same(&certificate.gallery_space, gallery)
            })
            .max_by(|one, other| one.created.cmp(&other.created))
    }
}

/// What a certificate says under a gallery's policy, and on what basis.
pub(crate) fn under_policy(
    certificate: &Certificate,
    policy: &Policy,
) -> Option<(Finding, String)> {
    let task: Task = policy.task;
    let result = certificate.task(task)?;
    if result.finding == Finding::CannotTell {
        return Some((Finding::CannotTell, result.reasons.join("; ")));
    }
    let demands = Demands {
        min_margin: policy.min_margin,
        confidence: policy.confidence,
        ..certificate.demands
    };
    let mut measures = result.measures.clone();
    for one in &mut measures {
        one.verdict = one.verdict_at(policy.confidence, policy.min_margin);
    }
    let (finding, _) = judge(&measures, &demands);
    let figures: Vec<String> = measures
        .iter()
        .filter(|one| one.decides)
        .map(|one| format!("{} {:+.4}", one.comparison.measure, one.comparison.margin))
        .collect();
    let basis = format!(
        "{finding} for {task} retrieval by certificate {}: margins {} over the self-test, required {:+} at {} confidence",
        &certificate.sha256()[..NAME_DIGITS],
        figures.join(", "),
        policy.min_margin,
        policy.confidence
    );
    Some((finding, basis))
}
