//! How tensors lie in memory: weights in the order of the kernels behind the usual shape, and memory that is used again.

use burn::backend::TensorMetadata;
use perennial_kernels as kernels;

use super::Primitive;

/// The same tensor, row after row.
pub(super) fn contiguous(tensor: Primitive) -> Primitive {
    if tensor.as_slice::<f32>().is_some() {
        tensor
    } else {
        tensor.to_contiguous()
    }
}

/// Axes of a weight in the order of the kernels, and back.
pub(super) const TAPS_FIRST: [usize; 4] = [2, 3, 1, 0];
pub(super) const CHANNELS_FIRST: [usize; 4] = [3, 2, 0, 1];

/// A weight as the kernels read it; a copy only where it lies otherwise.
pub(super) fn taps_first(weight: &Primitive) -> Primitive {
    let tensor = weight.permute(&TAPS_FIRST);
    if tensor.is_contiguous() {
        return contiguous(tensor);
    }
    // Two transpositions of matrices, which are fast, in place of one of three axes, which is not.
    let taps_then_outputs = weight.permute(&[2, 3, 0, 1]).to_contiguous();
    taps_then_outputs.permute(&[0, 1, 3, 2]).to_contiguous()
}

fn permuted(tensor: Primitive, axes: &[usize]) -> Primitive {
    let layout = tensor.layout().permute(axes);
    tensor.with_layout(layout)
}

/// Whether a weight lies as the kernels read it.
pub(super) fn lies_taps_first(tensor: &Primitive) -> bool {
    tensor.shape().num_dims() == 4 && tensor.layout().permute(&TAPS_FIRST).is_contiguous()
}

/// The same tensor in memory that holds nothing else, in the order that the kernels read weights in or in that of its axes.
pub(super) fn dense(tensor: Primitive, as_kernels_read: bool) -> Primitive {
    if as_kernels_read {
        let tensor = if lies_taps_first(&tensor) {
            dense(permuted(tensor, &TAPS_FIRST), false)
        } else {
            taps_first(&tensor)
        };
        return permuted(tensor, &CHANNELS_FIRST);
    }
    let elements = tensor.layout().num_elements();
    if tensor.is_contiguous() && tensor.storage::<f32>().len() == elements {
        tensor
    } else {
        Primitive::from_data(tensor.into_data())
    }
}

/// Gives a tensor's memory to later ones, if there are no other references.
pub(super) fn recycle(tensor: Primitive) {
    let tensor = if lies_taps_first(&tensor) {
        permuted(tensor, &TAPS_FIRST)
    } else {
        tensor
    };
    if tensor.is_unique()
        && tensor.is_contiguous()
        && let Ok(values) = tensor.into_data().try_into_vec()
    {
        kernels::recycle(values);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fused::primitive;

    fn weight(shape: [usize; 4]) -> Primitive {
        let len: usize = shape.iter().product();
        primitive((0..len).map(|at| at as f32).collect(), &shape)
    }

    fn in_order(tensor: &Primitive) -> Vec<f32> {
        let data = tensor.clone().into_data();
        data.try_into_vec().unwrap()
    }

    #[test]
    fn order_in_memory_changes_no_value() {
        // Also where axes of one element leave the order open.
        for shape in [[5, 3, 3, 2], [4, 6, 1, 1], [7, 1, 3, 3], [1, 4, 1, 5]] {
            let usual = weight(shape);
            let reordered = dense(usual.clone(), true);
            assert!(lies_taps_first(&reordered));
            assert_eq!(reordered.shape(), usual.shape());
            assert_eq!(in_order(&reordered), in_order(&usual));
            assert_eq!(in_order(&dense(reordered.clone(), false)), in_order(&usual));
            // What already lies so is not copied.
            let again = dense(reordered.clone(), true);
            assert_eq!(again.bytes().as_ptr(), reordered.bytes().as_ptr());
            let [outputs, inputs, height, width] = shape;
            let (read, usual) = (taps_first(&reordered), in_order(&usual));
            for (at, value) in in_order(&read).into_iter().enumerate() {
                let (tap, input, output) =
                    (at / (inputs * outputs), at / outputs % inputs, at % outputs);
                let expected = (output * inputs + input) * height * width + tap;
                assert_eq!(value, usual[expected]);
            }
        }
    }

    #[test]
    fn a_part_of_a_larger_tensor_gets_memory_of_its_own() {
        let part = weight([6, 2, 3, 3]).narrow(0, 2, 3);
        for as_kernels_read in [false, true] {
            let own = dense(part.clone(), as_kernels_read);
            assert_eq!(own.storage::<f32>().len(), 3 * 2 * 9);
            assert_eq!(in_order(&own), in_order(&part));
        }
    }

    #[test]
    fn memory_that_somebody_holds_is_not_given_away() {
        let held = primitive(kernels::buffer(98_765), &[98_765]);
        let place = held.bytes().as_ptr();
        recycle(held.clone());
        let other = kernels::buffer(98_765);
        assert_ne!(other.as_ptr().cast(), place);
        recycle(held);
        let again = kernels::buffer(98_765);
        assert_eq!(again.as_ptr().cast(), place);
    }
}
