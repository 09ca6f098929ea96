//! What depends on what in a graph.

use std::collections::{BTreeMap, BTreeSet};

use super::{GraphFile, Node};
use crate::onnx::declared::Declared;

impl<'a> GraphFile<'a> {
    /// The inputs that an output depends on.
    pub(crate) fn needed(&self, output: &str) -> Vec<&Declared> {
        let reached = self.reached(output);
        self.inputs
            .iter()
            .filter(|input| {
                reached
                    .as_ref()
                    .is_none_or(|reached| reached.contains(input.name.as_str()))
            })
            .collect()
    }

    /// The values that an output depends on, itself included; `None` where that is not known, so that it may be all of them.
    pub(crate) fn reached<'b>(&'b self, output: &'b str) -> Option<BTreeSet<&'b str>> {
        if self.nested {
            return None;
        }
        let producers = self.producers();
        let (mut seen, mut open) = (BTreeSet::new(), vec![output]);
        while let Some(name) = open.pop() {
            if seen.insert(name)
                && let Some(node) = producers.get(name)
            {
                open.extend(node.inputs.iter().copied());
            }
        }
        Some(seen)
    }

    /// Rows of the table in which an input of token ids is looked up, if the graph does so in a way that is recognised.
    pub(crate) fn table_rows(&self, ids: &str) -> Option<u64> {
        let producers = self.producers();
        self.nodes
            .iter()
            .filter(|node| node.operator == "Gather")
            .find_map(|node| {
                let (data, indices) = (node.inputs.first()?, node.inputs.get(1)?);
                let through = |name: &str| {
                    producers
                        .get(name)
                        .and_then(|node| node.inputs.first().copied())
                };
                if *indices != ids && through(indices) != Some(ids) {
                    return None;
                }
                // The table itself, or behind steps that widen its numbers.
                let mut name = *data;
                for _ in 0..4 {
                    if let Some([rows, _]) = self.tensors.get(name).map(Vec::as_slice) {
                        return u64::try_from(*rows).ok();
                    }
                    name = through(name)?;
                }
                None
            })
    }

    fn producers(&self) -> BTreeMap<&'a str, &Node<'a>> {
        self.nodes
            .iter()
            .flat_map(|node| node.outputs.iter().map(move |output| (*output, node)))
            .collect()
    }
}
