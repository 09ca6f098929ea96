//! `accepted.toml`: pairs of versions without a certificate that were accepted with `--force`.
//!
//! Without the file, a forced write would be searchable until the next restart and refused afterwards.

use std::io;
use std::path::{Path, PathBuf};

use perennial_core::{read_at_most, write_atomically};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::certification::NotCertified;

const FILE: &str = "accepted.toml";
const MAX_BYTES: u64 = 16 << 20;

/// A pair that was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pair {
    pub(crate) query_version: String,
    pub(crate) gallery_version: String,
    /// Why the check had refused it.
    pub(crate) reason: String,
    /// RFC 3339, UTC.
    pub(crate) accepted: String,
    /// Accepted together with a promotion of the query version that is not known to have happened: it counts once that version is live.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) pending: bool,
}

impl Pair {
    fn is_of(&self, pair: &NotCertified) -> bool {
        self.query_version == pair.query_version && self.gallery_version == pair.gallery_version
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    #[serde(default, rename = "pair")]
    pairs: Vec<Pair>,
}

pub(crate) fn path(gallery: &Path) -> PathBuf {
    gallery.join(FILE)
}

/// The pairs accepted in a gallery's folder.
pub(crate) fn read(gallery: &Path) -> io::Result<Vec<Pair>> {
    let path = path(gallery);
    let bytes = match read_at_most(&path, MAX_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let damaged = |problem: &str| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "{}: {problem}; repair it, or remove it to discard all forced pairs",
                path.display()
            ),
        )
    };
    let text = String::from_utf8(bytes).map_err(|_| damaged("is not UTF-8 text"))?;
    let content: Content = toml::from_str(&text).map_err(|error| damaged(error.message()))?;
    Ok(content.pairs)
}

/// Adds pairs to those accepted. Pairs that are there already stay, and are no longer pending unless they are added so.
pub(crate) fn add(gallery: &Path, refused: &[NotCertified], pending: bool) -> io::Result<()> {
    let mut pairs = read(gallery)?;
    let now = OffsetDateTime::now_utc()
        .replace_nanosecond(0)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let accepted = now.format(&Rfc3339).map_err(io::Error::other)?;
    for pair in refused {
        match pairs.iter_mut().find(|known| known.is_of(pair)) {
            Some(known) => known.pending &= pending,
            None => pairs.push(Pair {
                query_version: pair.query_version.clone(),
                gallery_version: pair.gallery_version.clone(),
                reason: pair.reason.clone(),
                accepted: accepted.clone(),
                pending,
            }),
        }
    }
    write(gallery, pairs)
}

/// Takes back pairs that are still pending.
pub(crate) fn take_back(gallery: &Path, refused: &[NotCertified]) -> io::Result<()> {
    let mut pairs = read(gallery)?;
    pairs.retain(|known| !(known.pending && refused.iter().any(|pair| known.is_of(pair))));
    write(gallery, pairs)
}

/// Finishes or undoes what a promotion left pending that ended between its writes: the live version says which. To be called while nobody promotes.
pub(crate) fn settle(gallery: &Path, live: Option<&str>) -> io::Result<()> {
    let mut pairs = read(gallery)?;
    if !pairs.iter().any(|pair| pair.pending) {
        return Ok(());
    }
    pairs.retain_mut(|pair| {
        let happened = live == Some(pair.query_version.as_str());
        if pair.pending {
            tracing::warn!(
                query_version = pair.query_version,
                gallery_version = pair.gallery_version,
                "a forced promotion was interrupted; {}",
                match happened {
                    true => "it had happened, so the pair stays accepted",
                    false => "it had not happened, so the pair is not accepted",
                }
            );
        }
        let stays = !pair.pending || happened;
        pair.pending = false;
        stays
    });
    write(gallery, pairs)
}

fn write(gallery: &Path, pairs: Vec<Pair>) -> io::Result<()> {
    let text = toml::to_string(&Content { pairs }).map_err(io::Error::other)?;
    let head = "# Pairs of model versions that were accepted by force, without a certificate. Remove a table to refuse its pair again.\n";
    write_atomically(path(gallery), format!("{head}{text}"))
}
