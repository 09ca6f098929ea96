//! Every convolution of a network alone, in each direction, against what the processor could multiply in registers.

use std::fmt::Write;

use perennial_kernels::{Convolution, Operations, multiply_adds};
use perennial_train::network::Network;
use serde::{Deserialize, Serialize};

use super::network::{INPUT, Subject};
use super::timing::{Measurement, measure, seconds};

/// Rounds of products that take some milliseconds.
const ROUNDS: usize = 400_000;

/// A network's convolutions beside its whole training step.
#[derive(Debug, Serialize, Deserialize)]
pub struct Layers {
    /// Multiplications and additions a second in registers, all threads together: the median of those measured beside each layer.
    pub register_peak_per_second: f64,
    /// The distinct ones, in the order in which they are computed.
    pub convolutions: Vec<Layer>,
    /// All convolutions of a training step, in seconds; the first one needs no input gradient.
    pub step_convolutions_s: f64,
    /// Multiplications and additions that they do.
    pub step_executed: f64,
    /// The whole training step, in seconds.
    pub step_s: f64,
}

/// One convolution.
#[derive(Debug, Serialize, Deserialize)]
pub struct Layer {
    /// Channels, kernel, stride and map.
    pub name: String,
    /// How many of them the network has.
    pub count: usize,
    /// Multiplications and additions a second in registers, measured just before.
    pub register_peak_per_second: f64,
    /// Multiplications and additions of the direct sum in one direction, padding counted as if it were pixels.
    pub direct: f64,
    pub forward: Direction,
    /// Absent for the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_gradient: Option<Direction>,
    pub weight_gradient: Direction,
}

/// One product of a layer.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Direction {
    /// The middle sample, in seconds.
    pub median_s: f64,
    /// Multiplications and additions that are done.
    pub executed: f64,
}

impl Layer {
    fn directions(&self) -> [Option<Direction>; 3] {
        [
            Some(self.forward),
            self.input_gradient,
            Some(self.weight_gradient),
        ]
    }
}

/// Takes the step last, when memory of the layers alone is free again.
pub fn measure_all(subject: &Subject) -> anyhow::Result<(Layers, Measurement)> {
    let network = Network::new(&subject.config, INPUT, None, 0, &subject.device);
    let all = network.convolutions(INPUT);
    drop(network);
    let mut distinct: Vec<(Convolution, usize)> = Vec::new();
    for convolution in all {
        let convolution = Convolution {
            batch: subject.batch,
            ..convolution
        };
        match distinct.iter_mut().find(|(other, _)| *other == convolution) {
            Some((_, count)) => *count += 1,
            None => distinct.push((convolution, 1)),
        }
    }
    // In the pool, as a training step is: a thread outside would wait to be woken after every product.
    let convolutions = rayon::scope(|_| {
        let mut layers = Vec::with_capacity(distinct.len());
        for (convolution, count) in &distinct {
            let first = layers.is_empty();
            layers.push(layer(convolution, *count, first, subject.samples));
        }
        layers
    });
    let step = subject.step()?;
    let sum = |value: fn(Direction) -> f64| -> f64 {
        let of_layer = |layer: &Layer| -> f64 {
            let directions = layer.directions().into_iter().flatten();
            layer.count as f64 * directions.map(value).sum::<f64>()
        };
        convolutions.iter().map(of_layer).sum()
    };
    let peaks = convolutions
        .iter()
        .map(|layer| layer.register_peak_per_second);
    let layers = Layers {
        register_peak_per_second: Measurement::of("peak", peaks.collect()).median_s,
        step_convolutions_s: sum(|direction| direction.median_s),
        step_executed: sum(|direction| direction.executed),
        step_s: step.median_s,
        convolutions,
    };
    Ok((layers, step))
}

fn layer(convolution: &Convolution, count: usize, first: bool, samples: usize) -> Layer {
    let Operations {
        direct,
        forward,
        input_gradient,
        weight_gradient,
    } = convolution.operations();
    // Numbers of usual size; their values do not matter.
    let values =
        |len: usize| -> Vec<f32> { (0..len).map(|at| (at % 97) as f32 / 97.0 - 0.5).collect() };
    let (input, weight) = (
        values(convolution.input_len()),
        values(convolution.weight_len()),
    );
    let gradient = values(convolution.output_len());
    let mut output = gradient.clone();
    let mut of_input = input.clone();
    let mut of_weight = weight.clone();
    let peak = (0..3).map(|_| {
        let mut operations = 0.0;
        let took = seconds(|| operations = multiply_adds(ROUNDS));
        operations / took
    });
    let register_peak_per_second = peak.fold(0.0, f64::max);
    let direction = |executed: f64, work: &mut dyn FnMut()| Direction {
        median_s: measure("", samples, work).median_s,
        executed,
    };
    let [height, width] = convolution.input;
    let groups = match convolution.groups {
        1 => String::new(),
        groups => format!(", {groups} groups"),
    };
    let [kernel_height, kernel_width] = convolution.kernel;
    Layer {
        name: format!(
            "{} to {} channels, {kernel_height}x{kernel_width}, stride {}{groups}, map {height}x{width}",
            convolution.in_channels, convolution.out_channels, convolution.stride
        ),
        count,
        register_peak_per_second,
        direct,
        forward: direction(forward, &mut || {
            convolution.forward(&input, &weight, None, &mut output);
        }),
        input_gradient: (!first).then(|| {
            direction(input_gradient, &mut || {
                convolution.input_gradient(&gradient, &weight, None, &mut of_input);
            })
        }),
        weight_gradient: direction(weight_gradient, &mut || {
            convolution.weight_gradient(&input, &gradient, &mut of_weight);
        }),
    }
}

/// A table: milliseconds, and billions of operations a second of the direct sum and of what is done instead.
pub fn table(layers: &Layers) -> String {
    let mut text = String::new();
    let width = layers
        .convolutions
        .iter()
        .map(|layer| layer.name.len())
        .max()
        .unwrap_or(0)
        + 5;
    let _ = writeln!(
        text,
        "\n{:width$}  {:>26}  {:>26}  {:>26}  {:>6}",
        "ms, GFLOP/s of the direct sum, done",
        "forward",
        "input gradient",
        "weight gradient",
        "peak"
    );
    for layer in &layers.convolutions {
        let name = format!("{} x {}", layer.count, layer.name);
        let _ = write!(text, "{name:width$}");
        for direction in layer.directions() {
            let cell = direction.map_or_else(String::new, |Direction { median_s, executed }| {
                let rate = |operations: f64| operations / median_s / 1e9;
                format!(
                    "{:.2}  {:>6.0}  {:>6.0}",
                    1e3 * median_s,
                    rate(layer.direct),
                    rate(executed)
                )
            });
            let _ = write!(text, "  {cell:>26}");
        }
        let _ = writeln!(text, "  {:>6.0}", layer.register_peak_per_second / 1e9);
    }
    let _ = writeln!(
        text,
        "\nconvolutions of a training step: {:.1} ms of {:.1} ms; {:.2} G operations, which take {:.1} ms at {:.0} GFLOP/s, what the processor \
         reaches in registers",
        1e3 * layers.step_convolutions_s,
        1e3 * layers.step_s,
        layers.step_executed / 1e9,
        1e3 * layers.step_executed / layers.register_peak_per_second,
        layers.register_peak_per_second / 1e9,
    );
    text
}
