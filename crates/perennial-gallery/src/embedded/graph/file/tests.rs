//! Files that are not as they were saved, and files that never were a graph although all checksums hold.

use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::super::{Graph, HnswConfig};
use super::*;

const DIM: usize = 20;
const NODES: usize = BLOCK + 40;
/// Bytes of the head.
const HEAD: usize = FIRST + 4 * DIM + 2 * 8;

/// A graph of two blocks with some twins, its file and seal.
fn graph() -> &'static (Graph, Vec<u8>, Seal) {
    static GRAPH: std::sync::OnceLock<(Graph, Vec<u8>, Seal)> = std::sync::OnceLock::new();
    GRAPH.get_or_init(|| {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let mut vector =
            || -> Vec<f32> { (0..DIM).map(|_| random.random::<f32>() - 0.5).collect() };
        let mut vectors: Vec<Vec<f32>> = (0..NODES).map(|_| vector()).collect();
        let equal = vectors[5].clone();
        vectors[NODES - 3..].fill(equal);
        let graph = Graph::new(vec![0.01; DIM], &HnswConfig::default());
        let coded = vectors.iter().map(|vector| graph.coded(vector));
        let rows: Vec<_> = (100..).zip(coded).collect();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2);
        graph.add(&rows, &pool.build().unwrap());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("graph");
        let seal = graph.save(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        (graph, bytes, seal)
    })
}

/// What loading a file gives; a graph that was loaded must also end its searches.
fn loaded(bytes: &[u8], seal: &Seal) -> std::result::Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("graph");
    std::fs::write(&path, bytes).unwrap();
    let graph = Graph::load(&path, seal, DIM, &HnswConfig::default(), 0, 2);
    let graph = graph.map_err(|error| error.to_string())?;
    assert_eq!(graph.len(), NODES);
    for query in [[0.1; DIM], [-0.2; DIM]] {
        assert!(graph.search(&query, 5, None).len() <= 5);
    }
    assert!(graph.search(&[0.3; DIM], 2 * NODES, None).len() <= NODES);
    Ok(())
}

/// Makes all checksums hold for a file as it is now.
fn sealed(bytes: &mut [u8]) -> Seal {
    let mut from = HEAD;
    for at in 0..2 {
        let entry = FIRST + 4 * DIM + 8 * at;
        let size = u32::from_le_bytes(bytes[entry..entry + 4].try_into().unwrap());
        let to = from.saturating_add(size as usize);
        let Some(block) = bytes.get(from..to) else {
            break;
        };
        let checksum = crc32fast::hash(block).to_le_bytes();
        bytes[entry + 4..entry + 8].copy_from_slice(&checksum);
        from = to;
    }
    Seal {
        bytes: bytes.len() as u64,
        sha256: sha256_hex(&bytes[..HEAD.min(bytes.len())]),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_change_is_noticed(at: prop::sample::Index, flip in 1u8.., cut: prop::sample::Index) {
        let (_, whole, seal) = graph();
        let mut changed = whole.clone();
        let at = at.index(whole.len());
        changed[at] ^= flip;
        prop_assert!(loaded(&changed, seal).is_err());
        prop_assert!(loaded(&whole[..cut.index(whole.len())], seal).is_err());
        prop_assert!(loaded(&[whole.as_slice(), &[0]].concat(), seal).is_err());
    }

    /// Whoever writes the file can make its checksums hold: it is refused still, or a graph whose searches end.
    #[test]
    fn a_forged_file_does_no_harm(at: prop::sample::Index, value: u8, in_head: bool, cut: prop::sample::Index) {
        let (_, whole, _) = graph();
        let mut forged = whole.clone();
        let at = at.index(if in_head { HEAD } else { whole.len() });
        forged[at] = value;
        let seal = sealed(&mut forged);
        let _ = loaded(&forged, &seal);
        let mut short = whole[..cut.index(whole.len())].to_vec();
        if short.len() >= HEAD {
            let seal = sealed(&mut short);
            prop_assert!(loaded(&short, &seal).is_err());
        }
        let mut long = [whole.as_slice(), &[0]].concat();
        let seal = sealed(&mut long);
        prop_assert!(loaded(&long, &seal).is_err());
    }
}

#[test]
fn every_check_of_the_content_names_what_is_wrong() {
    let (graph, whole, seal) = graph();
    loaded(whole, seal).unwrap();
    let nodes = graph.nodes();
    let twins = HEAD + (8 + CodedVector::lines(DIM) * LINE) * BLOCK;
    let links = twins + 4 * BLOCK;
    let upper = links + 4 * BLOCK * nodes.width(0);
    // A node with twins, of which the first block has one.
    let first = (0..BLOCK as u32).find(|&node| nodes.twin(node).is_some());
    let first = first.unwrap() as usize;
    let (last, beyond) = (NODES as u32 - 1, NODES as u32);
    let word = |at: usize, value: u32| vec![(at, value.to_le_bytes().to_vec())];
    for (changes, problem) in [
        (word(8, 1), "format"),
        (word(12, DIM as u32 + 1), "another dimension"),
        (word(16, 17), "other numbers of neighbours"),
        (word(20, beyond), "no node to begin with"),
        (word(20, FREE), "no node to begin with"),
        (word(24, u32::MAX), "too short for its number"),
        (word(FIRST + 4 * DIM, 77), "shorter or longer than the file"),
        (word(HEAD + 8, 100), "order of their numbers"),
        // The first number of the second block is that of the first one.
        (
            vec![(HEAD + block_bytes(whole, 0), whole[HEAD..HEAD + 8].to_vec())],
            "order of their numbers",
        ),
        (word(twins, beyond), "twin is none of its nodes"),
        (
            [word(twins, last), word(twins + 4, last)].concat(),
            "that of two",
        ),
        (word(twins + 4 * first, first as u32), "circle"),
        (word(links, beyond), "neighbour is none of its nodes"),
        (
            word(links + 40, u32::MAX - 1),
            "neighbour is none of its nodes",
        ),
        (word(upper, beyond), "neighbour is none of its nodes"),
    ] {
        let mut forged = whole.clone();
        for (at, bytes) in changes {
            forged[at..at + bytes.len()].copy_from_slice(&bytes);
        }
        let seal = sealed(&mut forged);
        let error = loaded(&forged, &seal).unwrap_err();
        assert!(error.contains(problem), "{error} lacks {problem}");
    }
    // Four bytes that belong to no list, or one list too few.
    let size = block_bytes(whole, 0);
    let mut longer = whole.clone();
    drop(longer.splice(HEAD + size..HEAD + size, [0; 4]));
    let mut shorter = whole.clone();
    drop(shorter.drain(HEAD + size - 4..HEAD + size));
    for (mut forged, size) in [(longer, size + 4), (shorter, size - 4)] {
        let entry = FIRST + 4 * DIM;
        forged[entry..entry + 4].copy_from_slice(&(size as u32).to_le_bytes());
        let seal = sealed(&mut forged);
        let error = loaded(&forged, &seal).unwrap_err();
        assert!(error.contains("another size than its nodes"), "{error}");
    }
}

fn block_bytes(file: &[u8], at: usize) -> usize {
    let entry = FIRST + 4 * DIM + 8 * at;
    u32::from_le_bytes(file[entry..entry + 4].try_into().unwrap()) as usize
}
