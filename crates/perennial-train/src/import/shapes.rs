//! The tensors that a network needs, without their values: a file's claims are compared before any memory is allocated.

use burn::tensor::Device;

use super::mismatch::Shapes;
use crate::network::{Network, NetworkConfig};
use crate::state_dict::shapes;

/// The tensors of a backbone for images of the given channels, height and width.
pub fn backbone_shapes(network: &NetworkConfig, input: [usize; 3]) -> Shapes {
    shapes(&Network::unset(network, input, None, &Device::flex()))
}
