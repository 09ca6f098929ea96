//! Changed seeds: a run without any fuzzing engine, for machines that have none, and a short one in every test run.
//!
//! `PERENNIAL_MUTATIONS=100000 cargo test -p perennial-fuzz mutated -- --nocapture --test-threads 1` runs so many for each target. Equal numbers
//! give equal inputs. Nothing is learnt from what an input reached, so `fuzz/run.sh` finds more in the same time.

use std::time::Instant;

use crate::Target;

/// Changes of each input, at most.
const MOST_CHANGES: u32 = 8;
/// Longer inputs are cut.
const MAX_BYTES: usize = 1 << 15;
/// What takes the place of a number, or is written anywhere.
const TOKENS: [&str; 16] = [
    "0",
    "-1",
    "1e999",
    "1e-999",
    "0.5",
    "255",
    "65536",
    "4294967296",
    "9223372036854775807",
    "18446744073709551616",
    "null",
    "NaN",
    "\"\"",
    "[]",
    "\u{fffd}",
    "\0",
];

/// Equal seeds give equal numbers (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    /// Below `limit`, which is not 0.
    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// A short range within `length`.
    fn range(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.below(length + 1);
        let most = (length - start).min(1 << self.below(9));
        start..start + self.below(most + 1)
    }
}

/// Writes the input of a run that panics.
struct Finding<'a> {
    target: &'a str,
    input: &'a [u8],
}

impl Drop for Finding<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let name = format!("perennial-fuzz-{}-{}", self.target, std::process::id());
            let path = std::env::temp_dir().join(name);
            match std::fs::write(&path, self.input) {
                Ok(()) => eprintln!("the input is in {}", path.display()),
                Err(error) => {
                    eprintln!("the input could not be written: {error}; {:?}", self.input)
                }
            }
        }
    }
}

/// Runs a target on changed seeds.
pub(super) fn run<T: Target>(target: &str, seeds: &[Vec<u8>]) {
    let count: u64 =
        std::env::var("PERENNIAL_MUTATIONS").map_or(25, |count| count.parse().unwrap());
    let mut numbers = Numbers(target.bytes().fold(1, |sum: u64, byte| {
        sum.wrapping_mul(31).wrapping_add(byte.into())
    }));
    let (mut tested, begun) = (T::new(), Instant::now());
    let mut accepted = 0;
    for _ in 0..count {
        let mut input = seeds[numbers.below(seeds.len())].clone();
        // One change half of the time, two a quarter of it, and so on.
        for _ in 0..=numbers.next().trailing_zeros().min(MOST_CHANGES - 1) {
            change(&mut input, seeds, &mut numbers);
        }
        input.truncate(MAX_BYTES);
        let finding = Finding {
            target,
            input: &input,
        };
        accepted += usize::from(tested.run(finding.input));
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!("{target}: {count} changed seeds, {accepted} of them accepted, {seconds:.0} s");
}

fn change(input: &mut Vec<u8>, seeds: &[Vec<u8>], numbers: &mut Numbers) {
    let range = numbers.range(input.len());
    match numbers.below(9) {
        0 | 1 if !input.is_empty() => {
            let place = numbers.below(input.len());
            input[place] ^= 1 << numbers.below(8);
        }
        2 if !input.is_empty() => {
            let place = numbers.below(input.len());
            input[place] = numbers.next() as u8;
        }
        3 => drop(input.drain(range)),
        4 => {
            let copy = input[range].to_vec();
            let place = numbers.below(input.len() + 1);
            input.splice(place..place, copy);
        }
        5 => {
            let other = &seeds[numbers.below(seeds.len())];
            let part = other[numbers.range(other.len())].to_vec();
            input.splice(range, part);
        }
        6 => input.truncate(range.start),
        7 => {
            let token = TOKENS[numbers.below(TOKENS.len())];
            input.splice(range.start..range.start, token.bytes());
        }
        _ => {
            // The next number from here on.
            let digit = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'-');
            let begin = input[range.start..].iter().position(digit);
            let begin = begin.map_or(input.len(), |begin| range.start + begin);
            let length = input[begin..].iter().take_while(|byte| digit(byte)).count();
            let token = TOKENS[numbers.below(TOKENS.len())];
            input.splice(begin..begin + length, token.bytes());
        }
    }
}
