//! What a graph finds, while it grows and after it was saved.

use perennial_core::dot;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

const DIM: usize = 24;

fn pool() -> rayon::ThreadPool {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2);
    pool.build().unwrap()
}

/// Scattered directions: neighbours far closer than the step of a code would tie, and a graph of ties leads nowhere.
fn vectors(count: usize, seed: u64) -> Vec<Vec<f32>> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut vector = || {
        let mut vector: Vec<f32> = (0..DIM).map(|_| random.random::<f32>() - 0.5).collect();
        let length = dot(&vector, &vector).sqrt();
        vector.iter_mut().for_each(|x| *x /= length);
        vector
    };
    (0..count).map(|_| vector()).collect()
}

fn coded(graph: &Graph, vectors: &[Vec<f32>], first: u64) -> Vec<(u64, CodedVector)> {
    let vectors = vectors.iter().map(|vector| graph.coded(vector));
    (first..).zip(vectors).collect()
}

fn graph_of(vectors: &[Vec<f32>], first: u64) -> Graph {
    let graph = Graph::new(vec![0.01; DIM], &HnswConfig::default());
    graph.add(&coded(&graph, vectors, first), &pool());
    graph
}

fn load(path: &Path, seal: &Seal) -> Result<Graph, GalleryError> {
    Graph::load(path, seal, DIM, &HnswConfig::default(), 0, 2)
}

/// The share of the true ten best that is found, over queries.
fn recall(graph: &Graph, vectors: &[Vec<f32>], first: u64, queries: &[Vec<f32>]) -> f64 {
    let mut right = 0;
    for query in queries {
        let mut best: Vec<usize> = (0..vectors.len()).collect();
        best.sort_by(|&a, &b| dot(query, &vectors[b]).total_cmp(&dot(query, &vectors[a])));
        let found = graph.search(query, 12, None);
        right += best[..10]
            .iter()
            .filter(|&&row| found.contains(&(first + row as u64)))
            .count();
    }
    right as f64 / (10 * queries.len()) as f64
}

#[test]
fn a_graph_finds_saves_and_loads() {
    let (rows, queries) = (vectors(3000, 11), vectors(50, 12));
    let graph = graph_of(&rows, 7);
    // Rows that are there already are not added again.
    graph.add(&coded(&graph, &rows[..10], 7), &pool());
    assert_eq!((graph.len(), graph.dim()), (3000, DIM));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("graph");
    let seal = graph.save(&path).unwrap();
    let saved = std::fs::read(&path).unwrap();
    for threads in [1, 3] {
        let loaded = Graph::load(&path, &seal, DIM, &HnswConfig::default(), 3007, threads);
        let loaded = loaded.unwrap();
        assert_eq!(
            (loaded.covered(), loaded.len(), loaded.bytes()),
            (3007, 3000, graph.bytes())
        );
        let again = folder.path().join("again");
        assert_eq!(loaded.save(&again).unwrap(), seal);
        assert_eq!(std::fs::read(&again).unwrap(), saved);
    }
    let loaded = load(&path, &seal).unwrap();
    for graph in [&graph, &loaded] {
        let recall = recall(graph, &rows, 7, &queries);
        // Two threads link in another order each time; the share is above 0.99 then.
        assert!(recall > 0.95, "{recall}");
    }
    for query in &queries {
        assert_eq!(
            graph.search(query, 20, None),
            loaded.search(query, 20, None)
        );
        let odd = |number: u64| number % 2 == 1;
        let found = loaded.search(query, 5, Some(&odd));
        assert!(found.len() == 5 && found.iter().all(|number| number % 2 == 1));
    }
    // A loaded graph goes on growing.
    let more = vectors(500, 13);
    loaded.add(&coded(&loaded, &more, 5000), &pool());
    assert!(recall(&loaded, &more, 5000, &more[..50]) > 0.0);
    assert_eq!(loaded.search(&more[7], 1, None), [5007]);
    let other = Graph::load(&path, &seal, DIM + 1, &HnswConfig::default(), 0, 2);
    assert!(other.is_err());
}

#[test]
fn an_empty_graph_finds_nothing() {
    let graph = Graph::new(vec![0.0; DIM], &HnswConfig::default());
    assert!(graph.search(&[0.1; DIM], 5, None).is_empty());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("graph");
    let seal = graph.save(&path).unwrap();
    let loaded = load(&path, &seal).unwrap();
    assert_eq!(loaded.len(), 0);
    loaded.add(&coded(&loaded, &vectors(1, 1), 0), &pool());
    assert_eq!(loaded.search(&[0.1; DIM], 5, None), [0]);
}

#[test]
fn searches_go_on_while_rows_are_added() {
    let rows = vectors(4000, 3);
    let graph = Graph::new(vec![0.0; DIM], &HnswConfig::default());
    let pool = pool();
    graph.add(&coded(&graph, &rows[..100], 0), &pool);
    std::thread::scope(|scope| {
        let adding = scope.spawn(|| {
            for (at, some) in rows[100..].chunks(60).enumerate() {
                graph.add(&coded(&graph, some, 100 + 60 * at as u64), &pool);
            }
        });
        for _ in 0..20 {
            scope.spawn(|| {
                while graph.len() < rows.len() {
                    for (number, row) in (0..).zip(&rows[..100]) {
                        assert_eq!(graph.search(row, 3, None)[0], number);
                    }
                }
            });
        }
        adding.join().unwrap();
    });
    let found = (0..)
        .zip(&rows)
        .filter(|(number, row)| graph.search(row, 1, None) == [*number]);
    assert!(found.count() >= 3990);
    // As many walks are kept as ran at a time.
    assert!(graph.walks.lock().unwrap().len() <= 24);
}

#[test]
fn equal_vectors_are_all_found() {
    // As of many items with the same placeholder picture.
    let mut rows = vec![vectors(1, 5)[0].clone(); 700];
    rows.extend(vectors(300, 6));
    let graph = graph_of(&rows, 0);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("graph");
    let seal = graph.save(&path).unwrap();
    let loaded = load(&path, &seal).unwrap();
    for graph in [&graph, &loaded] {
        let found = graph.search(&rows[0], 900, None);
        assert!(found.len() == 900 && found[..700].iter().all(|&number| number < 700));
        let late = |number: u64| number >= 690;
        let mut found = graph.search(&rows[0], 10, Some(&late));
        found.sort_unstable();
        assert_eq!(found, (690..700).collect::<Vec<u64>>());
    }
    assert_eq!(graph.search(&rows[800], 1, None), [800]);
}

#[test]
fn a_search_that_is_broadened_finds_what_a_broad_one_finds() {
    let (rows, queries) = (vectors(3000, 31), vectors(50, 32));
    let graph = graph_of(&rows, 0);
    let breadth = graph.breadth(10);
    let odd = |number: u64| number % 2 == 1;
    for passes in [None, Some(&odd as &(dyn Fn(u64) -> bool + Sync))] {
        let (mut narrow, mut same) = (0, 0);
        for query in &queries {
            let at_once = graph.search(query, breadth, passes);
            let mut search = graph.begin(query, 8, passes).unwrap();
            assert_eq!(search.found().len(), 8);
            assert!(search.found().is_sorted());
            let numbers = |search: &Search<'_>| -> Vec<u64> {
                let found = search.found().iter();
                found.map(|&found| search.number(found)).collect()
            };
            let common = |found: &[u64]| found.iter().filter(|one| at_once.contains(one)).count();
            narrow += common(&numbers(&search));
            search.broaden(breadth);
            let found = numbers(&search);
            assert!(search.found().is_sorted() && found.len() == breadth);
            assert!(passes.is_none_or(|passes| found.iter().all(|&number| passes(number))));
            same += common(&found);
        }
        // The order in which nodes are looked at differs, and so may the last of the nearest.
        let all = queries.len() * breadth;
        assert!(same * 1000 >= all * 995, "{same} of {all}");
        assert!(narrow * 10 >= queries.len() * 8 * 9, "{narrow}");
    }
}

#[test]
fn a_search_that_is_broadened_finds_equal_vectors() {
    let mut rows = vec![vectors(1, 5)[0].clone(); 700];
    rows.extend(vectors(300, 6));
    let graph = graph_of(&rows, 0);
    let mut search = graph.begin(&rows[0], 8, None).unwrap();
    search.broaden(900);
    let found = search.found().iter();
    let mut found: Vec<u64> = found.map(|&found| search.number(found)).collect();
    assert!(found.len() == 900 && found[..700].iter().all(|&number| number < 700));
    found.sort_unstable();
    found.dedup();
    assert_eq!(found.len(), 900);
    let late = |number: u64| number >= 690;
    let mut search = graph.begin(&rows[0], 4, Some(&late)).unwrap();
    search.broaden(12);
    assert_eq!(search.found().len(), 12);
}

#[test]
fn levels_get_thinner() {
    let nodes = Nodes::new(DIM, 16);
    let mut levels = [0usize; 6];
    for number in 0..100_000 {
        levels[usize::from(nodes.level_of(number))] += 1;
    }
    assert!(
        (5_500..7_000).contains(&levels[1..].iter().sum::<usize>()),
        "{levels:?}"
    );
    assert!(
        (250..550).contains(&levels[2..].iter().sum::<usize>()),
        "{levels:?}"
    );
}

#[test]
fn the_memory_of_a_graph_is_counted_as_it_grows() {
    let graph = graph_of(&vectors(2500, 21), 0);
    let nodes = graph.nodes();
    let above = (0..2500).filter(|&node| nodes.level(node) > 0).count();
    let links: usize = nodes
        .blocks()
        .iter()
        .map(|block| block.upper().count())
        .sum();
    assert!(above > 50 && links >= above * nodes.connectivity());
    let lowest = 3 * nodes::BLOCK * Nodes::node_bytes(DIM, nodes.connectivity());
    assert_eq!(graph.bytes(), lowest + 4 * links + 16 * above);
}
