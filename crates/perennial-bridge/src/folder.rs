//! A bridge's folder: `bridge.toml` and `weights.safetensors`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use perennial_core::{WorkingFolder, read_at_most, sha256_hex, write_atomically};

use crate::bridge::Bridge;
use crate::bridge_toml::{BridgeToml, recognise};
use crate::error::BridgeError;
use crate::fit_inputs::MAX_HASHES;
use crate::weights;

/// The file that says what a bridge is, in UTF-8 and of at most 1 MiB. Unknown keys are refused.
///
/// ```toml
/// format = "perennial-bridge"
/// format_version = 2        # 1: as 2, but the weights do not say what was fitted on
/// weights_sha256 = "…"      # of weights.safetensors
/// to_centred = true         # rows of the target are centred with the weights' to_mean
///
/// [from]                    # dim, and id and fingerprint where they are known
/// dim = 384
/// id = "minilm"
///
/// [to]
/// dim = 256
///
/// [[parts]]                 # how it was fitted; several for a chain
/// recipe = "ridge:0.001"
/// inverted = false
///
/// [[steps]]                 # what happens to a row, in this order
/// step = "centre"
/// dim = 384
///
/// [[steps]]
/// step = "linear"
/// from = 384
/// to = 256
///
/// [fit]                     # the fit record
/// pairs = 2000
/// rank = 256                # of a rotation: the dimensions in which the pairs determine it
/// matched = "row"
/// ```
pub const BRIDGE_FILE: &str = "bridge.toml";
/// The file with its weights: safetensors.
///
/// Tensors, f32: `step0`, `step1`, … in the order of the steps (a mean `[dim]`, or a matrix `[from, to]` that rows are multiplied with from the
/// left), and `to_mean` `[to_dim]` where the target is centred.
///
/// Tensors, u64, since format version 2: `fit_from_rows`, `fit_to_rows` and `fit_ids`, each `[n]` with `n` from 0 to 131,072, ascending and
/// without repetitions. They are short hashes of the source's and the target's rows that were fitted on, and of the ids of these inputs,
/// so that an evaluation on the same inputs is noticed: the first eight bytes of a SHA-256, read as a big-endian number. Of a row it is that
/// of its values before any scaling, each as a little-endian f32; of an id, that of its UTF-8 text, and only ids that are texts are
/// recorded. Of more than 131,072, the smallest are kept.
///
/// ```python
/// import hashlib, numpy, safetensors.numpy
/// short = lambda row: int.from_bytes(hashlib.sha256(row.astype("<f4").tobytes()).digest()[:8], "big")
/// fitted = safetensors.numpy.load_file("bridge/weights.safetensors")["fit_from_rows"]
/// shared = numpy.isin(numpy.array([short(row) for row in rows], dtype=numpy.uint64), fitted).sum()
/// ```
pub const WEIGHTS_FILE: &str = "weights.safetensors";

const MAX_TOML_BYTES: u64 = 1 << 20;
/// What a safetensors file may hold beside the values.
const HEADER_ROOM: u64 = 1 << 16;
const MAX_WEIGHT_BYTES: u64 = 1 << 34;

impl Bridge {
    /// Reads a bridge's folder.
    ///
    /// # Errors
    /// A file that is missing, damaged, of a later format, or does not fit the other one; the error names it.
    pub fn read(folder: impl AsRef<Path>) -> Result<Self, BridgeError> {
        let folder = folder.as_ref();
        let (toml_path, weights_path) = (folder.join(BRIDGE_FILE), folder.join(WEIGHTS_FILE));
        let error = |path: &Path, problem: String| BridgeError::File {
            path: path.to_owned(),
            problem,
        };
        let text = String::from_utf8(read_at_most(&toml_path, MAX_TOML_BYTES)?)
            .map_err(|_| error(&toml_path, "is not UTF-8 text".to_owned()))?;
        let toml = BridgeToml::parse(&text).map_err(|problem| error(&toml_path, problem))?;
        let shapes = toml.shapes();
        let to_mean = toml.to_centred.then_some(toml.to.dim);
        // At most 257 products of two dimensions of 16 bits each: no overflow.
        let values = shapes
            .iter()
            .map(|shape| shape.values() as u64)
            .sum::<u64>()
            + to_mean.unwrap_or(0) as u64;
        let hashes = if toml.has_inputs() {
            3 * MAX_HASHES as u64
        } else {
            0
        };
        let limit = values * 4 + hashes * 8 + HEADER_ROOM;
        if limit > MAX_WEIGHT_BYTES {
            return Err(error(
                &toml_path,
                format!("describes {values} weights; no bridge has as many"),
            ));
        }
        let bytes = read_at_most(&weights_path, limit)?;
        let hash = &toml.weights_sha256;
        let weights = weights::from_bytes(&bytes, hash, &shapes, to_mean, toml.has_inputs())
            .map_err(|problem| error(&weights_path, problem))?;
        Ok(Self {
            parts: toml.parts(),
            from: toml.from,
            to: toml.to,
            steps: weights.steps,
            to_mean: weights.to_mean,
            record: toml.fit,
            inputs: weights.inputs,
        })
    }

    /// Writes the bridge's folder in one step: after a crash at any moment it is there as a whole, or not at all. A bridge of the same name
    /// is replaced; an empty folder is used.
    ///
    /// # Errors
    /// [`BridgeError::NotOurs`] for a file, or a folder that holds anything but a bridge. [`BridgeError::Io`] names the path. Nothing is changed
    /// then, and no temporary folder stays behind; one that a killed process left there is removed.
    pub fn write(&self, folder: impl AsRef<Path>) -> Result<(), BridgeError> {
        let target = Target::prepare(folder.as_ref())?;
        let bytes = weights::to_bytes(self);
        let toml = BridgeToml::of(self, sha256_hex(&bytes)).to_text();
        // A bridge that could not be read again must not take a readable one's place.
        let unreadable = |problem: String| BridgeError::File {
            path: target.path.join(BRIDGE_FILE),
            problem: format!("would not be readable: {problem}"),
        };
        BridgeToml::parse(&toml).map_err(unreadable)?;
        if !self.is_finite() {
            return Err(unreadable(
                "a weight is beyond what f32 can hold; fit it with other parameters".to_owned(),
            ));
        }
        if toml.len() as u64 > MAX_TOML_BYTES {
            return Err(unreadable(format!(
                "it has {} bytes, and {MAX_TOML_BYTES} are allowed; record fewer trials",
                toml.len()
            )));
        }
        let new = WorkingFolder::create(&target.parent, TEMPORARY_PREFIX)?;
        write_atomically(new.path().join(WEIGHTS_FILE), bytes)?;
        write_atomically(new.path().join(BRIDGE_FILE), toml)?;
        let new = Temporary {
            path: new.release()?,
        };
        target.replace_with(&new)
    }

    /// Says whether [`write`](Self::write) could put a bridge there, before the work of a fit.
    ///
    /// # Errors
    /// Those of [`write`](Self::write), as far as they show without writing.
    pub fn check_target(folder: impl AsRef<Path>) -> Result<(), BridgeError> {
        Target::prepare(folder.as_ref()).map(|_| ())
    }
}

/// With which the names of folders begin that have not taken their place yet.
const TEMPORARY_PREFIX: &str = ".partial-bridge-";

/// A place for a bridge's folder, which another bridge may have.
struct Target {
    path: PathBuf,
    parent: PathBuf,
    replaces_bridge: bool,
}

impl Target {
    fn prepare(path: &Path) -> Result<Self, BridgeError> {
        let not_ours = || BridgeError::NotOurs {
            path: path.to_owned(),
        };
        let (path, replaces_bridge) = match fs_err::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => (path.to_owned(), false),
            Err(error) => return Err(error.into()),
            Ok(_) => {
                // The folder is replaced where it is, not a link to it.
                let real = fs_err::canonicalize(path)?;
                if !fs_err::metadata(&real)?.is_dir() {
                    return Err(not_ours());
                }
                let mut names = fs_err::read_dir(&real)?
                    .map(|entry| entry.map(|entry| entry.file_name()))
                    .collect::<io::Result<Vec<_>>>()?;
                names.sort_unstable();
                let bridge = names == [BRIDGE_FILE, WEIGHTS_FILE]
                    && read_at_most(real.join(BRIDGE_FILE), MAX_TOML_BYTES)
                        .is_ok_and(|bytes| recognise(&bytes));
                if !bridge && !names.is_empty() {
                    return Err(not_ours());
                }
                (real, bridge)
            }
        };
        let parent = match path.parent() {
            Some(parent) if parent.as_os_str().is_empty() => PathBuf::from("."),
            Some(parent) => parent.to_owned(),
            None => return Err(not_ours()),
        };
        if !parent.is_dir() {
            return Err(BridgeError::File {
                problem: format!(
                    "the folder {} does not exist; create it first",
                    parent.display()
                ),
                path,
            });
        }
        Ok(Self {
            path,
            parent,
            replaces_bridge,
        })
    }

    fn replace_with(&self, new: &Temporary) -> Result<(), BridgeError> {
        if self.replaces_bridge {
            // A rename replaces only an empty folder, so the old bridge steps aside first, and back if the new one cannot take its place.
            let old = Temporary::create(&self.parent)?;
            fs_err::rename(&self.path, &old.path)?;
            if let Err(error) = fs_err::rename(&new.path, &self.path) {
                fs_err::rename(&old.path, &self.path)?;
                return Err(error.into());
            }
        } else {
            fs_err::rename(&new.path, &self.path)?;
        }
        #[cfg(unix)]
        fs_err::File::open(&self.parent)?.sync_all()?;
        Ok(())
    }
}

/// A folder beside the target that goes away with this value, unless it has been renamed.
struct Temporary {
    path: PathBuf,
}

impl Temporary {
    fn create(parent: &Path) -> Result<Self, BridgeError> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = COUNTER.fetch_add(1, Ordering::Relaxed);
            let path = parent.join(format!("{TEMPORARY_PREFIX}{}-{number}", std::process::id()));
            match fs_err::create_dir(&path) {
                Ok(()) => return Ok(Self { path }),
                // Left behind by an earlier process with the same number.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < 1 << 20 => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a successful rename there is nothing to remove.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
