//! Filters, and what galleries keep.

use perennial_core::SpaceId;
use perennial_gallery::{
    EmbeddedGallery, Filter, GalleryConfig, LabelFilter, SimplexIdentity, Snapshots as _,
    StoreSpace, VectorStore,
};

use super::Seeds;
use crate::gallery::filtered_items;

pub(super) fn filter_seeds() -> Seeds {
    let labels = Filter {
        labels: Some(LabelFilter {
            any_of: Some(vec![1, 5]),
            from: Some(1),
            to: Some(4),
        }),
        ..Filter::default()
    };
    vec![
        ("nothing", b"{}".to_vec()),
        ("labels", serde_json::to_vec(&labels).unwrap()),
        ("payload", br#"{"payload":{"side":"left","n":1}}"#.to_vec()),
        ("all", br#"{"model_versions":["v0002"],"labels":{"from":0},"payload":{"side":"left"},"ids":["1",18446744073709551615]}"#.to_vec()),
        ("empty_conditions", br#"{"ids":[],"labels":{"any_of":[]},"model_versions":[],"payload":{}}"#.to_vec()),
        ("empty_labels", br#"{"labels":{}}"#.to_vec()),
        ("refused_null", br#"{"ids":null}"#.to_vec()),
        ("refused_everything", br#"{"everything":true}"#.to_vec()),
    ]
}

fn snapshot_file(items: Vec<perennial_gallery::Item>, vertices: Option<usize>) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let gallery = EmbeddedGallery::open(folder.path(), GalleryConfig::default()).unwrap();
    if let Some(vertices) = vertices {
        let space = StoreSpace {
            id: SpaceId::new("v0001").unwrap(),
            dim: vertices - 1,
            simplex: Some(SimplexIdentity { vertices }),
        };
        gallery.create_space(&space).unwrap();
    }
    gallery.upsert(items).unwrap();
    let path = folder.path().join("snapshot");
    gallery.snapshot(&path).unwrap();
    std::fs::read(&path).unwrap()
}

const DIGEST_BYTES: usize = 32;

pub(super) fn snapshot_seeds() -> Seeds {
    let whole = snapshot_file(filtered_items(), Some(3));
    let with = |kind: u8, file: &[u8]| [&[kind], file].concat();
    let unsealed = |file: &[u8]| with(1, &file[..file.len() - DIGEST_BYTES]);
    let empty = snapshot_file(Vec::new(), None);
    let mut several = filtered_items();
    several.push(perennial_gallery::Item {
        id: "text".into(),
        embedding: vec![0.0, 0.6, 0.8],
        model_version: "text".to_owned(),
        ..several[0].clone()
    });
    let several = snapshot_file(several, Some(3));
    let old = include_bytes!("../../../crates/perennial-gallery/testdata/format-1.snapshot");
    // A version name twice and a dimension that no vector has: both once passed.
    let header = |text: &str| {
        let length = (text.len() as u32).to_le_bytes();
        let start: &[u8] = b"perennial gallery\n\x01\0\0\0";
        with(1, &[start, &length, text.as_bytes()].concat())
    };
    let header_2 = |text: &str| {
        let mut seed = header(text);
        seed[1 + b"perennial gallery\n".len()] = 2;
        seed
    };
    vec![
        ("empty", unsealed(&empty)),
        ("items", unsealed(&whole)),
        ("items_of_format_1", with(0, old)),
        ("items_of_several_dimensions", unsealed(&several)),
        ("items_as_written", with(0, &whole)),
        ("refused_damaged", with(0, &whole[..whole.len() - 1])),
        (
            "refused_dim",
            header(r#"{"items":0,"dim":16385,"identity":null,"versions":[]}"#),
        ),
        (
            "refused_partition",
            header_2(
                r#"{"items":0,"spaces":[{"name":"a","partition":1}],"partitions":[{"dim":2,"simplex":null}]}"#,
            ),
        ),
        (
            "refused_versions",
            header(r#"{"items":0,"dim":2,"identity":null,"versions":["a","a"]}"#),
        ),
    ]
}

pub(super) fn record_seeds() -> Seeds {
    let record = |id: &[u8], payload: &[u8], label: Option<u32>| {
        let mut bytes = vec![1];
        bytes.extend(1u32.to_le_bytes());
        bytes.push(u8::from(label.is_some()));
        bytes.extend(label.unwrap_or(0).to_le_bytes());
        bytes.extend((id.len() as u16).to_le_bytes());
        bytes.extend(id);
        bytes.extend((payload.len() as u32).to_le_bytes());
        bytes.extend(payload);
        bytes.extend([0.6f32, 0.8].iter().flat_map(|value| value.to_le_bytes()));
        bytes
    };
    vec![
        ("number", record(b"\0\0\0\0\0\0\0\0\x07", b"{}", None)),
        (
            "text",
            record(b"\x01cat", br#"{"n":[1,2.5,null]}"#, Some(3)),
        ),
        ("refused_payload", record(b"\x01cat", b"[]", Some(3))),
        ("refused_id", record(b"\x02cat", b"{}", None)),
    ]
}
