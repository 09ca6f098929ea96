//! How pictures are prepared for networks of other programs: by name, and as the files of model hubs say.
//!
//! | name | resize | crop | interpolation | mean and standard deviation |
//! |---|---|---|---|---|
//! | `timm` | shorter side to size / 0.875 | middle | bicubic | ImageNet |
//! | `torchvision` | shorter side to size / 0.875 | middle | bilinear | ImageNet |
//! | `clip` | shorter side to size | middle | bicubic | CLIP |
//!
//! Files are read by [`from_config`]: `preprocessor_config.json` and `processor_config.json` (transformers), `config.json` and
//! `data_config.json` (timm). The content decides, not the name. What each of them may hold stands at [`preparation_from_json`].

mod constants;
mod document;
mod error;
mod timm;
mod transformers;

use std::io;
use std::path::Path;

use perennial_core::outside_encoder::{ChannelOrder, ImagePreparation, Interpolation, Resize};
use perennial_core::read_at_most;
use serde_json::Value;

use crate::preparation::check_preparation;
use constants::{
    BYTE, CLIP_MEAN, CLIP_STD, DEFAULT_CROP, DEFAULT_SIZE, IMAGENET_MEAN, IMAGENET_STD,
};
use document::Document;
pub use error::{NAMES, PresetError};

/// The largest configuration file that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// The preparation with a name of [`NAMES`], for a square input of `size` pixels a side, or of 224.
///
/// **Errors**: [`PresetError::Unknown`], and [`PresetError::Preparation`] for a size that is none.
pub fn preset(name: &str, size: Option<usize>) -> Result<ImagePreparation, PresetError> {
    let size = size.unwrap_or(DEFAULT_SIZE);
    let larger = (size as f64 / DEFAULT_CROP) as usize;
    let (side, interpolation, mean, std) = match name {
        "timm" => (larger, Interpolation::Bicubic, IMAGENET_MEAN, IMAGENET_STD),
        "torchvision" => (larger, Interpolation::Bilinear, IMAGENET_MEAN, IMAGENET_STD),
        "clip" => (size, Interpolation::Bicubic, CLIP_MEAN, CLIP_STD),
        _ => {
            return Err(PresetError::Unknown {
                name: name.to_owned(),
            });
        }
    };
    let spec = ImagePreparation {
        size: [size, size],
        resize: Resize::ShortestSide(side),
        interpolation,
        channels: ChannelOrder::Rgb,
        scale: BYTE,
        mean: mean.to_vec(),
        std: std.to_vec(),
    };
    checked(name, spec)
}

/// The preparation that a file of a model hub describes.
///
/// **Errors**: [`PresetError`], which names the file and the key.
pub fn from_config(file: &Path) -> Result<ImagePreparation, PresetError> {
    let unread = |source| PresetError::Read {
        path: file.to_owned(),
        source,
    };
    let content = read_at_most(file, MAX_BYTES).map_err(unread)?;
    let text = String::from_utf8(content)
        .map_err(|error| unread(io::Error::new(io::ErrorKind::InvalidData, error)))?;
    preparation_from_json(&file.display().to_string(), &text)
}

/// The preparation that the text of such a file describes; `file` is its name in errors. A key that is `null` counts as absent.
///
/// **timm** (`pretrained_cfg`, or `input_size` at the top): read are `input_size` (1 or 3 channels), `interpolation`, `crop_pct`,
/// `crop_mode`, `mean` and `std`, with timm's defaults where they are absent (bicubic, 0.875, center, ImageNet). `crop_mode` may be
/// `center`, or `squash` with a `crop_pct` of 1. All other keys are ignored, `test_input_size` and `test_crop_pct` among them.
///
/// **transformers** (`size` or `image_mean`, at the top or in `image_processor`): read are `image_processor_type` or
/// `feature_extractor_type` (the kinds of processors whose steps are known, or absent), `do_resize`, `size`, `resample`, `do_center_crop`,
/// `crop_size`, `crop_pct`, `do_rescale`, `rescale_factor`, `do_normalize`, `image_mean`, `image_std` and `do_flip_channel_order`.
/// Any other key that begins with `do_` must be `false`, but for `do_convert_rgb` and `do_reduce_labels`, which change nothing here;
/// so must `rescale_offset` and `include_top`. All other keys are ignored.
///
/// **Errors**: [`PresetError`] for what is missing, of the wrong type, or asks for a step that is not carried out here.
pub fn preparation_from_json(file: &str, json: &str) -> Result<ImagePreparation, PresetError> {
    let value: Value = serde_json::from_str(json).map_err(|source| PresetError::Json {
        file: file.to_owned(),
        source,
    })?;
    let other = || PresetError::Other {
        file: file.to_owned(),
    };
    let document = Document::top(file, &value).ok_or_else(other)?;
    let spec = if let Some(inner) = document.inner("pretrained_cfg")? {
        timm::read(&inner)?
    } else if document.has("input_size") {
        timm::read(&document)?
    } else if let Some(inner) = document.inner("image_processor")? {
        transformers::read(&inner)?
    } else if document.has("size") || document.has("image_mean") {
        transformers::read(&document)?
    } else {
        return Err(other());
    };
    checked(file, spec)
}

fn checked(file: &str, spec: ImagePreparation) -> Result<ImagePreparation, PresetError> {
    match check_preparation(&spec) {
        Ok(()) => Ok(spec),
        Err(source) => Err(PresetError::Preparation {
            file: file.to_owned(),
            source,
        }),
    }
}

#[cfg(test)]
mod tests;
