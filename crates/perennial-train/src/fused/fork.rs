//! Gradients of maps that several layers read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::backend::Flex;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::Ops;
use perennial_kernels as kernels;

use super::memory_order::{into_values, primitive};

/// Shared by all layers that read one map: whether one of them has registered the map's gradient. The next one then adds its own to
/// it with a kernel; what burn does with a second gradient is much slower where its crate is compiled without optimisation.
#[derive(Clone, Debug, Default)]
pub struct Fork(Arc<AtomicBool>);

impl Fork {
    /// What other layers registered as the gradient of a parent, taken out so that this layer can register the sum.
    pub(super) fn earlier<S, const N: usize>(
        &self,
        ops: &Ops<S, N>,
        parent: usize,
        grads: &mut Gradients,
    ) -> Option<Vec<f32>> {
        let parent = ops.parents.get(parent)?.as_ref()?;
        let is_second = self.0.swap(true, Ordering::Relaxed);
        // Like this layer's own, the gradient must be one that is needed only within the backward pass: any other is not taken out
        // when it is consumed, and would count twice.
        let taken_out = is_second && parent.requirement == ops.node.requirement;
        taken_out.then(|| into_values(grads.consume::<Flex>(parent)))
    }

    /// Registers the gradient of a parent, if there is one that needs it, on top of what other layers registered.
    pub(super) fn register<S, const N: usize>(
        &self,
        ops: &Ops<S, N>,
        parent: usize,
        mut gradient: Vec<f32>,
        shape: &[usize],
        grads: &mut Gradients,
    ) {
        let earlier = self.earlier(ops, parent, grads);
        let Some(Some(parent)) = ops.parents.get(parent) else {
            kernels::recycle(gradient);
            return;
        };
        if let Some(earlier) = earlier {
            kernels::add(&mut gradient, &earlier);
            kernels::recycle(earlier);
        }
        grads.register::<Flex>(parent.id, primitive(gradient, shape));
    }
}
