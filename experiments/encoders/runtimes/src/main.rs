//! Times one ONNX graph in one runtime, and writes what it gives.
//!
//! `runtimes RUNTIME MODEL INPUTS THREADS RUNS OUTPUT`: INPUTS is a folder that `measure_runtimes.py` writes: `inputs.txt` with one line an
//! input (`name f32|i64 dimensions…`), and the values in `NAME.bin`. Prints the seconds of loading, of the first run and of every further run, of
//! the clock and of the processor (`1.5/1.4`); the first output goes to OUTPUT as little-endian f32.

use std::path::Path;
use std::time::Instant;

/// One input of the graph.
struct Input {
    name: String,
    shape: Vec<usize>,
    values: Values,
}

enum Values {
    Floats(Vec<f32>),
    Integers(Vec<i64>),
}

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [runtime, model, inputs, threads, runs, output] = arguments.as_slice() else {
        return Err("usage: runtimes rten|tract MODEL INPUTS THREADS RUNS OUTPUT".into());
    };
    let inputs = read_inputs(Path::new(inputs))?;
    let (threads, runs) = (threads.parse()?, runs.parse()?);
    let started = Started::now();
    let mut run: Box<dyn FnMut() -> Outcome<Vec<f32>>> = match runtime.as_str() {
        #[cfg(feature = "rten")]
        "rten" => with_rten(model, inputs, threads, false)?,
        #[cfg(feature = "rten")]
        "rten-prepacked" => with_rten(model, inputs, threads, true)?,
        #[cfg(feature = "tract")]
        "tract" => with_tract(model, inputs, threads)?,
        other => return Err(format!("no runtime {other}").into()),
    };
    let mut times = vec![started.elapsed()?];
    let mut values = Vec::new();
    for _ in 0..=runs {
        let started = Started::now();
        values = run()?;
        times.push(started.elapsed()?);
    }
    println!("{}", times.join(" "));
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    std::fs::write(output, bytes)?;
    Ok(())
}

/// The clock, and the processor time of all threads: on a machine that does other work the clock says little.
struct Started {
    clock: Instant,
    processor: Outcome<u64>,
}

impl Started {
    fn now() -> Self {
        Self { processor: processor_nanoseconds(), clock: Instant::now() }
    }

    fn elapsed(self) -> Outcome<String> {
        let clock = self.clock.elapsed().as_secs_f64();
        let processor = (processor_nanoseconds()? - self.processor?) as f64 / 1e9;
        Ok(format!("{clock}/{processor}"))
    }
}

fn processor_nanoseconds() -> Outcome<u64> {
    let mut sum = 0;
    for task in std::fs::read_dir("/proc/self/task")? {
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        sum += text.split_whitespace().next().ok_or("no schedstat")?.parse::<u64>()?;
    }
    Ok(sum)
}

fn read_inputs(folder: &Path) -> Outcome<Vec<Input>> {
    let list = std::fs::read_to_string(folder.join("inputs.txt"))?;
    let mut inputs = Vec::new();
    for line in list.lines() {
        let mut words = line.split_whitespace();
        let (Some(name), Some(kind)) = (words.next(), words.next()) else {
            return Err(format!("not an input: {line}").into());
        };
        let shape = words.map(str::parse).collect::<Result<Vec<usize>, _>>()?;
        let bytes = std::fs::read(folder.join(format!("{name}.bin")))?;
        let values = match kind {
            "f32" => Values::Floats(bytes.as_chunks().0.iter().map(|&value| f32::from_le_bytes(value)).collect()),
            _ => Values::Integers(bytes.as_chunks().0.iter().map(|&value| i64::from_le_bytes(value)).collect()),
        };
        inputs.push(Input { name: name.to_owned(), shape, values });
    }
    Ok(inputs)
}

#[cfg(feature = "rten")]
fn with_rten(model: &str, inputs: Vec<Input>, threads: usize, prepack: bool) -> Outcome<Box<dyn FnMut() -> Outcome<Vec<f32>>>> {
    use rten::{Model, ModelOptions, RunOptions, ThreadPool, Value};

    let model: Model = ModelOptions::with_all_ops().prepack_weights(prepack).load(std::fs::read(model)?)?;
    let pool = std::sync::Arc::new(ThreadPool::with_num_threads(threads));
    let output = *model.output_ids().first().ok_or("no output")?;
    let mut values = Vec::new();
    for input in inputs {
        let value = match input.values {
            Values::Floats(values) => Value::from_shape(&input.shape, values)?,
            Values::Integers(values) => Value::from_shape(&input.shape, values.iter().map(|&id| id as i32).collect::<Vec<i32>>())?,
        };
        values.push((model.node_id(&input.name)?, value));
    }
    Ok(Box::new(move || {
        let inputs = values.iter().map(|(id, value)| (*id, value.as_view().into())).collect();
        let options = RunOptions::default().with_thread_pool(Some(pool.clone()));
        let [value] = model.run_n(inputs, [output], Some(options))?;
        let tensor = value.into_tensor::<f32>().ok_or("the output is not f32")?;
        Ok(tensor.into_data())
    }))
}

#[cfg(feature = "tract")]
fn with_tract(model: &str, inputs: Vec<Input>, threads: usize) -> Outcome<Box<dyn FnMut() -> Outcome<Vec<f32>>>> {
    use tract_onnx::prelude::*;

    if threads > 1 {
        let executor = tract_linalg::multithread::Executor::multithread(threads);
        tract_linalg::multithread::set_default_executor(executor);
    }
    // It takes the names of dimensions that exporters write inside the graph for other sizes than those of the inputs.
    let reader = tract_onnx::onnx().with_ignore_output_shapes(true).with_ignore_value_info(true);
    let mut model = reader.model_for_path(model)?;
    let mut values = tvec![];
    let names: Vec<String> = model.input_outlets()?.iter().map(|outlet| model.node(outlet.node).name.clone()).collect();
    for (number, name) in names.iter().enumerate() {
        let input = inputs.iter().find(|input| input.name == *name).ok_or("an input is missing")?;
        let value: Tensor = match &input.values {
            Values::Floats(values) => Tensor::from_shape(&input.shape, values)?,
            Values::Integers(values) => Tensor::from_shape(&input.shape, values)?,
        };
        model.set_input_fact(number, TypedFact::shape_and_dt_of(&value).into())?;
        values.push(value.into_tvalue());
    }
    let model = model.into_optimized()?.into_runnable()?;
    Ok(Box::new(move || {
        let outputs = model.run(values.clone())?;
        let output = outputs[0].cast_to::<f32>()?;
        Ok(output.try_as_plain_ram()?.as_slice::<f32>()?.to_vec())
    }))
}
