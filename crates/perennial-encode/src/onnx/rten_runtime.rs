//! ONNX graphs run by `rten`.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use rayon::prelude::*;
use rten::{Model, ModelOptions, NodeId, RunOptions, ThreadPool, Value, ValueOrView};
use rten_tensor::Layout;

use super::apart::Apart;
use super::error::GraphError;
use super::run::{Given, Numbers, Output, RunSize, guarded};

/// A graph that rten has loaded.
pub(super) struct RtenGraph {
    model: Model,
    pool: Arc<ThreadPool>,
}

impl RtenGraph {
    /// 20 pictures at 224 px. A convolutional network needs some twenty times as much for what lies between.
    pub(super) const RUN_SIZE: RunSize = RunSize {
        pixel_bytes: 12 << 20,
        tokens: 4096,
    };

    /// Loads a graph; `data` are the files beside it, by name.
    ///
    /// # Errors
    /// [`GraphError::Unsupported`] with all operators that are not known, or [`GraphError::Runtime`].
    pub(super) fn load(
        file: &str,
        content: Vec<u8>,
        data: BTreeMap<String, Vec<u8>>,
        apart: &Apart,
    ) -> Result<Self, GraphError> {
        let mut options = ModelOptions::with_all_ops();
        for (name, content) in data {
            // What the runtime says is "disallowed path".
            if !has_data_ending(&name) {
                return Err(GraphError::ExternalEnding {
                    file: file.to_owned(),
                    location: name,
                });
            }
            options.external_data(&name, content);
        }
        let model = guarded(file, || options.load(content))?;
        Ok(Self {
            model: model.map_err(|error| why(file, apart, &error))?,
            pool: pool(),
        })
    }

    /// One output of a run; `None` if it is not of floating-point numbers.
    ///
    /// **Errors**: what the runtime says.
    pub(super) fn run(
        &self,
        inputs: Vec<Given<'_>>,
        output: &str,
    ) -> Result<Option<Output>, String> {
        let node = |name: &str| self.model.node_id(name).map_err(|error| error.to_string());
        let given = |input: Given<'_>| {
            let shape = input.shape.as_slice();
            let value = match input.numbers {
                Numbers::Floats(values) => {
                    Value::from_shape(shape, values).map_err(|error| error.to_string())
                }
                Numbers::Integers(values) => {
                    Value::from_shape(shape, values).map_err(|error| error.to_string())
                }
            };
            Ok((node(input.name)?, ValueOrView::Value(value?)))
        };
        let inputs = inputs
            .into_iter()
            .map(given)
            .collect::<Result<Vec<(NodeId, ValueOrView<'_>)>, String>>()?;
        let options = RunOptions::default().with_thread_pool(Some(self.pool.clone()));
        let values = self.model.run_n(inputs, [node(output)?], Some(options));
        let [value] = values.map_err(|error| error.to_string())?;
        Ok(value.into_tensor::<f32>().map(|tensor| Output {
            shape: tensor.shape().to_vec(),
            values: tensor.into_data(),
        }))
    }

    /// Does something for each of many at the same time, on the threads that runs use.
    pub(super) fn each<T: Sync, R: Send>(
        &self,
        parts: &[T],
        work: impl Fn(&T) -> Result<R, GraphError> + Sync + Send,
    ) -> Result<Vec<R>, GraphError> {
        self.pool.run(|| parts.par_iter().map(work).collect())
    }
}

/// Whether rten reads data beside a graph from a file of this name.
fn has_data_ending(name: &str) -> bool {
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    ending.starts_with("data") || ending.starts_with("onnx_data")
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
        let loaded = guarded(file, || options.load(model));
        if let Ok(Err(error)) = loaded
            && error.kind() == rten::LoadErrorKind::OperatorInvalid
        {
            what.insert(operator.to_owned(), error.to_string());
        }
    }
    GraphError::unsupported(file, what).unwrap_or_else(|| GraphError::Runtime {
        file: file.to_owned(),
        problem: error.to_string(),
    })
}
