//! A loaded graph, and a run of it.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};

use rten::{Model, ModelOptions, NodeId, RunOptions, ThreadPool, Value, ValueOrView};
use rten_tensor::Layout;

use super::apart::Apart;
use super::declared::Declared;
use super::error::GraphError;
use super::graph_file::GraphFile;

/// A graph that is ready to run, and what its file says about it.
pub(crate) struct Session {
    file: String,
    model: Model,
    pool: Arc<ThreadPool>,
    inputs: Vec<Declared>,
    outputs: Vec<Declared>,
    needed: BTreeMap<String, Vec<String>>,
    table_rows: BTreeMap<String, u64>,
    scales_by_batch: bool,
}

/// The result of a run: an f32 tensor.
pub(crate) struct Output {
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

impl Session {
    /// Loads a graph. `external` gives a file beside it by name.
    ///
    /// # Errors
    /// [`GraphError`]. All operators that are not supported are named in one.
    pub(crate) fn load(
        file: &str,
        content: Vec<u8>,
        mut external: impl FnMut(&str) -> Result<Vec<u8>, GraphError>,
    ) -> Result<Self, GraphError> {
        let graph = GraphFile::read(file, &content)?;
        let mut options = ModelOptions::with_all_ops();
        for name in &graph.external {
            options.external_data(name, external(name)?);
        }
        let random: Vec<String> = graph
            .operators
            .iter()
            .filter(|name| name.starts_with("Random") || *name == "Multinomial")
            .cloned()
            .collect();
        if !random.is_empty() {
            let what = random
                .iter()
                .map(|name| format!("{name} (its result would be another every time)"))
                .collect();
            return Err(GraphError::Unsupported {
                file: file.to_owned(),
                what,
            });
        }
        let outputs = graph.outputs.clone();
        let names =
            |inputs: Vec<&Declared>| inputs.into_iter().map(|input| input.name.clone()).collect();
        let needed = outputs
            .iter()
            .map(|output| (output.name.clone(), names(graph.needed(&output.name))))
            .collect();
        let table_rows = graph
            .inputs
            .iter()
            .filter_map(|input| Some((input.name.clone(), graph.table_rows(&input.name)?)))
            .collect();
        let (inputs, scales_by_batch) = (graph.inputs.clone(), graph.scales_by_batch());
        let apart = graph.apart();
        // The runtime is careful with its input, but a defect of it must not end a service.
        let loaded = catch_unwind(AssertUnwindSafe(|| options.load(content)));
        let model = match loaded {
            Ok(Ok(model)) => model,
            Ok(Err(error)) => return Err(why(file, &apart, &error)),
            Err(_) => {
                let problem = "the runtime has a defect that this file meets".to_owned();
                return Err(GraphError::Runtime {
                    file: file.to_owned(),
                    problem,
                });
            }
        };
        Ok(Self {
            file: file.to_owned(),
            model,
            pool: pool(),
            inputs,
            outputs,
            needed,
            table_rows,
            scales_by_batch,
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

    /// Runs the graph for one output.
    ///
    /// # Errors
    /// [`GraphError::Run`], and [`GraphError::Shape`] for an output that is not f32.
    pub(crate) fn run(
        &self,
        inputs: Vec<(&str, Value)>,
        output: &str,
    ) -> Result<Output, GraphError> {
        let failed = |problem: String| GraphError::Run {
            file: self.file.clone(),
            problem,
        };
        let node = |name: &str| {
            self.model
                .node_id(name)
                .map_err(|error| failed(error.to_string()))
        };
        let inputs = inputs
            .into_iter()
            .map(|(name, value)| Ok((node(name)?, ValueOrView::Value(value))))
            .collect::<Result<Vec<(NodeId, ValueOrView<'_>)>, GraphError>>()?;
        let id = node(output)?;
        let options = RunOptions::default().with_thread_pool(Some(self.pool.clone()));
        let run = catch_unwind(AssertUnwindSafe(|| {
            self.model.run_n(inputs, [id], Some(options))
        }));
        let [value] = match run {
            Ok(Ok(values)) => values,
            Ok(Err(error)) => return Err(failed(error.to_string())),
            Err(_) => {
                return Err(failed(
                    "the runtime has a defect that this input meets".to_owned(),
                ));
            }
        };
        let Some(tensor) = value.into_tensor::<f32>() else {
            return Err(GraphError::Shape {
                file: self.file.clone(),
                output: output.to_owned(),
                shape: Vec::new(),
                problem: "its numbers are no floating-point ones; choose another output".to_owned(),
            });
        };
        Ok(Output {
            shape: tensor.shape().to_vec(),
            values: tensor.into_data(),
        })
    }

    /// Does something for each of many on the threads that runs use.
    pub(crate) fn in_pool<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.pool.run(work)
    }
}

/// The threads of all graphs. The runtime's own pool counts cores; on two threads of one core this one is up to a third faster.
fn pool() -> Arc<ThreadPool> {
    static POOL: OnceLock<Arc<ThreadPool>> = OnceLock::new();
    // 0: as many as the rest of the program uses, `RAYON_NUM_THREADS` included.
    POOL.get_or_init(|| Arc::new(ThreadPool::with_num_threads(0)))
        .clone()
}

/// The runtime stops at the first operator that it does not know. Here each node is tried alone, so that one error names them all.
fn why(file: &str, apart: &Apart, error: &rten::LoadError) -> GraphError {
    let mut options = ModelOptions::with_all_ops();
    options.enable_optimization(false);
    let mut what: BTreeMap<String, String> = BTreeMap::new();
    for (operator, model) in apart.files() {
        if what.contains_key(operator) {
            continue;
        }
        let loaded = catch_unwind(AssertUnwindSafe(|| options.load(model)));
        if let Ok(Err(error)) = loaded
            && error.kind() == rten::LoadErrorKind::OperatorInvalid
        {
            what.insert(operator.to_owned(), error.to_string());
        }
    }
    if what.is_empty() {
        return GraphError::Runtime {
            file: file.to_owned(),
            problem: error.to_string(),
        };
    }
    let what = what
        .into_iter()
        .map(|(operator, problem)| format!("{operator} ({problem})"))
        .collect();
    GraphError::Unsupported {
        file: file.to_owned(),
        what,
    }
}
