//! The nodes of a graph, in blocks that never move: codes, row numbers and neighbours.

use std::sync::atomic::{AtomicU32, Ordering};

use super::super::prefetch::prefetch;
use super::coded::{CodedVector, Meaning, Query};
use super::line::{LINE, Line};
use super::products::Products;

/// Lines of codes that are on their way from memory while a node is compared.
const LINES_AHEAD: usize = 96;
/// They are those of so many nodes, at least and at most.
const AHEAD: (usize, usize) = (6, 32);
/// Nodes of a block: few, so that a small graph does not reserve much.
pub(super) const BLOCK: usize = 1024;
/// A place in a list that no neighbour has.
pub(super) const FREE: u32 = u32::MAX;
/// Levels above which no node lies, however its number falls.
const LEVELS: u8 = 16;

/// Nodes that lie side by side in memory.
pub(super) struct Block {
    /// `[BLOCK, lines of a vector]`
    pub(super) codes: Vec<Line>,
    /// `[BLOCK, widest list]`, the neighbours on the lowest level.
    pub(super) links: Vec<AtomicU32>,
    /// For each node the next one with the same codes, or [`FREE`].
    pub(super) twins: Vec<AtomicU32>,
    pub(super) numbers: Vec<u64>,
    /// Where in `lists` a node's lists on higher levels are; [`FREE`] where it has none.
    upper: Vec<u32>,
    /// For every node above the lowest level, its lists on levels 1, 2, ..., `connectivity` long each.
    lists: Vec<Box<[AtomicU32]>>,
}

impl Block {
    /// Sets the lists above the lowest level of the next node that has none stated yet.
    pub(super) fn push_upper(&mut self, lists: Box<[AtomicU32]>) {
        if lists.is_empty() {
            self.upper.push(FREE);
        } else {
            self.upper.push(self.lists.len() as u32);
            self.lists.push(lists);
        }
    }

    /// Memory of the lists above the lowest level.
    fn upper_bytes(&self) -> usize {
        self.lists.iter().map(|lists| list_bytes(lists)).sum()
    }

    /// All lists above the lowest level, node by node and level by level.
    pub(super) fn upper(&self) -> impl Iterator<Item = &AtomicU32> {
        self.lists.iter().flat_map(|lists| lists.iter())
    }
}

/// Memory of a node's lists above the lowest level, which are none for most nodes.
fn list_bytes(lists: &[AtomicU32]) -> usize {
    match lists {
        [] => 0,
        _ => size_of_val(lists) + size_of::<Box<[AtomicU32]>>(),
    }
}

/// All nodes of a graph.
pub(super) struct Nodes {
    dim: usize,
    /// Lines of a vector.
    lines: usize,
    /// Nodes whose codes are fetched ahead.
    ahead: usize,
    connectivity: usize,
    blocks: Vec<Block>,
    length: usize,
    /// Memory of the lists above the lowest level.
    upper_bytes: usize,
    products: Products,
}

impl Nodes {
    pub(super) fn new(dim: usize, connectivity: usize) -> Self {
        let lines = CodedVector::lines(dim);
        Self {
            dim,
            lines,
            ahead: (LINES_AHEAD / lines).clamp(AHEAD.0, AHEAD.1),
            connectivity,
            blocks: Vec::new(),
            length: 0,
            upper_bytes: 0,
            products: Products::for_dim(dim),
        }
    }

    /// Nodes as a file has them, in blocks that are full, all but the last one.
    pub(super) fn of_blocks(dim: usize, connectivity: usize, blocks: Vec<Block>) -> Self {
        let mut nodes = Self::new(dim, connectivity);
        nodes.length = blocks.iter().map(|block| block.numbers.len()).sum();
        nodes.upper_bytes = blocks.iter().map(Block::upper_bytes).sum();
        nodes.blocks = blocks;
        nodes
    }

    /// An empty block with room for all that it will hold.
    pub(super) fn new_block(&self) -> Block {
        Block {
            codes: Vec::with_capacity(BLOCK * self.lines),
            links: Vec::with_capacity(BLOCK * self.width(0)),
            twins: Vec::with_capacity(BLOCK),
            numbers: Vec::with_capacity(BLOCK),
            upper: Vec::with_capacity(BLOCK),
            lists: Vec::new(),
        }
    }

    pub(super) fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// Whether every row has a larger number than the one before.
    pub(super) fn are_in_order(&self) -> bool {
        let numbers = self.blocks.iter().flat_map(|block| &block.numbers);
        numbers.is_sorted_by(|a, b| a < b)
    }

    pub(super) fn dim(&self) -> usize {
        self.dim
    }

    pub(super) fn connectivity(&self) -> usize {
        self.connectivity
    }

    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// The largest row number; rows come in the order of their numbers.
    pub(super) fn last_number(&self) -> Option<u64> {
        self.blocks.last()?.numbers.last().copied()
    }

    /// Memory of one node on the lowest level.
    pub(super) fn node_bytes(dim: usize, connectivity: usize) -> usize {
        size_of::<Line>() * CodedVector::lines(dim)
            + 4 * 2 * connectivity
            + size_of::<u64>()
            + 2 * size_of::<u32>()
    }

    /// Memory in use.
    pub(super) fn bytes(&self) -> usize {
        let block = BLOCK * Self::node_bytes(self.dim, self.connectivity);
        self.blocks.len() * block + self.upper_bytes
    }

    /// Neighbours that a node may have on a level: twice as many on the lowest one, where searches spend their time.
    pub(super) fn width(&self, level: u8) -> usize {
        match level {
            0 => 2 * self.connectivity,
            _ => self.connectivity,
        }
    }

    /// The level up to which a row is a node: one in `connectivity` of a level's nodes is on the next one. It follows from the row's number alone, so that
    /// graphs differ only by the order in which threads add.
    pub(super) fn level_of(&self, number: u64) -> u8 {
        // The finaliser of SplitMix64 (Steele et al. 2014) makes even bits of consecutive numbers.
        let mut bits = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        let mut level = 0;
        let mut most = u64::MAX / self.connectivity as u64;
        while bits < most && level < LEVELS {
            level += 1;
            most /= self.connectivity as u64;
        }
        level
    }

    /// Adds a node without neighbours, which no search finds before others have it as theirs. Its number is larger than those before.
    pub(super) fn push(&mut self, number: u64, vector: &CodedVector, level: u8) {
        debug_assert_eq!(vector.as_lines().len(), self.lines);
        if self.length.is_multiple_of(BLOCK) {
            self.blocks.push(self.new_block());
        }
        let width = self.width(0);
        let lists = usize::from(level) * self.connectivity;
        if let Some(block) = self.blocks.last_mut() {
            block.codes.extend_from_slice(vector.as_lines());
            block.links.extend((0..width).map(|_| AtomicU32::new(FREE)));
            block.twins.push(AtomicU32::new(FREE));
            block.numbers.push(number);
            let upper: Box<[AtomicU32]> = (0..lists).map(|_| AtomicU32::new(FREE)).collect();
            self.upper_bytes += list_bytes(&upper);
            block.push_upper(upper);
            self.length += 1;
        }
    }

    #[inline(always)]
    fn place(&self, node: u32) -> (&Block, usize) {
        let node = node as usize;
        (&self.blocks[node / BLOCK], node % BLOCK)
    }

    #[inline(always)]
    pub(super) fn lines_of(&self, node: u32) -> &[Line] {
        let (block, at) = self.place(node);
        &block.codes[at * self.lines..][..self.lines]
    }

    pub(super) fn number(&self, node: u32) -> u64 {
        let (block, at) = self.place(node);
        block.numbers[at]
    }

    /// The level up to which a node has lists.
    pub(super) fn level(&self, node: u32) -> u8 {
        let (block, at) = self.place(node);
        let lists = block.lists.get(block.upper[at] as usize);
        lists.map_or(0, |lists| (lists.len() / self.connectivity) as u8)
    }

    /// A node's list on a level; empty where it has none.
    #[inline(always)]
    fn list(&self, node: u32, level: u8) -> &[AtomicU32] {
        let (block, at) = self.place(node);
        if level == 0 {
            let width = 2 * self.connectivity;
            return &block.links[at * width..][..width];
        }
        let lists = block.lists.get(block.upper[at] as usize);
        let from = (usize::from(level) - 1) * self.connectivity;
        lists
            .and_then(|lists| lists.get(from..from + self.connectivity))
            .unwrap_or_default()
    }

    /// The neighbours of a node on a level, in no particular order. A list that is being changed meanwhile shows those that stay, and some of the
    /// others.
    #[inline(always)]
    pub(super) fn neighbours(&self, node: u32, level: u8) -> impl Iterator<Item = u32> + '_ {
        // Nodes are pushed while nobody else looks, so every number in a list is that of a node that this thread sees whole.
        let links = self.list(node, level).iter();
        links
            .map(|link| link.load(Ordering::Relaxed))
            .filter(|&node| node != FREE)
    }

    /// Adds a neighbour; false where the list is full. Only one thread at a time may change a node's lists.
    pub(super) fn append(&self, node: u32, level: u8, neighbour: u32) -> bool {
        let list = self.list(node, level);
        let free = list
            .iter()
            .find(|link| link.load(Ordering::Relaxed) == FREE);
        if let Some(link) = free {
            link.store(neighbour, Ordering::Relaxed);
        }
        free.is_some()
    }

    /// Sets a node's neighbours, as many as fit. Only one thread at a time may change a node's lists.
    pub(super) fn set_neighbours(&self, node: u32, level: u8, neighbours: &[u32]) {
        let list = self.list(node, level);
        let there = |neighbour: u32| {
            list.iter()
                .any(|link| link.load(Ordering::Relaxed) == neighbour)
        };
        // Those that stay keep their place: a search that comes by in between might find a node by this list alone.
        let mut new = neighbours.iter().filter(|&&neighbour| !there(neighbour));
        for link in list {
            if !neighbours.contains(&link.load(Ordering::Relaxed)) {
                link.store(new.next().copied().unwrap_or(FREE), Ordering::Relaxed);
            }
        }
    }

    /// The nodes with the same codes as this one, which are no neighbours of any node.
    #[inline(always)]
    pub(super) fn twins(&self, node: u32) -> impl Iterator<Item = u32> + '_ {
        std::iter::successors(self.twin(node), |&twin| self.twin(twin))
    }

    /// The next node with the same codes.
    #[inline(always)]
    pub(super) fn twin(&self, node: u32) -> Option<u32> {
        let (block, at) = self.place(node);
        Some(block.twins[at].load(Ordering::Relaxed)).filter(|&twin| twin != FREE)
    }

    /// Makes a new node the next twin of another one. Only one thread at a time may change a node's twins.
    pub(super) fn set_twin(&self, node: u32, twin: u32) {
        let next = self.twin(node).unwrap_or(FREE);
        self.store_twin(twin, next);
        self.store_twin(node, twin);
    }

    fn store_twin(&self, node: u32, twin: u32) {
        let (block, at) = self.place(node);
        block.twins[at].store(twin, Ordering::Relaxed);
    }

    /// A vector in the form that is compared with others.
    pub(super) fn query(&self, vector: &CodedVector) -> Query {
        let mut query = Query::default();
        query.set(vector.as_lines(), self.dim, self.products);
        query
    }

    /// Makes a query of a node's vector.
    pub(super) fn set_query(&self, query: &mut Query, node: u32) {
        query.set(self.lines_of(node), self.dim, self.products);
    }

    /// The similarity to a node, up to a constant of the graph.
    #[inline(always)]
    pub(super) fn score(&self, query: &Query, node: u32) -> f32 {
        let lines = self.lines_of(node);
        let row = Meaning::read(lines);
        let sum = self.products.sum(&query.lines, lines, row.sum);
        row.score(query, sum)
    }

    /// Asks the processor to fetch the codes of the first of some nodes, which [`score_all`](Self::score_all) compares next.
    #[inline(always)]
    pub(super) fn prefetch_first(&self, nodes: &[u32]) {
        let first = &nodes[..nodes.len().min(self.ahead)];
        first.iter().for_each(|&node| self.prefetch(node));
    }

    /// The similarities to nodes, whose codes are fetched ahead, but for the first.
    #[inline(always)]
    pub(super) fn score_all(&self, query: &Query, nodes: &[u32], scores: &mut Vec<f32>) {
        scores.clear();
        let lines = nodes.iter().enumerate().map(|(at, &node)| {
            if let Some(&later) = nodes.get(at + self.ahead) {
                self.prefetch(later);
            }
            self.lines_of(node)
        });
        let node_sum = |lines: &[Line]| Meaning::read(lines).sum;
        self.products
            .sums(&query.lines, lines, node_sum, |lines, sum| {
                scores.push(Meaning::read(lines).score(query, sum));
            });
    }

    /// Asks the processor to fetch a node's list on the lowest level.
    #[inline(always)]
    pub(super) fn prefetch_list(&self, node: u32) {
        let list = self.list(node, 0);
        list.iter()
            .step_by(LINE / size_of::<u32>())
            .for_each(prefetch);
    }

    /// Asks the processor to fetch a node's codes.
    #[inline(always)]
    fn prefetch(&self, node: u32) {
        self.lines_of(node).iter().for_each(prefetch);
    }
}
