use std::collections::BTreeMap;

use perennial_upgrade::SearchPlan;

use super::*;

#[test]
fn what_is_no_longer_known_is_no_number() {
    let telemetry = Telemetry::new();
    let per_version = BTreeMap::from([("v0001".to_owned(), 7)]);
    let render = |storage: Storage, counted| {
        telemetry.render(&Gauges {
            queue_images: 0,
            per_version: &per_version,
            counted,
            live: Some("v0001"),
            plan: &SearchPlan::default(),
            uptime: Duration::from_secs(1),
            process: Process::now(),
            storage,
            backfill: [("done", 3), ("left", 4), ("failed", 0), ("changed", 0)],
            backfill_state: "paused",
        })
    };
    // Never known: left out.
    let text = render(Storage::default(), true);
    assert!(!text.contains("\nperennial_gallery_disk_bytes"), "{text}");
    let known = Storage {
        disk_bytes: Some(4096),
        index_backlog: Some(3),
        snapshots: Some(2),
        snapshot_age: Some(Duration::from_secs(90)),
        ..Storage::default()
    };
    let text = render(known, true);
    for line in [
        "perennial_gallery_disk_bytes 4096",
        "perennial_index_backlog_items 3",
        "perennial_snapshots 2",
        "perennial_snapshot_age_seconds 90",
        r#"perennial_gallery_items{model_version="v0001"} 7"#,
        r#"perennial_backfill_items{state="left"} 4"#,
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    let text = render(Storage::default(), false);
    for line in [
        "perennial_gallery_disk_bytes NaN",
        "perennial_index_backlog_items NaN",
        "perennial_snapshots NaN",
        "perennial_snapshot_age_seconds NaN",
        r#"perennial_gallery_items{model_version="v0001"} NaN"#,
        r#"perennial_route_items{space="v0001",route="own"} NaN"#,
        r#"perennial_backfill_items{state="left"} NaN"#,
        r#"perennial_backfill_items{state="done"} 3"#,
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[test]
fn the_text_names_what_happened() {
    let telemetry = Telemetry::new();
    telemetry.request("GET", "/search", 200, Duration::from_millis(4));
    telemetry.stage(Stage::Encode, Duration::from_millis(2));
    telemetry.batch(3);
    telemetry.swap("refused");
    telemetry.upkeep();
    let mut per_version = BTreeMap::from([("v0001".to_owned(), 7)]);
    let render = |per_version: &BTreeMap<String, u64>, live| {
        telemetry.render(&Gauges {
            queue_images: 2,
            per_version,
            counted: true,
            live: Some(live),
            plan: &SearchPlan::default(),
            uptime: Duration::from_secs(1),
            process: Process::now(),
            storage: Storage {
                disk_bytes: Some(4096),
                snapshots: Some(1),
                snapshot_age: Some(Duration::from_secs(90)),
                ..Storage::default()
            },
            backfill: [("done", 3), ("left", 4), ("failed", 0), ("changed", 0)],
            backfill_state: "paused",
        })
    };
    let text = render(&per_version, "v0001");
    for line in [
        r#"perennial_http_requests_total{method="GET",route="/search",status="200"} 1"#,
        r#"perennial_stage_seconds_bucket{stage="encode",le="0.002"} 1"#,
        r#"perennial_batch_images_bucket{le="4"} 1"#,
        r#"perennial_swaps_total{outcome="refused"} 1"#,
        r#"perennial_swaps_total{outcome="moved"} 0"#,
        "perennial_gallery_disk_bytes 4096",
        r#"perennial_backfill_items{state="left"} 4"#,
        r#"perennial_backfill_state{state="paused"} 1"#,
        r#"perennial_backfill_state{state="running"} 0"#,
        r#"perennial_route_fallback_items{space="v0001"} 0"#,
        "perennial_snapshot_age_seconds 90",
        r#"perennial_gallery_items{model_version="v0001"} 7"#,
        r#"perennial_live_version_info{model_version="v0001"} 1"#,
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    per_version.clear();
    let text = render(&per_version, "v0002");
    assert!(
        text.contains(r#"perennial_gallery_items{model_version="v0001"} 0"#),
        "{text}"
    );
    assert!(
        text.contains(r#"perennial_live_version_info{model_version="v0001"} 0"#),
        "{text}"
    );
}
