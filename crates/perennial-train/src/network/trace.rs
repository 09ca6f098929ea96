//! A network as an ONNX graph.

use perennial_encode::{Attribute, GraphWriter, Value};
use perennial_kernels::{Convolution, channels_first, transpose};

use super::folded::FoldedConvolution;
use super::stage::Stage;
use super::{Network, layers};

/// The names of the graph's input and output.
const INPUT: &str = "pixels";
const OUTPUT: &str = "embedding";

/// How what is between two parts lies in the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// `[batch, channels, height, width]`
    Map,
    /// `[batch, tokens, dim]`
    Tokens,
    /// `[batch, dim]`
    Row,
}

struct Trace {
    graph: GraphWriter,
    layout: Layout,
    /// What the last part gave.
    current: String,
}

impl Network {
    /// The network for embedding alone as an ONNX file: prepared pixels `[batch, channels, height, width]` to embeddings `[batch, dim]` of unit
    /// length, minus the mean and scaled again where one is given. The linear classifier is left out.
    ///
    /// **Shapes**: `input` is channels, height and width; `mean` is `[dim]`.
    pub(crate) fn onnx(&self, name: &str, input: [usize; 3], mean: Option<&[f32]>) -> Vec<u8> {
        let mut trace = Trace {
            graph: GraphWriter::new(),
            layout: Layout::Map,
            current: INPUT.to_owned(),
        };
        let [_, height, width] = input;
        for stage in self.backbone.backbone().stages([height, width]) {
            trace.stage(&stage, None);
        }
        trace.mean();
        let mut dim = self.features();
        if let Some(layer) = &self.fc1 {
            let weight = layer.weight.val().without_autodiff();
            let [outputs, inputs] = weight.dims();
            let transposed = transpose(&layers::values(weight), outputs, inputs);
            let weight = trace.graph.floats(&[inputs, outputs], &transposed);
            trace.then("MatMul", &[&weight], &[]);
            if let Some(bias) = layer.bias_values() {
                let bias = trace.graph.floats(&[outputs], &bias);
                trace.then("Add", &[&bias], &[]);
            }
            dim = outputs;
        }
        trace.unit(mean.is_none().then_some(OUTPUT));
        if let Some(mean) = mean {
            let mean = trace.graph.floats(&[1, dim], mean);
            trace.then("Sub", &[&mean], &[]);
            trace.unit(Some(OUTPUT));
        }
        let value = |name, sizes| Value { name, sizes };
        trace
            .graph
            .finish(name, value(INPUT, &input), value(OUTPUT, &[dim]))
    }
}

impl Trace {
    /// An operator on what there is, with further inputs.
    fn then(&mut self, operator: &str, more: &[&str], attributes: &[Attribute<'_>]) {
        let inputs: Vec<&str> = [self.current.as_str()]
            .into_iter()
            .chain(more.iter().copied())
            .collect();
        self.current = self.graph.node(operator, &inputs, attributes);
    }

    fn stage(&mut self, stage: &Stage<FoldedConvolution>, added: Option<&str>) {
        match stage {
            Stage::Convolution(convolution) => {
                self.convolution(convolution);
                self.end(added, convolution.relu);
            }
            Stage::MaxPool(pool) => {
                let padding = [pool.padding as i64; 4];
                self.then(
                    "MaxPool",
                    &[],
                    &[
                        Attribute::Ints("kernel_shape", &[pool.kernel as i64; 2]),
                        Attribute::Ints("strides", &[pool.stride as i64; 2]),
                        Attribute::Ints("pads", &padding),
                    ],
                );
            }
            Stage::Excitation(excitation) => {
                let map = self.current.clone();
                self.then("GlobalAveragePool", &[], &[]);
                let [first, second] = excitation.layers();
                self.pointwise(first);
                self.then("Relu", &[], &[]);
                self.pointwise(second);
                self.then("Sigmoid", &[], &[]);
                self.then("Mul", &[&map], &[]);
                self.end(added, added.is_some());
            }
            Stage::Tokens { positions, dim } => {
                // A map of patches becomes tokens, a zero goes before them, and the class token comes with the positions.
                let shape = self.graph.integers(&[0, *dim as i64, -1]);
                self.then("Reshape", &[&shape], &[]);
                self.then("Transpose", &[], &[Attribute::Ints("perm", &[0, 2, 1])]);
                let pads = self.graph.integers(&[0, 1, 0, 0, 0, 0]);
                self.then("Pad", &[&pads], &[]);
                let positions = self
                    .graph
                    .floats(&[1, positions.len() / dim, *dim], positions);
                self.then("Add", &[&positions], &[]);
                self.layout = Layout::Tokens;
            }
            Stage::LayerNorm {
                gamma,
                beta,
                epsilon,
            } => {
                let [gamma, beta] =
                    [gamma, beta].map(|values| self.graph.floats(&[values.len()], values));
                let attributes = [
                    Attribute::Int("axis", -1),
                    Attribute::Float("epsilon", *epsilon as f32),
                ];
                self.then("LayerNormalization", &[&gamma, &beta], &attributes);
            }
            Stage::Attention(attention) => self.attention(attention.heads, attention.dim),
            Stage::Gelu => self.gelu(),
            Stage::First { .. } => {
                let first = self.graph.integers(&[0]);
                self.then("Gather", &[&first], &[Attribute::Int("axis", 1)]);
                // One token is left, which its axis goes with.
                self.then("Flatten", &[], &[Attribute::Int("axis", 1)]);
                self.layout = Layout::Row;
            }
            Stage::Block { stages, shortcut } => {
                let entered = self.current.clone();
                if let Some(shortcut) = shortcut {
                    self.convolution(shortcut);
                    self.end(None, shortcut.relu);
                }
                let shortcut = std::mem::replace(&mut self.current, entered);
                for (at, stage) in stages.iter().enumerate() {
                    let added = (at + 1 == stages.len()).then_some(shortcut.as_str());
                    self.stage(stage, added);
                }
            }
        }
    }

    /// What is added and the ReLU, behind a convolution or squeeze and excitation.
    fn end(&mut self, added: Option<&str>, relu: bool) {
        if let Some(added) = added {
            self.then("Add", &[added], &[]);
        }
        if relu {
            self.then("Relu", &[], &[]);
        }
    }

    /// The convolution and what is added to its channels.
    fn convolution(&mut self, convolution: &FoldedConvolution) {
        let geometry = &convolution.geometry;
        let outputs = geometry.out_channels;
        let bias = self.graph.floats(&[outputs], &convolution.shift);
        if self.layout != Layout::Map {
            // A single tap over tokens: its weights are `[inputs, outputs]` as they lie.
            let weight = self
                .graph
                .floats(&[geometry.in_channels, outputs], &convolution.weight);
            self.then("MatMul", &[&weight], &[]);
            self.then("Add", &[&bias], &[]);
            return;
        }
        let of_group = geometry.in_channels / geometry.groups;
        let [height, width] = geometry.kernel;
        let weight = channels_first(&convolution.weight, [outputs, of_group, height * width]);
        let weight = self
            .graph
            .floats(&[outputs, of_group, height, width], &weight);
        self.conv([&weight, &bias], geometry);
    }

    /// The operator, with every attribute: some runtimes have no defaults.
    fn conv(&mut self, [weight, bias]: [&str; 2], geometry: &Convolution) {
        self.then(
            "Conv",
            &[weight, bias],
            &[
                Attribute::Ints("kernel_shape", &geometry.kernel.map(|side| side as i64)),
                Attribute::Ints("strides", &[geometry.stride as i64; 2]),
                Attribute::Ints("pads", &[geometry.padding as i64; 4]),
                Attribute::Ints("dilations", &[geometry.dilation as i64; 2]),
                Attribute::Int("group", geometry.groups as i64),
            ],
        );
    }

    /// A 1x1 convolution with bias over a map of one position.
    ///
    /// **Shapes**: weight `[inputs, outputs]`, bias `[outputs]`.
    fn pointwise(&mut self, [weight, bias]: [&[f32]; 2]) {
        let outputs = bias.len();
        let inputs = weight.len() / outputs;
        let weight = transpose(weight, inputs, outputs);
        let weight = self.graph.floats(&[outputs, inputs, 1, 1], &weight);
        let bias = self.graph.floats(&[outputs], bias);
        let geometry = Convolution {
            batch: 0,
            in_channels: inputs,
            out_channels: outputs,
            input: [1, 1],
            kernel: [1, 1],
            stride: 1,
            padding: 0,
            dilation: 1,
            groups: 1,
        };
        self.conv([&weight, &bias], &geometry);
    }

    /// Queries, keys and values to what every token takes from the others.
    fn attention(&mut self, heads: usize, dim: usize) {
        let head = dim / heads;
        let shape = self.graph.integers(&[0, 0, 3, heads as i64, head as i64]);
        self.then("Reshape", &[&shape], &[]);
        self.then(
            "Transpose",
            &[],
            &[Attribute::Ints("perm", &[2, 0, 3, 1, 4])],
        );
        let parts = self.current.clone();
        let [queries, keys, values] = [0, 1, 2].map(|part| {
            let (from, to) = (
                self.graph.integers(&[part]),
                self.graph.integers(&[part + 1]),
            );
            let axis = self.graph.integers(&[0]);
            let sliced = self.graph.node("Slice", &[&parts, &from, &to, &axis], &[]);
            self.graph.node("Squeeze", &[&sliced, &axis], &[])
        });
        let turned = [Attribute::Ints("perm", &[0, 1, 3, 2])];
        let keys = self.graph.node("Transpose", &[&keys], &turned);
        let scores = self.graph.node("MatMul", &[&queries, &keys], &[]);
        let scale = self.graph.floats(&[1], &[1.0 / (head as f32).sqrt()]);
        let scores = self.graph.node("Mul", &[&scores, &scale], &[]);
        let shares = self
            .graph
            .node("Softmax", &[&scores], &[Attribute::Int("axis", -1)]);
        self.current = self.graph.node("MatMul", &[&shares, &values], &[]);
        self.then("Transpose", &[], &[Attribute::Ints("perm", &[0, 2, 1, 3])]);
        let shape = self.graph.integers(&[0, 0, dim as i64]);
        self.then("Reshape", &[&shape], &[]);
    }

    /// `x / 2 (1 + erf(x / sqrt 2))`; the operator of this name is of a later opset.
    fn gelu(&mut self) {
        let x = self.current.clone();
        let root = self.graph.floats(&[1], &[std::f32::consts::FRAC_1_SQRT_2]);
        self.then("Mul", &[&root], &[]);
        self.then("Erf", &[], &[]);
        let one = self.graph.floats(&[1], &[1.0]);
        self.then("Add", &[&one], &[]);
        self.then("Mul", &[&x], &[]);
        let half = self.graph.floats(&[1], &[0.5]);
        self.then("Mul", &[&half], &[]);
    }

    /// The mean over positions: a row for each image.
    fn mean(&mut self) {
        match self.layout {
            Layout::Map => {
                self.then("GlobalAveragePool", &[], &[]);
                self.then("Flatten", &[], &[Attribute::Int("axis", 1)]);
            }
            Layout::Tokens => {
                let attributes = [Attribute::Ints("axes", &[1]), Attribute::Int("keepdims", 0)];
                self.then("ReduceMean", &[], &attributes);
            }
            Layout::Row => {}
        }
        self.layout = Layout::Row;
    }

    /// Rows of unit length, as an output of the graph where a name is given.
    fn unit(&mut self, output: Option<&str>) {
        let row = self.current.clone();
        let attributes = [
            Attribute::Ints("axes", &[-1]),
            Attribute::Int("keepdims", 1),
        ];
        let length = self.graph.node("ReduceL2", &[&row], &attributes);
        match output {
            Some(output) => self.graph.named_node("Div", &[&row, &length], &[], output),
            None => self.then("Div", &[&length], &[]),
        }
    }
}
