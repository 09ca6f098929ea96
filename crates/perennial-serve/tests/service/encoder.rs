//! An encoder small enough to predict: the mean colour, turned by an angle that the weights hold as text.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use perennial_core::{
    ChannelOrder, EncoderKind, Graph, ImagePreparation, ImageTower, Interpolation, Modality,
    ModelVersion, OutsideEncoder, Pooling, Registry, Resize, TextTower, VersionDraft,
    VersionEncoder,
};
use perennial_encode::endpoint::EndpointEncoder;
use perennial_encode::{
    EncodeError, Encoder, Input, InputType, PrepareError, Prepared, Values, decode_square,
};
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
    fn accepts(&self) -> &[Modality] {
        self.version.accepts()
    }

    fn prepare(&self, input: Input<'_>) -> Result<Prepared, PrepareError> {
        self.check_modality(&input)?;
        let network = self.version.network();
        let constants = |channel: usize| match network.map(|network| &network.preprocessing) {
            Some(preprocessing) => (preprocessing.mean[channel], preprocessing.std[channel]),
            None => (0.5, 0.5),
        };
        let scaled = |bytes: &[u8]| {
            let pixels = bytes.iter().enumerate().map(|(place, &byte)| {
                let (mean, std) = constants(place / (SIDE * SIDE));
                (f32::from(byte) / 255.0 - mean) / std
            });
            Values::Pixels(pixels.collect())
        };
        let values = match input {
            Input::Picture { file, limits } => scaled(&decode_square(file, SIDE, limits)?),
            Input::Decoded(picture) => scaled(&picture.square(SIDE)?),
            Input::Pixels { pixels, .. } => scaled(pixels),
            Input::Text { text, input_type } => tokens(text, input_type)?,
        };
        Ok(Prepared { values })
    }

    fn dim(&self) -> usize {
        self.version.dim
    }

    fn model_version(&self) -> &str {
        &self.version.name
    }

    fn encode(&self, batch: &[Prepared]) -> Result<Vec<f32>, EncodeError> {
        self.gate.pass();
        let extra = if self.depends_on_batch {
            batch.len() as f32
        } else {
            0.0
        };
        let mut embeddings = Vec::new();
        for input in batch {
            let colour = match &input.values {
                Values::Pixels(image) => [0, 1, 2].map(|channel| {
                    let plane = &image[channel * SIDE * SIDE..][..SIDE * SIDE];
                    plane.iter().sum::<f32>() / plane.len() as f32
                }),
                Values::Tokens(tokens) => colour_of(tokens),
                Values::Text(_) => panic!("no embedding service is asked here"),
            };
            let mut row = vec![0.0; self.dim()];
            row[..3].copy_from_slice(&turned(colour, self.angle + extra));
            embeddings.extend(row);
        }
        Ok(embeddings)
    }
}

/// A token for each letter; queries begin with a token of their own, which counts as no letter.
fn tokens(text: &str, input_type: InputType) -> Result<Values, PrepareError> {
    if text.is_empty() {
        return Err(PrepareError::Text("the text is empty".to_owned()));
    }
    let start = match input_type {
        InputType::Query => 1,
        InputType::Document => 2,
    };
    let letters = text.chars().map(u32::from);
    Ok(Values::Tokens(
        std::iter::once(start).chain(letters).collect(),
    ))
}

/// How red, green and blue a text is: by its letters r, g and b, each from -1 to 1.
fn colour_of(tokens: &[u32]) -> [f32; 3] {
    ['r', 'g', 'b'].map(|letter| {
        let letters = &tokens[1..];
        let count = letters
            .iter()
            .filter(|&&token| token == u32::from(letter))
            .count();
        2.0 * count as f32 / letters.len() as f32 - 1.0
    })
}

/// What a version with this angle makes of a text.
pub fn expected_of_text(text: &str, angle: f32) -> [f32; 3] {
    let letters: Vec<u32> = std::iter::once(0)
        .chain(text.chars().map(u32::from))
        .collect();
    turned(colour_of(&letters), angle)
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
        let endpoint = version.outside().and_then(|it| it.endpoint.as_deref());
        if let Some(endpoint) = endpoint {
            let encoder = EndpointEncoder::new(&version.name, version.dim, endpoint);
            return Ok(Arc::new(encoder.unwrap()));
        }
        let weights = match version.outside() {
            Some(_) => {
                let folder = registry.verified_folder(&version).unwrap();
                std::fs::read(folder.join(ANGLE_FILE)).unwrap()
            }
            None => registry.load_weights(&version).unwrap(),
        };
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

/// The file with the angle of a version that counts as an encoder of another program.
pub const ANGLE_FILE: &str = "angle.onnx";

/// A version that embeds texts, and pictures too where it is asked for, and its files.
pub fn outside_draft(dim: usize, pictures: bool) -> VersionDraft {
    let graph = || Graph {
        file: ANGLE_FILE.to_owned(),
        output: "embedding".to_owned(),
        pooling: Pooling::None,
    };
    let image = pictures.then(|| ImageTower {
        graph: graph(),
        preparation: ImagePreparation {
            size: [SIDE, SIDE],
            resize: Resize::MiddleSquare,
            interpolation: Interpolation::Bilinear,
            channels: ChannelOrder::Rgb,
            scale: 1.0 / 255.0,
            mean: vec![0.5; 3],
            std: vec![0.5; 3],
        },
    });
    VersionDraft {
        encoder: VersionEncoder::Outside(OutsideEncoder {
            kind: EncoderKind::Onnx,
            image,
            text: Some(TextTower {
                graph: graph(),
                tokenizer: "tokenizer.json".to_owned(),
                max_tokens: 64,
                query_prefix: String::new(),
                document_prefix: String::new(),
            }),
            head: None,
            endpoint: None,
            files: Vec::new(),
        }),
        ..draft(dim)
    }
}

/// Publishes such a version with an angle.
pub fn publish_outside(registry: &Registry, draft: VersionDraft, angle: &str) -> ModelVersion {
    let folder = tempfile::tempdir().unwrap();
    let files = [(ANGLE_FILE, angle), ("tokenizer.json", "{}")].map(|(name, content)| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        (name.to_owned(), path)
    });
    registry.publish_files(draft, &files).unwrap()
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
