//! Image files, sound and not.

use std::io::Cursor;

use image::{ImageFormat, RgbImage};

use super::random::Random;

fn picture(height: u32, width: u32, format: ImageFormat) -> Vec<u8> {
    let image = RgbImage::from_fn(width, height, |x, y| {
        image::Rgb([(x * 5) as u8, (y * 3) as u8, (x * y) as u8])
    });
    let mut file = Cursor::new(Vec::new());
    image.write_to(&mut file, format).unwrap();
    file.into_inner()
}

pub fn png(height: u32, width: u32) -> Vec<u8> {
    picture(height, width, ImageFormat::Png)
}

pub fn jpeg() -> Vec<u8> {
    picture(60, 90, ImageFormat::Jpeg)
}

/// Black pixels compress to nearly nothing.
pub fn black_png(height: u32, width: u32) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    RgbImage::new(width, height)
        .write_to(&mut file, ImageFormat::Png)
        .unwrap();
    file.into_inner()
}

/// The same file with other sides in its header, which is valid again.
pub fn relabelled(mut file: Vec<u8>, height: u32, width: u32) -> Vec<u8> {
    file[16..20].copy_from_slice(&width.to_be_bytes());
    file[20..24].copy_from_slice(&height.to_be_bytes());
    let sum = crc32(&file[12..29]);
    file[29..33].copy_from_slice(&sum.to_be_bytes());
    file
}

/// The checksum of PNG chunks.
fn crc32(bytes: &[u8]) -> u32 {
    let mut sum = u32::MAX;
    for &byte in bytes {
        sum ^= u32::from(byte);
        for _ in 0..8 {
            sum = (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg());
        }
    }
    !sum
}

/// Starts of formats that are no PNG and no JPEG, and of a JPEG that claims 65,500 pixels a side.
pub fn others(random: &mut Random) -> Vec<u8> {
    let starts: [&[u8]; 6] = [
        b"GIF89a\xff\xff\xff\xff\xf7\x00\x00",
        b"RIFF\xff\xff\xff\x7fWEBPVP8L\xff\xff\xff\x7f\x2f\xff\xff\xff\xff",
        b"BM\xff\xff\xff\xff\0\0\0\0\x36\0\0\0",
        b"\xff\xd8\xff\xc0\0\x11\x08\xff\xdc\xff\xdc\x03\x01\x22\0\x02\x11\x01\x03\x11\x01",
        b"<svg xmlns='http://www.w3.org/2000/svg' width='1e9' height='1e9'/>",
        b"\x89PNG\r\n\x1a\n\xff\xff\xff\xffIHDR",
    ];
    let mut file = random.one_of(&starts).to_vec();
    let more = random.below(2000);
    file.extend(random.bytes(more));
    file
}

/// A file with some bytes changed, or its end missing.
pub fn damaged(mut file: Vec<u8>, random: &mut Random) -> Vec<u8> {
    if random.below(3) == 0 {
        file.truncate(random.below(file.len()));
        return file;
    }
    for _ in 0..1 + random.below(8) {
        let at = random.below(file.len());
        file[at] = random.next() as u8;
    }
    file
}
