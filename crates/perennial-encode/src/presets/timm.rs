//! timm: `pretrained_cfg` of a `config.json`, and `data_config.json`.

use perennial_core::outside_encoder::{ChannelOrder, ImagePreparation, Interpolation, Resize};

use super::constants::{BYTE, DEFAULT_CROP, IMAGENET_MEAN, IMAGENET_STD};
use super::document::Document;
use super::error::PresetError;

pub(super) fn read(document: &Document<'_>) -> Result<ImagePreparation, PresetError> {
    let size = document.wholes("input_size")?;
    let (channels, size) = match size.as_deref() {
        Some(&[3, height, width]) => (ChannelOrder::Rgb, [height, width]),
        Some(&[1, height, width]) => (ChannelOrder::Grey, [height, width]),
        Some(_) => {
            return Err(document.error(
                "input_size",
                "must be [3, height, width] or [1, height, width]",
            ));
        }
        None => return Err(document.missing("input_size")),
    };
    let interpolation = match document.text("interpolation")? {
        None | Some("bicubic") => Interpolation::Bicubic,
        Some("bilinear") => Interpolation::Bilinear,
        Some("nearest") => Interpolation::Nearest,
        Some("box") => Interpolation::Box,
        Some("lanczos") => Interpolation::Lanczos,
        Some(other) => {
            let problem =
                format!("is {other:?}; supported are nearest, box, bilinear, bicubic and lanczos");
            return Err(document.error("interpolation", problem));
        }
    };
    let crop = document.number("crop_pct")?.unwrap_or(DEFAULT_CROP);
    if !(crop > 0.0 && crop <= 1.0) {
        return Err(document.error(
            "crop_pct",
            format!("is {crop}; it must be above 0 and at most 1"),
        ));
    }
    let resize = match document.text("crop_mode")? {
        None | Some("center") if size[0] == size[1] => {
            Resize::ShortestSide((size[0] as f64 / crop).floor() as usize)
        }
        None | Some("center") => {
            let problem = "is no square, which is supported with crop_mode squash only";
            return Err(document.error("input_size", problem));
        }
        Some("squash") if crop == 1.0 => Resize::Exact,
        Some("squash") => {
            return Err(document.error(
                "crop_pct",
                "must be 1 with crop_mode squash; other values are not supported",
            ));
        }
        Some(other) => {
            let problem = format!("is {other:?}; supported are center and squash");
            return Err(document.error("crop_mode", problem));
        }
    };
    let grey = channels == ChannelOrder::Grey;
    let constants = |key, default: [f32; 3]| match document.numbers(key)? {
        Some(values) => Ok(values),
        None if grey => Err(document.missing(key)),
        None => Ok(default.to_vec()),
    };
    Ok(ImagePreparation {
        size,
        resize,
        interpolation,
        channels,
        scale: BYTE,
        mean: constants("mean", IMAGENET_MEAN)?,
        std: constants("std", IMAGENET_STD)?,
    })
}
