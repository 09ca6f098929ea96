//! A build without the approximate index.

use perennial_gallery::{
    EmbeddedGallery, Filter, GalleryConfig, IndexKind, Maintenance, VectorStore,
};

use crate::fixtures::*;
use crate::partitions::spread;

#[test]
fn all_items_are_compared_and_saved_graphs_stay() {
    let folder = tempfile::tempdir().unwrap();
    let saved = folder.path().join("hnsw.usearch");
    std::fs::write(&saved, b"of another build").unwrap();
    std::fs::write(folder.path().join("hnsw.json"), b"{}").unwrap();
    let config = GalleryConfig {
        hnsw_from: 10,
        ..small()
    };
    let items: Vec<_> = spread(0, 200, 5)
        .into_iter()
        .filter(|item| item.model_version == "v0001")
        .collect();
    for _ in 0..2 {
        let gallery = EmbeddedGallery::open(folder.path(), config.clone()).unwrap();
        gallery.upsert(items.clone()).unwrap();
        gallery.flush().unwrap();
        assert_eq!(gallery.stats().unwrap().index.kind, IndexKind::Int8);
        let hits = search(&gallery, &items[3].embedding, 5, &Filter::default());
        let expected = expected(&items, &items[3].embedding, 5, &Filter::default());
        assert_eq!(ids(&hits), expected);
    }
    assert_eq!(std::fs::read(&saved).unwrap(), b"of another build");
}
