//! ONNX graphs run by onnxruntime, from a library that whoever runs the program names.
//!
//! The library gets the [`excerpt`] that an output needs, from memory, and nothing else: it opens no file of a model, loads no operators, runs
//! on the processor alone, and takes no settings from a graph.

mod library;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use half::f16;
use ort::environment::Environment;
use ort::logging::LogLevel;
use ort::value::{DynValue, Tensor};

use super::apart::bare;
use super::error::GraphError;
use super::excerpt::excerpt;
use super::graph_file::GraphFile;
use super::run::{Given, Numbers, Output, RunSize, guarded};
pub(crate) use library::open;

/// Operators above which they are not all tried alone after a graph was refused.
const TRIED: usize = 256;

/// A graph that onnxruntime has loaded.
pub(super) struct OnnxruntimeGraph {
    /// One for each output: a run computes what its output depends on, and needs no other inputs. Behind locks because of two runs of a session
    /// at the same time, which `ort` holds to be unsafe; each uses all threads.
    sessions: BTreeMap<String, Mutex<ort::session::Session>>,
    /// The types of inputs, as the format numbers them.
    elements: BTreeMap<String, u64>,
}

/// What is given to the library.
pub(super) struct Parts {
    /// For each output, the part of the graph that it depends on.
    files: BTreeMap<String, Vec<u8>>,
    elements: BTreeMap<String, u64>,
    operators: BTreeSet<String>,
    opsets: Vec<u8>,
}

impl OnnxruntimeGraph {
    /// Three pictures at 224 px. A picture takes as long in a run of one as in a run of twenty, and the library keeps the memory of its
    /// largest run.
    pub(super) const RUN_SIZE: RunSize = RunSize {
        pixel_bytes: 2 << 20,
        tokens: 1024,
    };

    /// What the library needs to run a graph for these outputs; file and data are not needed after that.
    ///
    /// # Errors
    /// See [`excerpt`]; [`GraphError::Runtime`] for a graph with functions.
    pub(super) fn parts(
        file: &str,
        content: &[u8],
        graph: &GraphFile<'_>,
        data: &BTreeMap<String, Vec<u8>>,
        outputs: &[&str],
    ) -> Result<Parts, GraphError> {
        if graph.functions {
            return Err(GraphError::Runtime {
                file: file.to_owned(),
                problem: "it defines operators of its own (functions), which are not given to onnxruntime; write them into the graph \
                          (onnx.inliner.inline_local_functions)"
                    .to_owned(),
            });
        }
        let mut files = BTreeMap::new();
        for output in outputs {
            files.insert(
                (*output).to_owned(),
                excerpt(file, content, graph, data, output)?,
            );
        }
        let inputs = graph.inputs.iter();
        Ok(Parts {
            files,
            elements: inputs
                .map(|input| (input.name.clone(), input.element))
                .collect(),
            operators: graph.operators.clone(),
            opsets: graph.opsets_as_fields(),
        })
    }

    /// Loads a graph.
    ///
    /// # Errors
    /// [`GraphError::Library`], [`GraphError::Unsupported`] with all operators that are not known, or [`GraphError::Runtime`].
    pub(super) fn load(file: &str, parts: Parts, library: &Path) -> Result<Self, GraphError> {
        let environment = library::environment(library)?;
        let mut sessions = BTreeMap::new();
        for (output, content) in parts.files {
            let session = guarded(file, || session(&environment, &content))?;
            let session = session.map_err(|error| {
                why(
                    file,
                    &environment,
                    &parts.operators,
                    &parts.opsets,
                    &error.to_string(),
                )
            })?;
            sessions.insert(output, Mutex::new(session));
        }
        let elements = parts.elements;
        Ok(Self { sessions, elements })
    }

    /// One output of a run; `None` if it is not of floating-point numbers.
    ///
    /// **Errors**: what the library says.
    pub(super) fn run(
        &self,
        inputs: Vec<Given<'_>>,
        output: &str,
    ) -> Result<Option<Output>, String> {
        let session = self.sessions.get(output);
        let session = session.ok_or_else(|| format!("it was not loaded for output {output}"))?;
        let given = |input: Given<'_>| {
            let element = self.elements.get(input.name).copied().unwrap_or_default();
            Ok((
                input.name.to_owned(),
                value(element, input.shape, input.numbers)?,
            ))
        };
        let run = || {
            let inputs: ort::Result<Vec<(String, DynValue)>> =
                inputs.into_iter().map(given).collect();
            let mut session = session.lock().unwrap_or_else(PoisonError::into_inner);
            let outputs = session.run(inputs?)?;
            Ok(outputs.get(output).and_then(floats))
        };
        run().map_err(|error: ort::Error| error.to_string())
    }
}

fn session(environment: &Environment, content: &[u8]) -> ort::Result<ort::session::Session> {
    ort::session::Session::builder(environment)?
        // Errors are returned, and need not be printed as well.
        .with_log_level(LogLevel::Fatal)?
        // Not what the first bytes look like.
        .with_config_entry("session.load_model_format", "ONNX")?
        // It would keep a plan, and memory as that says, for every shape.
        .with_memory_pattern(false)?
        .commit_from_memory(content)
}

/// The library stops at the first operator that it does not know. Here each is tried alone, so that one error names them all.
fn why(
    file: &str,
    environment: &Environment,
    operators: &BTreeSet<String>,
    opsets: &[u8],
    problem: &str,
) -> GraphError {
    let mut what = BTreeMap::new();
    for operator in operators.iter().take(TRIED) {
        let alone = guarded(file, || session(environment, &bare(operator, opsets)));
        if let Ok(Err(error)) = alone {
            let error = error.to_string();
            // Without its inputs every other operator is refused for that.
            if error.contains("not a registered function/op") || error.contains("No Op registered")
            {
                what.insert(operator.clone(), "no such operator".to_owned());
            }
        }
    }
    GraphError::unsupported(file, what).unwrap_or_else(|| GraphError::Runtime {
        file: file.to_owned(),
        problem: problem.to_owned(),
    })
}

/// The tensor of an input, in the type that the graph declares.
fn value(element: u64, shape: Vec<usize>, numbers: Numbers) -> ort::Result<DynValue> {
    Ok(match (numbers, element) {
        (Numbers::Floats(values), 10) => {
            let values: Vec<f16> = values.into_iter().map(f16::from_f32).collect();
            Tensor::from_array((shape, values))?.into_dyn()
        }
        (Numbers::Floats(values), 11) => {
            let values: Vec<f64> = values.into_iter().map(f64::from).collect();
            Tensor::from_array((shape, values))?.into_dyn()
        }
        (Numbers::Floats(values), _) => Tensor::from_array((shape, values))?.into_dyn(),
        (Numbers::Integers(values), 6) => Tensor::from_array((shape, values))?.into_dyn(),
        (Numbers::Integers(values), _) => {
            let values: Vec<i64> = values.into_iter().map(i64::from).collect();
            Tensor::from_array((shape, values))?.into_dyn()
        }
    })
}

/// Floating-point numbers of any of three widths, in one.
fn floats(value: &DynValue) -> Option<Output> {
    let of = |shape: &[i64], values| {
        let shape = shape.iter().map(|&size| usize::try_from(size).ok());
        Some(Output {
            shape: shape.collect::<Option<_>>()?,
            values,
        })
    };
    if let Ok((shape, values)) = value.try_extract_tensor::<f32>() {
        return of(shape, values.to_vec());
    }
    if let Ok((shape, values)) = value.try_extract_tensor::<f16>() {
        return of(shape, values.iter().map(|value| value.to_f32()).collect());
    }
    let (shape, values) = value.try_extract_tensor::<f64>().ok()?;
    of(shape, values.iter().map(|&value| value as f32).collect())
}
