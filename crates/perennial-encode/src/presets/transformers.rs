//! transformers: `preprocessor_config.json`, and `image_processor` of a `processor_config.json`.

use perennial_core::outside_encoder::{ChannelOrder, ImagePreparation, Interpolation, Resize};

use super::constants::{BYTE, DEFAULT_CROP};
use super::document::Document;
use super::error::PresetError;

/// Shorter sides from which ConvNeXT's processor scales both sides and crops nothing, in pixels.
const CONVNEXT_UNCROPPED: usize = 384;

/// A kind of image processor: what counts where its file is silent.
struct Family {
    name: &'static str,
    interpolation: Interpolation,
    /// Whether a size that is one number means both sides, not the shorter one.
    square: bool,
}

const fn family(name: &'static str, interpolation: Interpolation, square: bool) -> Family {
    Family {
        name,
        interpolation,
        square,
    }
}

/// The kinds whose steps are those of [`ImagePreparation`]. Others do something in between that has no key.
const FAMILIES: [Family; 13] = [
    family("Beit", Interpolation::Bicubic, true),
    family("Bit", Interpolation::Bicubic, false),
    family("Blip", Interpolation::Bicubic, true),
    family("CLIP", Interpolation::Bicubic, false),
    family("ChineseCLIP", Interpolation::Bicubic, false),
    family("ConvNext", Interpolation::Bilinear, false),
    family("DeiT", Interpolation::Bicubic, true),
    family("MobileNetV1", Interpolation::Bilinear, false),
    family("MobileNetV2", Interpolation::Bilinear, false),
    family("MobileViT", Interpolation::Bilinear, false),
    family("Pvt", Interpolation::Bilinear, true),
    family("Siglip", Interpolation::Bicubic, true),
    family("ViT", Interpolation::Bilinear, true),
];

/// What `size` says.
enum Size {
    /// One number: both sides or the shorter one.
    Number(usize),
    Shortest(usize),
    Sides([usize; 2]),
}

pub(super) fn read(document: &Document<'_>) -> Result<ImagePreparation, PresetError> {
    let family = find_family(document)?;
    check_steps(document)?;
    let (resize, size) = resize(document, family)?;
    let interpolation = match (document.whole("resample")?, family) {
        (Some(0), _) => Interpolation::Nearest,
        (Some(1), _) => Interpolation::Lanczos,
        (Some(2), _) => Interpolation::Bilinear,
        (Some(3), _) => Interpolation::Bicubic,
        (Some(4), _) => Interpolation::Box,
        (Some(other), _) => {
            let problem = format!(
                "is {other}; supported are 0 (nearest), 1 (lanczos), 2 (bilinear), 3 (bicubic) and 4 (box)"
            );
            return Err(document.error("resample", problem));
        }
        (None, Some(family)) => family.interpolation,
        (None, None) => return Err(document.missing("resample")),
    };
    let scale = match document.flag("do_rescale")? {
        Some(false) => 1.0,
        _ => document.number("rescale_factor")?.unwrap_or(BYTE),
    };
    let flip = document.flag("do_flip_channel_order")?.unwrap_or(false);
    // The processors that turn the channels round do not normalise.
    let (mean, std) = if document.flag("do_normalize")?.unwrap_or(!flip) {
        if flip {
            let problem = "cannot be true together with do_normalize: which of the two comes first is not known";
            return Err(document.error("do_flip_channel_order", problem));
        }
        let constants = |key| document.numbers(key)?.ok_or_else(|| document.missing(key));
        (constants("image_mean")?, constants("image_std")?)
    } else {
        (vec![0.0; 3], vec![1.0; 3])
    };
    Ok(ImagePreparation {
        size,
        resize,
        interpolation,
        channels: if flip {
            ChannelOrder::Bgr
        } else {
            ChannelOrder::Rgb
        },
        scale,
        mean,
        std,
    })
}

/// The kind of processor, where the file names one.
fn find_family(document: &Document<'_>) -> Result<Option<&'static Family>, PresetError> {
    for key in ["image_processor_type", "feature_extractor_type"] {
        let Some(class) = document.text(key)? else {
            continue;
        };
        let suffixes = [
            "ImageProcessorFast",
            "ImageProcessorPil",
            "ImageProcessor",
            "FeatureExtractor",
        ];
        let name = suffixes
            .iter()
            .find_map(|suffix| class.strip_suffix(suffix));
        let known = FAMILIES.iter().find(|family| Some(family.name) == name);
        if known.is_none() {
            let names: Vec<&str> = FAMILIES.iter().map(|family| family.name).collect();
            let problem = format!(
                "is {class:?}, whose steps are not known here; known are {}; give a preset that prepares pictures in the same way",
                names.join(", ")
            );
            return Err(document.error(key, problem));
        }
        return Ok(known);
    }
    Ok(None)
}

/// Refuses steps that are not carried out.
fn check_steps(document: &Document<'_>) -> Result<(), PresetError> {
    if document.flag("do_resize")? == Some(false) {
        return Err(document.error("do_resize", "is false; pictures of any size need it"));
    }
    let read = [
        "do_resize",
        "do_center_crop",
        "do_rescale",
        "do_normalize",
        "do_flip_channel_order",
    ];
    let harmless = ["do_convert_rgb", "do_reduce_labels"];
    let steps = document.keys().filter(|key| {
        let step = key.starts_with("do_") || ["rescale_offset", "include_top"].contains(key);
        step && !read.contains(key) && !harmless.contains(key)
    });
    for key in steps {
        if document.flag(key)? == Some(true) {
            return Err(document.error(key, "is true; this step is not supported"));
        }
    }
    Ok(())
}

fn resize(
    document: &Document<'_>,
    family: Option<&Family>,
) -> Result<(Resize, [usize; 2]), PresetError> {
    let size = size(document)?;
    let convnext = family.is_some_and(|family| family.name == "ConvNext");
    if convnext || document.has("crop_pct") {
        return convnext_resize(document, family, &size);
    }
    let crops = document
        .flag("do_center_crop")?
        .unwrap_or(document.has("crop_size"));
    let crop = if crops { Some(crop(document)?) } else { None };
    // One number is the shorter side for processors that crop, as far as nothing else is known of them.
    let square = family.map_or(crop.is_none(), |family| family.square);
    match (size, crop) {
        (Size::Number(side), None) if square => Ok((Resize::Exact, [side, side])),
        (Size::Number(side), Some(crop)) if square => exact_crop(document, [side, side], crop),
        (Size::Sides(sides), None) => Ok((Resize::Exact, sides)),
        (Size::Sides(sides), Some(crop)) => exact_crop(document, sides, crop),
        (Size::Number(side) | Size::Shortest(side), Some(crop)) => {
            Ok((Resize::ShortestSide(side), crop))
        }
        (Size::Number(_) | Size::Shortest(_), None) => {
            let problem = "must be true where size is the shorter side: the network needs pictures of one size";
            Err(document.error("do_center_crop", problem))
        }
    }
}

/// Both sides scaled, then a crop: possible only where it crops nothing.
fn exact_crop(
    document: &Document<'_>,
    sides: [usize; 2],
    crop: [usize; 2],
) -> Result<(Resize, [usize; 2]), PresetError> {
    if sides == crop {
        return Ok((Resize::Exact, sides));
    }
    let problem = "differs from size, both sides of which are scaled; this is supported only where size is the shorter side";
    Err(document.error("crop_size", problem))
}

/// ConvNeXT's rule: up to 383 pixels the shorter side is made larger by `crop_pct` and the middle is cut out.
fn convnext_resize(
    document: &Document<'_>,
    family: Option<&Family>,
    size: &Size,
) -> Result<(Resize, [usize; 2]), PresetError> {
    if let Some(other) = family.filter(|family| family.name != "ConvNext") {
        let problem = format!(
            "is not supported for a processor of the kind {}",
            other.name
        );
        return Err(document.error("crop_pct", problem));
    }
    for key in ["crop_size", "do_center_crop"] {
        if document.has(key) {
            return Err(document.error(key, "is not supported together with crop_pct"));
        }
    }
    let crop = document.number("crop_pct")?.unwrap_or(DEFAULT_CROP);
    if !(crop > 0.0 && crop <= 1.0) {
        return Err(document.error(
            "crop_pct",
            format!("is {crop}; it must be above 0 and at most 1"),
        ));
    }
    let &(Size::Number(side) | Size::Shortest(side)) = size else {
        return Err(document.error("size", "must be the shorter side where crop_pct is given"));
    };
    let resize = if side < CONVNEXT_UNCROPPED {
        Resize::ShortestSide((side as f64 / crop) as usize)
    } else {
        Resize::Exact
    };
    Ok((resize, [side, side]))
}

fn size(document: &Document<'_>) -> Result<Size, PresetError> {
    if !document.is_object("size") {
        let number = document.whole("size")?;
        return number
            .map(Size::Number)
            .ok_or_else(|| document.missing("size"));
    }
    let inner = document
        .inner("size")?
        .ok_or_else(|| document.missing("size"))?;
    only(&inner, &["shortest_edge", "height", "width"])?;
    match (
        inner.whole("shortest_edge")?,
        inner.whole("height")?,
        inner.whole("width")?,
    ) {
        (Some(side), None, None) => Ok(Size::Shortest(side)),
        (None, Some(height), Some(width)) => Ok(Size::Sides([height, width])),
        _ => Err(document.error(
            "size",
            "must have either shortest_edge, or height and width",
        )),
    }
}

fn crop(document: &Document<'_>) -> Result<[usize; 2], PresetError> {
    if !document.is_object("crop_size") {
        let number = document.whole("crop_size")?;
        let side = number.ok_or_else(|| document.missing("crop_size"))?;
        return Ok([side, side]);
    }
    let inner = document
        .inner("crop_size")?
        .ok_or_else(|| document.missing("crop_size"))?;
    only(&inner, &["height", "width"])?;
    let side = |key| inner.whole(key)?.ok_or_else(|| inner.missing(key));
    Ok([side("height")?, side("width")?])
}

/// Refuses keys that change the size in a way that is not known.
fn only(document: &Document<'_>, known: &[&str]) -> Result<(), PresetError> {
    match document
        .keys()
        .find(|key| document.has(key) && !known.contains(key))
    {
        Some(key) => Err(document.error(
            key,
            format!("is not supported here; supported are {}", known.join(", ")),
        )),
        None => Ok(()),
    }
}
