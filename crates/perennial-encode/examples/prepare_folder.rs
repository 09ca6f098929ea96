//! Prepares the JPEGs of a folder for a network, once for every line on standard input, and says when it is done: one of the programs
//! that `experiments/encoders/decode_speed.py` compares.
//!
//! `prepare_folder FOLDER THREADS [decode]`; with `decode`, pictures are decoded and not scaled.

use std::error::Error;
use std::io::{self, BufRead, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs, hint, thread};

use perennial_encode::{DecodeLimits, Picture, prepare_picture, presets};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().collect();
    let [_, folder, threads, rest @ ..] = arguments.as_slice() else {
        return Err("usage: prepare_folder FOLDER THREADS [decode]".into());
    };
    let (threads, decode_only) = (threads.parse::<usize>()?, !rest.is_empty());
    let mut paths: Vec<_> = fs::read_dir(folder)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "jpg"));
    paths.sort();
    let files: Vec<Vec<u8>> = paths.iter().map(fs::read).collect::<Result<_, _>>()?;
    let spec = presets::preset("clip", None)?;
    let prepare = |file: &[u8]| {
        let picture = Picture::decode(file, DecodeLimits::UNTRUSTED)?;
        if !decode_only {
            hint::black_box(prepare_picture(&picture, &spec)?);
        }
        hint::black_box(picture);
        Ok::<(), Box<dyn Error + Send + Sync>>(())
    };
    let mut answers = io::stdout();
    writeln!(answers, "{} files", files.len())?;
    answers.flush()?;
    for line in io::stdin().lock().lines() {
        line?;
        let next = AtomicUsize::new(0);
        let work = || {
            while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                prepare(file)?;
            }
            Ok::<(), Box<dyn Error + Send + Sync>>(())
        };
        let done = thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            workers.into_iter().try_for_each(|worker| {
                let end = worker.join();
                end.expect("a thread that panicked has printed why")
            })
        });
        done.map_err(|error| error.to_string())?;
        writeln!(answers, "done")?;
        answers.flush()?;
    }
    Ok(())
}
