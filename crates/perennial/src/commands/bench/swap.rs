//! A swap of the live version in a running service, as a client sees it.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use perennial_core::Registry;
use perennial_encode::GraphRuntime;
use perennial_gallery::{EmbeddedGallery, GalleryConfig};
use perennial_serve::{ServeConfig, Server};
use perennial_upgrade::{Policy, RegistryRecords};

use super::network::Subject;
use super::timing::Measurement;
use crate::model_loading::VersionLoader;

/// Moves the alias `live` to and fro between two versions: load, verify, warm up, check, move the pointer.
pub fn measure_one(subject: &Subject, folder: &Path) -> anyhow::Result<Measurement> {
    let registry = Registry::create(folder.join("swap-registry"))?;
    let versions = [
        subject.publish(&registry, 0)?.name,
        subject.publish(&registry, 1)?.name,
    ];
    registry.set_alias("live", &versions[0])?;
    let gallery = EmbeddedGallery::open(folder.join("swap-gallery"), GalleryConfig::default())?;
    let config = ServeConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        ..ServeConfig::default()
    };
    let (check, loader) = (
        RegistryRecords::with_policy(registry.clone(), Policy::default()),
        VersionLoader::new(subject.device.clone(), GraphRuntime::Rten),
    );
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = runtime.block_on(Server::bind(
        config,
        registry,
        Arc::new(gallery),
        Arc::new(loader),
        Arc::new(check),
    ))?;
    let address = format!("{}/aliases/live", server.url().trim_end_matches('/'));
    let running = runtime.spawn(server.run(async move {
        let _ = stopped.await;
    }));
    let swaps = (1..=subject.samples.max(2)).map(|swap| {
        let start = Instant::now();
        let body = serde_json::json!({ "version": versions[swap % 2] }).to_string();
        ureq::put(&address)
            .content_type("application/json")
            .send(body)?;
        Ok(start.elapsed().as_secs_f64())
    });
    let seconds = swaps.collect::<anyhow::Result<Vec<f64>>>();
    // The service may have ended by itself only where the swaps failed too.
    let _ = stop.send(());
    runtime.block_on(running)??;
    Ok(Measurement::of(
        subject.title("swap of the live version", 1),
        seconds?,
    ))
}
