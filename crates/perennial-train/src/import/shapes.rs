//! The tensors that a network needs, without their values: a file's claims are compared before any memory is allocated.

use std::collections::BTreeMap;

use burn::tensor::Device;

use crate::network::{Network, NetworkConfig};
use crate::state_dict::shapes;

/// Names and shapes of a network's tensors.
pub type Shapes = BTreeMap<String, Vec<usize>>;

/// The tensors of a backbone for images of the given channels, height and width.
pub fn backbone_shapes(network: &NetworkConfig, input: [usize; 3]) -> Shapes {
    shapes(&Network::unset(network, input, None, &Device::flex()))
}
