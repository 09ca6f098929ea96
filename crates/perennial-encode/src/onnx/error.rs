//! Why a graph cannot be used.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::library_error::LibraryError;

/// A graph that cannot be used as an encoder.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum GraphError {
    /// The file is something else.
    #[error("{file} is no ONNX graph: {found}; export the encoder to ONNX and give that file")]
    NotOnnx {
        /// The file.
        file: String,
        /// What was found in it.
        found: &'static str,
    },
    /// A pickled file: reading it would run what is in it.
    #[error(
        "{file} is a pickled PyTorch file, which is a program and is not read; export the encoder to ONNX (torch.onnx.export) and give that file"
    )]
    Pickle {
        /// The file.
        file: String,
    },
    /// The file is cut off or damaged.
    #[error("{file} is cut off or damaged: it is no whole ONNX graph; copy or export it again")]
    Damaged {
        /// The file.
        file: String,
    },
    /// The version of the operators is missing or too old.
    #[error("{file} uses {}; export it again with opset 17 or so (at least {first})", opset(*.found))]
    Opset {
        /// The file.
        file: String,
        /// The version in the file.
        found: Option<u64>,
        /// The first version that is accepted.
        first: u64,
    },
    /// Graphs within graphs.
    #[error(
        "{file} holds graphs within graphs more than {limit} levels deep; export it without loops and branches"
    )]
    Depth {
        /// The file.
        file: String,
        /// Levels that are read.
        limit: usize,
    },
    /// A tensor whose sizes do not belong to its data, or that would be far too large.
    #[error(
        "{file}: tensor {tensor}: {problem}; the file is damaged or was made to do harm; export it again"
    )]
    Tensor {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// What is wrong.
        problem: String,
    },
    /// Data outside of the encoder's folder.
    #[error(
        "{file} asks for data in {location:?}; only files beside the graph, without a folder in their name, are read; save the graph again with its \
         data in one file (onnx.save_model with save_as_external_data=False)"
    )]
    External {
        /// The file.
        file: String,
        /// Where the data would be.
        location: String,
    },
    /// Data beside the graph in a file with an ending that the runtime does not read.
    #[error(
        "{file} has data in {location:?}, and beside a graph rten reads only files that end in .data or .onnx_data; save the graph again with onnx.save_model(…, save_as_external_data=True, location=\"model.onnx_data\"), or use onnxruntime (`--onnxruntime`)"
    )]
    ExternalEnding {
        /// The file.
        file: String,
        /// Where the data are.
        location: String,
    },
    /// Data beside the graph that is not one of the encoder's files.
    #[error(
        "{file} needs {missing}, which is not there, or not listed in encoder.files; copy it from where the graph came and import again"
    )]
    ExternalMissing {
        /// The file.
        file: String,
        /// The file that is not there.
        missing: String,
    },
    /// Operators, or settings of operators, that the runtime does not know; all of them.
    #[error("{file} uses what is not supported: {}; export it with another opset, or without these steps", what.join("; "))]
    Unsupported {
        /// The file.
        file: String,
        /// What is not supported.
        what: Vec<String>,
    },
    /// The runtime refuses the graph.
    #[error("{file} cannot be loaded: {problem}")]
    Runtime {
        /// The file.
        file: String,
        /// What the runtime says.
        problem: String,
    },
    /// No output of that name, or several and none is chosen.
    #[error("{file} has no output {asked:?}; its outputs: {}", outputs.join(", "))]
    Output {
        /// The file.
        file: String,
        /// The output that was asked for.
        asked: String,
        /// The outputs that there are.
        outputs: Vec<String>,
    },
    /// The inputs are not those of an encoder of this kind.
    #[error("{file}: {problem}; inputs: {}", inputs.join(", "))]
    Inputs {
        /// The file.
        file: String,
        /// What does not fit.
        problem: String,
        /// The inputs, with their shapes.
        inputs: Vec<String>,
    },
    /// The output cannot be made into one embedding an input.
    #[error("{file}: output {output} is {shape:?}: {problem}")]
    Shape {
        /// The file.
        file: String,
        /// The output.
        output: String,
        /// Its shape in a run.
        shape: Vec<usize>,
        /// What does not fit, and what to do.
        problem: String,
    },
    /// The library that is to run graphs cannot be used.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// A run of the graph failed.
    #[error("{file} failed when it was run: {problem}")]
    Run {
        /// The file.
        file: String,
        /// What the runtime says.
        problem: String,
    },
}

impl GraphError {
    /// Operators that are not supported, with what is wrong with each; `None` if there are none.
    pub(super) fn unsupported(file: &str, what: BTreeMap<String, String>) -> Option<Self> {
        if what.is_empty() {
            return None;
        }
        let named = |(operator, problem)| format!("{operator} ({problem})");
        Some(Self::Unsupported {
            file: file.to_owned(),
            what: what.into_iter().map(named).collect(),
        })
    }

    /// More parts of a kind than are read.
    pub(super) fn too_many(file: &str, what: &str, limit: usize) -> Self {
        Self::Unsupported {
            file: file.to_owned(),
            what: vec![format!("more than {limit} {what}")],
        }
    }
}

fn opset(found: Option<u64>) -> String {
    match found {
        Some(version) => format!("version {version} of the operators (opset)"),
        None => "no version of the standard operators (opset)".to_owned(),
    }
}
