//! A service that searches by mapped vectors, killed while items are stored and embedded again and while versions are promoted.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use perennial_core::{Registry, SpaceId, dot};
use perennial_gallery::{
    EmbeddedGallery, Filter, GalleryConfig, Item, ItemId, MappedIndex, MappedIndexes,
    SearchRequest, StoredItem, VectorMap, VectorStore,
};
use perennial_upgrade::{BridgeMap, CertifiedWay, CompatibilityCheck, RegistryRecords};
use serde_json::{Value, json};

use crate::bench::{Bench, TINY};
use crate::compaction::rounds;
use crate::gallery_routes::certify_pair;
use crate::pictures::picture;
use crate::service::{Service, base64, try_call};

const VERSIONS: [&str; 2] = ["v0001", "v0002"];
const PICTURES: u64 = 5;
/// Items that are there before, of the first version.
const OLDER: u64 = 300;
/// Items that clients store again and again, of either version; the ids before those of the older ones.
const WRITTEN: u64 = 120;
const WRITERS: u64 = 2;
const PATIENCE: Duration = Duration::from_secs(60);

/// Two versions of different spaces, certified for each other's items by route mapped alone, and items of the first one.
struct Scene {
    bench: Bench,
    dims: BTreeMap<&'static str, usize>,
    /// What each version makes of each picture.
    pictures: BTreeMap<&'static str, Vec<Vec<f32>>>,
    /// By the space of the queries: the map from the other space into it.
    maps: BTreeMap<&'static str, Arc<BridgeMap>>,
}

fn other(version: &str) -> &'static str {
    match version == VERSIONS[0] {
        true => VERSIONS[1],
        false => VERSIONS[0],
    }
}

/// The vector of the `n`th write of an item.
fn vector(id: u64, n: u64, dim: usize) -> Vec<f32> {
    let mut state = (id << 32) + n;
    let values = (0..dim).map(|_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    });
    let values: Vec<f32> = values.collect();
    let length = dot(&values, &values).sqrt();
    values.into_iter().map(|value| value / length).collect()
}

/// The version of the `n`th write of an item.
fn version_of(id: u64, n: u64) -> &'static str {
    VERSIONS[(id + n / 2) as usize % 2]
}

fn payload(id: u64, n: u64) -> Value {
    json!({"n": n, "file": format!("{}.png", id % PICTURES)})
}

impl Scene {
    fn new() -> Self {
        let bench = Bench::with_version();
        let second = TINY
            .replace("tiny", "second")
            .replace("seed = 1", "seed = 2");
        bench.write("second.toml", &second);
        bench.succeed(&["pretrain", "second.toml"]);
        bench.succeed(&["models", "alias", "live", VERSIONS[0]]);
        for number in 0..PICTURES {
            picture(&bench, &format!("photos/{number}.png"), number as u32 + 1);
        }
        let registry = || Registry::open(bench.path("registry")).unwrap();
        let dims = VERSIONS.map(|name| (name, registry().get(name).unwrap().dim));
        let dims = BTreeMap::from(dims);
        {
            let gallery = open(&bench);
            let older = (WRITTEN..WRITTEN + OLDER).map(|id| Item {
                id: id.into(),
                embedding: vector(id, 0, dims[VERSIONS[0]]),
                model_version: VERSIONS[0].to_owned(),
                label: None,
                payload: payload(id, 0).as_object().unwrap().clone(),
            });
            gallery.upsert(older.collect()).unwrap();
        }
        bench.write("gallery/policy.toml", "min_margin = -1.0\n");
        for version in VERSIONS {
            certify_pair(&bench, [version, other(version)], "mapped", "raw");
        }
        let check = RegistryRecords::for_gallery(registry(), bench.path("gallery")).unwrap();
        let map = |query: &'static str| {
            let ways = check.ways(query, other(query)).unwrap();
            let map = ways.into_iter().find_map(|one| match one.way {
                CertifiedWay::Mapped(map) => Some(map),
                _ => None,
            });
            (query, map.expect("it was certified"))
        };
        let maps = VERSIONS.map(map).into();
        let pictures = pictures(&bench);
        Self {
            bench,
            dims,
            pictures,
            maps,
        }
    }

    /// Stores items until the service is killed: by number of the write, the last one that was acknowledged and the last one that was sent.
    fn write(&self, url: &str, writer: u64, known: &mut BTreeMap<u64, [u64; 2]>) -> u64 {
        let mut acknowledged = 0;
        for step in 0.. {
            let id = (step * 7 % (WRITTEN / WRITERS)) * WRITERS + writer;
            let at = known.entry(id).or_default();
            at[1] += 1;
            let n = at[1];
            let version = version_of(id, n);
            let item = json!({
                "id": id, "embedding": vector(id, n, self.dims[version]), "model_version": version, "payload": payload(id, n),
            });
            match try_call(url, "PUT", "gallery/items", &item) {
                Ok((200, _)) => at[0] = n,
                Ok((status, answer)) => panic!("{status}: {answer}"),
                // Cut off by the kill: not acknowledged, stored or not.
                Err(_) => return acknowledged,
            }
            acknowledged += 1;
        }
        acknowledged
    }

    /// Promotes the versions in turn, and embeds items again after each promotion; how often it did.
    fn promote(&self, url: &str) -> u64 {
        let photos = self.bench.path("photos");
        let backfill =
            json!({"originals": {"folder": photos}, "items_per_second": 200.0, "order": "id"});
        let mut promoted = 0;
        let mut turn = || -> Result<(), ureq::Error> {
            for version in [VERSIONS[1], VERSIONS[0]] {
                let moved = try_call(url, "PUT", "aliases/live", &json!({"version": version}))?;
                assert_eq!(moved.0, 200, "{}", moved.1);
                promoted += 1;
                // One for the version before may be running still.
                let _ = try_call(url, "POST", "backfill/pause", &Value::Null)?;
                let (status, answer) = try_call(url, "POST", "backfill", &backfill)?;
                assert_eq!(status, 200, "{answer}");
                std::thread::sleep(Duration::from_millis(60));
            }
            Ok(())
        };
        while turn().is_ok() {}
        promoted
    }

    /// Every item is in one partition and is what was acknowledged, written later or embedded again since; mapped vectors are searched as if each
    /// was mapped and compared. How many items were embedded again.
    fn check(&self, known: &BTreeMap<u64, [u64; 2]>, context: &str) -> usize {
        let gallery = open(&self.bench);
        let everything = Filter::default();
        let all = gallery.scroll(None, 1000, &everything, true).unwrap().items;
        let mut of_space = BTreeMap::new();
        for version in VERSIONS {
            let filter = Filter {
                model_versions: Some(vec![version.to_owned()]),
                ..Filter::default()
            };
            let query = vector(1, 0, self.dims[version]);
            let space = SpaceId::new(version).unwrap();
            let found = gallery.search(&request(&space, &query, &everything));
            let mut found: Vec<ItemId> =
                ids(found.unwrap().remove(0).into_iter().map(|hit| hit.id));
            found.sort();
            let listed = gallery.scroll(None, 1000, &filter, false).unwrap().items;
            assert_eq!(
                found,
                ids(listed.into_iter().map(|item| item.id)),
                "{context}"
            );
            for id in found {
                assert_eq!(of_space.insert(id, version), None, "{context}: in two");
            }
        }
        assert_eq!(of_space.len(), all.len(), "{context}");
        let by_id: BTreeMap<&ItemId, &StoredItem> =
            all.iter().map(|item| (&item.id, item)).collect();
        let mut again = 0;
        let older = (WRITTEN..WRITTEN + OLDER).map(|id| (id, [0, 0]));
        for (id, [acknowledged, sent]) in known.iter().map(|(&id, &at)| (id, at)).chain(older) {
            let Some(item) = by_id.get(&ItemId::from(id)) else {
                assert!(acknowledged == 0 && id < WRITTEN, "{context}: {id} is lost");
                continue;
            };
            let n = item.payload["n"].as_u64().unwrap();
            assert!(
                (acknowledged..=sent).contains(&n),
                "{context}: {id} is at {n}, {acknowledged} was acknowledged and {sent} sent"
            );
            assert_eq!(json!(item.payload), payload(id, n), "{context}: {id}");
            let version = &*item.model_version;
            let stored = item.embedding.as_deref().unwrap();
            let written = match id < WRITTEN {
                true => version_of(id, n),
                false => VERSIONS[0],
            };
            let as_written = version == written && is_near(stored, &vector(id, n, stored.len()));
            let picture = &self.pictures[version][(id % PICTURES) as usize];
            assert!(
                as_written || is_near(stored, picture),
                "{context}: {id} of {version} is neither what was written nor its picture"
            );
            again += usize::from(!as_written);
        }
        assert!(
            by_id.keys().all(|id| of_space.contains_key(*id)),
            "{context}"
        );
        self.check_mapped(&gallery, &all, context);
        again
    }

    fn check_mapped(&self, gallery: &EmbeddedGallery, all: &[StoredItem], context: &str) {
        let index = |query: &str| MappedIndex {
            space: SpaceId::new(other(query)).unwrap(),
            map: Arc::clone(&self.maps[query]) as Arc<dyn VectorMap>,
        };
        let wanted = VERSIONS.map(index);
        gallery.keep_mapped(&wanted).unwrap();
        for (query_version, index) in VERSIONS.into_iter().zip(&wanted) {
            let since = Instant::now();
            while !gallery.has_mapped(index.space.as_str(), index.map.key()) {
                assert!(since.elapsed() < PATIENCE, "{:?}", gallery.mapped());
                std::thread::sleep(Duration::from_millis(2));
            }
            for number in 0..5 {
                let query = vector(9999, number, self.dims[query_version]);
                let everything = Filter::default();
                let request = request(&index.space, &query, &everything);
                let found = gallery.search_mapped(index.map.key(), &request);
                let found = found.unwrap().remove(0);
                let found: Vec<(ItemId, f32)> =
                    found.into_iter().map(|hit| (hit.id, hit.score)).collect();
                let expected = self.expected(query_version, &query, all);
                assert_same(&found, &expected, context);
            }
        }
    }

    /// What a query of a version finds by mapped vectors: each stored one mapped and compared, the best first.
    fn expected(&self, version: &str, query: &[f32], all: &[StoredItem]) -> Vec<(ItemId, f32)> {
        let of_other = all
            .iter()
            .filter(|item| item.model_version == other(version));
        let mut scored: Vec<(ItemId, f32)> = of_other
            .filter_map(|item| {
                let mut mapped = Vec::new();
                let map = &self.maps[version];
                map.map(item.embedding.as_deref().unwrap(), &mut mapped)
                    .ok()?;
                Some((item.id.clone(), dot(query, &mapped)))
            })
            .collect();
        scored.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        scored
    }

    /// The service that starts after a kill answers by mapped vectors as it should. How many hits were compared.
    fn check_service(&self, service: &Service, context: &str) -> usize {
        // A backfill that was running goes on at the start.
        let _ = service.call("POST", "backfill/pause", &Value::Null);
        let live = service.get("models")["live"].as_str().unwrap().to_owned();
        let query = vector(7777, 1, self.dims[&*live]);
        // The service centres queries as the bridge centres what it maps.
        let centred = self.maps[&*live].queries(&query).unwrap();
        let body = json!({
            "embedding": query, "limit": 1000, "filter": {"model_versions": [other(&live)]},
        });
        let since = Instant::now();
        loop {
            assert!(
                since.elapsed() < PATIENCE,
                "{context}: no search by route mapped"
            );
            let stored = || {
                let page = service.get("gallery/items?limit=1000&embeddings=true");
                let items: Vec<StoredItem> = serde_json::from_value(page["items"].clone()).unwrap();
                items
            };
            let all = stored();
            let expected = self.expected(&live, &centred, &all);
            if expected.is_empty() {
                return 0;
            }
            let (status, found) = service.call("POST", "search", &body);
            // Not built yet, or a batch of the backfill was on its way.
            if status == 409 || stored() != all {
                std::thread::sleep(Duration::from_millis(5));
                continue;
            }
            assert_eq!(status, 200, "{context}: {found}");
            let hits = found["hits"].as_array().unwrap().iter();
            let hits = hits.map(|hit| {
                assert_eq!(hit["route"], "mapped", "{context}: {hit}");
                let id: ItemId = serde_json::from_value(hit["id"].clone()).unwrap();
                (id, hit["score"].as_f64().unwrap() as f32)
            });
            let hits: Vec<(ItemId, f32)> = hits.collect();
            assert_same(&hits, &expected, context);
            return hits.len();
        }
    }
}

/// What each version makes of each picture, as the service says.
fn pictures(bench: &Bench) -> BTreeMap<&'static str, Vec<Vec<f32>>> {
    let service = Service::start_with(bench, &[], Stdio::null());
    let images: Vec<String> = (0..PICTURES)
        .map(|number| base64(&std::fs::read(bench.path(&format!("photos/{number}.png"))).unwrap()))
        .collect();
    let of_version = |version: &'static str| {
        let (status, moved) = service.call("PUT", "aliases/live", &json!({"version": version}));
        assert_eq!(status, 200, "{moved}");
        let (_, answer) = service.call("POST", "embed", &json!({"images": images}));
        let rows = serde_json::from_value(answer["embeddings"].clone());
        (version, rows.unwrap_or_else(|_| panic!("{answer}")))
    };
    // The first one is live in the end.
    let [second, first] = [VERSIONS[1], VERSIONS[0]].map(of_version);
    BTreeMap::from([first, second])
}

fn open(bench: &Bench) -> EmbeddedGallery {
    let folder: &Path = &bench.path("gallery");
    EmbeddedGallery::open(folder, GalleryConfig::default()).unwrap()
}

fn request<'a>(space: &'a SpaceId, query: &'a [f32], filter: &'a Filter) -> SearchRequest<'a> {
    SearchRequest {
        spaces: std::slice::from_ref(space),
        queries: query,
        dim: query.len(),
        limit: 1000,
        filter,
        exact: true,
    }
}

fn ids(all: impl Iterator<Item = ItemId>) -> Vec<ItemId> {
    all.collect()
}

fn is_near(one: &[f32], other: &[f32]) -> bool {
    let near = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-5;
    one.len() == other.len() && one.iter().zip(other).all(near)
}

/// The same items in the same order, but for those whose scores are equal up to rounding.
fn assert_same(found: &[(ItemId, f32)], expected: &[(ItemId, f32)], context: &str) {
    let sorted = |all: &[(ItemId, f32)]| {
        let mut all = ids(all.iter().map(|(id, _)| id.clone()));
        all.sort();
        all
    };
    assert_eq!(sorted(found), sorted(expected), "{context}");
    let scores: BTreeMap<&ItemId, f32> = expected.iter().map(|(id, score)| (id, *score)).collect();
    for ((id, score), (_, wanted)) in found.iter().zip(expected) {
        let own = scores[id];
        assert!(
            (score - own).abs() < 1e-4 && (score - wanted).abs() < 1e-4,
            "{context}: {id} has {score}, {own} by its mapped vector, {wanted} at its place"
        );
    }
}

/// Rounds: `PERENNIAL_KILL_ROUNDS`, 4 without.
#[test]
fn a_killed_service_with_mapped_routes_loses_nothing_and_answers_as_before() {
    let scene = Scene::new();
    let picture = base64(&std::fs::read(scene.bench.path("photos/1.png")).unwrap());
    let mut known: [BTreeMap<u64, [u64; 2]>; WRITERS as usize] = Default::default();
    let (mut acknowledged, mut promoted, mut again, mut compared) = (0, 0, 0, 0);
    let mapped = AtomicU64::new(0);
    let rounds = rounds(4);
    for round in 0..rounds {
        let context = format!("round {round}");
        let mut service = Service::start_with(&scene.bench, &[], Stdio::null());
        compared += scene.check_service(&service, &context);
        let url = service.url().to_owned();
        std::thread::scope(|scope| {
            let (scene, url, mapped, picture) = (&scene, &url, &mapped, &picture);
            let writers: Vec<_> = known
                .iter_mut()
                .zip(0..)
                .map(|(known, writer)| scope.spawn(move || scene.write(url, writer, known)))
                .collect();
            let promoting = scope.spawn(move || scene.promote(url));
            let searching = scope.spawn(move || {
                let body = json!({"image": picture, "limit": 20});
                while let Ok((status, found)) = try_call(url, "POST", "search", &body) {
                    assert_eq!(status, 200, "{found}");
                    let mut parts = found["parts"].as_array().unwrap().iter();
                    let by_mapped = parts.any(|part| part["route"] == "mapped");
                    mapped.fetch_add(u64::from(by_mapped), Ordering::Relaxed);
                }
            });
            std::thread::sleep(Duration::from_millis(150 + round * 137 % 700));
            service.kill();
            for writer in writers {
                acknowledged += writer.join().unwrap();
            }
            promoted += promoting.join().unwrap();
            searching.join().unwrap();
        });
        drop(service);
        let all = known.iter().flatten().map(|(&id, &at)| (id, at)).collect();
        again = again.max(scene.check(&all, &context));
        // What was sent last is settled now, stored or not.
        settle(&scene.bench, &mut known);
    }
    let searches = mapped.into_inner();
    assert!(acknowledged > 0 && promoted > 0 && again > 0 && searches > 0 && compared > 0);
    println!(
        "{rounds} kills: {acknowledged} writes acknowledged, 0 lost; {promoted} promotions; at most {again} of {} items embedded again at once; \
         {searches} searches by route mapped meanwhile, {compared} hits compared after starts",
        WRITTEN + OLDER
    );
}

/// Notes what is stored as acknowledged, so that the next round may not take it back.
fn settle(bench: &Bench, known: &mut [BTreeMap<u64, [u64; 2]>]) {
    let gallery = open(bench);
    let all = gallery.scroll(None, 1000, &Filter::default(), false);
    for item in all.unwrap().items {
        let ItemId::Number(id) = item.id else {
            continue;
        };
        let n = item.payload["n"].as_u64().unwrap();
        let writer = (id % WRITERS) as usize;
        if let Some(at) = known[writer].get_mut(&id) {
            at[0] = n;
        }
    }
}
