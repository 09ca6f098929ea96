//! The picture format of a file by its content, and whether the file is complete.
//!
//! Decoders differ in their tolerance: a JPEG whose second half is missing is decoded to grey, a PNG is refused. So every file is
//! walked through from marker to marker first. Only progressive JPEGs need memory for it, 8 bytes a block of 8 x 8 pixels and colour; the
//! walk never leaves the bytes.

use image::ImageFormat;

use super::jpeg::{self, Defect};

/// What the first bytes of a file say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A format that is decoded.
    Decoded(ImageFormat),
    /// A picture in a format that is not decoded; its name.
    Other(&'static str),
    /// No picture of a known format.
    Unknown,
}

/// Bytes at the start of a file that [`kind`] looks at.
pub const HEAD_BYTES: usize = 64;

/// The kind of a file, from its first bytes alone.
pub fn kind(head: &[u8]) -> Kind {
    use ImageFormat::{Bmp, Gif, Jpeg, Png, Tiff, WebP};
    let at = |offset: usize, magic: &[u8]| {
        head.get(offset..)
            .is_some_and(|rest| rest.starts_with(magic))
    };
    let decoded = [
        (Png, at(0, b"\x89PNG\r\n\x1a\n")),
        (Jpeg, at(0, b"\xff\xd8\xff")),
        (Gif, at(0, b"GIF87a") || at(0, b"GIF89a")),
        (WebP, at(0, b"RIFF") && at(8, b"WEBP")),
        (Bmp, at(0, b"BM") && is_bmp_header(head)),
        (
            Tiff,
            [&b"II*\0"[..], b"MM\0*", b"II+\0", b"MM\0+"]
                .iter()
                .any(|magic| at(0, magic)),
        ),
    ];
    if let Some((format, _)) = decoded.into_iter().find(|(_, found)| *found) {
        return Kind::Decoded(format);
    }
    let brand = |brands: &[&[u8; 4]]| at(4, b"ftyp") && brands.iter().any(|brand| at(8, *brand));
    let other = [
        (
            "HEIC",
            brand(&[
                b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1",
            ]),
        ),
        ("AVIF", brand(&[b"avif", b"avis"])),
        ("Canon raw", brand(&[b"crx "])),
        (
            "JPEG XL",
            at(0, b"\xff\x0a") || at(0, b"\0\0\0\x0cJXL \r\n\x87\n"),
        ),
        (
            "JPEG 2000",
            at(0, b"\0\0\0\x0cjP  \r\n\x87\n") || at(0, b"\xff\x4f\xff\x51"),
        ),
        ("Photoshop", at(0, b"8BPS\0")),
        ("OpenEXR", at(0, b"\x76\x2f\x31\x01")),
        ("Radiance HDR", at(0, b"#?RADIANCE\n")),
        ("QOI", at(0, b"qoif")),
        ("DDS", at(0, b"DDS \x7c\0\0\0")),
        ("icon", at(0, b"\0\0\x01\0") && at(5, b"\0")),
        ("SVG", at(0, b"<svg")),
    ];
    other
        .into_iter()
        .find(|(_, found)| *found)
        .map_or(Kind::Unknown, |(name, _)| Kind::Other(name))
}

/// Many texts begin with `BM`; the size of the second header identifies the format.
fn is_bmp_header(head: &[u8]) -> bool {
    le32(head, 14).is_some_and(|size| matches!(size, 12 | 16 | 40 | 52 | 56 | 64 | 108 | 124))
}

/// What a walk through a whole file found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Walk<'a> {
    /// The file reaches its end mark; with the EXIF data, where the format's decoder may pass over it.
    Whole(Option<&'a [u8]>),
    /// The file ends before its end mark, or a part in the middle is missing.
    Cut,
    /// The coded pixels cannot be read.
    Damaged,
}

/// Walks through a file of a format that is decoded; through what it codes only up to `max_pixels`.
pub(crate) fn walk(format: ImageFormat, bytes: &[u8], max_pixels: u64) -> Walk<'_> {
    let walked = match format {
        ImageFormat::Png => png(bytes),
        ImageFormat::Jpeg => match jpeg::check(bytes, max_pixels) {
            Ok(()) => Some(None),
            Err(Defect::Cut) => None,
            Err(Defect::Damaged) => return Walk::Damaged,
        },
        ImageFormat::Gif => gif(bytes).map(|()| None),
        ImageFormat::WebP => webp(bytes),
        ImageFormat::Bmp => bmp(bytes).map(|()| None),
        ImageFormat::Tiff => tiff(bytes).map(|()| None),
        _ => Some(None),
    };
    walked.map_or(Walk::Cut, Walk::Whole)
}

/// Chunks up to `IEND`. EXIF data may stand anywhere, and the decoder sees only what comes before the pixels.
fn png(bytes: &[u8]) -> Option<Option<&[u8]>> {
    let mut at = 8;
    let mut exif = None;
    loop {
        let length = be32(bytes, at)? as usize;
        let kind = bytes.get(at + 4..at + 8)?;
        let end = (at + 8).checked_add(length)?.checked_add(4)?;
        let data = bytes.get(at + 8..end - 4)?;
        bytes.get(end - 1)?;
        match kind {
            b"IEND" => return Some(exif),
            b"eXIf" if exif.is_none() => exif = Some(without_prefix(data)),
            _ => {}
        }
        at = end;
    }
}

/// Blocks up to the trailer.
fn gif(bytes: &[u8]) -> Option<()> {
    let color_table = |flags: u8| match flags & 0x80 {
        0 => 0,
        _ => 3 << ((flags & 7) + 1),
    };
    let sub_blocks = |mut at: usize| loop {
        let length = usize::from(*bytes.get(at)?);
        at += 1 + length;
        if length == 0 {
            return Some(at);
        }
    };
    let mut at = 13 + color_table(*bytes.get(10)?);
    loop {
        at = match *bytes.get(at)? {
            0x21 => sub_blocks(at + 2)?,
            // Descriptor, colours, code size, then the pixels.
            0x2c => sub_blocks(at + 10 + color_table(*bytes.get(at + 9)?) + 1)?,
            0x3b => return Some(()),
            // Not a block: the decoder decides whether the blocks before it are a picture.
            _ => return Some(()),
        };
    }
}

/// The size that the file states for itself, and its EXIF data.
fn webp(bytes: &[u8]) -> Option<Option<&[u8]>> {
    let end = (le32(bytes, 4)? as usize).checked_add(8)?;
    let body = bytes.get(..end)?;
    let mut at = 12;
    while let (Some(kind), Some(length)) = (body.get(at..at + 4), le32(body, at + 4)) {
        let data = at + 8;
        let next = data.checked_add(length as usize)?;
        let chunk = body.get(data..next)?;
        if kind == b"EXIF" {
            return Some(Some(without_prefix(chunk)));
        }
        at = next + (next & 1);
    }
    Some(None)
}

/// Pixels without compression have a size that can be computed; for the others, the size in the header counts.
fn bmp(bytes: &[u8]) -> Option<()> {
    let (start, header) = (le32(bytes, 10)? as usize, le32(bytes, 14)?);
    let half = |at| le16(bytes, at).map(usize::from);
    if header == 12 {
        let (width, height, bits) = (half(18)?, half(20)?, half(24)?);
        return bmp_rows(bytes, start, width, height, bits);
    }
    let width = le32(bytes, 18)? as i32;
    let height = le32(bytes, 22)? as i32;
    let (bits, compression) = (half(28)?, le32(bytes, 30)?);
    match compression {
        0 | 3 | 6 => bmp_rows(
            bytes,
            start,
            width.unsigned_abs() as usize,
            height.unsigned_abs() as usize,
            bits,
        ),
        _ => {
            let stated = le32(bytes, 34)? as usize;
            (bytes.len() >= start.checked_add(stated)?).then_some(())
        }
    }
}

fn bmp_rows(bytes: &[u8], start: usize, width: usize, height: usize, bits: usize) -> Option<()> {
    let row = width.checked_mul(bits)?.div_ceil(32).checked_mul(4)?;
    let end = row.checked_mul(height)?.checked_add(start)?;
    // The padding of the last row is sometimes left away.
    (bytes.len() + 3 >= end && bytes.len() > start).then_some(())
}

/// Every directory of the chain, and the strips or tiles that it names.
fn tiff(bytes: &[u8]) -> Option<()> {
    /// The most directories that are looked at; a chain may be a circle.
    const DIRECTORIES: usize = 1024;
    let big_endian = bytes.first() == Some(&b'M');
    let short = |at: usize| {
        let pair: [u8; 2] = bytes.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(match big_endian {
            true => u16::from_be_bytes(pair),
            false => u16::from_le_bytes(pair),
        })
    };
    let long = |at: usize| {
        let four: [u8; 4] = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(match big_endian {
            true => u32::from_be_bytes(four),
            false => u32::from_le_bytes(four),
        } as usize)
    };
    if short(2)? != 42 {
        // BigTIFF with 64-bit offsets: the decoder reports truncation itself.
        return Some(());
    }
    let mut directory = long(4)?;
    // Entries and pixel data have bytes of their own in a sound file. Directories that share them could ask for any number of steps.
    let mut steps = bytes.len();
    for _ in 0..DIRECTORIES {
        if directory == 0 {
            return Some(());
        }
        let entries = usize::from(short(directory)?);
        let Some(left) = steps.checked_sub(entries) else {
            return Some(());
        };
        steps = left;
        let (mut offsets, mut counts) = (None, None);
        for entry in 0..entries {
            let at = directory + 2 + 12 * entry;
            let (tag, kind, count) = (short(at)?, short(at + 2)?, long(at + 4)?);
            let size = match kind {
                1 | 2 | 6 | 7 => 1,
                3 | 8 => 2,
                4 | 9 | 11 | 13 => 4,
                5 | 10 | 12 | 16 | 17 | 18 => 8,
                _ => continue,
            };
            let list = match count.checked_mul(size)? {
                0..=4 => at + 8,
                outside => {
                    let start = long(at + 8)?;
                    bytes.get(start..start.checked_add(outside)?)?;
                    start
                }
            };
            if !matches!(size, 2 | 4) {
                continue;
            }
            match tag {
                273 | 324 => offsets = Some((list, count, size)),
                279 | 325 => counts = Some((list, count, size)),
                _ => {}
            }
        }
        if let (Some((offsets, number, offset_size)), Some((counts, other, count_size))) =
            (offsets, counts)
        {
            let value = |list: usize, index: usize, size: usize| {
                let at = list.checked_add(index.checked_mul(size)?)?;
                match size {
                    2 => short(at).map(usize::from),
                    _ => long(at),
                }
            };
            let parts = number.min(other);
            let Some(left) = steps.checked_sub(parts) else {
                return Some(());
            };
            steps = left;
            for index in 0..parts {
                let start = value(offsets, index, offset_size)?;
                let length = value(counts, index, count_size)?;
                if start.checked_add(length)? > bytes.len() {
                    return None;
                }
            }
        }
        directory = long(directory + 2 + 12 * entries)?;
    }
    Some(())
}

/// EXIF data begins with a TIFF header; some writers put the six bytes of JPEG's segment in front everywhere.
fn without_prefix(exif: &[u8]) -> &[u8] {
    exif.strip_prefix(b"Exif\0\0").unwrap_or(exif)
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(four.try_into().ok()?))
}

fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(four.try_into().ok()?))
}

fn le16(bytes: &[u8], at: usize) -> Option<u16> {
    let two = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_le_bytes(two.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_decides_and_the_name_does_not_matter() {
        for (head, expected) in [
            (&b"\xff\xd8\xff\xe0"[..], Kind::Decoded(ImageFormat::Jpeg)),
            (b"RIFF\x10\0\0\0WEBPVP8 ", Kind::Decoded(ImageFormat::WebP)),
            (b"RIFF\x10\0\0\0WAVEfmt ", Kind::Unknown),
            (b"MM\0*\0\0\0\x08", Kind::Decoded(ImageFormat::Tiff)),
            (b"BMX: a text about cycling, long enough", Kind::Unknown),
            (b"\0\0\0\x18ftypheic\0\0\0\0", Kind::Other("HEIC")),
            (b"\0\0\0\x1cftypavif\0\0\0\0", Kind::Other("AVIF")),
            (b"\0\0\0\x1cftypisom\0\0\0\0", Kind::Unknown),
            (b"GIF", Kind::Unknown),
            (b"", Kind::Unknown),
        ] {
            assert_eq!(kind(head), expected, "{head:?}");
        }
    }

    #[test]
    fn circles_and_lies_end() {
        // A directory that names itself as the next one.
        let circle = [&b"II*\0\x08\0\0\0"[..], &[0, 0], &8_u32.to_le_bytes()].concat();
        assert_eq!(tiff(&circle), Some(()));
        let lie = [&b"\x89PNG\r\n\x1a\n"[..], &[0xff; 4], b"IDAT"].concat();
        assert_eq!(png(&lie), None);
        assert_eq!(webp(b"RIFF\xff\xff\xff\xffWEBP"), None);
    }
}
