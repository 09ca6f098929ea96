//! A graph in a file: little-endian, every part's size follows from the head.
//!
//! | part | bytes |
//! |---|---|
//! | `PRNLHNSW`, format, dimension, connectivity, entry (`u32` each), nodes (`u64`) | 32 |
//! | centre, `[dim]` of `f32` | 4 x dim |
//! | row numbers, `[nodes]` of `u64` | 8 x nodes |
//! | levels, `[nodes]` of `u8` | nodes |
//! | codes, `[nodes, lines, 64]` | |
//! | next twins, `[nodes]` of `u32`, `0xffff_ffff` for none | 4 x nodes |
//! | lists of neighbours, node by node and level by level from the lowest, `u32`, filled up with `0xffff_ffff` | |

use std::io::{BufReader, BufWriter, Error, ErrorKind, Read, Result, Write};
use std::path::Path;

use super::coded::CodedVector;
use super::line::Line;
use super::nodes::{FREE, Nodes};

const MAGIC: &[u8; 8] = b"PRNLHNSW";
const FORMAT: u32 = 1;
const HEAD: usize = 32;

/// What a file holds.
pub(super) struct Saved {
    pub(super) nodes: Nodes,
    pub(super) centre: Vec<f32>,
    pub(super) entry: Option<u32>,
}

/// Writes a graph and hands it to the disk.
pub(super) fn save(path: &Path, nodes: &Nodes, centre: &[f32], entry: Option<u32>) -> Result<()> {
    let mut file = BufWriter::with_capacity(1 << 20, fs_err::File::create(path)?);
    file.write_all(MAGIC)?;
    let head = [
        FORMAT,
        nodes.dim() as u32,
        nodes.connectivity() as u32,
        entry.unwrap_or(FREE),
    ];
    for value in head {
        file.write_all(&value.to_le_bytes())?;
    }
    file.write_all(&(nodes.len() as u64).to_le_bytes())?;
    for value in centre {
        file.write_all(&value.to_le_bytes())?;
    }
    let all = || 0..nodes.len() as u32;
    for node in all() {
        file.write_all(&nodes.number(node).to_le_bytes())?;
    }
    for node in all() {
        file.write_all(&[nodes.level(node)])?;
    }
    for node in all() {
        for line in nodes.lines_of(node) {
            file.write_all(&line.0)?;
        }
    }
    for node in all() {
        file.write_all(&nodes.twin(node).unwrap_or(FREE).to_le_bytes())?;
    }
    for node in all() {
        for level in 0..=nodes.level(node) {
            let neighbours = nodes.neighbours(node, level).chain(std::iter::repeat(FREE));
            for neighbour in neighbours.take(nodes.width(level)) {
                file.write_all(&neighbour.to_le_bytes())?;
            }
        }
    }
    file.into_inner()
        .map_err(|error| error.into_error())?
        .sync_all()
}

/// Reads a graph of vectors of a dimension, with as many neighbours as new nodes get.
///
/// # Errors
/// Where the file is no such graph, is cut short, or names nodes that it does not have.
pub(super) fn load(path: &Path, dim: usize, connectivity: usize) -> Result<Saved> {
    let file = fs_err::File::open(path)?;
    let bytes = file.metadata()?.len();
    let mut file = BufReader::with_capacity(1 << 20, file);
    let mut head = [0; HEAD];
    file.read_exact(&mut head)?;
    let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|byte| head[at + byte]));
    let count = u64::from_le_bytes(std::array::from_fn(|byte| head[24 + byte]));
    if !head.starts_with(MAGIC) || word(8) != FORMAT {
        return Err(damaged("it is no graph of this format"));
    }
    if (word(12) as usize, word(16) as usize) != (dim, connectivity) {
        return Err(damaged(
            "the saved graph has another dimension or other numbers of neighbours",
        ));
    }
    let (mut nodes, lines) = (Nodes::new(dim, connectivity), CodedVector::lines(dim));
    // A node has at least this much, so that a number that is too large is known before memory is reserved for it.
    let codes = lines as u64 * size_of::<Line>() as u64;
    let least = 8 + 1 + codes + 4 + 4 * nodes.width(0) as u64;
    if count >= u64::from(FREE) || count.saturating_mul(least) > bytes {
        return Err(damaged("it is too short for its number of nodes"));
    }
    let count = count as u32;
    let entry = Some(word(20)).filter(|&entry| entry != FREE);
    if entry.is_some() != (count > 0) || entry.is_some_and(|entry| entry >= count) {
        return Err(damaged("it has no node to begin with"));
    }
    let mut centre = vec![0.0; dim];
    for value in &mut centre {
        *value = f32::from_le_bytes(array(&mut file)?);
    }
    let mut numbers = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let number = u64::from_le_bytes(array(&mut file)?);
        if numbers.last().is_some_and(|&last| number <= last) {
            return Err(damaged("its rows are not in the order of their numbers"));
        }
        numbers.push(number);
    }
    let mut levels = vec![0; count as usize];
    file.read_exact(&mut levels)?;
    for (number, level) in numbers.iter().zip(&levels) {
        if *level != nodes.level_of(*number) {
            return Err(damaged("a node lies on another level than its number says"));
        }
        let mut vector = vec![Line::ZERO; lines];
        for line in &mut vector {
            file.read_exact(&mut line.0)?;
        }
        nodes.push(*number, &CodedVector::from_lines(vector), *level);
    }
    for node in 0..count {
        let twin = u32::from_le_bytes(array(&mut file)?);
        nodes.store_twin(node, twin);
    }
    check_twins(&nodes)?;
    let mut neighbours = Vec::new();
    for (node, level) in (0..count).zip(levels) {
        for level in 0..=level {
            neighbours.clear();
            for _ in 0..nodes.width(level) {
                let neighbour = u32::from_le_bytes(array(&mut file)?);
                if neighbour < count {
                    neighbours.push(neighbour);
                } else if neighbour != FREE {
                    return Err(damaged("a neighbour is none of its nodes"));
                }
            }
            nodes.set_neighbours(node, level, &neighbours);
        }
    }
    if file.read(&mut [0])? != 0 {
        return Err(damaged("it is longer than its nodes"));
    }
    Ok(Saved {
        nodes,
        centre,
        entry,
    })
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

fn array<const N: usize>(file: &mut impl Read) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn damaged(problem: &str) -> Error {
    Error::new(ErrorKind::InvalidData, problem)
}
