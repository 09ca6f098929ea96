//! `perennial serve`: the gallery and the live model version over HTTP.

mod arguments;
mod settings;

use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use perennial_core::Registry;
use perennial_encode::GraphRuntime;
use perennial_serve::{Downloads, Keys, Listening, Reloader, ServeConfig, ServeError, ServedStore};
use perennial_upgrade::RegistryRecords;

pub use self::arguments::Arguments;
pub use self::settings::{PROBES_FOLDER, Settings};
use crate::exit_status::{ExitStatus, usage};
use crate::model_loading::VersionLoader;
use crate::originals_download::OriginalsDownload;
use crate::resident_memory::{self, GivenBackAtOnce};
use crate::running_service::Announcement;
use crate::terminal::{Terminal, print};

/// From so many items in this process on, what searches gain by large pages counts more than what an encoder wastes of them.
const MANY_ITEMS: u64 = 10_000;

/// How long the end waits for threads that are still at work.
const STOP: Duration = Duration::from_secs(5);

pub fn run(
    arguments: &Arguments,
    settings: Settings,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    if arguments.explain_config {
        print(arguments::EXAMPLE.as_bytes())?;
        return Ok(ExitStatus::Done);
    }
    let mut config = settings.config();
    let keys = KeySource::Configured {
        file: settings.keys.clone(),
    };
    config.keys = keys.read().map_err(|error| usage(error.to_string()))?;
    if arguments.print_config {
        let text = settings.to_toml()?;
        terminal.result(&serde_json::json!({ "config": settings }), |_| text)?;
        return Ok(ExitStatus::Done);
    }
    let runtime = GraphRuntime::from(settings.onnxruntime.clone());
    if runtime != GraphRuntime::Rten {
        // Now, and not with the first version that needs it.
        let name = runtime
            .open()
            .map_err(|error| usage(format!("onnxruntime: {error}")))?;
        tracing::info!("graphs of imported encoders run in {name}");
    }
    serve(config, keys, || opened(&settings, runtime), terminal)?;
    Ok(ExitStatus::Done)
}

/// Opens what the settings name.
fn opened(settings: &Settings, runtime: GraphRuntime) -> anyhow::Result<Served> {
    let registry = Registry::open(&settings.registry)?;
    let folder = settings.gallery().gallery;
    let gallery: Arc<dyn ServedStore> = match (&settings.store, settings.read_only) {
        (Some(database), read_only) => database.open(read_only, &folder)?,
        (None, read_only) => Arc::new(settings.gallery().open_to_serve(read_only)?),
    };
    let in_memory = match settings.store {
        Some(_) => 0,
        None => gallery.spaces()?.iter().map(|space| space.items).sum(),
    };
    if in_memory < MANY_ITEMS {
        resident_memory::use_small_pages();
    }
    let records = RegistryRecords::for_gallery(registry.clone(), &folder)
        .map_err(|error| usage(error.to_string()))?;
    Ok(Served {
        registry,
        folder,
        gallery,
        loader: VersionLoader::new(settings.device.open()?, runtime),
        records,
    })
}

/// Registry, gallery and models of a service.
pub struct Served {
    pub registry: Registry,
    /// The gallery's folder.
    pub folder: PathBuf,
    pub gallery: Arc<dyn ServedStore>,
    pub loader: VersionLoader,
    pub records: RegistryRecords,
}

/// Serves until SIGTERM or Ctrl-C, and prints the address once requests are answered. Before that, while `opened` opens a gallery and its models are
/// loaded, probes are told so. SIGHUP reads the key file and the certificate again.
pub fn serve(
    mut config: ServeConfig,
    keys: KeySource,
    opened: impl FnOnce() -> anyhow::Result<Served>,
    terminal: &Terminal,
) -> anyhow::Result<()> {
    config.downloads = Downloads::with(Arc::new(OriginalsDownload::new()?));
    let read_only = config.read_only;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let listening = {
        let _inside = runtime.enter();
        Listening::begin(config)?
    };
    let Served {
        registry,
        folder,
        gallery,
        loader,
        records,
    } = opened()?;
    resident_memory::give_back_from_now_on()?;
    let ended = runtime.block_on(async {
        let (loader, check) = (Arc::new(loader), Arc::new(records));
        let mut stopped = pin!(stop_signal()?);
        // From now on, SIGHUP does not end the program.
        let reloads = ReloadSignal::listen()?;
        let loading = GivenBackAtOnce::new();
        let server = tokio::select! {
            server = listening.load(registry, gallery, loader, check) => server?,
            // A load may wait for an embedding service that hangs.
            () = &mut stopped => {
                tracing::info!("stopped before it served");
                return Ok(());
            }
        };
        drop(loading);
        reloads.serve(server.reloader(), keys);
        let url = server.url();
        let _announcement = (!read_only).then(|| Announcement::write(&folder, &url));
        terminal.result(&serde_json::json!({ "url": url }), |_| format!("{url}\n"))?;
        Ok(server.run(stopped).await?)
    });
    // A thread may still wait for an embedding service that hangs, or write for a request that outlasted the drain. Being cut off is to it what a kill
    // is, and loses nothing that was acknowledged, since an answer goes out after its work: a write to the gallery is a transaction of its file or
    // database; a compaction, a snapshot, a version and a bridge are made aside and renamed, and what is left of them is removed later; a swap moves the
    // alias and the accepted pairs together; the record of a backfill is a little older than its items, which the gallery itself counts.
    runtime.shutdown_timeout(STOP);
    ended
}

/// Where a service has its keys from, at its start and at each reload.
#[derive(Clone)]
pub enum KeySource {
    /// No keys: every local client may read and write.
    Open,
    /// The environment, and a file if one is named.
    Configured { file: Option<PathBuf> },
}

impl KeySource {
    fn read(&self) -> Result<Keys, ServeError> {
        let Self::Configured { file } = self else {
            return Ok(Keys::default());
        };
        let mut keys = Keys::from_environment()?;
        if let Some(file) = file {
            keys.merge(Keys::from_file(file)?);
        }
        Ok(keys)
    }
}

/// SIGHUP, which asks a service to read its keys and certificates again.
struct ReloadSignal {
    #[cfg(unix)]
    hangup: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl ReloadSignal {
    fn listen() -> anyhow::Result<Self> {
        let hangup = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())?;
        Ok(Self { hangup })
    }

    /// Reloads at each signal from now on, one after the other.
    fn serve(mut self, reloader: Reloader, keys: KeySource) {
        tokio::spawn(async move {
            while self.hangup.recv().await.is_some() {
                let (reloader, keys) = (reloader.clone(), keys.clone());
                // The outcome is in the log.
                let reload = move || drop(reloader.reload(|| keys.read()));
                let _ = tokio::task::spawn_blocking(reload).await;
            }
        });
    }
}

#[cfg(not(unix))]
impl ReloadSignal {
    fn listen() -> anyhow::Result<Self> {
        Ok(Self {})
    }

    fn serve(self, _: Reloader, _: KeySource) {}
}

/// Completes at the first SIGTERM or Ctrl-C; a second Ctrl-C ends the program immediately.
fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    #[cfg(unix)]
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    Ok(async move {
        #[cfg(unix)]
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        #[cfg(not(unix))]
        let _ = tokio::signal::ctrl_c().await;
        tokio::spawn(async {
            if tokio::signal::ctrl_c().await.is_ok() {
                std::process::exit(130);
            }
        });
    })
}
