//! Stored probes: embeddings of a few images, recorded when a version first went live, and the check that it still computes them.
//!
//! The gallery holds embeddings that a version computed long ago. A later build of the program, another device or damaged
//! preprocessing may compute others from the same weights, which no checksum notices. So the gallery's folder keeps, per version,
//! probe images as files and the embeddings that they had. The registry's entry stays as it was published.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use perennial_core::{EncodeError, read_at_most, write_atomically};
use perennial_data::{DecodeLimits, encode_png};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use thiserror::Error;

use crate::loaded_model::LoadedModel;

/// Images of a new file.
const PROBES: usize = 5;
/// Images that a file may hold.
const MAX_PROBES: usize = 64;
const MAX_FILE_BYTES: u64 = 16 << 20;
/// Larger inputs get their probes enlarged, which keeps the file small.
const MAX_SIDE: usize = 256;
/// How far an embedding may be from the stored one, as the length of their difference. Another device or batch rounds by less;
/// a similarity changes by at most this much.
const TOLERANCE: f64 = 1e-2;

const FORMAT: &str = "perennial-probes";
const FORMAT_VERSION: &str = "1";

/// Errors from checking a version against its stored probes.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// A damaged file.
    #[error(
        "the probe file {file} of the gallery {problem}; remove it to record the current embeddings instead"
    )]
    File {
        /// The file's name.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The name belongs to other weights.
    #[error(
        "the gallery holds items of another model with this name (weights {stored}); publish this model under another name"
    )]
    OtherWeights {
        /// The hash of the weights that the gallery's items came from.
        stored: String,
    },
    /// The version no longer reproduces its stored embeddings.
    #[error(
        "probe {probe}: the embedding differs by {distance:.1e} from the one recorded when the version first went live \
         (limit {TOLERANCE:.0e}). The build, the device or the preprocessing has changed ({file} of the gallery)"
    )]
    Changed {
        /// The file's name.
        file: String,
        /// Position of the probe image, from 0.
        probe: usize,
        /// Length of the difference of the two embeddings.
        distance: f64,
    },
    /// A probe that is no image any more, or not for this program.
    #[error("probe {probe} {problem}")]
    Image {
        /// Position of the probe image, from 0.
        probe: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// The encoder fails on the probes.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// The folder of probe files.
pub struct StoredProbes {
    folder: PathBuf,
}

/// The result of the check of a version.
pub enum Checked {
    /// The embeddings are the stored ones, up to this distance.
    Same {
        /// The largest length of a difference.
        distance: f64,
    },
    /// There are none yet; these are to be stored once the version is live.
    New(Probes),
}

/// Image files and their embeddings.
pub struct Probes {
    images: Vec<Vec<u8>>,
    /// `[images, d]`.
    embeddings: Vec<f32>,
}

impl StoredProbes {
    /// The probes in a folder, which appears with the first file.
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// Compares a version with its stored probes. `in_use` says whether the gallery has items of this name. Blocks for one forward
    /// pass.
    ///
    /// # Errors
    /// [`ProbeError`].
    pub fn check(&self, model: &LoadedModel, in_use: bool) -> Result<Checked, ProbeError> {
        let Some((stored, weights)) = self.read(model)? else {
            return Probes::generated(model).map(Checked::New);
        };
        if weights != model.version.weights_sha256 {
            if in_use {
                return Err(ProbeError::OtherWeights { stored: weights });
            }
            // No items are left of the model that had this name.
            return Probes::generated(model).map(Checked::New);
        }
        let now = encode(model, &stored.images)?;
        let dim = model.version.dim;
        let mut largest = 0.0;
        for (probe, (a, b)) in now
            .chunks_exact(dim)
            .zip(stored.embeddings.chunks_exact(dim))
            .enumerate()
        {
            let squares = a.iter().zip(b);
            let distance = squares
                .map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2))
                .sum::<f64>()
                .sqrt();
            if distance > TOLERANCE {
                return Err(ProbeError::Changed {
                    file: file_name(model.name()),
                    probe,
                    distance,
                });
            }
            largest = f64::max(largest, distance);
        }
        Ok(Checked::Same { distance: largest })
    }

    /// Stores the new probes that [`check`](Self::check) returned.
    ///
    /// # Errors
    /// The error names the file.
    pub fn keep(&self, model: &LoadedModel, probes: &Probes) -> std::io::Result<()> {
        fs_err::create_dir_all(&self.folder)?;
        write_atomically(self.path(model.name()), probes.to_bytes(model)?)
    }

    fn path(&self, version: &str) -> PathBuf {
        self.folder.join(file_name(version))
    }

    /// The stored probes of a version and the hash of its weights, if there is a file.
    fn read(&self, model: &LoadedModel) -> Result<Option<(Probes, String)>, ProbeError> {
        let damaged = |problem: String| ProbeError::File {
            file: file_name(model.name()),
            problem,
        };
        let bytes = match read_at_most(self.path(model.name()), MAX_FILE_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(damaged(format!("cannot be read: {}", error.kind()))),
        };
        Probes::from_bytes(&bytes, model).map(Some).map_err(damaged)
    }
}

impl Probes {
    /// Images that the gallery need not have stored, with the embeddings that a version gives them now.
    fn generated(model: &LoadedModel) -> Result<Self, ProbeError> {
        let side = model.version.architecture.input[1].min(MAX_SIDE);
        // Not square, and larger than the input, so that cropping and scaling are checked as well.
        let shape = [3, side + side / 4 + 1, side + side / 2 + 1];
        let images = (0..PROBES)
            .map(|probe| {
                encode_png(&waves(probe, shape), shape).map_err(|error| ProbeError::Image {
                    probe,
                    problem: error.to_string(),
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let embeddings = encode(model, &images)?;
        Ok(Self { images, embeddings })
    }

    fn to_bytes(&self, model: &LoadedModel) -> std::io::Result<Vec<u8>> {
        let values: Vec<u8> = self
            .embeddings
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        let shape = vec![self.images.len(), model.version.dim];
        let wrong = std::io::Error::other;
        let mut tensors = vec![(
            "embeddings".to_owned(),
            TensorView::new(Dtype::F32, shape, &values).map_err(wrong)?,
        )];
        for (index, image) in self.images.iter().enumerate() {
            let view = TensorView::new(Dtype::U8, vec![image.len()], image).map_err(wrong)?;
            tensors.push((format!("image_{index}"), view));
        }
        let metadata = HashMap::from(
            [
                ("format", FORMAT),
                ("format_version", FORMAT_VERSION),
                ("model_version", model.name()),
                ("weights_sha256", &model.version.weights_sha256),
                ("program_version", env!("CARGO_PKG_VERSION")),
            ]
            .map(|(key, value)| (key.to_owned(), value.to_owned())),
        );
        safetensors::serialize(tensors, Some(metadata)).map_err(wrong)
    }

    /// The probes of a version with the hash of its weights, or what is wrong with the file.
    fn from_bytes(bytes: &[u8], model: &LoadedModel) -> Result<(Self, String), String> {
        let broken = |error| format!("is not a safetensors file: {error}");
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(broken)?;
        let metadata = |key: &str| {
            let value = header.metadata().as_ref().and_then(|all| all.get(key));
            value.cloned().unwrap_or_default()
        };
        if metadata("format") != FORMAT || metadata("format_version") != FORMAT_VERSION {
            return Err("does not have a probe format that this program reads".to_owned());
        }
        if metadata("model_version") != model.name() {
            return Err("belongs to another version".to_owned());
        }
        let weights = metadata("weights_sha256");
        if weights != model.version.weights_sha256 {
            // The rest is another model's, of another shape perhaps.
            let none = Self {
                images: Vec::new(),
                embeddings: Vec::new(),
            };
            return Ok((none, weights));
        }
        let file = SafeTensors::deserialize(bytes).map_err(broken)?;
        let embeddings = file.tensor("embeddings").map_err(broken)?;
        let &[count, dim] = embeddings.shape() else {
            return Err("has embeddings that are not a matrix".to_owned());
        };
        let fits = dim == model.version.dim && (1..=MAX_PROBES).contains(&count);
        if !fits || embeddings.dtype() != Dtype::F32 {
            return Err(format!("has embeddings of shape [{count}, {dim}]"));
        }
        let (values, _) = embeddings.data().as_chunks::<4>();
        let embeddings: Vec<f32> = values.iter().map(|&b| f32::from_le_bytes(b)).collect();
        if embeddings.iter().any(|value| !value.is_finite()) {
            return Err("has embeddings that are not finite".to_owned());
        }
        let images = (0..count)
            .map(|index| {
                let image = file.tensor(&format!("image_{index}")).map_err(broken)?;
                match image.dtype() {
                    Dtype::U8 => Ok(image.data().to_vec()),
                    other => Err(format!("has an image of type {other}")),
                }
            })
            .collect::<Result<_, String>>()?;
        Ok((Self { images, embeddings }, weights))
    }
}

fn file_name(version: &str) -> String {
    format!("{version}.safetensors")
}

/// Embeds image files the way a request's are embedded.
///
/// **Shapes**: the result is `[n, d]`.
fn encode(model: &LoadedModel, files: &[Vec<u8>]) -> Result<Vec<f32>, ProbeError> {
    let mut pixels = Vec::with_capacity(files.len() * model.image_len());
    for (probe, file) in files.iter().enumerate() {
        let image = model.pixels(file, DecodeLimits::UNTRUSTED);
        pixels.extend(image.map_err(|error| ProbeError::Image {
            probe,
            problem: format!("cannot be decoded: {error}"),
        })?);
    }
    Ok(model.encode(&pixels)?)
}

/// Waves of different lengths, directions and colours.
///
/// **Shapes**: the result is `shape`, `[c, h, w]`.
fn waves(probe: usize, [channels, height, width]: [usize; 3]) -> Vec<u8> {
    let mut pixels = Vec::with_capacity(channels * height * width);
    for channel in 0..channels {
        let brightness = 70.0 + 35.0 * ((probe + 2 * channel) % 4) as f32;
        for y in 0..height {
            for x in 0..width {
                let phase = (x * (probe + 1) + y * (PROBES - probe) + 7 * channel) as f32;
                pixels.push((brightness + 60.0 * (0.37 * phase).sin()) as u8);
            }
        }
    }
    pixels
}
