//! Makes a folder of pictures as people have them, out of a data set: PNG, JPEG and WebP of several sizes, turned and tagged, in
//! folders of several depths, with odd endings, and some damaged.
//!
//! ```sh
//! cargo run --release -p perennial-data --example mixed_folder -- DATA_FOLDER cifar10:test OUT 20000
//! ```
//!
//! Prints what it made as one JSON object. The same arguments make the same folder.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::codecs::webp::WebPEncoder;
use image::imageops::{self, FilterType};
use image::{ExtendedColorType, ImageEncoder, RgbImage};
use perennial_data::ImageSet;
use rayon::prelude::*;

/// Longer and shorter side of the pictures, in pixels, and how many of ten have them.
const SIZES: [([u32; 2], usize); 3] = [([160, 120], 6), ([320, 240], 3), ([640, 480], 1)];
/// One picture of so many is damaged.
const DAMAGED: usize = 50;
/// One file of so many is no picture.
const OTHER: usize = 200;

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [data, set, out, count] = &arguments[..] else {
        return Err("usage: mixed_folder DATA_FOLDER SET:SPLIT OUT COUNT".into());
    };
    let (name, split) = set.split_once(':').unwrap_or((set, "train"));
    let set = perennial_data::open(Path::new(data), name, split)?;
    let out = Path::new(out);
    if out.exists() {
        return Err(format!("{} exists; name a new folder", out.display()).into());
    }
    let kinds = (0..count.parse::<usize>()?)
        .into_par_iter()
        .map(|index| make(&set, out, index))
        .collect::<Result<Vec<_>, _>>()?;
    let mut made = BTreeMap::<&str, usize>::new();
    for kind in kinds {
        *made.entry(kind).or_default() += 1;
    }
    let fields: Vec<String> = made
        .iter()
        .map(|(kind, count)| format!("\"{kind}\": {count}"))
        .collect();
    println!("{{{}}}", fields.join(", "));
    Ok(())
}

/// Makes one file and says of what kind it is.
fn make(
    set: &ImageSet,
    out: &Path,
    index: usize,
) -> Result<&'static str, Box<dyn Error + Send + Sync>> {
    let source = index % set.len();
    let folder = match index % 4 {
        0 => format!("class{:03}", set.label(source)),
        1 => format!("class{:03}/2024", set.label(source)),
        2 => format!("class{:03}/2025/summer holiday", set.label(source)),
        _ => format!("class{:03}/größer", set.label(source)),
    };
    let folder = out.join(folder);
    std::fs::create_dir_all(&folder)?;
    if index % OTHER == OTHER - 1 {
        std::fs::write(folder.join(format!("notes {index}.txt")), "no picture")?;
        return Ok("other");
    }
    let orientation = (index % 8 + 1) as u8;
    let picture = picture(set, source, index, orientation);
    let exif = exif(orientation);
    let (width, height) = picture.dimensions();
    let mut bytes = Vec::new();
    let (kind, ending) = match index % 10 {
        0 | 1 => {
            let mut encoder = PngEncoder::new(&mut bytes);
            encoder.set_exif_metadata(exif)?;
            encoder.write_image(&picture, width, height, ExtendedColorType::Rgb8)?;
            ("png", ["png", "PNG"][index / 10 % 2])
        }
        2 | 3 => {
            let mut encoder = WebPEncoder::new_lossless(&mut bytes);
            encoder.set_exif_metadata(exif)?;
            encoder.write_image(&picture, width, height, ExtendedColorType::Rgb8)?;
            ("webp", "webp")
        }
        _ => {
            let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 85);
            encoder.set_exif_metadata(exif)?;
            encoder.encode_image(&picture)?;
            (
                "jpeg",
                ["jpg", "JPG", "jpeg", "jfif", "png"][index / 10 % 5],
            )
        }
    };
    let kind = match index % DAMAGED == DAMAGED - 1 {
        true => {
            bytes.truncate(bytes.len() * (index % 9 + 1) / 10);
            "damaged"
        }
        false => kind,
    };
    std::fs::write(folder.join(format!("IMG_{index:06}.{ending}")), bytes)?;
    Ok(kind)
}

/// An image of the set, scaled up, no two alike, and stored as a camera held in some way stores it.
fn picture(set: &ImageSet, source: usize, index: usize, orientation: u8) -> RgbImage {
    let [_, height, width] = set.shape();
    let plane = height * width;
    let pixels = set.image(source);
    let small = RgbImage::from_fn(width as u32, height as u32, |x, y| {
        let at = y as usize * width + x as usize;
        image::Rgb([0, 1, 2].map(|channel| pixels.get(channel * plane + at).copied().unwrap_or(0)))
    });
    let mut turn = index / 10 % 10;
    let [long, short] = SIZES
        .iter()
        .find(|(_, share)| match turn < *share {
            true => true,
            false => {
                turn -= share;
                false
            }
        })
        .map_or([160, 120], |(size, _)| *size);
    let mut upright = imageops::resize(&small, long, short, FilterType::CatmullRom);
    let mark = (index % 256) as u8;
    upright.put_pixel(0, 0, image::Rgb([mark, (index / 256 % 256) as u8, 0]));
    match orientation {
        3 => imageops::rotate180(&upright),
        6 => imageops::rotate270(&upright),
        8 => imageops::rotate90(&upright),
        _ => upright,
    }
}

/// EXIF data with nothing but an orientation; mirrored ones are left to tests, cameras do not write them.
fn exif(orientation: u8) -> Vec<u8> {
    let written = match orientation {
        3 | 6 | 8 => orientation,
        _ => 1,
    };
    let mut bytes = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
    bytes.extend([written, 0, 0, 0, 0, 0, 0]);
    bytes
}
