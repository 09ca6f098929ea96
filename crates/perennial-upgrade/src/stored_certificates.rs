//! The certificates of a registry: `registry/certificates/SHA256.json`.

use std::io;
use std::path::{Path, PathBuf};

use perennial_core::{Registry, SpaceRef, write_atomically};

use crate::certificate::{Certificate, CertificateError};
use crate::evaluation_data::Task;
use crate::finding::Finding;
use crate::measured::{Demands, judge};
use crate::policy::Policy;
use crate::public_text::in_registry;

const FOLDER: &str = "certificates";
/// Hexadecimal digits of the hash in a file's name.
const NAME_DIGITS: usize = 16;

/// All certificates of a registry that can be read, and what is known of the others.
#[derive(Debug, Clone, Default)]
pub struct StoredCertificates {
    certificates: Vec<StoredCertificate>,
    lost: Vec<LostCertificate>,
}

/// One that can be read.
#[derive(Debug, Clone)]
struct StoredCertificate {
    path: PathBuf,
    certificate: Certificate,
}

/// A file that certifies nothing: it cannot be read, or it was there before.
#[derive(Debug, Clone)]
pub(crate) struct LostCertificate {
    path: PathBuf,
    /// What it was when it was read, if it ever was.
    certificate: Option<Certificate>,
    /// What is wrong.
    problem: String,
    /// Whether reading failed, which says nothing about the file.
    unread: bool,
}

impl LostCertificate {
    /// What it was when it was read, if it ever was.
    pub(crate) fn certificate(&self) -> Option<&Certificate> {
        self.certificate.as_ref()
    }

    /// What is wrong with which file, and what to do.
    pub(crate) fn reason(&self) -> String {
        let file = self.path.file_name().unwrap_or_default().display();
        match self.unread {
            true => format!(
                "{FOLDER}/{file} cannot be read at the moment, and is tried again: {}",
                self.problem
            ),
            false => format!(
                "{FOLDER}/{file}: {}; put the file back, or certify again with --record",
                self.problem
            ),
        }
    }
}

impl StoredCertificates {
    /// The folder of a registry's certificates.
    pub fn folder(registry: &Registry) -> PathBuf {
        registry.root().join(FOLDER)
    }

    /// Reads a registry's certificates. Damaged and changed files, and those that cannot be read, are logged and left out: they certify nothing.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn of(registry: &Registry) -> io::Result<Self> {
        Self::read(registry, &|_| false)
    }

    /// Reads them anew, and remembers what was there `before` and is not any more, so that refusals can name it. What cannot be read and is the file
    /// that was read before stays in force.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub(crate) fn again(
        registry: &Registry,
        before: &Self,
        unchanged: &dyn Fn(&Path) -> bool,
    ) -> io::Result<Self> {
        let unread = |path: &Path| before.lost.iter().any(|one| one.unread && one.path == path);
        let mut found = Self::read(registry, &unread)?;
        for read in before
            .certificates
            .iter()
            .filter(|one| unchanged(&one.path))
        {
            let is_it = |lost: &LostCertificate| lost.unread && lost.path == read.path;
            if found.lost.iter().any(is_it) {
                found.lost.retain(|lost| !is_it(lost));
                found.certificates.push(read.clone());
            }
        }
        found
            .certificates
            .sort_by(|one, other| one.path.cmp(&other.path));
        Ok(found.after(before.clone()))
    }

    /// Whether files could not be read that may be certificates.
    pub(crate) fn is_incomplete(&self) -> bool {
        self.lost.iter().any(|lost| lost.unread)
    }

    /// Failures of files that are `known` not to be readable are not logged.
    fn read(registry: &Registry, known: &dyn Fn(&Path) -> bool) -> io::Result<Self> {
        let mut found = Self::default();
        for path in Self::files(registry)? {
            match Certificate::read(&path) {
                Ok(certificate) => found
                    .certificates
                    .push(StoredCertificate { path, certificate }),
                Err(error) => {
                    let unread = has_not_read(&error);
                    match unread {
                        true if known(&path) => {}
                        true => {
                            tracing::error!(%error, "a certificate cannot be read; it is tried again");
                        }
                        false => tracing::warn!(%error, "a certificate is left out"),
                    }
                    let problem = match error {
                        CertificateError::Content { problem, .. } => problem,
                        CertificateError::Io(error) => in_registry(&error.to_string(), registry),
                    };
                    found.lost.push(LostCertificate {
                        path,
                        certificate: None,
                        problem,
                        unread,
                    });
                }
            }
        }
        Ok(found)
    }

    /// The files in the folder of a registry's certificates, in the order of their names.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub(crate) fn files(registry: &Registry) -> io::Result<Vec<PathBuf>> {
        let entries = match fs_err::read_dir(Self::folder(registry)) {
            Ok(entries) => entries,
            Err(error) => {
                return match error.kind() {
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(Vec::new()),
                    _ => Err(error),
                };
            }
        };
        let mut paths = Vec::new();
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|ending| ending == "json") {
                paths.push(path);
            }
        }
        paths.sort();
        Ok(paths)
    }

    /// Remembers what was there `before` and is not any more.
    fn after(mut self, before: Self) -> Self {
        let read = before.certificates.into_iter();
        let read = read.map(|one| (one.path, one.certificate));
        let lost = before.lost.into_iter();
        let lost = lost.filter_map(|one| Some((one.path, one.certificate?)));
        for (path, certificate) in read.chain(lost) {
            let same = |now: &&Certificate| now.sha256() == certificate.sha256();
            if self.iter().find(same).is_some() {
                continue;
            }
            match self.lost.iter_mut().find(|one| one.path == path) {
                Some(unreadable) => unreadable.certificate = Some(certificate),
                None => self.lost.push(LostCertificate {
                    problem: match path.is_file() {
                        true => "was replaced by another one".to_owned(),
                        false => "is not there any more".to_owned(),
                    },
                    certificate: Some(certificate),
                    path,
                    unread: false,
                }),
            }
        }
        self
    }

    /// What certified a pair before and does not any more, and files that were never read and so may have.
    pub(crate) fn lost_of_pair(
        &self,
        query: &SpaceRef,
        gallery: &SpaceRef,
        task: Task,
    ) -> Vec<&LostCertificate> {
        let present = self.of_pair(query, gallery, task);
        let lost = self.lost.iter().filter(|lost| match &lost.certificate {
            None => true,
            Some(certificate) => {
                is_of_pair(certificate, query, gallery, task)
                    && !present.iter().any(|one| is_one_way(one, certificate))
            }
        });
        lost.collect()
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

    /// All of them, in the order of their files' names.
    pub fn iter(&self) -> impl Iterator<Item = &Certificate> {
        self.certificates.iter().map(|one| &one.certificate)
    }

    /// The newest certificate of each way to search one space by queries of another, for this kind of retrieval: of each route, bridge, weight
    /// and index.
    ///
    /// Both spaces must be known by fingerprint: names alone may have come to mean another encoder.
    pub fn of_pair(&self, query: &SpaceRef, gallery: &SpaceRef, task: Task) -> Vec<&Certificate> {
        let mut found: Vec<&Certificate> = self
            .iter()
            .filter(|certificate| is_of_pair(certificate, query, gallery, task))
            .collect();
        // The hash only so that the order of files does not matter.
        found.sort_by_key(|one| std::cmp::Reverse((&one.created, one.sha256())));
        let mut newest: Vec<&Certificate> = Vec::new();
        for certificate in found {
            if !newest.iter().any(|newer| is_one_way(newer, certificate)) {
                newest.push(certificate);
            }
        }
        newest
    }
}

/// Whether a failure says nothing about the content: a disk or a limit of open files, and not a file that is too large, or gone since the folder
/// was looked through.
fn has_not_read(error: &CertificateError) -> bool {
    match error {
        CertificateError::Content { .. } => false,
        CertificateError::Io(error) => !matches!(
            error.kind(),
            io::ErrorKind::InvalidData | io::ErrorKind::NotFound
        ),
    }
}

fn is_of_pair(certificate: &Certificate, query: &SpaceRef, gallery: &SpaceRef, task: Task) -> bool {
    let same = |one: &SpaceRef, other: &SpaceRef| {
        one.fingerprint.is_some() && one.fingerprint == other.fingerprint && one.dim == other.dim
    };
    certificate.task(task).is_some()
        && same(&certificate.query_space, query)
        && same(&certificate.gallery_space, gallery)
}

fn is_one_way(one: &Certificate, other: &Certificate) -> bool {
    let bridge = |of: &Certificate| of.bridge.as_ref().map(|bridge| bridge.sha256.clone());
    one.route == other.route && one.index == other.index && bridge(one) == bridge(other)
}

/// A certificate as messages name it.
pub(crate) fn short(certificate: &Certificate) -> &str {
    let hash = certificate.sha256();
    &hash[..NAME_DIGITS.min(hash.len())]
}

/// What a certificate says under a gallery's policy.
pub(crate) struct Judged {
    pub(crate) finding: Finding,
    /// The measurement, as text.
    pub(crate) basis: String,
    /// The smallest margin of the measures that decide, a difference of fractions.
    pub(crate) margin: f64,
}

/// What a certificate says under a gallery's policy; nothing where it does not measure the policy's kind of retrieval.
pub(crate) fn under_policy(certificate: &Certificate, policy: &Policy) -> Option<Judged> {
    let task: Task = policy.task;
    let result = certificate.task(task)?;
    let demands = Demands {
        min_margin: policy.min_margin,
        confidence: policy.confidence,
        ..certificate.demands
    };
    let mut measures = result.measures.clone();
    for one in &mut measures {
        one.verdict = one.verdict_at(policy.confidence, policy.min_margin);
    }
    let deciding = || measures.iter().filter(|one| one.decides);
    let margin = deciding()
        .map(|one| one.comparison.margin)
        .fold(f64::INFINITY, f64::min);
    let name = short(certificate);
    if result.finding == Finding::CannotTell {
        return Some(Judged {
            finding: Finding::CannotTell,
            basis: format!(
                "certificate {name} cannot tell: {}",
                result.reasons.join("; ")
            ),
            margin,
        });
    }
    let (finding, _) = judge(&measures, &demands);
    let figures: Vec<String> = deciding()
        .map(|one| {
            let interval = one
                .interval(policy.confidence)
                .map_or_else(String::new, |bounds| {
                    format!(" [{:+.4}, {:+.4}]", bounds.low, bounds.high)
                });
            format!(
                "{} {:+.4}{interval}",
                one.comparison.measure, one.comparison.margin
            )
        })
        .collect();
    let basis = format!(
        "{finding} for {task} retrieval by certificate {name}: margins {} over the self-test, required {:+} at {} confidence",
        figures.join(", "),
        policy.min_margin,
        policy.confidence
    );
    Some(Judged {
        finding,
        basis,
        margin,
    })
}
