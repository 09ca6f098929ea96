//! A graph in a file: little-endian, in blocks that are read, checked and converted apart from one another.
//!
//! | part | bytes |
//! |---|---|
//! | `PRNLHNSW`, format, dimension, connectivity, entry (`u32` each), nodes (`u64`) | 32 |
//! | centre, `[dim]` of `f32` | 4 x dim |
//! | bytes and CRC-32 of every block, `[blocks, 2]` of `u32` | 8 x blocks |
//! | blocks of 1,024 nodes, the last one of those that are left | |
//!
//! What comes before the blocks is the head. Its SHA-256 is kept apart from the file; together with the checksums in the head, it says that all of
//! the file is as it was saved. A block:
//!
//! | part | bytes |
//! |---|---|
//! | row numbers, `[nodes]` of `u64` | 8 x nodes |
//! | codes, `[nodes, lines, 64]` | |
//! | next twins, `[nodes]` of `u32`, `0xffff_ffff` for none | 4 x nodes |
//! | neighbours on the lowest level, `[nodes, 2 x connectivity]` of `u32`, filled up with `0xffff_ffff` | |
//! | neighbours on higher levels, node by node and level by level, `[connectivity]` of `u32` each, filled up in the same way | |
//!
//! Which levels a node has follows from its row number.

use std::fs::File;
use std::io::{BufReader, BufWriter, Error, ErrorKind, Read, Result, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use perennial_core::sha256_hex;

use super::super::pieces;
use super::coded::CodedVector;
use super::line::{LINE, Line};
use super::nodes::{BLOCK, Block, FREE, Nodes};

const MAGIC: &[u8; 8] = b"PRNLHNSW";
/// Format 1 had no blocks.
const FORMAT: u32 = 2;
/// Bytes before the centre.
const FIRST: usize = 32;

/// What a file holds.
pub(super) struct Saved {
    pub(super) nodes: Nodes,
    pub(super) centre: Vec<f32>,
    pub(super) entry: Option<u32>,
}

/// By what a file is known to be as it was saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Seal {
    pub(in super::super) bytes: u64,
    /// Of the head.
    pub(in super::super) sha256: String,
}

/// Writes a graph and hands it to the disk.
pub(super) fn save(path: &Path, nodes: &Nodes, centre: &[f32], entry: Option<u32>) -> Result<Seal> {
    let mut head = MAGIC.to_vec();
    let first = [
        FORMAT,
        nodes.dim() as u32,
        nodes.connectivity() as u32,
        entry.unwrap_or(FREE),
    ];
    head.extend(first.iter().flat_map(|value| value.to_le_bytes()));
    head.extend((nodes.len() as u64).to_le_bytes());
    head.extend(centre.iter().flat_map(|value| value.to_le_bytes()));
    let table = head.len();
    head.resize(table + 8 * nodes.blocks().len(), 0);

    // Once for the checksums and once for the file, which is written from its start to its end. Nothing is linked in between: the indexer's thread alone
    // adds and saves.
    let mut bytes = head.len() as u64;
    let mut block = Vec::new();
    for (at, entry) in head[table..].as_chunks_mut::<8>().0.iter_mut().enumerate() {
        block.clear();
        write_block(nodes, at, &mut block);
        bytes += block.len() as u64;
        // No block is larger: the dimension and the number of neighbours have limits.
        entry[..4].copy_from_slice(&(block.len() as u32).to_le_bytes());
        entry[4..].copy_from_slice(&crc32fast::hash(&block).to_le_bytes());
    }
    let mut file = BufWriter::with_capacity(1 << 20, fs_err::File::create(path)?);
    file.write_all(&head)?;
    for at in 0..nodes.blocks().len() {
        block.clear();
        write_block(nodes, at, &mut block);
        file.write_all(&block)?;
    }
    file.into_inner()
        .map_err(|error| error.into_error())?
        .sync_all()?;
    Ok(Seal {
        bytes,
        sha256: sha256_hex(&head),
    })
}

fn write_block(nodes: &Nodes, at: usize, bytes: &mut Vec<u8>) {
    let block = &nodes.blocks()[at];
    bytes.extend(block.numbers.iter().flat_map(|number| number.to_le_bytes()));
    for line in &block.codes {
        bytes.extend_from_slice(&line.0);
    }
    let mut write = |value: u32| bytes.extend_from_slice(&value.to_le_bytes());
    for twin in &block.twins {
        write(twin.load(Ordering::Relaxed));
    }
    for link in &block.links {
        write(link.load(Ordering::Relaxed));
    }
    for link in block.upper() {
        write(link.load(Ordering::Relaxed));
    }
}

/// Reads a graph of vectors of a dimension, with as many neighbours as new nodes get, on several threads.
///
/// # Errors
/// Where the file is no such graph or not as it was saved, is cut short, or names nodes that it does not have.
pub(super) fn load(
    path: &Path,
    seal: &Seal,
    dim: usize,
    connectivity: usize,
    threads: usize,
) -> Result<Saved> {
    // To open a pipe would wait for somebody who writes to it.
    if !std::fs::metadata(path)?.is_file() {
        return Err(damaged("it is no regular file"));
    }
    let file = File::open(path)?;
    let bytes = file.metadata()?.len();
    if bytes != seal.bytes {
        return Err(changed());
    }
    let head = Head::read(&file, bytes, dim, connectivity, seal)?;
    let none = Nodes::new(dim, connectivity);
    let begin = || (Vec::new(), Vec::new());
    let piece = |(buffer, made): &mut (Vec<u8>, Vec<(usize, Block)>), at: usize| {
        made.push((at, head.block(&file, at, &none, buffer)?));
        Ok(())
    };
    let made = pieces::work(threads, head.blocks.len(), begin, piece);
    let made = made.map_err(|mut errors: Vec<Error>| errors.remove(0))?;
    let mut blocks: Vec<(usize, Block)> = made.into_iter().flat_map(|(_, made)| made).collect();
    blocks.sort_unstable_by_key(|(at, _)| *at);
    let blocks = blocks.into_iter().map(|(_, block)| block).collect();
    let nodes = Nodes::of_blocks(dim, connectivity, blocks);
    if !nodes.are_in_order() {
        return Err(damaged("its rows are not in the order of their numbers"));
    }
    check_twins(&nodes)?;
    Ok(Saved {
        nodes,
        centre: head.centre,
        entry: head.entry,
    })
}

/// What is known before any block is read.
struct Head {
    nodes: u32,
    entry: Option<u32>,
    centre: Vec<f32>,
    blocks: Vec<Stored>,
}

/// Where a block is in the file.
struct Stored {
    from: u64,
    bytes: usize,
    checksum: u32,
}

impl Head {
    fn read(file: &File, bytes: u64, dim: usize, connectivity: usize, seal: &Seal) -> Result<Self> {
        let mut file = BufReader::new(file);
        let mut head = vec![0; FIRST];
        file.read_exact(&mut head)?;
        let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|byte| head[at + byte]));
        let nodes = u64::from_le_bytes(std::array::from_fn(|byte| head[24 + byte]));
        if !head.starts_with(MAGIC) || word(8) != FORMAT {
            return Err(damaged("it is no graph of this format"));
        }
        if (word(12) as usize, word(16) as usize) != (dim, connectivity) {
            return Err(damaged(
                "the saved graph has another dimension or other numbers of neighbours",
            ));
        }
        // A node has at least this much, so that a number that is too large is known before memory is reserved for it.
        let least = 8 + CodedVector::lines(dim) * LINE + 4 + 4 * 2 * connectivity;
        if nodes >= u64::from(FREE) || nodes.saturating_mul(least as u64) > bytes {
            return Err(damaged("it is too short for its number of nodes"));
        }
        let nodes = nodes as u32;
        let entry = Some(word(20)).filter(|&entry| entry != FREE);
        if entry.is_some() != (nodes > 0) || entry.is_some_and(|entry| entry >= nodes) {
            return Err(damaged("it has no node to begin with"));
        }
        let table = FIRST + 4 * dim;
        head.resize(table + 8 * (nodes as usize).div_ceil(BLOCK), 0);
        file.read_exact(&mut head[FIRST..])?;
        if sha256_hex(&head) != seal.sha256 {
            return Err(changed());
        }
        let mut from = head.len() as u64;
        let mut blocks = Vec::new();
        for entry in words(&head[table..]).collect::<Vec<_>>().as_chunks::<2>().0 {
            blocks.push(Stored {
                from,
                bytes: entry[0] as usize,
                checksum: entry[1],
            });
            from += u64::from(entry[0]);
        }
        if from != bytes {
            return Err(damaged("its blocks are shorter or longer than the file"));
        }
        let centre = words(&head[FIRST..table]).map(f32::from_bits).collect();
        Ok(Self {
            nodes,
            entry,
            centre,
            blocks,
        })
    }

    /// A block of a graph with the sizes of `graph`.
    fn block(&self, file: &File, at: usize, graph: &Nodes, bytes: &mut Vec<u8>) -> Result<Block> {
        let stored = &self.blocks[at];
        bytes.resize(stored.bytes, 0);
        read_exact_at(file, bytes, stored.from)?;
        if crc32fast::hash(bytes) != stored.checksum {
            return Err(changed());
        }
        let count = BLOCK.min(self.nodes as usize - at * BLOCK);
        let mut rest: &[u8] = bytes;
        let mut part = |size: usize| {
            let (part, behind) = rest.split_at_checked(size).ok_or_else(other_size)?;
            rest = behind;
            Ok::<&[u8], Error>(part)
        };
        let mut block = graph.new_block();
        let (numbers, _) = part(8 * count)?.as_chunks::<8>();
        block
            .numbers
            .extend(numbers.iter().map(|number| u64::from_le_bytes(*number)));
        let (lines, _) = part(count * CodedVector::lines(graph.dim()) * LINE)?.as_chunks::<LINE>();
        block.codes.extend(lines.iter().map(|line| Line(*line)));
        block
            .twins
            .extend(words(part(4 * count)?).map(AtomicU32::new));
        let links = part(4 * count * graph.width(0))?;
        self.check_neighbours(links)?;
        block.links.extend(words(links).map(AtomicU32::new));
        for at in 0..count {
            let level = graph.level_of(block.numbers[at]);
            let lists = part(4 * usize::from(level) * graph.width(1))?;
            self.check_neighbours(lists)?;
            block.push_upper(words(lists).map(AtomicU32::new).collect());
        }
        match rest {
            [] => Ok(block),
            _ => Err(other_size()),
        }
    }

    fn check_neighbours(&self, lists: &[u8]) -> Result<()> {
        // The one behind the last number is 0, and so small enough.
        let most = words(lists).map(|neighbour| neighbour.wrapping_add(1));
        match most.fold(0, u32::max) <= self.nodes {
            true => Ok(()),
            false => Err(damaged("a neighbour is none of its nodes")),
        }
    }
}

/// Refuses twins that are no nodes, of two nodes, or in a circle, which a search would follow for ever.
fn check_twins(nodes: &Nodes) -> Result<()> {
    let count = nodes.len() as u32;
    let mut is_twin = vec![false; nodes.len()];
    for twin in (0..count).filter_map(|node| nodes.twin(node)) {
        match is_twin.get_mut(twin as usize) {
            Some(known) if !*known => *known = true,
            _ => return Err(damaged("a twin is none of its nodes, or that of two")),
        }
    }
    let first = (0..count).filter(|&node| !is_twin[node as usize]);
    let reached: usize = first.map(|node| nodes.twins(node).count()).sum();
    if reached != is_twin.iter().filter(|twin| **twin).count() {
        return Err(damaged("twins of its nodes lie in a circle"));
    }
    Ok(())
}

fn words(bytes: &[u8]) -> impl ExactSizeIterator<Item = u32> + '_ {
    let (words, _) = bytes.as_chunks();
    words.iter().map(|word| u32::from_le_bytes(*word))
}

/// Reads a part of a file, which other threads may do at the same time.
#[cfg(unix)]
fn read_exact_at(file: &File, bytes: &mut [u8], from: u64) -> Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, from)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut bytes: &mut [u8], mut from: u64) -> Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, bytes, from) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                bytes = &mut bytes[count..];
                from += count as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn changed() -> Error {
    damaged("it is not as it was saved")
}

fn other_size() -> Error {
    damaged("a block has another size than its nodes")
}

fn damaged(problem: &str) -> Error {
    Error::new(ErrorKind::InvalidData, problem)
}

#[cfg(test)]
mod tests;
