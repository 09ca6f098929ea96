//! Certificate and advice from made-up data. The figures resemble an upgrade of a text encoder (256 to 384 dimensions); nothing was measured.

use perennial_core::ItemId;
use perennial_eval::html::certificate_page::{
    Advice, CertificatePage, CertificateProvenance, Cost, EmbeddingMap, EmbeddingMaps, Flip,
    FlipItem, MapPoint, MeasureRow, Outcome, ScoreHistogram, ShareCurve, ShareLine, SourceFile,
    Task, TaskVerdict, Way, WayQuality,
};
use perennial_eval::pca::Plane;
use perennial_eval::{Interval, Verdict};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Certificate and advice with every section.
pub fn upgrade() -> CertificatePage {
    CertificatePage {
        query_space: "minilm-l6".to_owned(),
        item_space: "wordllama-256".to_owned(),
        bridge: Some("b0007 (orthogonal, 3,000 pairs)".to_owned()),
        queries: Some(1_500),
        items: Some(5_000),
        verdicts: verdicts(),
        warnings: vec![
            "12 of the 3,000 fit pairs are also queries; they were left out of the measures.".to_owned(),
            "The item-like measures have 1,500 queries: differences below 0.012 cannot be told apart.".to_owned(),
        ],
        confidence: 0.95,
        measures: measures(),
        advice: Some(advice()),
        scores: scores(),
        maps: maps(),
        flips: flips(),
        provenance: CertificateProvenance {
            files: files(),
            settings: [("Least margin", "0"), ("Alpha", "0.05"), ("Resamples", "2000"), ("Weight", "0.5, fitted on 500 pairs")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            seed: Some(7),
            measured: Some("2026-11-25T21:35:10Z".to_owned()),
            program: Some("perennial 0.2.0".to_owned()),
            command: Some(
                "perennial advise --old-queries old/queries.npy --old-gallery old/items.npy --new-queries new/queries.npy \
                 --new-gallery new/items.npy --relevance judgements.tsv --fit-from new/fit.npy --fit-to old/fit.npy --seed 7"
                    .to_owned(),
            ),
        },
    }
}

fn verdicts() -> Vec<TaskVerdict> {
    vec![
        TaskVerdict {
            task: Task::ClassLike,
            outcome: Verdict::Compatible.into(),
            sentence: "Dual queries find the right category more often than the old encoder does, on all measures.".to_owned(),
            remedy: None,
        },
        TaskVerdict {
            task: Task::ItemLike,
            outcome: Verdict::Undecided.into(),
            sentence: "Dual queries are better in recall@10, but recall@1 could be no better than before.".to_owned(),
            remedy: Some("Measure with at least 4,000 queries, or keep the old encoder for single items.".to_owned()),
        },
    ]
}

/// Measure, task, old self-test, new self-test, and for the bridged and the dual route: cross-test, half the interval, flips.
type Figures = (&'static str, Task, f64, f64, [(f64, f64, f64, f64); 2]);

fn measures() -> Vec<MeasureRow> {
    let figures: [Figures; 5] = [
        (
            "ncm",
            Task::ClassLike,
            0.6553,
            0.7371,
            [
                (0.6821, 0.0121, 0.0712, 0.0444),
                (0.6924, 0.0102, 0.0603, 0.0232),
            ],
        ),
        (
            "map",
            Task::ClassLike,
            0.2604,
            0.3402,
            [
                (0.2733, 0.0061, f64::NAN, f64::NAN),
                (0.2871, 0.0054, f64::NAN, f64::NAN),
            ],
        ),
        (
            "recall@1",
            Task::ItemLike,
            0.2313,
            0.3161,
            [
                (0.1412, 0.0181, 0.0321, 0.1222),
                (0.2509, 0.0201, 0.0613, 0.0417),
            ],
        ),
        (
            "recall@10",
            Task::ItemLike,
            0.4234,
            0.5342,
            [
                (0.3273, 0.0224, 0.0411, 0.1372),
                (0.4671, 0.0193, 0.0733, 0.0296),
            ],
        ),
        (
            "mrr@10",
            Task::ItemLike,
            0.2873,
            0.3874,
            [
                (0.1952, 0.0164, f64::NAN, f64::NAN),
                (0.3187, 0.0172, f64::NAN, f64::NAN),
            ],
        ),
    ];
    let rows = figures
        .into_iter()
        .flat_map(|(measure, task, old_self, new_self, routes)| {
            ["bridged", "dual, w = 0.5"].into_iter().zip(routes).map(
                move |(route, (cross, half, gained, lost))| {
                    let margin = cross - old_self;
                    let interval = Interval {
                        low: margin - half,
                        high: margin + half * 0.98,
                    };
                    MeasureRow {
                        measure: measure.to_owned(),
                        task,
                        route: route.to_owned(),
                        old_self,
                        cross,
                        new_self: Some(new_self),
                        margin,
                        interval: Some(interval),
                        positive_flips: Some(gained).filter(|share| share.is_finite()),
                        negative_flips: Some(lost).filter(|share| share.is_finite()),
                        upgrade_recovery: Some(margin / (new_self - old_self)),
                        outcome: Verdict::of(interval, 0.0).into(),
                    }
                },
            )
        });
    let unknown = MeasureRow {
        measure: "recall@1".to_owned(),
        task: Task::ClassLike,
        route: "mapped".to_owned(),
        old_self: 0.5813,
        cross: 0.5794,
        new_self: None,
        margin: -0.0019,
        interval: None,
        positive_flips: None,
        negative_flips: None,
        upgrade_recovery: None,
        outcome: Outcome::CannotTell,
    };
    rows.chain([unknown]).collect()
}

fn advice() -> Advice {
    let base = [0.6553, 0.2313, 0.2873];
    let way = |name: &str,
               note: Option<&str>,
               values: [f64; 3],
               lost: f64,
               once: (f64, f64),
               later: f64| Way {
        name: name.to_owned(),
        note: note.map(str::to_owned),
        quality: ["ncm", "recall@1", "mrr@10"]
            .into_iter()
            .zip(values)
            .zip(base)
            .map(|((measure, value), base)| {
                let margin = value - base;
                let same = margin == 0.0;
                WayQuality {
                    measure: measure.to_owned(),
                    value,
                    margin: (!same).then_some(margin),
                    interval: (!same).then_some(Interval {
                        low: margin - 0.0143,
                        high: margin + 0.0139,
                    }),
                }
            })
            .collect(),
        negative_flips: Some(lost),
        once: Cost {
            seconds: Some(once.0),
            money: Some(once.1),
        },
        per_million_queries: Cost {
            seconds: Some(later),
            money: Some(later * 0.0005),
        },
    };
    Advice {
        sentence: "Search the old items with dual queries, and embed the most asked fifth again"
            .to_owned(),
        ways: vec![
            way(
                "re-embed all",
                Some("the originals are needed"),
                [0.7371, 0.3161, 0.3874],
                0.0311,
                (93_600.0, 412.5),
                0.0,
            ),
            way(
                "re-embed a share: 0.2, most asked first",
                Some("the rest by dual queries"),
                [0.7093, 0.2894, 0.3562],
                0.0362,
                (18_720.0, 82.5),
                3_100.0,
            ),
            way(
                "dual queries, w = 0.5",
                Some("the old encoder keeps running"),
                [0.6924, 0.2509, 0.3187],
                0.0417,
                (41.3, 0.02),
                3_100.0,
            ),
            way(
                "two-stage: first 100 hits embedded again",
                Some("the originals are needed at every query"),
                [0.6937, 0.2713, 0.3351],
                0.0512,
                (41.3, 0.02),
                961_000.0,
            ),
            way("do nothing", None, base, 0.0, (0.0, 0.0), 0.0),
            way(
                "bridge: ridge 0.001",
                None,
                [0.6712, 0.1124, 0.1683],
                0.1433,
                (39.1, 0.02),
                120.0,
            ),
            way(
                "bridge: orthogonal",
                None,
                [0.6821, 0.1412, 0.1952],
                0.1222,
                (38.2, 0.02),
                120.0,
            ),
            way(
                "map the stored vectors",
                Some("one write of every vector"),
                [0.6464, 0.1513, 0.2024],
                0.1214,
                (310.0, 1.25),
                0.0,
            ),
            way(
                "swap as it is",
                Some("not possible: the dimensions differ"),
                [0.1, 0.0002, 0.0005],
                0.2311,
                (0.0, 0.0),
                0.0,
            ),
        ],
        recommended: Some(1),
        currency: "EUR".to_owned(),
        shares: Some(ShareCurve {
            measure: "mrr@10".to_owned(),
            lines: vec![
                ShareLine {
                    name: "most asked first".to_owned(),
                    points: vec![
                        (0.0, 0.3187),
                        (0.1, 0.3414),
                        (0.2, 0.3562),
                        (0.5, 0.3765),
                        (1.0, 0.3874),
                    ],
                },
                ShareLine {
                    name: "in any order".to_owned(),
                    points: vec![
                        (0.0, 0.3187),
                        (0.1, 0.3246),
                        (0.2, 0.3308),
                        (0.5, 0.3524),
                        (1.0, 0.3874),
                    ],
                },
            ],
            levels: vec![("do nothing".to_owned(), 0.2873)],
        }),
    }
}

/// A number that is about normally distributed.
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    (0..12).map(|_| rng.random_range(-0.5..0.5)).sum()
}

fn scores() -> Vec<ScoreHistogram> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut drawn = |middle: f64, width: f64, count: usize| -> Vec<f32> {
        (0..count)
            .map(|_| (middle + width * normal(&mut rng)) as f32)
            .collect()
    };
    [("before: old queries", 0.42), ("after: dual queries", 0.50)]
        .map(|(name, middle)| {
            let (matches, others) = (drawn(middle, 0.15, 1_500), drawn(0.08, 0.11, 60_000));
            ScoreHistogram::count(name, (-0.4, 1.0), 56, &matches, &others)
        })
        .into()
}

fn maps() -> EmbeddingMaps {
    const DIM: usize = 12;
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let classes = ["animal", "food", "plant", "artifact", "event"];
    let centres: Vec<Vec<f64>> = classes
        .iter()
        .map(|_| (0..DIM).map(|_| normal(&mut rng)).collect())
        .collect();
    let mut cloud = |turned: bool, noise: f64| -> Vec<f32> {
        let mut rows = Vec::new();
        for at in 0..300 {
            for axis in 0..DIM {
                let from = if turned { (axis + 5) % DIM } else { axis };
                rows.push((centres[at % classes.len()][from] + noise * normal(&mut rng)) as f32);
            }
        }
        rows
    };
    let (old, new, bridged) = (cloud(false, 0.4), cloud(true, 0.3), cloud(false, 0.3));
    let map = |name: &str, new: &[f32]| {
        let both = [old.as_slice(), new].concat();
        let plane = Plane::fit(&both, DIM).expect("whole rows of finite numbers");
        EmbeddingMap {
            name: name.to_owned(),
            explained: Some(plane.explained().iter().sum()),
            points: both
                .chunks_exact(DIM)
                .enumerate()
                .map(|(at, row)| {
                    let [x, y] = plane.project(row);
                    MapPoint {
                        x,
                        y,
                        group: at % classes.len(),
                        newer: at >= 300,
                    }
                })
                .collect(),
        }
    };
    EmbeddingMaps {
        groups: classes.map(str::to_owned).into(),
        maps: vec![
            map("before bridging", &new),
            map("after bridging", &bridged),
        ],
    }
}

fn flips() -> Vec<Flip> {
    // A picture of one pixel.
    let pixel = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M/wHwAEBgIApD5fRAAAAABJRU5ErkJggg==";
    let item = |id: ItemId, label: &str, picture: bool| FlipItem {
        id,
        label: Some(label.to_owned()),
        picture: picture.then(|| pixel.to_owned()),
    };
    let text = |id: &str| ItemId::Text(id.to_owned());
    (0..7)
        .map(|at| {
            let gained = at >= 3;
            let (right, wrong) = (
                item(text("harbour.n.01"), "artifact", at % 2 == 0),
                item(ItemId::Number(4_711 + at), "location", at % 2 == 0),
            );
            let (old_hit, new_hit) = if gained {
                (wrong, right)
            } else {
                (right, wrong)
            };
            Flip {
                gained,
                query: item(
                    text(&format!(
                        "query-{at}: a sheltered port where ships can take on cargo"
                    )),
                    "artifact",
                    at % 2 == 0,
                ),
                old_hit,
                new_hit,
            }
        })
        .collect()
}

fn files() -> Vec<SourceFile> {
    [
        ("old queries", "old/queries.npy", 1_500, 256),
        ("old gallery", "old/items.npy", 5_000, 256),
        ("new queries", "new/queries.npy", 1_500, 384),
        ("new gallery", "new/items.npy", 5_000, 384),
        ("fit, from", "new/fit.npy", 3_000, 384),
        ("fit, to", "old/fit.npy", 3_000, 256),
    ]
    .into_iter()
    .map(|(role, name, rows, dim)| SourceFile {
        role: role.to_owned(),
        name: name.to_owned(),
        rows: Some(rows),
        dim: Some(dim),
        sha256: Some("5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03".to_owned()),
    })
    .collect()
}
