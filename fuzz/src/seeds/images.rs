//! Files of pictures and of image sets, and how pictures are prepared.

use std::io::{Cursor, Write};

use perennial_data::ImageSet;

use super::Seeds;
use crate::images::idx_files;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut file = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    file.write_all(bytes).unwrap();
    file.finish().unwrap()
}

pub(super) fn labelled_record_seeds() -> Seeds {
    let file = |kind: u8, labels: &[&[u8]]| {
        let mut bytes = vec![kind];
        for (shade, label) in (1..).zip(labels) {
            bytes.extend_from_slice(label);
            bytes.extend([shade; 3072]);
        }
        bytes
    };
    vec![
        ("cifar10", file(0, &[&[7], &[9]])),
        ("cifar100_fine", file(1, &[&[19, 99]])),
        ("cifar100_coarse", file(2, &[&[19, 99]])),
        ("tiny_imagenet", file(3, &[&[199, 0]])),
        ("refused_cut", file(0, &[&[7]])[..3000].to_vec()),
        ("refused_label", file(3, &[&[0, 1]])),
    ]
}

pub(super) fn idx_seeds() -> Seeds {
    let set = ImageSet::new("seed", [1, 2, 3], (0..12).collect(), vec![9, 0], 10).unwrap();
    let (images, labels) = idx_files(&set);
    let pair = |images: &[u8], labels: &[u8]| {
        [&(images.len() as u16).to_le_bytes(), images, labels].concat()
    };
    vec![
        ("plain", pair(&images, &labels)),
        ("compressed", pair(&gzip(&images), &gzip(&labels))),
        ("refused_swapped", pair(&labels, &images)),
        ("refused_cut", pair(&images[..20], &labels)),
    ]
}

pub(super) fn image_seeds() -> Seeds {
    let pixels: Vec<u8> = (0..3 * 12 * 9).map(|i| (i * 5) as u8).collect();
    let rgb = image::RgbImage::from_raw(12, 9, pixels).unwrap();
    let image = image::DynamicImage::from(rgb);
    let encoded = |image: &image::DynamicImage, format| {
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    };
    let (png, jpeg) = (image::ImageFormat::Png, image::ImageFormat::Jpeg);
    let gif = encoded(&image, image::ImageFormat::Gif);
    let webp = encoded(&image, image::ImageFormat::WebP);
    let tiff = encoded(&image, image::ImageFormat::Tiff);
    vec![
        // Made by other encoders: libjpeg-turbo, ImageMagick, cwebp.
        (
            "progressive.jpg",
            include_bytes!("../../../crates/perennial-data/testdata/progressive.jpg").to_vec(),
        ),
        (
            "restart.jpg",
            include_bytes!("../../../crates/perennial-data/testdata/restart.jpg").to_vec(),
        ),
        (
            "cmyk.jpg",
            include_bytes!("../../../crates/perennial-data/testdata/cmyk.jpg").to_vec(),
        ),
        (
            "lossy.webp",
            include_bytes!("../../../crates/perennial-data/testdata/lossy.webp").to_vec(),
        ),
        ("rgb.bmp", encoded(&image, image::ImageFormat::Bmp)),
        ("refused_cut.gif", gif[..gif.len() - 1].to_vec()),
        ("rgb.gif", gif),
        ("refused_cut.webp", webp[..webp.len() - 3].to_vec()),
        ("rgb.webp", webp),
        ("refused_cut.tif", tiff[..tiff.len() - 9].to_vec()),
        ("rgb.tif", tiff),
        ("rgb.png", encoded(&image, png)),
        ("rgba.png", encoded(&image.to_rgba8().into(), png)),
        ("grey.png", encoded(&image.to_luma8().into(), png)),
        ("deep.png", encoded(&image.to_rgb16().into(), png)),
        ("rgb.jpg", encoded(&image, jpeg)),
        ("grey.jpg", encoded(&image.to_luma8().into(), jpeg)),
        ("refused_cut.jpg", encoded(&image, jpeg)[..300].to_vec()),
        (
            "refused_side.png",
            encoded(&image::DynamicImage::new_luma8(1025, 1), png),
        ),
    ]
}

pub(super) fn preparation_seeds() -> Seeds {
    let seed = |json: &str| [b"\x06\x0b", json.as_bytes()].concat();
    vec![
        (
            "clip",
            seed(
                r#"{"size":{"shortest_edge":12},"crop_size":{"height":9,"width":7},"do_center_crop":true,"resample":3,"image_mean":[0.48,0.46,0.41],"image_std":[0.27,0.26,0.28],"rescale_factor":4e-3}"#,
            ),
        ),
        (
            "convnext",
            seed(
                r#"{"size":8,"crop_pct":0.875,"image_processor_type":"ConvNextImageProcessor","do_normalize":false}"#,
            ),
        ),
        (
            "timm",
            seed(
                r#"{"pretrained_cfg":{"input_size":[1,16,16],"crop_pct":0.95,"interpolation":"lanczos","mean":[0.5],"std":[0.2]}}"#,
            ),
        ),
        (
            "squash",
            seed(
                r#"{"input_size":[3,5,8],"crop_mode":"squash","crop_pct":1,"interpolation":"nearest"}"#,
            ),
        ),
        (
            "refused_key",
            seed(r#"{"size":8,"resample":2,"do_pad":true}"#),
        ),
        ("refused_cut", seed(r#"{"size":8"#)),
    ]
}
