//! Whether a JPEG is complete.
//!
//! The decoder fills what is missing or damaged with grey, as browsers do, without an error. So the coded pixels are walked through
//! before: every block of every scan must be there, and progressive scans must reach full precision. Walking costs a fraction of
//! decoding, since it neither transforms nor keeps anything but, for progressive files, which coefficients are not zero.
//!
//! **Source**: ITU-T T.81, annexes B, F and G.

mod bits;
mod defect;
mod scan;

use bits::HuffmanTable;
use scan::{Component, Frame, Scan, ScanComponent, check_scan};

pub(super) use defect::Defect;

const END_OF_IMAGE: u8 = 0xd9;
const START_OF_SCAN: u8 = 0xda;
const HUFFMAN_TABLES: u8 = 0xc4;
const RESTART_INTERVAL: u8 = 0xdd;
/// Baseline, extended and progressive, all with Huffman codes; the decoder refuses the others.
const FRAMES: std::ops::RangeInclusive<u8> = 0xc0..=0xc2;

/// Colours of a frame: red, green and blue, or four inks.
const MAX_COMPONENTS: u8 = 4;
/// The most scans that are walked; each costs time for every block, whatever its length. The decoder takes as many.
const MAX_SCANS: usize = 100;

/// Tables and counts that the segments have set so far.
#[derive(Default)]
struct State {
    dc: [Option<HuffmanTable>; 4],
    ac: [Option<HuffmanTable>; 4],
    restart_interval: usize,
    scans: usize,
    frame: Option<Frame>,
}

/// Walks through a JPEG to its end mark; data after the mark is ignored: cameras append previews, phones append videos.
///
/// Pictures of more than `max_pixels`, and kinds that the decoder refuses anyway, are walked by their markers alone.
///
/// **Errors**: what is missing or wrong first.
pub(super) fn check(bytes: &[u8], max_pixels: u64) -> Result<(), Defect> {
    let mut state = State::default();
    let mut rest = bytes.get(2..).unwrap_or_default();
    loop {
        let (marker, after) = next_marker(rest).ok_or(Defect::Cut)?;
        rest = match marker {
            END_OF_IMAGE => {
                return match state.frame.is_none_or(|frame| frame.is_complete()) {
                    true => Ok(()),
                    false => Err(Defect::Cut),
                };
            }
            // Without a length.
            0x01 | 0xd0..=0xd8 => after,
            _ => {
                let body = segment(after).ok_or(Defect::Cut)?;
                let end = &after[body.len() + 2..];
                match marker {
                    START_OF_SCAN => {
                        let next = after_scan(end);
                        let coded = &end[..end.len() - next.len()];
                        state.check_scan(body, coded)?;
                        next
                    }
                    _ => {
                        state.segment(marker, body, max_pixels);
                        end
                    }
                }
            }
        };
    }
}

impl State {
    /// Takes what a segment sets; a malformed one sets nothing, and the decoder will refuse it.
    fn segment(&mut self, marker: u8, body: &[u8], max_pixels: u64) {
        match marker {
            HUFFMAN_TABLES => self.tables(body),
            RESTART_INTERVAL => {
                if let Some(interval) = body.first_chunk() {
                    self.restart_interval = u16::from_be_bytes(*interval).into();
                }
            }
            _ if FRAMES.contains(&marker) && self.frame.is_none() => {
                self.frame = frame(body, marker == 0xc2, max_pixels);
            }
            _ => {}
        }
    }

    fn tables(&mut self, mut body: &[u8]) {
        while let Some((&place, rest)) = body.split_first() {
            let Some((counts, rest)) = rest.split_first_chunk::<16>() else {
                return;
            };
            let symbols = counts.iter().map(|&count| usize::from(count)).sum();
            let Some((symbols, rest)) = rest.split_at_checked(symbols) else {
                return;
            };
            let tables = match place >> 4 {
                0 => &mut self.dc,
                _ => &mut self.ac,
            };
            if let Some(table) = tables.get_mut(usize::from(place & 15)) {
                *table = HuffmanTable::new(counts, symbols);
            }
            body = rest;
        }
    }

    /// Walks through a scan, where there is a frame to walk in. After a scan that cannot be walked, only markers count.
    fn check_scan(&mut self, header: &[u8], coded: &[u8]) -> Result<(), Defect> {
        let Some(mut frame) = self.frame.take() else {
            return Ok(());
        };
        self.scans += 1;
        if self.scans > MAX_SCANS {
            return Err(Defect::Damaged);
        }
        if let Some(scan) = self.scan(&frame, header) {
            check_scan(&mut frame, &scan, self.restart_interval, coded)?;
            self.frame = Some(frame);
        }
        Ok(())
    }

    /// The scan that a header describes; `None` where it cannot be walked.
    fn scan(&self, frame: &Frame, body: &[u8]) -> Option<Scan<'_>> {
        let (&count, rest) = body.split_first()?;
        let (selectors, rest) = rest.split_at_checked(2 * usize::from(count))?;
        let [start, end, precision] = *rest.first_chunk()?;
        let components = selectors
            .chunks_exact(2)
            .map(|selector| {
                let index = frame.index_of(selector[0])?;
                let dc = self.dc.get(usize::from(selector[1] >> 4))?;
                let ac = self.ac.get(usize::from(selector[1] & 15))?;
                Some(ScanComponent {
                    index,
                    dc: dc.as_ref(),
                    ac: ac.as_ref(),
                })
            })
            .collect::<Option<Vec<_>>>()?;
        Scan::new(frame, components, [start, end], precision)
    }
}

/// The frame that a header describes; `None` where it is too large or makes no sense.
fn frame(body: &[u8], progressive: bool, max_pixels: u64) -> Option<Frame> {
    let [precision, height @ .., width_high, width_low, count] = *body.first_chunk::<6>()?;
    let (height, width) = (
        u16::from_be_bytes(height),
        u16::from_be_bytes([width_high, width_low]),
    );
    let pixels = u64::from(height) * u64::from(width);
    if precision != 8 || pixels == 0 || pixels > max_pixels || count > MAX_COMPONENTS {
        return None;
    }
    let components = body.get(6..6 + 3 * usize::from(count))?;
    let components = components.chunks_exact(3).map(|component| {
        let (across, down) = (component[1] >> 4, component[1] & 15);
        let possible = matches!((across, down), (1..=4, 1..=4));
        possible.then(|| Component::new(component[0], across, down))
    });
    Frame::new(
        width.into(),
        height.into(),
        progressive,
        components.collect::<Option<_>>()?,
    )
}

/// The next marker and what follows it; bytes in front of it are passed over, as the decoder does.
fn next_marker(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let mut rest = bytes;
    loop {
        let start = rest.iter().position(|&byte| byte == 0xff)?;
        rest = &rest[start..];
        let fill = rest.iter().position(|&byte| byte != 0xff)?;
        let marker = rest[fill];
        rest = &rest[fill + 1..];
        if marker != 0 {
            return Some((marker, rest));
        }
    }
}

/// A segment without its length, which counts itself.
fn segment(bytes: &[u8]) -> Option<&[u8]> {
    let length = u16::from_be_bytes(*bytes.first_chunk()?);
    bytes.get(2..usize::from(length.max(2)))
}

/// What follows the coded pixels of a scan: in them, 0xff stands only before 0 and restart marks.
fn after_scan(mut bytes: &[u8]) -> &[u8] {
    loop {
        let Some(at) = bytes.iter().position(|&byte| byte == 0xff) else {
            return &[];
        };
        match bytes.get(at + 1) {
            Some(0 | 0xd0..=0xd7) => bytes = &bytes[at + 2..],
            // A fill byte: the next one counts.
            Some(0xff) => bytes = &bytes[at + 1..],
            _ => return &bytes[at..],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A JPEG's skeleton: an application segment that holds a whole picture of its own, a scan, an end.
    fn skeleton() -> Vec<u8> {
        [
            &b"\xff\xd8"[..],
            b"\xff\xe1\x00\x08\xff\xd8\xff\xd9..",
            b"\xff\xff\xff\xda\x00\x04ab",
            b"pixels\xff\x00\xff\xd3more\xff\xff\x00",
            b"\xff\xd9",
        ]
        .concat()
    }

    #[test]
    fn the_end_mark_of_a_preview_is_not_the_end() {
        let whole = skeleton();
        assert_eq!(check(&whole, 100), Ok(()));
        for length in 0..whole.len() {
            assert_eq!(check(&whole[..length], 100), Err(Defect::Cut), "{length}");
        }
    }

    #[test]
    fn what_follows_the_end_does_not_matter() {
        let mut whole = skeleton();
        whole.extend(b"\xff\xda\x00\x04ab trailing");
        assert_eq!(check(&whole, 100), Ok(()));
    }
}
