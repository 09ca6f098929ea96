//! What a graph takes and gives, as its file says.

use std::collections::BTreeMap;

use super::declared::Declared;
use super::error::GraphError;
use super::graph_file::GraphFile;

/// What a graph's file says about it, whatever runs it.
#[derive(Debug)]
pub(crate) struct Description {
    file: String,
    inputs: Vec<Declared>,
    outputs: Vec<Declared>,
    needed: BTreeMap<String, Vec<String>>,
    table_rows: BTreeMap<String, u64>,
    scales_by_batch: bool,
}

impl Description {
    /// Reads a file, with all checks that come before a runtime sees it.
    ///
    /// # Errors
    /// [`GraphError`].
    pub(crate) fn read(file: &str, content: &[u8]) -> Result<Self, GraphError> {
        Self::of(file, &GraphFile::read(file, content)?)
    }

    /// **Errors**: [`GraphError::Unsupported`] for results that are others every time.
    pub(super) fn of(file: &str, graph: &GraphFile<'_>) -> Result<Self, GraphError> {
        let random = |operator: &&String| {
            let name = operator.rsplit('.').next().unwrap_or_default();
            name.starts_with("Random") || matches!(name, "Bernoulli" | "Multinomial")
        };
        let what: Vec<String> = graph
            .operators
            .iter()
            .filter(random)
            .map(|name| format!("{name} (its result would be another every time)"))
            .collect();
        if !what.is_empty() {
            let file = file.to_owned();
            return Err(GraphError::Unsupported { file, what });
        }
        let names =
            |inputs: Vec<&Declared>| inputs.into_iter().map(|input| input.name.clone()).collect();
        let outputs = graph.outputs.iter();
        let inputs = graph.inputs.iter();
        Ok(Self {
            file: file.to_owned(),
            needed: outputs
                .map(|output| (output.name.clone(), names(graph.needed(&output.name))))
                .collect(),
            table_rows: inputs
                .filter_map(|input| Some((input.name.clone(), graph.table_rows(&input.name)?)))
                .collect(),
            scales_by_batch: graph.scales_by_batch(),
            inputs: graph.inputs.clone(),
            outputs: graph.outputs.clone(),
        })
    }

    /// The file's name, for errors.
    pub(crate) fn file(&self) -> &str {
        &self.file
    }

    /// The output of that name.
    pub(crate) fn output(&self, name: &str) -> Result<&Declared, GraphError> {
        self.outputs
            .iter()
            .find(|output| output.name == name)
            .ok_or_else(|| GraphError::Output {
                file: self.file.clone(),
                asked: name.to_owned(),
                outputs: self
                    .outputs
                    .iter()
                    .map(|output| output.name.clone())
                    .collect(),
            })
    }

    /// All outputs.
    pub(crate) fn outputs(&self) -> &[Declared] {
        &self.outputs
    }

    /// The inputs that an output depends on.
    pub(crate) fn needed(&self, output: &str) -> Vec<&Declared> {
        let needed = self.needed.get(output);
        self.inputs
            .iter()
            .filter(|input| needed.is_some_and(|needed| needed.contains(&input.name)))
            .collect()
    }

    /// An error about the inputs, with all of them.
    pub(crate) fn wrong_inputs(&self, problem: impl Into<String>) -> GraphError {
        let shape = |input: &Declared| match &input.shape {
            Some(shape) => {
                let dims: Vec<String> = shape
                    .iter()
                    .map(|dim| dim.map_or_else(|| "?".to_owned(), |dim| dim.to_string()))
                    .collect();
                format!("{} [{}]", input.name, dims.join(", "))
            }
            None => input.name.clone(),
        };
        GraphError::Inputs {
            file: self.file.clone(),
            problem: problem.into(),
            inputs: self.inputs.iter().map(shape).collect(),
        }
    }

    /// Rows of the table that an input of token ids is looked up in, if that is known.
    pub(crate) fn table_rows(&self, ids: &str) -> Option<u64> {
        self.table_rows.get(ids).copied()
    }

    /// Whether an embedding can depend on what else is in the batch.
    pub(crate) fn scales_by_batch(&self) -> bool {
        self.scales_by_batch
    }
}
