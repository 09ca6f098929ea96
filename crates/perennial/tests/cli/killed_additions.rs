//! `gallery add DIR`, killed at any moment. `experiments/kill-while-adding.py` does the same with changed and deleted files, many times.

use image::{Rgb, RgbImage};
use serde_json::json;

use crate::bench::Bench;
use crate::compaction::{content, rounds};
use crate::pictures::with_model;

/// Several durable writes.
const FILES: u32 = 1600;

fn photos(bench: &Bench) {
    for number in 0..FILES {
        let image = RgbImage::from_fn(16, 16, |x, y| {
            Rgb([(x * number) as u8, (y * 9) as u8, (number >> (x % 8)) as u8])
        });
        let folder = bench.path(&format!("photos/class-{}", number % 5));
        std::fs::create_dir_all(&folder).unwrap();
        image.save(folder.join(format!("{number:04}.png"))).unwrap();
    }
}

/// Rounds: `PERENNIAL_KILL_ROUNDS`, 6 without.
#[test]
fn a_killed_addition_keeps_what_it_stored_and_the_next_completes_it() {
    let bench = with_model();
    photos(&bench);
    let start = std::time::Instant::now();
    bench.succeed(&["gallery", "--gallery", "whole", "add", "photos"]);
    let duration = start.elapsed();
    let whole = content(&bench.path("whole"));
    assert_eq!(whole.len(), FILES as usize);

    let folder = bench.path("gallery");
    let (mut stored, mut midway) = (Vec::new(), 0);
    let rounds = rounds(6);
    for round in 0..rounds {
        let mut addition = bench
            .command(&["gallery", "add", "photos"])
            .spawn()
            .unwrap();
        std::thread::sleep(duration.mul_f64((round % 8 + 1) as f64 / 9.0));
        addition.kill().unwrap();
        addition.wait().unwrap();
        let now = content(&folder);
        assert!(stored.iter().all(|item| now.contains(item)), "{round}");
        assert!(now.iter().all(|item| whole.contains(item)), "{round}");
        midway += u64::from(!now.is_empty() && now.len() < whole.len());
        stored = now;
        if stored.len() == whole.len() {
            // Later rounds have something to do again.
            std::fs::remove_dir_all(&folder).unwrap();
            stored.clear();
        }
    }
    bench.succeed(&["gallery", "add", "photos"]);
    assert_eq!(content(&folder), whole);
    let again = bench.answer(&["gallery", "add", "photos"]);
    assert_eq!(
        [&again["inserted"], &again["replaced"], &again["unchanged"]],
        [&json!(0), &json!(0), &json!(FILES)]
    );
    println!("{rounds} additions killed, {midway} of them midway: 0 items lost, 0 doubled");
}
