mod concurrent;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use perennial_core::SpaceId;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use super::*;
use crate::embedded::state::Shared;
use crate::embedded::{GalleryConfig, HnswConfig};
use crate::filter::Filter;
use crate::item::{Item, ItemId};
use crate::mapped_index::VectorMap;
use crate::stats::{IndexKind, IndexProgress, IndexState};
use crate::store::{Maintenance, Snapshots, VectorStore};

const DIM: usize = 6;
const TO: usize = 9;

/// Turns vectors over and adds dimensions; refuses those that point down.
struct Turn(String);

impl Turn {
    fn one(vector: &[f32]) -> Vec<f32> {
        let mut turned: Vec<f32> = vector.iter().rev().copied().collect();
        turned.resize(TO, 0.0);
        turned
    }

    fn refuses(vector: &[f32]) -> bool {
        vector[0] < -0.8
    }
}

impl VectorMap for Turn {
    fn key(&self) -> &str {
        &self.0
    }

    fn input_dim(&self) -> usize {
        DIM
    }

    fn output_dim(&self) -> usize {
        TO
    }

    fn map(&self, vectors: &[f32], mapped: &mut Vec<f32>) -> Result<(), String> {
        mapped.clear();
        for vector in vectors.chunks_exact(DIM) {
            if Self::refuses(vector) {
                return Err("it points down".to_owned());
            }
            mapped.extend(Self::one(vector));
        }
        Ok(())
    }
}

fn space(name: &str) -> SpaceId {
    SpaceId::new(name).unwrap()
}

fn index(of: &str, key: &str) -> MappedIndex {
    MappedIndex {
        space: space(of),
        map: Arc::new(Turn(key.to_owned())),
    }
}

fn open(folder: &Path, hnsw_from: usize) -> EmbeddedGallery {
    let config = GalleryConfig {
        threads: 2,
        cache_bytes: 4 << 20,
        hnsw_from,
        hnsw: HnswConfig::default(),
        ..GalleryConfig::default()
    };
    EmbeddedGallery::open(folder, config).unwrap()
}

fn unit(random: &mut ChaCha8Rng, dim: usize) -> Vec<f32> {
    let vector: Vec<f32> = (0..dim).map(|_| random.random::<f32>() - 0.5).collect();
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    vector.into_iter().map(|x| x / length).collect()
}

fn item(id: u64, of: &str, embedding: Vec<f32>) -> Item {
    Item {
        id: id.into(),
        embedding,
        model_version: of.to_owned(),
        label: id.is_multiple_of(3).then_some(7),
        payload: json!({"even": id.is_multiple_of(2)})
            .as_object()
            .unwrap()
            .clone(),
    }
}

fn items(random: &mut ChaCha8Rng, ids: std::ops::Range<u64>, of: &str) -> Vec<Item> {
    ids.map(|id| item(id, of, unit(random, DIM))).collect()
}

fn wait(gallery: &EmbeddedGallery, of: &str, key: &str) {
    let start = Instant::now();
    while !gallery.has_mapped(of, key) {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "{:?}",
            gallery.mapped()
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The first hits, by mapped vectors, and what they must be.
fn check(gallery: &EmbeddedGallery, content: &[Item], query: &[f32], filter: &Filter) {
    let request = SearchRequest {
        spaces: &[space("old"), space("old")],
        queries: query,
        dim: TO,
        limit: 10,
        filter,
        exact: true,
    };
    let found = gallery.search_mapped("turn", &request).unwrap().remove(0);
    let mut wanted: Vec<(f32, ItemId)> = content
        .iter()
        .filter(|item| item.model_version == "old" && !Turn::refuses(&item.embedding))
        .filter(|item| filter.labels.is_none() || item.label == Some(7))
        .filter(|item| filter.payload.is_none() || item.payload["even"] == json!(true))
        .map(|item| {
            let turned = Turn::one(&item.embedding);
            (perennial_core::dot(query, &turned), item.id.clone())
        })
        .collect();
    wanted.sort_by(|a, b| b.0.total_cmp(&a.0));
    let wanted: Vec<ItemId> = wanted.into_iter().take(10).map(|(_, id)| id).collect();
    let found: Vec<ItemId> = found.into_iter().map(|hit| hit.id).collect();
    assert_eq!(found, wanted);
}

fn filters() -> [Filter; 3] {
    let parse = |value| serde_json::from_value::<Filter>(value).unwrap();
    [
        Filter::default(),
        parse(json!({"labels": {"any_of": [7]}})),
        parse(json!({"payload": {"even": true}})),
    ]
}

fn check_all(gallery: &EmbeddedGallery, content: &[Item], random: &mut ChaCha8Rng) {
    for filter in filters() {
        for _ in 0..3 {
            check(gallery, content, &unit(random, TO), &filter);
        }
    }
}

#[test]
fn searches_see_every_write_at_once_whether_it_is_mapped_yet_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = open(folder.path(), usize::MAX);
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let mut content = items(&mut random, 0..3000, "old");
    content.extend(items(&mut random, 3000..3500, "other"));
    gallery.upsert(content.clone()).unwrap();
    gallery.keep_mapped(&[index("old", "turn")]).unwrap();
    // Not built yet, and complete.
    check_all(&gallery, &content, &mut random);
    wait(&gallery, "old", "turn");
    check_all(&gallery, &content, &mut random);
    for round in 0..60 {
        let id = random.random_range(0..4000u64);
        match round % 4 {
            0 => {
                gallery.delete(&[id.into()]).unwrap();
                content.retain(|item| item.id != id.into());
            }
            kind => {
                // Moves an item to the other space, back, or gives it another vector.
                let of = if kind == 1 { "other" } else { "old" };
                let new = item(id, of, unit(&mut random, DIM));
                gallery.upsert(vec![new.clone()]).unwrap();
                content.retain(|item| item.id != id.into());
                content.push(new);
            }
        }
        check(
            &gallery,
            &content,
            &unit(&mut random, TO),
            &Filter::default(),
        );
    }
    let refused = content.iter().filter(|item| Turn::refuses(&item.embedding));
    assert!(refused.count() > 0, "some vectors are refused by the map");
    // Most of them go, so that the rows are compacted.
    let gone: Vec<ItemId> = (0..2600u64).map(ItemId::from).collect();
    gallery.delete(&gone).unwrap();
    content.retain(|item| !gone.contains(&item.id));
    check_all(&gallery, &content, &mut random);
    // The last one goes, and others come.
    gallery.delete_where(&Filter::everything()).unwrap();
    check_all(&gallery, &[], &mut random);
    let again = items(&mut random, 0..50, "old");
    gallery.upsert(again.clone()).unwrap();
    check_all(&gallery, &again, &mut random);
}

#[test]
fn what_is_restored_is_mapped_anew() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = open(&folder.path().join("gallery"), usize::MAX);
    let mut random = ChaCha8Rng::seed_from_u64(6);
    let before = items(&mut random, 0..400, "old");
    gallery.upsert(before.clone()).unwrap();
    gallery.keep_mapped(&[index("old", "turn")]).unwrap();
    wait(&gallery, "old", "turn");
    let snapshot = folder.path().join("snapshot");
    gallery.snapshot(&snapshot).unwrap();
    gallery.upsert(items(&mut random, 0..300, "old")).unwrap();
    gallery.restore(&snapshot).unwrap();
    check_all(&gallery, &before, &mut random);
    wait(&gallery, "old", "turn");
    check_all(&gallery, &before, &mut random);
    gallery.compact().unwrap();
    check_all(&gallery, &before, &mut random);
}

/// Maps like [`Turn`]; threads that build the index wait until they are told to go on, and those of searches look whether writers would have to wait.
struct Watched {
    turn: Turn,
    go: AtomicBool,
    gallery: OnceLock<Weak<Shared>>,
    mapped: AtomicUsize,
    held: AtomicUsize,
}

impl VectorMap for Watched {
    fn key(&self) -> &str {
        self.turn.key()
    }

    fn input_dim(&self) -> usize {
        DIM
    }

    fn output_dim(&self) -> usize {
        TO
    }

    fn map(&self, vectors: &[f32], mapped: &mut Vec<f32>) -> Result<(), String> {
        let thread = std::thread::current();
        if thread.name().unwrap_or("").starts_with("gallery-search") {
            let shared = self.gallery.get().unwrap().upgrade().unwrap();
            let held = usize::from(shared.is_held());
            self.held.fetch_add(held, Ordering::SeqCst);
            let count = vectors.len() / DIM;
            self.mapped.fetch_add(count, Ordering::SeqCst);
        } else {
            while !self.go.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        self.turn.map(vectors, mapped)
    }
}

/// Lets the index be built in any case: a gallery that is closed waits for it.
struct GoOn(Arc<Watched>);

impl Drop for GoOn {
    fn drop(&mut self) {
        self.0.go.store(true, Ordering::SeqCst);
    }
}

#[test]
fn nobody_waits_while_a_search_maps_what_an_index_lacks() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = open(folder.path(), usize::MAX);
    let mut random = ChaCha8Rng::seed_from_u64(10);
    let mut content = items(&mut random, 0..5000, "old");
    // So that each is mapped once, and not by itself.
    content.retain(|item| !Turn::refuses(&item.embedding));
    gallery.upsert(content.clone()).unwrap();
    let map = Arc::new(Watched {
        turn: Turn("turn".to_owned()),
        go: AtomicBool::new(false),
        gallery: OnceLock::from(Arc::downgrade(&gallery.shared)),
        mapped: AtomicUsize::new(0),
        held: AtomicUsize::new(0),
    });
    let go_on = GoOn(Arc::clone(&map));
    let kept = MappedIndex {
        space: space("old"),
        map: Arc::clone(&map) as Arc<dyn VectorMap>,
    };
    gallery.keep_mapped(&[kept]).unwrap();
    let all = content.len();
    for filter in filters() {
        map.mapped.store(0, Ordering::SeqCst);
        check(&gallery, &content, &unit(&mut random, TO), &filter);
        // However often records are looked at.
        assert_eq!(map.mapped.load(Ordering::SeqCst), all);
    }
    assert_eq!(map.held.load(Ordering::SeqCst), 0);
    drop(go_on);
    wait(&gallery, "old", "turn");
    map.mapped.store(0, Ordering::SeqCst);
    check_all(&gallery, &content, &mut random);
    assert_eq!(map.mapped.load(Ordering::SeqCst), 0);
}

#[test]
fn an_index_is_kept_as_long_as_it_is_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = open(folder.path(), usize::MAX);
    let mut random = ChaCha8Rng::seed_from_u64(7);
    gallery.upsert(items(&mut random, 0..40, "old")).unwrap();
    let query = unit(&mut random, TO);
    let spaces = [space("old")];
    let request = SearchRequest {
        spaces: &spaces,
        queries: &query,
        dim: TO,
        limit: 5,
        filter: &Filter::default(),
        exact: false,
    };
    let missing = gallery.search_mapped("turn", &request).unwrap_err();
    assert!(
        matches!(missing, GalleryError::NotMapped { .. }),
        "{missing}"
    );
    gallery
        .keep_mapped(&[index("old", "turn"), index("none", "turn")])
        .unwrap();
    wait(&gallery, "old", "turn");
    // A space without items is searched in vain, and nothing of it is missing.
    wait(&gallery, "none", "turn");
    let stats = gallery.stats().unwrap();
    let old = stats
        .mapped
        .iter()
        .find(|one| one.space == space("old"))
        .unwrap();
    assert_eq!(
        (old.dim, old.items + old.refused, old.ready),
        (TO, 40, true)
    );
    assert!(old.memory_bytes > 0);
    let empty = SearchRequest {
        spaces: &[space("none")],
        ..request
    };
    assert_eq!(gallery.search_mapped("turn", &empty).unwrap(), [[]]);
    // The query has the dimension of stored vectors.
    let short = unit(&mut random, DIM);
    let wrong = SearchRequest {
        queries: &short,
        dim: DIM,
        ..request
    };
    assert!(
        gallery
            .search_mapped("turn", &wrong)
            .unwrap_err()
            .is_invalid_input()
    );
    // The same again keeps it, another map replaces it.
    gallery.keep_mapped(&[index("old", "turn")]).unwrap();
    assert!(gallery.has_mapped("old", "turn"));
    gallery.keep_mapped(&[index("old", "other")]).unwrap();
    assert!(!gallery.has_mapped("old", "turn"));
    assert!(gallery.search_mapped("turn", &request).is_err());
    wait(&gallery, "old", "other");
    gallery.keep_mapped(&[]).unwrap();
    assert!(gallery.stats().unwrap().mapped.is_empty());
}

#[test]
fn many_mapped_rows_have_a_graph_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = open(folder.path(), 500);
    let mut random = ChaCha8Rng::seed_from_u64(8);
    let content = items(&mut random, 0..2000, "old");
    gallery.upsert(content.clone()).unwrap();
    gallery.keep_mapped(&[index("old", "turn")]).unwrap();
    wait(&gallery, "old", "turn");
    gallery.flush().unwrap();
    let graph = gallery.shared.graph(RowsId::Mapped(0)).unwrap();
    assert_eq!(graph.dim(), TO);
    let stats = gallery.stats().unwrap().mapped.remove(0);
    let all_are_in = IndexState {
        kind: IndexKind::Hnsw,
        state: IndexProgress::Ready,
        indexed: stats.items,
        backlog: 0,
    };
    assert_eq!(stats.index, all_are_in);
    let queries: Vec<f32> = (0..50).flat_map(|_| unit(&mut random, TO)).collect();
    let hits = |exact| {
        let request = SearchRequest {
            spaces: &[space("old")],
            queries: &queries,
            dim: TO,
            limit: 1,
            filter: &Filter::default(),
            exact,
        };
        gallery.search_mapped("turn", &request).unwrap()
    };
    let (all, found) = (hits(true), hits(false));
    let same = all
        .iter()
        .zip(&found)
        .filter(|(one, other)| one[0].id == other[0].id);
    assert!(same.count() >= 45);
    // What it takes was foreseen, but for what nodes reserve together.
    let stats = gallery.mapped().remove(0);
    let foreseen = gallery.mapped_bytes(stats.items, TO);
    let more = stats.memory_bytes as f64 / foreseen as f64;
    assert!((0.95..1.6).contains(&more), "{foreseen} {stats:?}");
    // It is not saved: what is derived is derived again.
    let files: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    let graphs = files.iter().filter(|file| {
        let name = file.as_ref().unwrap().file_name();
        name.to_string_lossy().ends_with(".graph")
    });
    assert_eq!(graphs.count(), 1);
    gallery.keep_mapped(&[]).unwrap();
    assert!(gallery.shared.graph(RowsId::Mapped(0)).is_none());
}

/// Saving is held up at a pipe in the place of the file, which nobody empties.
#[cfg(target_os = "linux")]
#[test]
fn an_index_is_built_while_a_graph_is_being_saved() {
    use std::io::Read;

    use rustix::fs::{CWD, Mode, mkfifoat};

    let folder = tempfile::tempdir().unwrap();
    let gallery = open(folder.path(), 500);
    // What a killed process left is removed by then.
    gallery.flush().unwrap();
    let pipe = folder.path().join("hnsw.graph.partial");
    mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(9);
    // A graph of more bytes than a pipe takes.
    let mut content = items(&mut random, 0..3000, "old");
    gallery.upsert(content.clone()).unwrap();
    // Opened once the other end is, which saving opens.
    let mut saved = std::fs::File::open(&pipe).unwrap();
    // Later graphs go to a file again.
    std::fs::remove_file(&pipe).unwrap();
    gallery.keep_mapped(&[index("old", "turn")]).unwrap();
    wait(&gallery, "old", "turn");
    content.extend(items(&mut random, 3000..3100, "old"));
    gallery.upsert(content[3000..].to_vec()).unwrap();
    let looked_at = |gallery: &EmbeddedGallery| {
        let stats = gallery.mapped();
        stats[0].items + stats[0].refused
    };
    let start = Instant::now();
    while looked_at(&gallery) < 3100 {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "{:?}",
            gallery.mapped()
        );
        std::thread::sleep(Duration::from_millis(2));
    }
    check_all(&gallery, &content, &mut random);
    let mut bytes = Vec::new();
    saved.read_to_end(&mut bytes).unwrap();
    assert!(bytes.len() > 1 << 16, "{}", bytes.len());
    gallery.flush().unwrap();
    assert!(folder.path().join("hnsw.json").exists());
}
