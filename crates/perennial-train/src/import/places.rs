//! Where networks lie among the tensors of a file, and what their tensors are called here.

use std::collections::BTreeMap;

use super::candidate::TOP_LEVEL;
use crate::network::{BACKBONES, BackboneEntry, Keys};

/// Parts of names that say nothing about which network is meant.
const WRAPPERS: [&str; 3] = ["module", "_orig_mod", "backbone"];

/// Prefixes of networks, and the networks.
pub(super) type Places<'a> = BTreeMap<&'a str, &'static BackboneEntry>;

/// What a tensor of the backbone is called inside of a network.
pub(super) fn own_name(of_backbone: &str) -> String {
    format!("backbone.{of_backbone}")
}

/// What stands before the names of a network in the name of one of its tensors, and the pattern of the table that shows it.
pub(super) fn place(name: &str) -> Option<(&str, &'static str)> {
    if is_optimizer_state(name) {
        return None;
    }
    let patterns = || BACKBONES.iter().flat_map(|entry| entry.keys.places);
    let parts: Vec<&str> = name.split('.').collect();
    let mut start = 0;
    for (index, part) in parts.iter().enumerate() {
        let fits = |pattern: &&&str| {
            let mut wanted = pattern.split('.').zip(&parts[index..]);
            parts.len() - index > pattern.matches('.').count()
                && wanted.all(|(wanted, part)| match wanted {
                    "#" => !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()),
                    wanted => wanted == *part,
                })
        };
        if let Some(pattern) = patterns().find(fits) {
            return Some((&name[..start], *pattern));
        }
        start += part.len() + 1;
    }
    None
}

/// Whether a name lies in the state of an optimizer, which holds tensors of the weights' shapes.
pub(super) fn is_optimizer_state(name: &str) -> bool {
    name.split('.').any(|part| {
        part.get(..5)
            .is_some_and(|start| start.eq_ignore_ascii_case("optim"))
    })
}

/// The network's own name of a tensor, if it is one of the network at `prefix`.
pub(super) fn belongs(name: &str, prefix: &str, places: &Places<'_>) -> Option<String> {
    if is_optimizer_state(name) {
        return None;
    }
    let keys = &places.get(prefix)?.keys;
    let own = match name.strip_prefix(prefix) {
        Some(rest) => {
            let within_another = |other: &&str| {
                other.len() > prefix.len() && other.starts_with(prefix) && name.starts_with(*other)
            };
            if places.keys().any(within_another) {
                return None;
            }
            head(rest, keys).unwrap_or_else(|| {
                let aliases = keys.aliases.iter();
                own_name(&aliases.fold(rest.to_owned(), |rest, (other, own)| {
                    rest.replace(other, own)
                }))
            })
        }
        // Beside a part called `backbone` stands what follows it.
        None => {
            let outer = prefix.strip_suffix("backbone.")?;
            head(name.strip_prefix(outer)?, keys)?
        }
    };
    Some(own)
}

/// The own name of a layer after the backbone: `fc1` and `fc2` of the released checkpoints, and what other tools call the classifier.
fn head(rest: &str, keys: &Keys) -> Option<String> {
    if let Some(part) = keys.heads.iter().find_map(|head| rest.strip_prefix(head)) {
        return Some(format!("fc2.{part}"));
    }
    let numbered = rest.starts_with("fc1.") || rest.starts_with("fc2.");
    numbered.then(|| rest.to_owned())
}

/// A prefix without the wrappers at its end, as a key.
pub(super) fn key_of(prefix: &str) -> String {
    let mut parts: Vec<&str> = prefix.split('.').filter(|part| !part.is_empty()).collect();
    while parts.last().is_some_and(|part| WRAPPERS.contains(part)) {
        parts.pop();
    }
    if parts.is_empty() {
        TOP_LEVEL.to_owned()
    } else {
        parts.join(".")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::BackboneKind;

    #[test]
    fn whatever_stands_before_a_network_is_its_place() {
        const RESNET: &str = "layer1.#";
        for (name, prefix, key, pattern) in [
            ("layer1.0.conv1.weight", "", ".", RESNET),
            ("module.layer1.0.bn1.bias", "module.", ".", RESNET),
            (
                "state_dict.module._orig_mod.layer1.1.conv2.weight",
                "state_dict.module._orig_mod.",
                "state_dict",
                RESNET,
            ),
            (
                "state_dict.model.backbone.layers.3.norm.bias",
                "state_dict.model.backbone.",
                "state_dict.model",
                "layers.#.norm",
            ),
        ] {
            assert_eq!(place(name), Some((prefix, pattern)), "{name}");
            assert_eq!(key_of(prefix), key);
        }
        for name in [
            "encoder.layers.0.self_attn.weight",
            "blocks.0.conv1.weight",
            "optimizer.state.layer1.0.conv1.weight",
            "Optimizers.0.layer1.0.conv1.weight",
            "layer1",
            "layers.x.conv.weight",
            "",
        ] {
            assert_eq!(place(name), None, "{name}");
        }
    }

    #[test]
    fn names_of_other_tools_become_our_own() {
        let resnet = BackboneKind::Resnet18.entry();
        let own = |name: &str, prefix: &str| belongs(name, prefix, &[(prefix, resnet)].into());
        for (name, prefix, expected) in [
            ("m.conv1.weight", "m.", "backbone.conv1.weight"),
            ("m.fc.bias", "m.", "fc2.bias"),
            ("linear.weight", "", "fc2.weight"),
            ("fc1.weight", "", "fc1.weight"),
            ("net.fc2.weight", "net.backbone.", "fc2.weight"),
            (
                "layer2.0.shortcut.1.bias",
                "",
                "backbone.layer2.0.downsample.1.bias",
            ),
        ] {
            assert_eq!(own(name, prefix).as_deref(), Some(expected), "{name}");
        }
        assert_eq!(own("criterion.weight", "net.backbone."), None);
        assert_eq!(own("net.head.weight", "net.backbone."), None);
        assert_eq!(
            belongs(
                "ema.conv1.weight",
                "",
                &[("", resnet), ("ema.", resnet)].into()
            ),
            None,
            "another network's tensor"
        );
    }
}
