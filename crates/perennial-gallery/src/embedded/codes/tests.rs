use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

#[test]
fn query_codes_cannot_overflow() {
    for dim in [1, 64, 512, 16_384] {
        let codes = QueryCodes::new(&vec![1.0; dim], &[]);
        let sum: i64 = codes.codes.iter().map(|&q| i64::from(q) * 127).sum();
        assert!(sum <= i64::from(i32::MAX), "{dim}: {sum}");
        assert!(codes.codes[0] > 200, "{dim}: {}", codes.codes[0]);
    }
}

#[test]
fn codes_stay_close_to_the_vector() {
    let mut codes = Vec::new();
    let coding = encode(&[0.5, -1.0, 0.0, 0.25], &[], &mut codes);
    assert_eq!(codes, [64, -127, 0, 32]);
    assert!((coding.scale * 127.0 - 1.0).abs() < 1e-6);
    assert!((coding.length - 1.145).abs() < 0.01 && coding.error < 0.006);
    assert_eq!(encode(&[0.0], &[], &mut codes).scale, 0.0);
    assert_eq!(encode(&[1e-44, 1e-38], &[], &mut codes).scale, 0.0);
    let tiny = QueryWords::new(&[1.0, 2e-38, 2e-38], &[1.0, 0.0, 0.0], QueryRange::Bytes);
    assert_eq!((tiny.sum, tiny.bounds.scale), (0, 0.0));
}

#[test]
fn a_centre_takes_out_what_rows_share() {
    let vectors = [[0.9, 0.1, 0.4], [0.9, 0.2, 0.35], [0.9, 0.15, 0.42]].concat();
    let coded = CodedRows::around_mean(&vectors, 3);
    assert!(coded.is_centred() && coded.codings.len() == 3);
    let query = [0.9, 0.12, 0.41];
    let bounds = QueryCodes::new(&query, coded.centre());
    for (row, vector) in vectors.chunks(3).enumerate() {
        let sum = bounds.codes.iter().zip(&coded.codes[row * 3..]);
        let sum = sum.map(|(&a, &b)| i32::from(a) * i32::from(b)).sum();
        let Coding {
            scale,
            length,
            error,
            offset,
        } = coded.codings[row];
        let score = bounds.bounds.score(sum, scale, offset);
        let margin = bounds.bounds.margin(error, length);
        let expected: f32 = query.iter().zip(vector).map(|(a, b)| a * b).sum();
        assert!(
            (score - expected).abs() <= margin && margin < 1e-4,
            "{score} {expected} {margin}"
        );
    }
}

#[test]
fn words_hold_four_codes() {
    let codes = |range| {
        let query = QueryWords::new(&[1.0, -1.0, 0.0, 0.5, 1.0], &[], range);
        let bytes = |word: &i32| word.to_le_bytes().map(|byte| byte as i8);
        let bytes: Vec<i8> = query.words.iter().flat_map(bytes).collect();
        (bytes, query.sum)
    };
    let whole = vec![127, -127, 0, 64, 127, 0, 0, 0];
    assert_eq!(codes(QueryRange::Bytes), (whole, 191));
    // The first and the fifth value are in one sum.
    let shared = vec![62, -62, 0, 31, 62, 0, 0, 0];
    assert_eq!(codes(QueryRange::Groups), (shared, 93));
}

proptest! {
    /// From flat vectors to such with a single large value, around a centre or not.
    #[test]
    fn bounds_hold_however_coarse_a_query_is(
        dim in 1usize..150, power in 0i32..12, shared in 0.0f32..3.0, seed in any::<u64>(), centred in any::<bool>(),
    ) {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut vector = || -> Vec<f32> {
            let value = |_| random.random_range(-1.0f32..1.0);
            let value = (0..dim).map(value).map(|x| x.signum() * x.abs().powi(power) + shared);
            let mut vector: Vec<f32> = value.collect();
            perennial_core::normalize_rows(&mut vector, dim).unwrap();
            vector
        };
        let (query, rows) = (vector(), [vector(), vector(), vector()]);
        let coded = if centred {
            CodedRows::around_mean(&rows.concat(), dim)
        } else {
            let mut coded = CodedRows::default();
            for row in &rows {
                let mut codes = Vec::new();
                let coding = encode(row, &[], &mut codes);
                coded.push(&codes, coding);
            }
            coded
        };
        for range in [QueryRange::Bytes, QueryRange::Groups] {
            let words = QueryWords::new(&query, coded.centre(), range);
            let bytes = words.words.iter().flat_map(|word| word.to_le_bytes());
            let bytes: Vec<i32> = bytes.map(|byte| i32::from(byte as i8)).collect();
            for group in bytes.chunks(4 * GROUP_WORDS).filter(|_| range == QueryRange::Groups) {
                for half in [0, 2] {
                    let codes = group.chunks(4).flat_map(|word| &word[half..half + 2]);
                    let above: i32 = codes.clone().filter(|&&code| code > 0).sum();
                    let below: i32 = codes.filter(|&&code| code < 0).sum();
                    prop_assert!(255 * above <= i32::from(i16::MAX));
                    prop_assert!(255 * below >= i32::from(i16::MIN));
                }
            }
            for (row, (codes, coding)) in rows.iter().zip(coded.codes.chunks(dim).zip(&coded.codings)) {
                let sum = bytes.iter().zip(codes).map(|(a, &b)| a * i32::from(b)).sum();
                let score = words.bounds.score(sum, coding.scale, coding.offset);
                let margin = words.bounds.margin(coding.error, coding.length);
                let expected: f64 = query.iter().zip(row).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                prop_assert!(
                    (f64::from(score) - expected).abs() <= f64::from(margin),
                    "{:?} {} {} {}", range, score, expected, margin
                );
            }
        }
    }
}
