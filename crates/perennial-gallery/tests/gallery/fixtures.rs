//! Galleries, items and filters that the tests share, and a search by brute force.

use std::path::Path;

use perennial_core::SpaceId;
use perennial_gallery::{
    EmbeddedGallery, Filter, GalleryConfig, GalleryError, Hit, Item, ItemId, LabelFilter,
    SearchRequest, SimplexIdentity, StoreSpace, VectorStore,
};
use rand::RngExt;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};

pub fn small() -> GalleryConfig {
    GalleryConfig {
        threads: 2,
        cache_bytes: 8 << 20,
        hnsw_from: usize::MAX,
        ..GalleryConfig::default()
    }
}

pub fn open(folder: &Path) -> EmbeddedGallery {
    EmbeddedGallery::open(folder, small()).unwrap()
}

pub fn unit(rng: &mut ChaCha8Rng, dim: usize) -> Vec<f32> {
    let mut vector: Vec<f32> = (0..dim).map(|_| rng.random_range(-1.0f32..1.0)).collect();
    let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    vector.iter_mut().for_each(|x| *x /= norm);
    vector
}

pub fn item(id: impl Into<ItemId>, embedding: Vec<f32>) -> Item {
    Item {
        id: id.into(),
        embedding,
        model_version: "v0001".to_owned(),
        label: None,
        payload: Map::new(),
    }
}

/// Items 0..n with labels `id % 10`, versions by parity and a payload that says whether the id is a multiple of 3.
pub fn items(n: u64, dim: usize, seed: u64) -> Vec<Item> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..n)
        .map(|id| Item {
            label: (id % 7 != 0).then_some((id % 10) as u32),
            model_version: format!("v000{}", 1 + id % 2),
            payload: payload(json!({"third": id % 3 == 0, "name": format!("item {id}")})),
            ..item(id, unit(&mut rng, dim))
        })
        .collect()
}

pub fn payload(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

pub fn search(gallery: &EmbeddedGallery, query: &[f32], limit: usize, filter: &Filter) -> Vec<Hit> {
    let found = search_all(gallery, query, query.len(), limit, filter, false);
    found.unwrap().remove(0)
}

/// Searches every space of the gallery for queries `[n, dim]`.
pub fn search_all(
    gallery: &EmbeddedGallery,
    queries: &[f32],
    dim: usize,
    limit: usize,
    filter: &Filter,
    exact: bool,
) -> Result<Vec<Vec<Hit>>, GalleryError> {
    let spaces = gallery.spaces().unwrap().into_iter();
    let spaces: Vec<SpaceId> = spaces.map(|stats| stats.space.id).collect();
    gallery.search(&SearchRequest {
        spaces: &spaces,
        queries,
        dim,
        limit,
        filter,
        exact,
    })
}

/// The space of the version v0001 in a simplex.
pub fn simplex(vertices: usize) -> StoreSpace {
    StoreSpace {
        id: SpaceId::new("v0001").unwrap(),
        dim: vertices - 1,
        simplex: Some(SimplexIdentity { vertices }),
    }
}

/// Makes v0001 and v0002 versions of one simplex, which share a partition.
pub fn of_simplex(gallery: &EmbeddedGallery, vertices: usize) {
    for name in ["v0001", "v0002"] {
        let space = StoreSpace {
            id: SpaceId::new(name).unwrap(),
            ..simplex(vertices)
        };
        gallery.create_space(&space).unwrap();
    }
}

/// The vertices of the simplex that v0001 has in a gallery.
pub fn vertices(gallery: &EmbeddedGallery) -> Option<usize> {
    let spaces = gallery.spaces().unwrap().into_iter();
    let mut spaces = spaces.filter(|stats| stats.space.id.as_str() == "v0001");
    spaces.next()?.space.simplex.map(|simplex| simplex.vertices)
}

pub fn ids(hits: &[Hit]) -> Vec<ItemId> {
    hits.iter().map(|hit| hit.id.clone()).collect()
}

/// The ids of the best among `items` that pass, by brute force.
pub fn expected(items: &[Item], query: &[f32], limit: usize, filter: &Filter) -> Vec<ItemId> {
    let mut scored: Vec<(f32, &ItemId)> = items
        .iter()
        .filter(|i| filter.matches(&i.id, &i.model_version, i.label, &i.payload))
        .map(|i| {
            let score = i.embedding.iter().zip(query).map(|(a, b)| a * b).sum();
            (score, &i.id)
        })
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    scored
        .into_iter()
        .take(limit)
        .map(|(_, id)| id.clone())
        .collect()
}

pub fn agreement(found: &[ItemId], expected: &[ItemId]) -> usize {
    found.iter().filter(|id| expected.contains(id)).count()
}

pub fn filters() -> Vec<Filter> {
    let labels = |labels| Filter {
        labels: Some(labels),
        ..Filter::default()
    };
    vec![
        Filter::default(),
        Filter {
            model_versions: Some(vec!["v0002".to_owned(), "unknown".to_owned()]),
            ..Filter::default()
        },
        labels(LabelFilter::any_of([3, 4])),
        labels(LabelFilter {
            from: Some(2),
            to: Some(6),
            ..LabelFilter::default()
        }),
        Filter {
            payload: Some(payload(json!({"third": true}))),
            ..Filter::default()
        },
        Filter {
            payload: Some(payload(json!({"name": "item 17", "third": false}))),
            ..Filter::default()
        },
        Filter {
            ids: Some(vec![
                5.into(),
                9.into(),
                12.into(),
                1_000_000.into(),
                "9".into(),
            ]),
            payload: Some(payload(json!({"third": true}))),
            ..Filter::default()
        },
        Filter {
            model_versions: Some(vec!["v0009".to_owned()]),
            ..Filter::default()
        },
        // Conditions that are there but empty.
        Filter {
            ids: Some(Vec::new()),
            ..Filter::default()
        },
        Filter {
            model_versions: Some(Vec::new()),
            ids: Some(vec![5.into()]),
            ..Filter::default()
        },
        Filter {
            payload: Some(Map::new()),
            ..Filter::default()
        },
        labels(LabelFilter::default()),
        labels(LabelFilter {
            from: Some(0),
            ..LabelFilter::any_of([])
        }),
    ]
}
