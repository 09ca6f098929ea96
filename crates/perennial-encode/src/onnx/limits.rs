//! What is refused before the runtime sees it.

/// Graphs within graphs (branches and loops) below which a file is refused.
pub(super) const DEPTH: usize = 8;
/// Nodes above which a graph is refused, those of its branches and loops included. An empty node takes two bytes of a file and a hundred times
/// that in memory.
pub(super) const NODES: usize = 1 << 18;
/// Inputs, initialised ones included, and outputs above which a file is not read on.
pub(super) const DECLARED: usize = 1 << 14;
/// Inputs that a run must give, and outputs, above which a graph is refused: for each of them the nodes are walked.
pub(super) const OPEN: usize = 256;
/// Attributes, inputs and outputs of nodes, tensors, declared values and opsets together, above which a file is refused, for the same reason: an
/// empty attribute takes two bytes.
pub(super) const ENTRIES: usize = 1 << 21;
/// Dimensions of a tensor above which a file is refused: one takes a byte of a file and eight in memory.
pub(super) const DIMS: usize = 64;
/// Opsets of one file, and bytes of each: they go with every node that is tried alone.
pub(super) const OPSETS: usize = 64;
pub(super) const OPSET_BYTES: usize = 1 << 10;
/// Elements above which a tensor is refused, whatever it is for: 2^31, 8 GB of f32.
pub(super) const ELEMENTS: u64 = 1 << 31;
/// Elements above which the result of an operator that only repeats values is refused: 2^28, 1 GB of f32.
pub(super) const REPEATED: u64 = 1 << 28;
/// Elements above which a result of constants alone is refused: 2^26, 256 MB of f32. Of a mask of attention, 2^26 are 8,192 tokens.
pub(super) const FOLDED: u64 = 1 << 26;
/// Elements up to which the values of a whole-number tensor are kept, to look at the shapes that a graph asks for.
pub(super) const SHAPE: u64 = 64;
/// The first opset that is accepted. Older ones give operators another meaning that the runtime does not know.
pub(super) const FIRST_OPSET: u64 = 7;
