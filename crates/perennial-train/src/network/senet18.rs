//! SENet-18: a ResNet-18 with squeeze and excitation in its blocks, with timm's parameter names.

use super::backbone::{BackboneEntry, BackboneKind, Keys, Plan};
use super::resnet::{self, Blocks, ResNet};
use super::start::Start;

/// Its line of the table.
pub(super) const ENTRY: BackboneEntry = BackboneEntry {
    kind: BackboneKind::Senet18,
    name: "senet18",
    title: "SENet-18",
    stems: resnet::STEMS,
    default_width: 64,
    width_step: 1,
    features: |width| 8 * width,
    positions: None,
    keys: Keys {
        requires: Some("layer1.0.se.fc1.weight"),
        unlike: &[
            (
                "layer1.0.conv3.weight",
                "its blocks have three convolutions, as in SE-ResNet-50",
            ),
            ("layer1.2.conv1.weight", resnet::DEEPER),
            ("layer2.2.conv1.weight", resnet::DEEPER),
        ],
        ..resnet::KEYS
    },
};

/// A stem and four stages of two basic blocks; a sixteenth of a block's channels, at least 8 and a multiple of 8, decide its gates.
///
/// **Source**: Hu et al., arXiv 1709.01507; channels between the layers as in timm's `seresnet18`.
pub(super) fn new(plan: &Plan, start: &mut Start) -> ResNet {
    let blocks = Blocks {
        counts: [2, 2, 2, 2],
        bottleneck: false,
        squeezed: Some(|channels| (channels / 16 + 4) / 8 * 8),
    };
    ResNet::new(blocks, plan, start)
}
