//! The three products of a training step: the choice between the ways to compute them.

use crate::gather_product::{self, Epilogue, Source, Term};
use crate::geometry::{Connection, Convolution};
use crate::packed_weights::PackedWeights;
use crate::two_by_two::{self, TwoByTwo};
use crate::weight_gradient;
use crate::winograd::{self, Winograd};

impl Convolution {
    /// Applies the convolution.
    ///
    /// # Shapes
    ///
    /// - input: `[in_height, in_width, batch, in_channels]`
    /// - weight: `[kernel_height, kernel_width, in_channels / groups, out_channels]`
    /// - output (written): `[out_height, out_width, batch, out_channels]`
    pub fn forward(
        &self,
        input: &[f32],
        weight: &[f32],
        epilogue: Option<Epilogue<'_>>,
        output: &mut [f32],
    ) {
        assert_eq!(input.len(), self.input_len(), "input length");
        assert_eq!(weight.len(), self.weight_len(), "weight length");
        assert_eq!(output.len(), self.output_len(), "output length");
        if let Some(epilogue) = epilogue {
            assert_eq!(epilogue.shift.len(), self.out_channels, "shift length");
            assert!(
                epilogue
                    .residual
                    .is_none_or(|residual| residual.len() == output.len()),
                "residual length"
            );
        }
        if self.groups > 1 {
            return self.grouped_forward(input, weight, epilogue, output);
        }
        if self.takes_rows() {
            let (terms, packed) = self.prepared_rows(weight);
            return self.row_product(input, &terms, &packed, epilogue, output);
        }
        if winograd::suits(self, self.batch) {
            return Winograd::forward(self, weight).apply(self.batch, input, epilogue, output);
        }
        if two_by_two::suits_once(self) {
            return TwoByTwo::forward(self, weight).apply(self.batch, input, epilogue, output);
        }
        let (terms, packed) = self.prepared(weight);
        let source = Source::dense(input, self.batch, self.in_channels);
        gather_product::product(source, self.batch, &terms, &packed, epilogue, output);
    }

    /// What every output position is summed from, and the weights for it.
    pub(crate) fn prepared(&self, weight: &[f32]) -> (Vec<Vec<Term>>, PackedWeights) {
        let (terms, used) = self.terms();
        let channels = [self.in_channels, self.out_channels];
        let packed = PackedWeights::forward(weight, channels, &used);
        (terms, packed)
    }

    /// What every output position is summed from, and the taps that are used.
    pub(crate) fn terms(&self) -> (Vec<Vec<Term>>, Vec<usize>) {
        let [out_height, out_width] = self.output();
        let connections = self.connections();
        let mut terms = vec![Vec::new(); out_height * out_width];
        for (tap, Connection { pairs, .. }) in connections.iter().enumerate() {
            for &(from, to) in pairs {
                terms[to].push(Term { slab: from, tap });
            }
        }
        (terms, used(&connections))
    }

    /// The same for every position of the input gradient.
    pub(crate) fn transposed_terms(&self) -> (Vec<Vec<Term>>, Vec<usize>) {
        let connections = self.connections();
        let mut terms = vec![Vec::new(); self.input[0] * self.input[1]];
        for (tap, Connection { pairs, .. }) in connections.iter().enumerate() {
            for &(to, from) in pairs {
                terms[to].push(Term { slab: from, tap });
            }
        }
        (terms, used(&connections))
    }

    /// Gradient with respect to the input: [`forward`](Self::forward) transposed.
    ///
    /// # Shapes
    ///
    /// - output_gradient: `[out_height, out_width, batch, out_channels]`
    /// - earlier: another gradient of the same input, added to this one
    /// - input_gradient (written): `[in_height, in_width, batch, in_channels]`
    pub fn input_gradient(
        &self,
        output_gradient: &[f32],
        weight: &[f32],
        earlier: Option<&[f32]>,
        input_gradient: &mut [f32],
    ) {
        self.check_gradients(output_gradient, weight, input_gradient);
        assert!(
            earlier.is_none_or(|earlier| earlier.len() == input_gradient.len()),
            "earlier gradient length"
        );
        let shift = vec![0.0; earlier.map_or(0, |_| self.in_channels)];
        let epilogue = earlier.map(|earlier| Epilogue {
            shift: &shift,
            residual: Some(earlier),
            relu: false,
        });
        if self.groups > 1 {
            return self.grouped_input_gradient(output_gradient, weight, epilogue, input_gradient);
        }
        if winograd::suits(self, self.batch) {
            let transposed = Winograd::input_gradient(self, weight);
            return transposed.apply(self.batch, output_gradient, epilogue, input_gradient);
        }
        if two_by_two::suits_once(self) {
            let transposed = TwoByTwo::input_gradient(self, weight);
            return transposed.apply(self.batch, output_gradient, epilogue, input_gradient);
        }
        let (terms, used) = self.transposed_terms();
        let channels = [self.out_channels, self.in_channels];
        let packed = PackedWeights::transposed(weight, channels, &used);
        let source = Source::dense(output_gradient, self.batch, self.out_channels);
        gather_product::product(
            source,
            self.batch,
            &terms,
            &packed,
            epilogue,
            input_gradient,
        );
    }

    /// Gradient with respect to the weights.
    ///
    /// # Shapes
    ///
    /// - weight_gradient (written): `[kernel_height, kernel_width, in_channels / groups, out_channels]`
    pub fn weight_gradient(
        &self,
        input: &[f32],
        output_gradient: &[f32],
        weight_gradient: &mut [f32],
    ) {
        self.check_gradients(output_gradient, weight_gradient, input);
        if self.batch == 0 {
            weight_gradient.fill(0.0);
            return;
        }
        if self.groups > 1 {
            return self.grouped_weight_gradient(input, output_gradient, weight_gradient);
        }
        if self.takes_rows() {
            return self.row_weight_gradient(input, output_gradient, weight_gradient);
        }
        if winograd::suits_weight_gradient(self) {
            return winograd::weight_gradient(self, input, output_gradient, weight_gradient);
        }
        if two_by_two::suits_once(self) {
            return two_by_two::weight_gradient(self, input, output_gradient, weight_gradient);
        }
        weight_gradient::sums(
            Source::dense(input, self.batch, self.in_channels),
            output_gradient,
            self.batch,
            [self.in_channels, self.out_channels],
            &self.connections(),
            weight_gradient,
        );
    }

    fn check_gradients(&self, output: &[f32], weight: &[f32], input: &[f32]) {
        assert_eq!(output.len(), self.output_len(), "output gradient length");
        assert_eq!(weight.len(), self.weight_len(), "weight length");
        assert_eq!(input.len(), self.input_len(), "input length");
    }
}

fn used(connections: &[Connection]) -> Vec<usize> {
    connections
        .iter()
        .map(|connection| connection.tap)
        .collect()
}
