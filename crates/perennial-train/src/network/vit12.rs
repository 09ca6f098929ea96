//! The vision transformer of 12 blocks.

use super::backbone::{BackboneEntry, BackboneKind, Keys, Plan};
use super::start::Start;
use super::vit::{self, VisionTransformer};

/// Its line of the table.
pub(super) const ENTRY: BackboneEntry = BackboneEntry {
    kind: BackboneKind::Vit12,
    name: "vit12",
    title: "ViT of 12 blocks",
    stems: vit::STEMS,
    default_width: 192,
    width_step: 64,
    features: |width| width,
    positions: Some("pos_embed"),
    keys: Keys {
        requires: Some("blocks.11.attn.qkv.weight"),
        unlike: &[("blocks.12.attn.qkv.weight", "it has more than 12 blocks")],
        ..vit::KEYS
    },
};

pub(super) fn new(plan: &Plan, start: &mut Start) -> VisionTransformer {
    VisionTransformer::new(12, plan, start)
}
