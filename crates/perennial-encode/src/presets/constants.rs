//! What several presets and formats share.

/// Height and width of the input where a preset is given no other, in pixels.
pub(super) const DEFAULT_SIZE: usize = 224;
/// The part of the shorter side that the middle keeps, where nothing else is said: 224 of 256 pixels.
pub(super) const DEFAULT_CROP: f64 = 0.875;
/// One step of a byte, where 255 is 1.
pub(super) const BYTE: f64 = 1.0 / 255.0;

pub(super) const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
pub(super) const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];
pub(super) const CLIP_MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
pub(super) const CLIP_STD: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];
