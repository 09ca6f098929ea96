//! An encoder small enough to predict: the mean colour, turned by an angle that the weights hold as text.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use perennial_core::{EncodeError, Encoder, ModelVersion, Registry, VersionDraft};
use perennial_upgrade::{EncoderLoader, LoadError};

pub const SIDE: usize = 4;

/// While closed, encoders wait.
#[derive(Clone, Default)]
pub struct Gate(Arc<AtomicBool>);

impl Gate {
    pub fn close(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    pub fn open(&self) {
        self.0.store(false, Ordering::SeqCst);
    }

    fn pass(&self) {
        while self.0.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// An angle added to that of the weights when they are loaded: a program that computes something else.
#[derive(Clone, Default)]
pub struct Drift(Arc<AtomicU32>);

impl Drift {
    pub fn set(&self, angle: f32) {
        self.0.store(angle.to_bits(), Ordering::SeqCst);
    }

    fn get(&self) -> f32 {
        f32::from_bits(self.0.load(Ordering::SeqCst))
    }
}

/// How often each version was loaded, and how many of its encoders are in memory.
#[derive(Clone, Default)]
pub struct Loads(Arc<Mutex<BTreeMap<String, (usize, usize)>>>);

impl Loads {
    pub fn of(&self, version: &str) -> (usize, usize) {
        self.0
            .lock()
            .unwrap()
            .get(version)
            .copied()
            .unwrap_or_default()
    }

    fn loaded(&self, version: &str) -> Loaded {
        let mut loads = self.0.lock().unwrap();
        let entry = loads.entry(version.to_owned()).or_default();
        *entry = (entry.0 + 1, entry.1 + 1);
        Loaded(self.clone(), version.to_owned())
    }
}

/// One encoder in memory.
struct Loaded(Loads, String);

impl Drop for Loaded {
    fn drop(&mut self) {
        if let Some(entry) = self.0.0.lock().unwrap().get_mut(&self.1) {
            entry.1 -= 1;
        }
    }
}

pub struct MeanColour {
    version: ModelVersion,
    angle: f32,
    depends_on_batch: bool,
    gate: Gate,
    _loaded: Loaded,
}

impl Encoder for MeanColour {
    fn input_shape(&self) -> [usize; 3] {
        [3, SIDE, SIDE]
    }

    fn dim(&self) -> usize {
        self.version.dim
    }

    fn model_version(&self) -> &str {
        &self.version.name
    }

    fn encode(&self, pixels: &[f32]) -> Result<Vec<f32>, EncodeError> {
        self.gate.pass();
        let images = self.image_count(pixels)?;
        let extra = if self.depends_on_batch {
            images as f32
        } else {
            0.0
        };
        let mut embeddings = Vec::new();
        for image in pixels.chunks_exact(3 * SIDE * SIDE) {
            let mean = |channel: usize| {
                let plane = &image[channel * SIDE * SIDE..][..SIDE * SIDE];
                plane.iter().sum::<f32>() / plane.len() as f32
            };
            let mut row = vec![0.0; self.dim()];
            row[..3].copy_from_slice(&turned([mean(0), mean(1), mean(2)], self.angle + extra));
            embeddings.extend(row);
        }
        Ok(embeddings)
    }
}

/// A unit vector of three normalised colour means, turned about the third axis.
pub fn turned([red, green, blue]: [f32; 3], angle: f32) -> [f32; 3] {
    let up = blue + 4.0;
    let (sin, cos) = angle.sin_cos();
    let row = [red * cos - green * sin, red * sin + green * cos, up];
    let norm = row.iter().map(|value| value * value).sum::<f32>().sqrt();
    row.map(|value| value / norm)
}

/// Weights: an angle, or `batch` for an encoder that is not allowed, or anything else for one that cannot be loaded.
pub struct Loader(pub Gate, pub Drift, pub Loads);

impl EncoderLoader for Loader {
    fn load(
        &self,
        registry: &Registry,
        version: ModelVersion,
    ) -> Result<Arc<dyn Encoder>, LoadError> {
        let weights = registry.load_weights(&version).unwrap();
        let text = String::from_utf8_lossy(&weights);
        let depends_on_batch = text == "batch";
        let angle = if depends_on_batch {
            Ok(0.0)
        } else {
            text.parse()
        };
        let Ok(angle) = angle else {
            return Err(LoadError {
                version: version.name,
                problem: format!("weights {text:?} are no angle"),
            });
        };
        Ok(Arc::new(MeanColour {
            _loaded: self.2.loaded(&version.name),
            version,
            angle: angle + self.1.get(),
            depends_on_batch,
            gate: self.0.clone(),
        }))
    }
}

/// A version of a simplex with `dim + 1` vertices.
pub fn draft(dim: usize) -> VersionDraft {
    let text = format!(
        r#"
format_version = 1
name = "v0001"
role = "update"
method = "mean"
data = "colours"
seed = 1
created = "2026-11-22T21:35:00Z"
dim = {dim}
weights_sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
weights_bytes = 3
[architecture]
backbone = "mean"
stem = ""
width = 1
input = [3, {SIDE}, {SIDE}]
[preprocessing]
mean = [0.5, 0.5, 0.5]
std = [0.5, 0.5, 0.5]
[classifier]
kind = "simplex"
vertices = {}
vertex_end = "front"
classes = 2
pretrained_classes = 2
"#,
        dim + 1
    );
    ModelVersion::from_toml(&text).unwrap().draft()
}

/// A PNG of one colour.
pub fn png(colour: [u8; 3], side: u32) -> Vec<u8> {
    let image = image::RgbImage::from_pixel(side, side, image::Rgb(colour));
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// What a version with this angle makes of an image of one colour.
pub fn expected(colour: [u8; 3], angle: f32) -> [f32; 3] {
    turned(
        colour.map(|byte| (f32::from(byte) / 255.0 - 0.5) / 0.5),
        angle,
    )
}
