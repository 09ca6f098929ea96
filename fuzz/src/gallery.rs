//! Snapshots of a gallery, the records inside them, and filters.

use std::collections::BTreeSet;
use std::path::PathBuf;

use perennial_core::SpaceId;
use perennial_gallery::{
    EmbeddedGallery, Filter, GalleryConfig, Item, ItemId, MAX_LIMIT, Maintenance, SearchRequest,
    Snapshots as _, StoredItem, VectorStore,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::Target;
use crate::scratch::Scratch;

const MAGIC: &[u8] = b"perennial gallery\n";
/// Magic, format and length of the header.
const START_BYTES: usize = MAGIC.len() + 8;

fn config() -> GalleryConfig {
    GalleryConfig {
        threads: 1,
        cache_bytes: 1 << 20,
        ..GalleryConfig::default()
    }
}

fn open(folder: PathBuf) -> EmbeddedGallery {
    EmbeddedGallery::open(folder, config()).unwrap()
}

fn items(gallery: &EmbeddedGallery) -> Vec<StoredItem> {
    let page = gallery.scroll(None, MAX_LIMIT, &Filter::default(), true);
    page.unwrap().items
}

/// A gallery that snapshots of all kinds are restored into.
struct Restored {
    scratch: Scratch,
    /// Only absent while it is opened again.
    gallery: Option<EmbeddedGallery>,
    before: Vec<StoredItem>,
}

impl Restored {
    fn new() -> Self {
        let scratch = Scratch::new();
        let gallery = Some(open(scratch.path().join("gallery")));
        Self {
            scratch,
            gallery,
            before: Vec::new(),
        }
    }

    /// Either nothing changes, or everything holds afterwards: the content survives another snapshot and a restart, and the
    /// gallery takes new items without touching the old ones.
    fn restore(&mut self, snapshot: &[u8]) -> bool {
        let path = self.scratch.write("snapshot", snapshot);
        let folder = self.scratch.path().join("gallery");
        let gallery = self.gallery.as_ref().unwrap();
        let Ok(info) = gallery.restore(&path) else {
            assert_eq!(items(gallery), self.before);
            return false;
        };
        assert_eq!(info.bytes, snapshot.len() as u64);
        let restored = items(gallery);
        assert_eq!(restored.len() as u64, info.items);

        gallery.snapshot(&path).unwrap();
        gallery.restore(&path).unwrap();
        assert_eq!(items(gallery), restored);

        self.gallery = None;
        let gallery = open(folder);
        assert_eq!(items(&gallery), restored);
        let dim = gallery.stats().unwrap().dim.unwrap_or(2);
        let mut embedding = vec![0.0; dim];
        embedding[0] = 1.0;
        let new = ItemId::from("another item of another version");
        let upserted = gallery.upsert(vec![Item {
            id: new.clone(),
            embedding,
            model_version: "another version".to_owned(),
            label: None,
            payload: serde_json::Map::new(),
        }]);
        upserted.unwrap();
        let mut kept = items(&gallery);
        kept.retain(|item| item.id != new);
        self.before = items(&gallery);
        self.gallery = Some(gallery);
        let old = restored.into_iter().filter(|item| item.id != new);
        assert_eq!(kept, old.collect::<Vec<_>>());
        true
    }
}

/// Snapshot files. If the first byte is odd, the checksums of the records and of the whole are put right, which a mutation
/// cannot do.
pub struct Snapshots(Restored);

impl Target for Snapshots {
    fn new() -> Self {
        Self(Restored::new())
    }

    fn run(&mut self, bytes: &[u8]) -> bool {
        let Some((&kind, file)) = bytes.split_first() else {
            return false;
        };
        match kind % 2 {
            0 => self.0.restore(file),
            _ => self.0.restore(&sealed(file.to_vec())),
        }
    }
}

/// A snapshot with right checksums; `file` has all but the last one.
fn sealed(mut file: Vec<u8>) -> Vec<u8> {
    let number = |file: &[u8], at: usize| -> Option<usize> {
        let bytes = file.get(at..)?.first_chunk()?;
        Some(u32::from_le_bytes(*bytes) as usize)
    };
    let mut at = START_BYTES + number(&file, START_BYTES - 4).unwrap_or(0);
    while let Some(length) = number(&file, at) {
        at += 4;
        if let Some(record) = file.get_mut(at..at + length) {
            seal_record(record);
        }
        at += length;
    }
    let digest = Sha256::digest(&file);
    file.extend(digest);
    file
}

fn seal_record(record: &mut [u8]) {
    if let Some((checksum, rest)) = record.split_first_chunk_mut() {
        *checksum = crc32fast::hash(rest).to_le_bytes();
    }
}

/// One record without its checksum, after a byte with the dimension; it reaches the codec inside of a snapshot.
pub struct Records(Restored);

impl Target for Records {
    fn new() -> Self {
        Self(Restored::new())
    }

    fn run(&mut self, bytes: &[u8]) -> bool {
        let Some((&dim, content)) = bytes.split_first() else {
            return false;
        };
        let header = json!({
            "items": 1, "dim": 1 + dim % 8, "identity": null, "versions": ["v0001", "v0002"],
        });
        let header = header.to_string();
        let length = |length: usize| (length as u32).to_le_bytes();
        let file = [
            MAGIC,
            &1u32.to_le_bytes(),
            &length(header.len()),
            header.as_bytes(),
            &length(4 + content.len()),
            &[0; 4],
            content,
        ];
        self.0.restore(&sealed(file.concat()))
    }
}

/// Filters as JSON, held against a gallery of a few items.
pub struct Filters {
    _scratch: Scratch,
    gallery: EmbeddedGallery,
    items: Vec<Item>,
}

impl Target for Filters {
    fn new() -> Self {
        let scratch = Scratch::new();
        let gallery = open(scratch.path().join("gallery"));
        let items = filtered_items();
        gallery.upsert(items.clone()).unwrap();
        Self {
            _scratch: scratch,
            gallery,
            items,
        }
    }

    fn run(&mut self, bytes: &[u8]) -> bool {
        let Ok(filter) = serde_json::from_slice::<Filter>(bytes) else {
            return false;
        };
        let text = serde_json::to_string(&filter).unwrap();
        assert_eq!(serde_json::from_str::<Filter>(&text).unwrap(), filter);
        let passing: BTreeSet<ItemId> = self
            .items
            .iter()
            .filter(|item| filter.matches(&item.id, &item.model_version, item.label, &item.payload))
            .map(|item| item.id.clone())
            .collect();
        let page = self.gallery.scroll(None, MAX_LIMIT, &filter, false);
        if filter.check().is_err() {
            assert!(page.is_err());
            return false;
        }
        let listed: BTreeSet<ItemId> = page.unwrap().items.into_iter().map(|i| i.id).collect();
        assert_eq!(listed, passing);
        for exact in [false, true] {
            let spaces = self.gallery.spaces().unwrap().into_iter();
            let spaces: Vec<SpaceId> = spaces.map(|stats| stats.space.id).collect();
            let hits = self.gallery.search(&SearchRequest {
                spaces: &spaces,
                queries: &[0.6, 0.8],
                dim: 2,
                limit: MAX_LIMIT,
                filter: &filter,
                exact,
            });
            let found: BTreeSet<ItemId> = hits
                .unwrap()
                .remove(0)
                .into_iter()
                .map(|hit| hit.id)
                .collect();
            assert_eq!(found, passing);
        }
        true
    }
}

/// Items that differ in everything a filter can ask for.
pub(crate) fn filtered_items() -> Vec<Item> {
    let item = |id: ItemId, version: &str, label, payload: Value| Item {
        id,
        embedding: vec![0.6, 0.8],
        model_version: version.to_owned(),
        label,
        payload: payload.as_object().unwrap().clone(),
    };
    vec![
        item(1.into(), "v0001", Some(1), json!({"side": "left", "n": 1})),
        item(2.into(), "v0001", None, json!({"side": "right", "n": 1.0})),
        item("1".into(), "v0002", Some(5), json!({"side": "left"})),
        item("a".into(), "v0002", Some(u32::MAX), json!({"": null})),
        item(u64::MAX.into(), "v0002", Some(0), json!({"n": [1, {}]})),
        item("é b".into(), "v0003", None, json!({})),
    ]
}
