//! Times an imported encoder in one of its runtimes, for `experiments/encoders/measure_runtimes.py`.
//!
//! `encode_speed RUNTIME ENCODER INPUTS RUNS OUTPUT`: RUNTIME is `rten` or a library of onnxruntime; ENCODER a graph or a folder of a model hub;
//! INPUTS a folder with `pixels.bin` (prepared pictures, f32) or `input_ids.bin` (tokens of a batch of texts of one length, i64), whose shape is in
//! `inputs.txt`. Prints the seconds of loading, of the first batch and of each further one, of the clock and of the processor (`1.5/1.4`), and on
//! stderr the memory that is resident then. Threads are those of `RAYON_NUM_THREADS`. The embeddings go to OUTPUT as little-endian f32.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::Instant;

use perennial_core::EncoderFile;
use perennial_encode::import::{ImportOptions, read};
use perennial_encode::{Encoder, GraphRuntime, OutsideModel, Prepared, Values};

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [runtime, encoder, inputs, runs, output] = arguments.as_slice() else {
        return Err("usage: encode_speed rten|LIBRARY ENCODER INPUTS RUNS OUTPUT".into());
    };
    let runtime = match runtime.as_str() {
        "rten" => GraphRuntime::Rten,
        library => GraphRuntime::Onnxruntime(library.into()),
    };
    let (batch, runs) = (batch(Path::new(inputs))?, runs.parse()?);
    let options = ImportOptions {
        runtime: runtime.clone(),
        ..ImportOptions::default()
    };
    let imported = read(Path::new(encoder), &options)?;
    let folder = tempfile::tempdir()?;
    let mut spec = imported.spec;
    for (name, path) in &imported.files {
        let bytes = fs::copy(path, folder.path().join(name))?;
        spec.files.push(EncoderFile {
            name: name.clone(),
            sha256: String::new(),
            bytes,
        });
    }
    let started = Started::now()?;
    let model = OutsideModel::load(encoder, imported.dim, &spec, folder.path(), &runtime)?;
    let mut times = vec![started.elapsed()?];
    let mut embeddings = Vec::new();
    for _ in 0..=runs {
        let started = Started::now()?;
        embeddings = model.encode(&batch)?;
        times.push(started.elapsed()?);
    }
    println!("{}", times.join(" "));
    eprintln!("{}", resident()?);
    let bytes: Vec<u8> = embeddings
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    fs::write(output, bytes)?;
    Ok(())
}

/// The inputs, prepared already.
fn batch(folder: &Path) -> Outcome<Vec<Prepared>> {
    let list = fs::read_to_string(folder.join("inputs.txt"))?;
    for line in list.lines() {
        let mut words = line.split_whitespace();
        let (name, _) = (words.next().ok_or("no name")?, words.next());
        let shape = words.map(str::parse).collect::<Result<Vec<usize>, _>>()?;
        let one = shape.iter().skip(1).product::<usize>().max(1);
        let bytes = || fs::read(folder.join(format!("{name}.bin")));
        match name {
            "pixels" => {
                let floats = |&value: &[u8; 4]| f32::from_le_bytes(value);
                let pixels: Vec<f32> = bytes()?.as_chunks().0.iter().map(floats).collect();
                return Ok(prepared(&pixels, one, Values::Pixels));
            }
            "input_ids" => {
                let token = |&value: &[u8; 8]| u32::try_from(i64::from_le_bytes(value));
                let tokens: Vec<u32> = bytes()?
                    .as_chunks()
                    .0
                    .iter()
                    .map(token)
                    .collect::<Result<_, _>>()?;
                return Ok(prepared(&tokens, one, Values::Tokens));
            }
            _ => {}
        }
    }
    Err("neither pixels nor input_ids".into())
}

fn prepared<T: Clone>(all: &[T], one: usize, values: impl Fn(Vec<T>) -> Values) -> Vec<Prepared> {
    let each = |part: &[T]| Prepared {
        values: values(part.to_vec()),
    };
    all.chunks_exact(one).map(each).collect()
}

/// The clock, and the processor time of all threads: on a machine that does other work the clock says little.
struct Started {
    clock: Instant,
    processor: u64,
}

impl Started {
    fn now() -> Outcome<Self> {
        Ok(Self {
            processor: processor_nanoseconds()?,
            clock: Instant::now(),
        })
    }

    fn elapsed(self) -> Outcome<String> {
        let clock = self.clock.elapsed().as_secs_f64();
        let processor = (processor_nanoseconds()? - self.processor) as f64 / 1e9;
        Ok(format!("{clock}/{processor}"))
    }
}

fn processor_nanoseconds() -> Outcome<u64> {
    let mut sum = 0;
    for task in fs::read_dir("/proc/self/task")? {
        let text = fs::read_to_string(task?.path().join("schedstat"))?;
        let nanoseconds = text.split_whitespace().next().ok_or("no schedstat")?;
        sum += nanoseconds.parse::<u64>()?;
    }
    Ok(sum)
}

fn resident() -> Outcome<String> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS"));
    Ok(line.ok_or("no VmRSS")?.to_owned())
}
