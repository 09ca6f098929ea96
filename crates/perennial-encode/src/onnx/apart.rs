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
