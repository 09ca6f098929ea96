//! ResNet-18 with PyTorch's parameter names.

use super::backbone::{BackboneEntry, BackboneKind, Keys, Plan};
use super::resnet::{self, Blocks, ResNet};
use super::start::Start;

/// Its line of the table.
pub(super) const ENTRY: BackboneEntry = BackboneEntry {
    kind: BackboneKind::Resnet18,
    name: "resnet18",
    title: "ResNet-18",
    stems: resnet::STEMS,
    default_width: 64,
    width_step: 1,
    features: |width| 8 * width,
    positions: None,
    keys: Keys {
        requires: None,
        unlike: &[
            ("layer1.2.conv1.weight", resnet::DEEPER),
            ("layer2.2.conv1.weight", resnet::DEEPER),
        ],
        ..resnet::KEYS
    },
};

/// A stem and four stages of two basic blocks.
///
/// **Source**: He et al., arXiv 1512.03385.
pub(super) fn new(plan: &Plan, start: &mut Start) -> ResNet {
    let blocks = Blocks {
        counts: [2, 2, 2, 2],
        bottleneck: false,
        squeezed: None,
    };
    ResNet::new(blocks, plan, start)
}
