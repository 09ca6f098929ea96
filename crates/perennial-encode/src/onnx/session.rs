//! A loaded graph, and a run of it, by one of two runtimes.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::description::Description;
use super::error::GraphError;
use super::graph_file::GraphFile;
#[cfg(feature = "onnxruntime")]
use super::onnxruntime::OnnxruntimeGraph;
use super::rows_first::rows_first;
use super::rten_runtime::RtenGraph;
use super::run::{Given, Output, RunSize};
use super::widened::widened;
use crate::graph_runtime::GraphRuntime;

/// A graph that is ready to run, and what its file says about it.
pub(crate) struct Session {
    about: Description,
    loaded: Loaded,
}

enum Loaded {
    Rten(Box<RtenGraph>),
    #[cfg(feature = "onnxruntime")]
    Onnxruntime(OnnxruntimeGraph),
}

impl Session {
    /// Loads a graph for runs that ask for these outputs. `external` gives a file beside it by name.
    ///
    /// # Errors
    /// [`GraphError`]. All operators that are not supported are named in one.
    pub(crate) fn load(
        file: &str,
        content: Vec<u8>,
        mut external: impl FnMut(&str) -> Result<Vec<u8>, GraphError>,
        outputs: &[&str],
        runtime: &GraphRuntime,
    ) -> Result<Self, GraphError> {
        let graph = GraphFile::read(file, &content)?;
        let about = Description::of(file, &graph)?;
        for output in outputs {
            about.output(output)?;
        }
        let content = rows_first(file, &content, &graph)?.unwrap_or(content);
        let graph = GraphFile::read(file, &content)?;
        // Before what may be large is read.
        runtime.open()?;
        let mut data = BTreeMap::new();
        for name in &graph.external {
            data.insert(name.clone(), external(name)?);
        }
        let loaded = match runtime {
            GraphRuntime::Rten => {
                let apart = graph.apart();
                let wide = widened(file, &content, &graph)?;
                drop(graph);
                let content = wide.unwrap_or(content);
                Loaded::Rten(RtenGraph::load(file, content, data, &apart)?.into())
            }
            #[cfg(feature = "onnxruntime")]
            GraphRuntime::Onnxruntime(library) => {
                let parts = OnnxruntimeGraph::parts(file, &content, &graph, &data, outputs)?;
                drop(graph);
                drop(content);
                drop(data);
                Loaded::Onnxruntime(OnnxruntimeGraph::load(file, parts, library)?)
            }
            #[cfg(not(feature = "onnxruntime"))]
            GraphRuntime::Onnxruntime(library) => {
                let file = library.clone();
                return Err(crate::library_error::LibraryError::NotBuilt { file }.into());
            }
        };
        Ok(Self { about, loaded })
    }

    /// What the file says about the graph.
    pub(crate) fn about(&self) -> &Description {
        &self.about
    }

    /// What goes into one run.
    pub(crate) fn run_size(&self) -> RunSize {
        match self.loaded {
            Loaded::Rten(_) => RtenGraph::RUN_SIZE,
            #[cfg(feature = "onnxruntime")]
            Loaded::Onnxruntime(_) => OnnxruntimeGraph::RUN_SIZE,
        }
    }

    /// Runs the graph for one output, which is among those that it was loaded for.
    ///
    /// # Errors
    /// [`GraphError::Run`], and [`GraphError::Shape`] for an output that is not of floating-point numbers.
    pub(crate) fn run(&self, inputs: Vec<Given<'_>>, output: &str) -> Result<Output, GraphError> {
        let failed = |problem: String| GraphError::Run {
            file: self.about.file().to_owned(),
            problem,
        };
        // The runtime is careful with its input, but a defect of it must not end a service.
        let run = catch_unwind(AssertUnwindSafe(|| match &self.loaded {
            Loaded::Rten(graph) => graph.run(inputs, output),
            #[cfg(feature = "onnxruntime")]
            Loaded::Onnxruntime(graph) => graph.run(inputs, output),
        }));
        match run {
            Ok(Ok(Some(output))) => Ok(output),
            Ok(Ok(None)) => Err(GraphError::Shape {
                file: self.about.file().to_owned(),
                output: output.to_owned(),
                shape: Vec::new(),
                problem: "its numbers are no floating-point ones; choose another output".to_owned(),
            }),
            Ok(Err(problem)) => Err(failed(problem)),
            Err(_) => Err(failed(
                "the runtime has a defect that this input meets".to_owned(),
            )),
        }
    }

    /// Does something for each of many, and several at a time where each is a run of one input and the runtime's threads are then used better.
    pub(crate) fn each<T: Sync, R: Send>(
        &self,
        parts: &[T],
        alone: bool,
        work: impl Fn(&T) -> Result<R, GraphError> + Sync + Send,
    ) -> Result<Vec<R>, GraphError> {
        match &self.loaded {
            Loaded::Rten(graph) if alone => graph.each(parts, work),
            // onnxruntime's sessions take one run at a time, on all threads.
            _ => parts.iter().map(work).collect(),
        }
    }
}
