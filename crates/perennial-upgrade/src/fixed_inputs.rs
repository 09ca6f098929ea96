//! Pictures and texts that are the same in every process and on every machine: what self-checks and probes are made of.

use perennial_core::{Modality, ModelVersion};
use perennial_encode::{DecodeError, DecodeLimits, Input, InputType, encode_png};

use crate::loaded_model::LoadedModel;

/// Inputs of one kind.
pub(crate) const COUNT: usize = 5;

/// Larger inputs get their picture files enlarged, which keeps those small.
const MAX_FILE_SIDE: usize = 256;

/// Short and long, of several scripts, with and without upper case.
const TEXTS: [&str; COUNT] = [
    "a",
    "A photo of two brown dogs that run along the beach at low tide.",
    "Größe 42, naïve café, Москва, 東京, القاهرة: 3.14159 kg/m² (±0.5 %)",
    "What keeps an index usable when the embedding model changes?",
    "The committee met on 12 March and, after a discussion of the budget, the minutes of the last meeting and four letters from members, \
     agreed to move the library to the second floor; the shelves, the catalogue and both reading desks are to follow before the summer, and \
     the old rooms will be painted.",
];

/// One fixed input.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum FixedInput {
    /// An image in memory: `[channels, height, width]`.
    Pixels { pixels: Vec<u8>, shape: [usize; 3] },
    /// An image file.
    Picture(Vec<u8>),
    /// A text.
    Text(String),
}

impl FixedInput {
    /// As an encoder takes it.
    pub(crate) fn as_input(&self) -> Input<'_> {
        match self {
            Self::Pixels { pixels, shape } => Input::Pixels {
                pixels,
                shape: *shape,
            },
            Self::Picture(file) => Input::Picture {
                file,
                limits: DecodeLimits::UNTRUSTED,
            },
            Self::Text(text) => Input::Text {
                text,
                input_type: InputType::Document,
            },
        }
    }
}

/// Images in memory of the size of the network's input, texts, or both.
pub(crate) fn in_memory(model: &LoadedModel) -> Vec<FixedInput> {
    let mut inputs = Vec::new();
    if let Some(shape) = input_shape(&model.version) {
        inputs.extend((0..COUNT).map(|number| FixedInput::Pixels {
            pixels: fringes(number, shape),
            shape,
        }));
    }
    inputs.extend(texts(model));
    inputs
}

/// Image files, texts, or both.
pub(crate) fn files(model: &LoadedModel) -> Result<Vec<FixedInput>, DecodeError> {
    let mut inputs = Vec::new();
    if let Some([height, width]) = model.version.picture_size() {
        let side = height.max(width).min(MAX_FILE_SIDE);
        // Not square, and larger than the input, so that cropping and scaling are checked as well.
        let shape = [3, side + side / 4 + 1, side + side / 2 + 1];
        for number in 0..COUNT {
            let file = encode_png(&waves(number, shape), shape)?;
            inputs.push(FixedInput::Picture(file));
        }
    }
    inputs.extend(texts(model));
    Ok(inputs)
}

/// The plainest input of each kind, for a first forward pass.
pub(crate) fn plain(model: &LoadedModel) -> Vec<FixedInput> {
    let mut inputs = Vec::new();
    if let Some(shape) = input_shape(&model.version) {
        inputs.push(FixedInput::Pixels {
            pixels: vec![0; shape.iter().product()],
            shape,
        });
    }
    inputs.extend(texts(model).into_iter().take(1));
    inputs
}

fn texts(model: &LoadedModel) -> Vec<FixedInput> {
    match model.version.accepts().contains(&Modality::Text) {
        true => TEXTS.map(|text| FixedInput::Text(text.to_owned())).into(),
        false => Vec::new(),
    }
}

/// Channels, height and width of the pictures that an encoder takes without scaling.
fn input_shape(version: &ModelVersion) -> Option<[usize; 3]> {
    match version.network() {
        Some(network) => Some(network.architecture.input),
        None => version
            .picture_size()
            .map(|[height, width]| [3, height, width]),
    }
}

/// Waves of different lengths and directions, of full contrast.
///
/// **Shapes**: the result is `shape`, `[c, h, w]`.
fn fringes(number: usize, [channels, height, width]: [usize; 3]) -> Vec<u8> {
    let mut pixels = Vec::with_capacity(channels * height * width);
    for channel in 0..channels {
        for y in 0..height {
            for x in 0..width {
                let phase = x * (number + 1) + y * (COUNT - number) + 7 * channel;
                let wave = (phase as f32 * 0.37).sin();
                pixels.push((127.5 + 127.5 * wave) as u8);
            }
        }
    }
    pixels
}

/// Waves of different lengths, directions and colours.
///
/// **Shapes**: the result is `shape`, `[c, h, w]`.
fn waves(number: usize, [channels, height, width]: [usize; 3]) -> Vec<u8> {
    let mut pixels = Vec::with_capacity(channels * height * width);
    for channel in 0..channels {
        let brightness = 70.0 + 35.0 * ((number + 2 * channel) % 4) as f32;
        for y in 0..height {
            for x in 0..width {
                let phase = (x * (number + 1) + y * (COUNT - number) + 7 * channel) as f32;
                pixels.push((brightness + 60.0 * (0.37 * phase).sin()) as u8);
            }
        }
    }
    pixels
}
