//! ResNet-50 with torchvision's parameter names.

use super::backbone::{BackboneEntry, BackboneKind, Keys, Plan};
use super::resnet::{self, Blocks, ResNet};
use super::start::Start;

/// Of a network with more blocks.
const DEEPER: &str = "its third stage has more than six blocks, as in ResNet-101";

/// Its line of the table.
pub(super) const ENTRY: BackboneEntry = BackboneEntry {
    kind: BackboneKind::Resnet50,
    name: "resnet50",
    title: "ResNet-50",
    stems: resnet::STEMS,
    default_width: 64,
    width_step: 1,
    features: |width| 32 * width,
    positions: None,
    keys: Keys {
        requires: Some("layer1.0.conv3.weight"),
        unlike: &[
            ("layer3.6.conv1.weight", DEEPER),
            (
                "layer1.0.se.fc1.weight",
                "its blocks have squeeze and excitation, as in SE-ResNet-50",
            ),
        ],
        ..resnet::KEYS
    },
};

/// A stem and four stages of 3, 4, 6 and 3 bottlenecks; where a stage halves the map, the 3x3 convolution has the stride.
///
/// **Source**: He et al., arXiv 1512.03385; the stride as in torchvision.
pub(super) fn new(plan: &Plan, start: &mut Start) -> ResNet {
    let blocks = Blocks {
        counts: [3, 4, 6, 3],
        bottleneck: true,
        squeezed: None,
    };
    ResNet::new(blocks, plan, start)
}
