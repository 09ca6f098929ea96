//! Networks that were trained here as files of other programs: an ONNX graph, and how pictures are prepared for it.

use burn::tensor::Device;
use perennial_core::{ModelVersion, Registry};
use serde::Serialize;

use crate::TrainError;
use crate::encoder::{load, trained_network};

/// The largest file that the format can hold, with room for everything but weights.
const MAX_WEIGHTS_BYTES: u64 = (1 << 31) - (1 << 24);

/// A version as files of other programs.
#[derive(Clone, Debug)]
pub struct OnnxExport {
    /// The graph: pixels `[batch, channels, height, width]` in, embeddings `[batch, dim]` of unit length out.
    pub graph: Vec<u8>,
    /// The content of a `preprocessor_config.json` of transformers. None for a network of one channel, for which that format has no word.
    pub preprocessor: Option<String>,
}

/// `preprocessor_config.json`. Every step is named, so that no reader's defaults count.
#[derive(Serialize)]
struct Preprocessor<'a> {
    image_processor_type: &'static str,
    do_resize: bool,
    size: ShortestEdge,
    /// Bilinear, as Pillow numbers it.
    resample: u8,
    do_center_crop: bool,
    crop_size: Sides,
    do_rescale: bool,
    rescale_factor: f64,
    do_normalize: bool,
    image_mean: &'a [f32],
    image_std: &'a [f32],
    do_convert_rgb: bool,
}

#[derive(Serialize)]
struct ShortestEdge {
    shortest_edge: usize,
}

#[derive(Serialize)]
struct Sides {
    height: usize,
    width: usize,
}

/// Writes a version's network, with its embedding layer, its centring and the scaling to unit length, as an ONNX graph.
///
/// Batch norm is folded into the weights, as for embedding here, so embeddings agree to rounding. A picture that has not the network's size is
/// scaled before its middle is cut out instead of after, and by Pillow's arithmetic: a difference of rounding.
///
/// # Errors
/// A version with the encoder of another program, weights that cannot be read, more weights than the format holds.
pub fn export_onnx(registry: &Registry, version: &ModelVersion) -> Result<OnnxExport, TrainError> {
    let described = trained_network(version)?;
    if version.weights_bytes > MAX_WEIGHTS_BYTES {
        return Err(TrainError::Version {
            version: version.name.clone(),
            problem: format!(
                "{} bytes of weights do not fit an ONNX file, which holds at most 2 GB",
                version.weights_bytes
            ),
        });
    }
    let input = described.architecture.input;
    let (network, centring) = load(registry, version, &Device::flex())?;
    let mean = centring.as_ref().map(|centring| centring.mean());
    let preprocessing = &described.preprocessing;
    let [channels, height, width] = input;
    let preprocessor = Preprocessor {
        image_processor_type: "CLIPImageProcessor",
        do_resize: true,
        size: ShortestEdge {
            shortest_edge: height,
        },
        resample: 2,
        do_center_crop: true,
        crop_size: Sides { height, width },
        do_rescale: true,
        rescale_factor: 1.0 / 255.0,
        do_normalize: true,
        image_mean: &preprocessing.mean,
        image_std: &preprocessing.std,
        do_convert_rgb: true,
    };
    let preprocessor = match channels {
        3 => {
            Some(serde_json::to_string_pretty(&preprocessor).map_err(std::io::Error::from)? + "\n")
        }
        _ => None,
    };
    Ok(OnnxExport {
        graph: network.onnx(&version.name, input, mean),
        preprocessor,
    })
}
