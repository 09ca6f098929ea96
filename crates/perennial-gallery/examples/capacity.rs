//! What an item costs on the disk and in memory.
//!
//! ```sh
//! cargo run --release -p perennial-gallery --example capacity -- ITEMS DIM PAYLOAD_BYTES [graph]
//! ```
//!
//! Stores random unit vectors with payloads of one text, in batches of 1,000, and prints bytes per item: of the file as it was
//! written, of the file after every item was written once more, of the compacted file, and of the rows and the index that
//! searches read. With `graph`, an approximate index is built as well. Cached pages of the database come on top in memory, up
//! to `GalleryConfig::cache_bytes`.

use std::time::{Duration, Instant};

use perennial_gallery::{
    EmbeddedGallery, GalleryConfig, IndexKind, IndexProgress, Item, Maintenance, VectorStore,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [items, dim, payload, rest @ ..] = arguments.as_slice() else {
        return Err("usage: capacity ITEMS DIM PAYLOAD_BYTES [graph]".into());
    };
    let (items, dim): (u64, usize) = (items.parse()?, dim.parse()?);
    let (payload_bytes, graph): (usize, bool) = (payload.parse()?, !rest.is_empty());
    if items == 0 {
        return Err("at least one item is needed".into());
    }
    let folder = tempfile::tempdir()?;
    let config = GalleryConfig {
        hnsw_from: if graph { 1 } else { usize::MAX },
        // Cached pages are a setting, not a cost of items.
        cache_bytes: 16 << 20,
        ..GalleryConfig::default()
    };
    let gallery = EmbeddedGallery::open(folder.path(), config.clone())?;
    fill(&gallery, items, dim, payload_bytes)?;
    let written = gallery.stats()?.disk.bytes;
    fill(&gallery, items, dim, payload_bytes)?;
    let rewritten = gallery.stats()?.disk.bytes;
    let start = Instant::now();
    let compacted = gallery.compact()?;
    let took = start.elapsed().as_secs_f64();
    drop(gallery);

    let start = Instant::now();
    let gallery = EmbeddedGallery::open(folder.path(), config)?;
    let opened = start.elapsed().as_secs_f64();
    if graph {
        wait_for_graph(&gallery)?;
    }
    let memory = gallery.stats()?.bytes_per_vector.memory;
    let each = |bytes: u64| bytes as f64 / items as f64;
    println!("{items} items, {dim} dimensions, payload {payload_bytes} bytes, graph {graph}");
    println!(
        "  file as written         {:8.0} bytes per item",
        each(written)
    );
    println!(
        "  file after rewriting    {:8.0} bytes per item",
        each(rewritten)
    );
    println!(
        "  file compacted          {:8.0} bytes per item, in {took:.2} s",
        each(compacted.bytes_after)
    );
    println!("  rows and index          {memory:8.0} bytes per item in memory");
    println!("  opened                  in {opened:.2} s");
    Ok(())
}

fn wait_for_graph(gallery: &EmbeddedGallery) -> Result<(), perennial_gallery::GalleryError> {
    loop {
        let index = gallery.stats()?.index;
        if index.kind == IndexKind::Hnsw && index.state == IndexProgress::Ready {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn fill(
    gallery: &EmbeddedGallery,
    items: u64,
    dim: usize,
    payload_bytes: usize,
) -> Result<(), perennial_gallery::GalleryError> {
    let mut random = ChaCha8Rng::seed_from_u64(0);
    let mut payload = Map::new();
    // `{"thumbnail":""}` is 16 bytes.
    let text = "x".repeat(payload_bytes.saturating_sub(16));
    if payload_bytes > 0 {
        payload.insert("thumbnail".to_owned(), Value::from(text));
    }
    for start in (0..items).step_by(1000) {
        let batch = (start..items.min(start + 1000)).map(|id| {
            let mut embedding: Vec<f32> =
                (0..dim).map(|_| random.random_range(-1.0..1.0)).collect();
            let norm = embedding.iter().map(|x| x * x).sum::<f32>().sqrt();
            embedding.iter_mut().for_each(|x| *x /= norm);
            Item {
                id: format!("photos/class-{}/picture-{id:07}.jpg", id % 100).into(),
                embedding,
                model_version: "v0001".to_owned(),
                label: Some(id as u32 % 100),
                payload: payload.clone(),
            }
        });
        gallery.upsert(batch.collect())?;
    }
    Ok(())
}
