//! The vision transformer of 6 blocks.

use super::backbone::{BackboneEntry, BackboneKind, Keys, Plan};
use super::start::Start;
use super::vit::{self, VisionTransformer};

/// Its line of the table.
pub(super) const ENTRY: BackboneEntry = BackboneEntry {
    kind: BackboneKind::Vit6,
    name: "vit6",
    title: "ViT of 6 blocks",
    stems: vit::STEMS,
    default_width: 192,
    width_step: 64,
    features: |width| width,
    positions: Some("pos_embed"),
    keys: Keys {
        unlike: &[(
            "blocks.6.attn.qkv.weight",
            "it has more than 6 blocks and not 12",
        )],
        ..vit::KEYS
    },
};

pub(super) fn new(plan: &Plan, start: &mut Start) -> VisionTransformer {
    VisionTransformer::new(6, plan, start)
}
