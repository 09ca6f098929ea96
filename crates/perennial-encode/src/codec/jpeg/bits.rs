//! Huffman codes and the bits of a scan.

/// Bits that the fast table looks at.
const FAST: u32 = 9;
/// Bits that the table of steps looks at.
const STEP: u32 = 11;

/// Codes of up to 16 bits, as a segment defines them.
pub(super) struct HuffmanTable {
    /// Length and symbol of the code that these bits begin with; length 0 for longer codes.
    fast: Box<[(u8, u8); 1 << FAST]>,
    /// For codes of a block's coefficients: bits of the code and of the coefficient that these bits begin with, and by how many
    /// coefficients it leads on; 0 bits for longer codes.
    steps: Box<[(u8, u8); 1 << STEP]>,
    /// For each length: the first code beyond it, aligned to 16 bits.
    limits: [u32; 17],
    /// For each length: what, added to a code, gives the position of its symbol.
    offsets: [i32; 17],
    symbols: Vec<u8>,
}

impl HuffmanTable {
    /// `None` for lengths that are no code.
    pub(super) fn new(counts: &[u8; 16], symbols: &[u8]) -> Option<Self> {
        let mut table = Self {
            fast: Box::new([(0, 0); 1 << FAST]),
            steps: Box::new([(0, 0); 1 << STEP]),
            limits: [0; 17],
            offsets: [0; 17],
            symbols: symbols.to_vec(),
        };
        let (mut code, mut position) = (0_u32, 0_usize);
        for length in 1..=16_u32 {
            let count = usize::from(counts[length as usize - 1]);
            table.offsets[length as usize] = position as i32 - code as i32;
            for &symbol in symbols.get(position..position + count)? {
                if length <= FAST {
                    let free = FAST - length;
                    let first = (code as usize) << free;
                    let entries = table.fast.get_mut(first..first + (1 << free))?;
                    entries.fill((length as u8, symbol));
                }
                if length <= STEP {
                    let free = STEP - length;
                    let first = (code as usize) << free;
                    let entries = table.steps.get_mut(first..first + (1 << free))?;
                    entries.fill((length as u8 + (symbol & 15), advance(symbol)));
                }
                code += 1;
            }
            position += count;
            if code > 1 << length {
                return None;
            }
            table.limits[length as usize] = code << (16 - length);
            code <<= 1;
        }
        Some(table)
    }
}

/// By how many coefficients of a block a symbol leads on.
fn advance(symbol: u8) -> u8 {
    match (symbol >> 4, symbol & 15) {
        (15, 0) => 16,
        (_, 0) => 64,
        (run, _) => run + 1,
    }
}

/// Why no more bits or symbols come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// The data end, or a marker stands in the way.
    End,
    /// The bits are no code.
    NoCode,
}

/// The lowest bit of each byte.
const ONES: u64 = u64::MAX / 255;

/// The bits of a scan, with stuffed bytes taken out.
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    /// Bits that are ready, the next one on top. Below them is nothing, or what follows them.
    ready: u64,
    count: u32,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            ready: 0,
            count: 0,
        }
    }

    /// Reads ahead up to the next marker.
    #[inline]
    fn fill(&mut self) {
        if let Some(chunk) = self.bytes.first_chunk() {
            let word = u64::from_be_bytes(*chunk);
            // No byte is 0xff, so none is stuffed and none begins a marker.
            if (!word).wrapping_sub(ONES) & word & (ONES << 7) == 0 {
                // The bits of a byte of which a part only is ready are put there again, the same ones, when it is read.
                self.ready |= word >> self.count;
                let taken = (64 - self.count) / 8;
                self.count += 8 * taken;
                self.bytes = &self.bytes[taken as usize..];
                return;
            }
        }
        while self.count <= 56 {
            let (byte, rest) = match *self.bytes {
                [0xff, 0, ref rest @ ..] => (0xff, rest),
                [0xff, ..] | [] => return,
                [byte, ref rest @ ..] => (byte, rest),
            };
            self.ready |= u64::from(byte) << (56 - self.count);
            self.count += 8;
            self.bytes = rest;
        }
    }

    #[inline]
    pub(super) fn skip(&mut self, count: u32) -> Result<(), Stop> {
        if self.count < count {
            self.fill();
            if self.count < count {
                return Err(Stop::End);
            }
        }
        self.ready <<= count;
        self.count -= count;
        Ok(())
    }

    /// Up to 16 bits as a number.
    #[inline]
    pub(super) fn take(&mut self, count: u32) -> Result<u32, Stop> {
        if count == 0 {
            return Ok(0);
        }
        if self.count < count {
            self.fill();
        }
        let value = (self.ready >> (64 - count)) as u32;
        self.skip(count).map(|()| value)
    }

    #[inline]
    pub(super) fn symbol(&mut self, table: &HuffmanTable) -> Result<u8, Stop> {
        if self.count < 16 {
            self.fill();
        }
        let (length, symbol) = table.fast[(self.ready >> (64 - FAST)) as usize];
        if length > 0 {
            return self.skip(length.into()).map(|()| symbol);
        }
        let bits = (self.ready >> 48) as u32;
        for length in FAST + 1..=16 {
            if bits < table.limits[length as usize] {
                let code = (bits >> (16 - length)) as i32;
                let position = (code + table.offsets[length as usize]) as usize;
                let symbol = table.symbols.get(position).ok_or(Stop::NoCode)?;
                return self.skip(length).map(|()| *symbol);
            }
        }
        // Nothing but missing bits can look like this in a file that is not damaged.
        match self.count < 16 {
            true => Err(Stop::End),
            false => Err(Stop::NoCode),
        }
    }

    /// Passes over a coefficient and its code; by how many coefficients that leads on.
    #[inline]
    pub(super) fn step(&mut self, table: &HuffmanTable) -> Result<u8, Stop> {
        if self.count < 32 {
            self.fill();
        }
        let (length, advance) = table.steps[(self.ready >> (64 - STEP)) as usize];
        if length > 0 && u32::from(length) <= self.count {
            self.ready <<= length;
            self.count -= u32::from(length);
            return Ok(advance);
        }
        let symbol = self.symbol(table)?;
        self.skip(u32::from(symbol & 15))?;
        Ok(self::advance(symbol))
    }

    /// Drops what is left before a restart mark, and the mark. Whether there was one.
    pub(super) fn restart(&mut self) -> bool {
        self.ready = 0;
        self.count = 0;
        loop {
            match *self.bytes {
                [0xff, 0xd0..=0xd7, ref rest @ ..] => {
                    self.bytes = rest;
                    return true;
                }
                [_, ref rest @ ..] => self.bytes = rest,
                [] => return false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Codes 0, 10 and 110, and one of 12 bits.
    fn table() -> HuffmanTable {
        let mut counts = [0; 16];
        counts[..3].copy_from_slice(&[1, 1, 1]);
        counts[11] = 1;
        HuffmanTable::new(&counts, &[5, 6, 7, 8]).unwrap()
    }

    #[test]
    fn codes_short_and_long_are_read_and_stuffing_is_passed_over() {
        // 0 10 110 111000000000 1, then bits of a stuffed byte.
        let mut bits = Bits::new(&[0b0101_1011, 0b1000_0000, 0b0010_1111, 0xff, 0x00]);
        let table = table();
        for symbol in [5, 6, 7, 8] {
            assert_eq!(bits.symbol(&table), Ok(symbol));
        }
        assert_eq!(bits.take(6), Ok(0b10_1111));
        assert_eq!(bits.take(8), Ok(0xff));
        assert_eq!(bits.take(1), Err(Stop::End));
    }

    #[test]
    fn steps_are_symbols_with_their_bits() {
        // Lengths 2 to 12, so that some codes are in no table; runs and sizes of all kinds.
        let mut counts = [0; 16];
        counts[1..12].copy_from_slice(&[2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]);
        let symbols = [
            0x00, 0x11, 0x3a, 0xf0, 0x05, 0x21, 0x0f, 0x72, 0x01, 0xe1, 0x43, 0x9f,
        ];
        let table = HuffmanTable::new(&counts, &symbols).unwrap();
        let mut state = 1_u32;
        let bytes: Vec<u8> = (0..4000)
            .flat_map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                // Stuffed, as a scan is; every fourth byte full of ones, so that codes get long.
                let byte = if state >> 30 == 0 {
                    0xff
                } else {
                    (state >> 24) as u8
                };
                [Some(byte), (byte == 0xff).then_some(0)]
                    .into_iter()
                    .flatten()
            })
            .collect();
        let (mut fast, mut slow) = (Bits::new(&bytes), Bits::new(&bytes));
        let mut ends = [0; 2];
        loop {
            let step = fast.step(&table);
            let symbol = slow.symbol(&table).and_then(|symbol| {
                slow.skip(u32::from(symbol & 15))?;
                Ok(advance(symbol))
            });
            assert_eq!(step, symbol);
            match step {
                Ok(_) => ends[0] += 1,
                Err(Stop::NoCode) => {
                    // A bit further on there is a code again.
                    ends[1] += 1;
                    assert_eq!((fast.skip(1), slow.skip(1)), (Ok(()), Ok(())));
                }
                Err(Stop::End) => break,
            }
        }
        assert!(ends[0] > 1000 && ends[1] > 10, "{ends:?}");
    }

    #[test]
    fn what_is_no_code_is_told_from_what_is_missing() {
        let no_code = Bits::new(&[0xfe, 0xfe, 0xfe]).symbol(&table());
        assert_eq!(no_code, Err(Stop::NoCode));
        assert_eq!(Bits::new(&[0xfe]).symbol(&table()), Err(Stop::End));
        assert!(HuffmanTable::new(&[3; 16], &[0; 48]).is_none());
    }

    #[test]
    fn restart_marks_begin_anew() {
        let mut bits = Bits::new(&[0x12, 0x34, 0xff, 0xd3, 0x56]);
        assert_eq!(bits.take(4), Ok(1));
        assert!(bits.restart());
        assert_eq!(bits.take(8), Ok(0x56));
        assert!(!bits.restart());
    }
}
