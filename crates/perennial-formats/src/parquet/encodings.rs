//! How much the values of a page become, from their encoded form alone.

/// The lengths of rows in values, in windows of consecutive rows.
pub(super) struct Windows {
    rows: u64,
    levels: u64,
    per_window: u64,
    widest: u64,
}

impl Windows {
    fn new(per_window: u64) -> Self {
        Self {
            rows: 0,
            levels: 0,
            per_window: per_window.max(1),
            widest: 0,
        }
    }

    /// Takes `count` values, each of which starts a row or continues one.
    fn take(&mut self, count: u64, starts: bool) {
        if !starts {
            self.levels = self.levels.saturating_add(count);
            return;
        }
        let mut left = count;
        while left > 0 {
            if self.rows == self.per_window {
                self.widest = self.widest.max(self.levels);
                (self.rows, self.levels) = (0, 0);
                // Whole windows of rows of one value each, but for the last, whose last row may go on.
                if left > self.per_window {
                    self.widest = self.widest.max(self.per_window);
                    left = (left - 1) % self.per_window + 1;
                }
            }
            let rows = left.min(self.per_window - self.rows);
            self.rows += rows;
            self.levels = self.levels.saturating_add(rows);
            left -= rows;
        }
    }
}

/// The most values that `rows` consecutive rows of a page have at once, by its repetition levels (run-length encoded, of this many bits); any
/// other such rows have at most twice as many.
pub(super) fn widest_rows(levels: &[u8], bits: u32, values: u64, rows: u64) -> u64 {
    let mut windows = Windows::new(rows);
    let mut left = values;
    let mut rest = levels;
    while left > 0 {
        let Some(indicator) = varint(&mut rest) else {
            break;
        };
        let width = bits.div_ceil(8) as usize;
        if indicator & 1 == 0 {
            let count = (indicator >> 1).min(left);
            let Some((value, after)) = rest.split_at_checked(width) else {
                break;
            };
            rest = after;
            windows.take(count, value.iter().all(|&byte| byte == 0));
            left -= count;
            if count == 0 {
                // A run of nothing is no end for the library, and this must not stop before it.
                continue;
            }
        } else {
            let count = (indicator >> 1).saturating_mul(8).min(left);
            let bytes = (count as usize).saturating_mul(bits as usize).div_ceil(8);
            let bytes = bytes.min(rest.len());
            let (packed, after) = rest.split_at(bytes);
            let there = (bytes * 8 / bits.max(1) as usize) as u64;
            for index in 0..count.min(there) as usize {
                let starts = (0..bits as usize).all(|bit| {
                    let at = index * bits as usize + bit;
                    packed[at / 8] >> (at % 8) & 1 == 0
                });
                windows.take(1, starts);
            }
            rest = after;
            left -= count;
        }
    }
    // What the levels do not tell may all be of one row.
    windows.levels = windows.levels.saturating_add(left);
    windows.widest.max(windows.levels)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn zigzag(bytes: &mut &[u8]) -> Option<i64> {
    let value = varint(bytes)?;
    Some((value >> 1) as i64 ^ -((value & 1) as i64))
}

/// Numbers of 32 bits by their differences (`DELTA_BINARY_PACKED`), and the bytes after them. `None` for what is damaged, and for more than
/// `most` numbers.
pub(super) fn differences(bytes: &[u8], most: u64) -> Option<(Vec<i32>, &[u8])> {
    let mut rest = bytes;
    let block = varint(&mut rest)?;
    let parts = varint(&mut rest)?;
    let count = varint(&mut rest)?;
    let mut last = zigzag(&mut rest)? as i32;
    if count > most || parts == 0 || block % parts != 0 || !(block / parts).is_multiple_of(32) {
        return None;
    }
    let per_part = usize::try_from(block / parts).ok()?;
    let parts = usize::try_from(parts).ok()?;
    let count = usize::try_from(count).ok()?;
    let mut numbers = Vec::new();
    if count == 0 {
        return Some((numbers, rest));
    }
    numbers.push(last);
    while numbers.len() < count {
        let least = zigzag(&mut rest)? as i32;
        let (widths, after) = rest.split_at_checked(parts)?;
        rest = after;
        for &bits in widths {
            if numbers.len() == count {
                break;
            }
            let bits = usize::from(bits);
            if bits > 32 {
                return None;
            }
            let (packed, after) = rest.split_at_checked(bits.checked_mul(per_part)? / 8)?;
            rest = after;
            for index in 0..per_part.min(count - numbers.len()) {
                let difference = unpack(packed, index * bits, bits);
                last = last.wrapping_add(least).wrapping_add(difference as i32);
                numbers.push(last);
            }
        }
    }
    Some((numbers, rest))
}

fn unpack(packed: &[u8], from: usize, bits: usize) -> u32 {
    let mut value = 0;
    for bit in 0..bits {
        let at = from + bit;
        value |= u32::from(packed[at / 8] >> (at % 8) & 1) << bit;
    }
    value
}

/// The bytes of all texts of a page that each repeat the start of the one before (`DELTA_BYTE_ARRAY`). `None` for what is damaged.
pub(super) fn repeated_starts(bytes: &[u8], most: u64) -> Option<u64> {
    let (starts, rest) = differences(bytes, most)?;
    let (ends, _) = differences(rest, most)?;
    if starts.len() != ends.len() {
        return None;
    }
    let (mut length, mut total) = (0_u64, 0_u64);
    for (start, end) in starts.into_iter().zip(ends) {
        let start = u64::try_from(start).ok()?.min(length);
        length = start.checked_add(u64::try_from(end).ok()?)?;
        total = total.checked_add(length)?;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_measured_by_their_levels() {
        // Two rows of 1 and of 5 values, in one bit-packed group and a run of 4.
        assert_eq!(widest_rows(&[0b11, 0b1111_1100, 0, 0], 1, 8, 1), 7);
        assert_eq!(widest_rows(&[0b11, 0b0000_1000, 8, 1], 1, 12, 1), 8 - 4 + 1);
        // A run of 1000 values of one row, and a thousand rows of one.
        let long = [2, 0, 0xd0, 0x0f, 1];
        assert_eq!(widest_rows(&long, 1, 1001, 1), 1001);
        assert_eq!(widest_rows(&[0xd0, 0x0f, 0], 1, 1000, 3), 3);
        assert_eq!(widest_rows(&[0xd0, 0x0f, 0], 1, 1000, 5000), 1000);
        // Levels that end too early may hide a row of all that is left.
        assert_eq!(widest_rows(&[2, 0], 1, 500, 1), 500);
    }

    #[test]
    fn differences_and_starts_are_summed() {
        // 128 values a block in 4 parts; 3 numbers: 5, 5, 5 (differences of 0 bits).
        let same = [0x80, 1, 4, 3, 10, 0, 0, 0, 0, 0];
        let (numbers, rest) = differences(&same, 3).unwrap();
        assert_eq!((numbers.as_slice(), rest), (&[5, 5, 5][..], &[][..]));
        assert!(differences(&same, 2).is_none());
        // 7 and 7 + 2 + 1, with 32 differences of one bit each in the part.
        let rising = [0x80, 1, 4, 2, 14, 4, 1, 0, 0, 0, 1, 0, 0, 0, 99];
        let (numbers, rest) = differences(&rising, 9).unwrap();
        assert_eq!((numbers.as_slice(), rest), (&[7, 10][..], &[99][..]));
        // Texts of 5 bytes, each of which repeats at most all of the text before it, and adds 5.
        let page = [same, same].concat();
        assert_eq!(repeated_starts(&page, 3), Some(5 + 10 + 10));
        for end in 0..page.len() {
            assert_eq!(repeated_starts(&page[..end], 3), None, "{end}");
        }
    }
}
