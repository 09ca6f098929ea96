//! Losses whose gradients are computed with them: a node of the autodiff graph then only scales the gradient.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, AutodiffBackend, Backend, Flex, TensorMetadata, backend_extension};
use perennial_kernels as kernels;

use super::memory_order::{Primitive, contiguous, into_values, primitive, recycle, values};

/// What the contrastive term needs besides the features.
#[derive(Clone, Debug)]
pub struct ContrastiveOptions {
    /// One per row.
    pub labels: Vec<u32>,
    /// Inverse temperature.
    pub mu: f32,
    /// Whether similarities of the same class become 0, in place of being left out of the sum.
    pub zeroed: bool,
}

/// The fused losses; called through burn's dispatch on `flex` devices only.
#[backend_extension(Flex, Autodiff)]
pub trait FusedLosses: Backend {
    /// Mean cross-entropy, and the number of rows whose largest logit is the target's.
    ///
    /// # Shapes
    ///
    /// - logits: `[batch, classes]`, targets: `[batch]`
    /// - results: `[1]` each
    fn cross_entropy(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// The contrastive term. Gradients flow into `new` alone.
    ///
    /// # Shapes
    ///
    /// - new, old: `[batch, dim]`
    /// - result: `[1]`
    fn contrastive(
        new: FloatTensor<Self>,
        old: FloatTensor<Self>,
        options: ContrastiveOptions,
    ) -> FloatTensor<Self>;
}

/// A loss and its gradient with respect to what it was computed from.
struct Differentiated {
    loss: Primitive,
    gradient: Primitive,
}

fn cross_entropy(logits: Primitive, targets: IntTensor<Flex>) -> (Differentiated, Primitive) {
    let logits = contiguous(logits);
    let [batch, classes]: [usize; 2] = logits.shape().dims();
    let targets = targets.into_data().convert::<i64>();
    let targets: Vec<usize> = targets
        .try_into_vec::<i64>()
        .expect("just converted to i64")
        .into_iter()
        .map(|target| usize::try_from(target).unwrap_or(usize::MAX))
        .collect();
    let found = kernels::cross_entropy(values(&logits), classes, &targets);
    recycle(logits);
    let differentiated = Differentiated {
        loss: primitive(vec![found.loss], &[1]),
        gradient: primitive(found.gradient, &[batch, classes]),
    };
    let correct = primitive(vec![found.correct as f32], &[1]);
    (differentiated, correct)
}

fn contrastive(new: Primitive, old: Primitive, options: &ContrastiveOptions) -> Differentiated {
    let shape: [usize; 2] = new.shape().dims();
    let [batch, dim] = shape;
    let old = primitive(kernels::unit_rows(values(&contiguous(old)), dim).0, &shape);
    let (unit, lengths) = kernels::unit_rows(values(&contiguous(new)), dim);
    let unit = primitive(unit, &shape);
    let cosines = Flex::float_matmul(old.clone(), unit.permute(&[1, 0]));
    let mut slopes = into_values(cosines);
    let loss = kernels::contrastive(&mut slopes, &options.labels, options.mu, options.zeroed);
    let slopes = primitive(slopes, &[batch, batch]);
    let mut gradient = into_values(Flex::float_matmul(slopes.permute(&[1, 0]), old));
    kernels::unit_rows_backward(values(&unit), &lengths, &mut gradient);
    Differentiated {
        loss: primitive(vec![loss], &[1]),
        gradient: primitive(gradient, &shape),
    }
}

impl FusedLosses for Flex {
    fn cross_entropy(logits: Primitive, targets: IntTensor<Self>) -> (Primitive, Primitive) {
        let (found, correct) = cross_entropy(logits, targets);
        (found.loss, correct)
    }

    fn contrastive(new: Primitive, old: Primitive, options: ContrastiveOptions) -> Primitive {
        contrastive(new, old, &options).loss
    }
}

#[derive(Debug)]
struct LossBackward;

impl Backward<Flex, 1> for LossBackward {
    /// The loss's gradient.
    type State = Primitive;

    fn backward(self, ops: Ops<Primitive, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let factor = contiguous(grads.consume::<Flex>(&ops.node));
        if let [Some(node)] = ops.parents {
            let shape: [usize; 2] = ops.state.shape().dims();
            let mut gradient = into_values(ops.state);
            kernels::scale(&mut gradient, values(&factor)[0]);
            grads.register::<Flex>(node.id, primitive(gradient, &shape));
        }
    }
}

impl<C: CheckpointStrategy> FusedLosses for Autodiff<Flex, C> {
    fn cross_entropy(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (logits, node) = logits.into_parts();
        let (found, correct) = cross_entropy(logits, targets);
        let loss = match LossBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(found.gradient, found.loss),
            OpsKind::UnTracked(prepared) => prepared.finish(found.loss),
        };
        (loss, Self::from_inner(correct))
    }

    fn contrastive(
        new: FloatTensor<Self>,
        old: FloatTensor<Self>,
        options: ContrastiveOptions,
    ) -> FloatTensor<Self> {
        let (new, node) = new.into_parts();
        let found = contrastive(new, old.into_primitive(), &options);
        match LossBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(found.gradient, found.loss),
            OpsKind::UnTracked(prepared) => prepared.finish(found.loss),
        }
    }
}
