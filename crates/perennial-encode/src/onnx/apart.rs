//! Nodes of a graph, one by one.

use crate::protobuf::{put_bytes, put_number};

/// The nodes of a graph, each of which can be put into a file of its own, to ask a runtime about it alone.
#[derive(Debug)]
pub(crate) struct Apart {
    /// The messages that name the versions of operators, as fields of a file.
    pub(super) opsets: Vec<u8>,
    /// Operators and the messages of their nodes.
    pub(super) nodes: Vec<(String, Vec<u8>)>,
}

/// A file with one operator that has no inputs. What refuses it says whether it knows the operator.
#[cfg(feature = "onnxruntime")]
pub(super) fn bare(operator: &str, opsets: &[u8]) -> Vec<u8> {
    let (domain, name) = operator.rsplit_once('.').unwrap_or(("", operator));
    let (mut node, mut graph, mut model) = (Vec::new(), Vec::new(), Vec::new());
    put_bytes(&mut node, 2, b"result");
    put_bytes(&mut node, 4, name.as_bytes());
    put_bytes(&mut node, 7, domain.as_bytes());
    put_bytes(&mut graph, 1, &node);
    put_bytes(&mut graph, 2, b"alone");
    put_number(&mut model, 1, 8);
    put_bytes(&mut model, 7, &graph);
    model.extend(opsets);
    model
}

impl Apart {
    /// Operators with such files.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, Vec<u8>)> {
        self.nodes.iter().map(|(operator, message)| {
            let (mut graph, mut model) = (Vec::new(), Vec::new());
            put_bytes(&mut graph, 1, message);
            put_number(&mut model, 1, 8);
            put_bytes(&mut model, 7, &graph);
            model.extend(&self.opsets);
            (operator.as_str(), model)
        })
    }
}
