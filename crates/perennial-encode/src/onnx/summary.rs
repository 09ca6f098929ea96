//! What an ONNX file says about its graph, for tools that look at files without running them.

use std::collections::{BTreeMap, BTreeSet};

use super::error::GraphError;
use super::graph_file::GraphFile;

/// What an ONNX file says about its graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GraphSummary {
    /// Names of the inputs that a run must give.
    pub inputs: Vec<String>,
    /// Names of the outputs, with the inputs that each of them depends on.
    pub outputs: BTreeMap<String, Vec<String>>,
    /// Operators, those of branches and loops included, with their domain where it is not the standard one.
    pub operators: BTreeSet<String>,
    /// Names of files beside it that hold data of tensors.
    pub external: BTreeSet<String>,
    /// Rows of the table in which an input of token ids is looked up, for the inputs where that is recognised.
    pub table_rows: BTreeMap<String, u64>,
}

/// Reads what a file says about its graph, with all checks that come before a runtime sees it, and without a runtime. `file` is its name, for
/// errors.
///
/// # Errors
/// [`GraphError`]: no ONNX, cut off, an opset that is too old, sizes that do not belong to the data, more parts than are read.
pub fn graph_summary(file: &str, content: &[u8]) -> Result<GraphSummary, GraphError> {
    let graph = GraphFile::read(file, content)?;
    // What a failed load asks for as well.
    let apart = graph.apart();
    debug_assert!(
        apart
            .files()
            .all(|(name, _)| graph.operators.contains(name))
    );
    let needed = |output: &str| {
        let inputs = graph.needed(output).into_iter();
        inputs.map(|input| input.name.clone()).collect()
    };
    let outputs = graph.outputs.iter();
    let inputs = graph.inputs.iter();
    Ok(GraphSummary {
        inputs: inputs.clone().map(|input| input.name.clone()).collect(),
        outputs: outputs
            .map(|output| (output.name.clone(), needed(&output.name)))
            .collect(),
        table_rows: inputs
            .filter_map(|input| Some((input.name.clone(), graph.table_rows(&input.name)?)))
            .collect(),
        operators: graph.operators.clone(),
        external: graph.external.clone(),
    })
}
