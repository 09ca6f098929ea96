//! Tensors as slices, and how they lie in memory: weights in the order of the kernels behind the usual shape, and memory that is used again.

use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Flex, TensorMetadata};
use burn::tensor::TensorData;
use perennial_kernels as kernels;

pub(super) type Primitive = FloatTensor<Flex>;

pub(super) fn primitive(values: Vec<f32>, shape: &[usize]) -> Primitive {
    Flex::float_from_data(TensorData::new(values, shape.to_vec()), &Default::default())
}

pub(super) fn values(tensor: &Primitive) -> &[f32] {
    tensor
        .as_slice()
        .expect("made contiguous at entry, and f32 is the only dtype used on the CPU")
}

/// A tensor's values; a copy only if there are other references.
pub(super) fn into_values(tensor: Primitive) -> Vec<f32> {
    contiguous(tensor)
        .into_data()
        .try_into_vec()
        .expect("f32 is the only dtype used on the CPU")
}

/// The same tensor, row after row.
pub(super) fn contiguous(tensor: Primitive) -> Primitive {
    if tensor.as_slice::<f32>().is_some() {
        return tensor;
    }
    if tensor.shape().num_dims() == 4 {
        let images = tensor.permute(&POSITIONS_FIRST);
        if let Some(values) = images.as_slice() {
            let [batch, channels, height, width]: [usize; 4] = images.shape().dims();
            let map = kernels::transpose(values, batch * channels, height * width);
            return primitive(map, &[height, width, batch, channels]);
        }
    }
    tensor.to_contiguous()
}

/// Axes of images in the order of the kernels' maps, and back.
const POSITIONS_FIRST: [usize; 4] = [2, 3, 0, 1];

/// Axes of a weight in the order of the kernels, and back.
pub(super) const TAPS_FIRST: [usize; 4] = [2, 3, 1, 0];
pub(super) const CHANNELS_FIRST: [usize; 4] = [3, 2, 0, 1];

/// A weight as the kernels read it; a copy only where it lies otherwise.
pub(super) fn taps_first(weight: &Primitive) -> Primitive {
    let tensor = weight.permute(&TAPS_FIRST);
    if tensor.is_contiguous() {
        return contiguous(tensor);
    }
    let weight = contiguous(weight.clone());
    let [outputs, inputs, height, width]: [usize; 4] = weight.shape().dims();
    let taps = kernels::taps_first(values(&weight), [outputs, inputs, height * width]);
    primitive(taps, &[height, width, inputs, outputs])
}

/// A weight in the usual order in memory as well; a copy only where it lies otherwise.
pub(super) fn channels_first(weight: Primitive) -> Primitive {
    let taps = weight.permute(&TAPS_FIRST);
    if weight.is_contiguous() || !taps.is_contiguous() {
        return contiguous(weight);
    }
    let taps = contiguous(taps);
    let [height, width, inputs, outputs]: [usize; 4] = taps.shape().dims();
    let usual = kernels::channels_first(values(&taps), [outputs, inputs, height * width]);
    primitive(usual, &[outputs, inputs, height, width])
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
            let back = channels_first(reordered.clone());
            assert!(back.is_contiguous());
            assert_eq!(in_order(&back), in_order(&usual));
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
    fn images_become_maps_as_any_view_becomes_contiguous() {
        let images = weight([2, 3, 4, 5]);
        for view in [
            images.permute(&POSITIONS_FIRST),
            images.permute(&[1, 3, 0, 2]),
        ] {
            let found = contiguous(view.clone());
            assert!(found.is_contiguous());
            assert_eq!(found.shape(), view.shape());
            assert_eq!(in_order(&found), in_order(&view.to_contiguous()));
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
