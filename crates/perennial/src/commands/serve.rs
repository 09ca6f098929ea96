//! `perennial serve`: the gallery and the live model version over HTTP.

mod settings;

use std::path::PathBuf;
use std::sync::Arc;

use perennial_core::Registry;
use perennial_gallery::EmbeddedGallery;
use perennial_serve::{Downloads, Keys, Reloader, ServeConfig, ServeError, Server};
use perennial_upgrade::RegistryRecords;

pub use self::settings::Settings;
use crate::exit_status::{ExitStatus, usage};
use crate::gallery_folder::GalleryArguments;
use crate::model_loading::TrainedLoader;
use crate::originals_download::OriginalsDownload;
use crate::running_service::Announcement;
use crate::terminal::{LogFormat, Terminal};

/// The folder in a gallery's folder with the stored probes: embeddings recorded when a version first went live.
pub const PROBES_FOLDER: &str = "probes";

/// Shown by `--help`, so that every key is explained there.
const EXAMPLE: &str = concat!(
    "Signals: SIGTERM and Ctrl-C finish the running requests and stop the service; SIGHUP reloads the keys file and the TLS \
     certificate.\n\nThe configuration file, with every key:\n\n",
    include_str!("../../../../contrib/serve.toml")
);

#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLE)]
#[allow(
    dead_code,
    reason = "most are read by their ids, with the layer that they came from"
)]
pub struct Arguments {
    #[command(flatten)]
    gallery: GalleryArguments,
    /// Configuration file, for all settings including the options of this command; --help explains every key
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address and port to listen on; port 0 picks a free port [default: 127.0.0.1:7700]
    #[arg(long, env = "PERENNIAL_LISTEN", value_name = "ADDRESS")]
    listen: Option<String>,
    /// File of API keys, one `read KEY` or `write KEY` per line; PERENNIAL_READ_KEY and PERENNIAL_WRITE_KEY add one key each
    #[arg(long, env = "PERENNIAL_KEYS", value_name = "FILE")]
    keys: Option<PathBuf>,
    /// TLS certificate chain, PEM
    #[cfg_attr(
        not(feature = "tls"),
        doc = "(this build has no TLS; build with --features tls)"
    )]
    #[arg(long, value_name = "FILE")]
    tls_certificate: Option<PathBuf>,
    /// Private key of the TLS certificate, PEM
    #[cfg_attr(
        not(feature = "tls"),
        doc = "(this build has no TLS; build with --features tls)"
    )]
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Folder for snapshots of the gallery; without it, snapshots are disabled
    #[arg(long, value_name = "DIR")]
    snapshots: Option<PathBuf>,
    /// Serve searches only and reject changes with 403; the gallery may be on a read-only disk
    #[arg(long)]
    read_only: bool,
    /// Allow searches between versions that are not certified for each other (logged, and shown on the page)
    #[arg(long)]
    force_uncertified: bool,
    /// Answer all requests for embeddings in this space, a model version or a registered space: documents by its own encoder, queries by
    /// the certified route from the new one. For an index that other programs keep
    #[arg(long, value_name = "SPACE")]
    answer_in: Option<String>,
    /// The new encoder for --answer-in: live, or the name of an upstream [default: live]
    #[arg(long, value_name = "NAME")]
    answer_from: Option<String>,
    /// What answers queries while no route is certified for --answer-in: old, the old encoder alone [default: refuse to start]
    #[arg(long, value_name = "WHAT")]
    answer_uncertified: Option<String>,
    /// Format of the log on stderr: text, or json for one JSON object per line [default: text]
    #[arg(long, env = "PERENNIAL_LOG_FORMAT", value_name = "FORMAT")]
    log_format: Option<String>,
    /// Set a key of the configuration, such as batching.max_batch=64; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Print the resolved configuration and exit
    #[arg(long)]
    print_config: bool,
}

impl Arguments {
    /// The log format for errors in the settings.
    pub fn log_format(&self) -> LogFormat {
        match self.log_format.as_deref() {
            Some("json") => LogFormat::Json,
            _ => LogFormat::TimedText,
        }
    }
}

pub fn run(
    arguments: &Arguments,
    settings: Settings,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
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
    let registry = Registry::open(&settings.registry)?;
    let gallery = match config.read_only {
        true => settings.gallery().open_read_only()?,
        false => settings.gallery().open()?,
    };
    let folder = settings.gallery().gallery;
    let records = RegistryRecords::for_gallery(registry.clone(), &folder)
        .map_err(|error| usage(error.to_string()))?;
    let served = Served {
        registry,
        folder,
        gallery,
        loader: TrainedLoader(settings.device.open()?),
        records,
    };
    serve(config, keys, served, terminal)?;
    Ok(ExitStatus::Done)
}

/// Registry, gallery and models of a service.
pub struct Served {
    pub registry: Registry,
    /// The gallery's folder.
    pub folder: PathBuf,
    pub gallery: EmbeddedGallery,
    pub loader: TrainedLoader,
    pub records: RegistryRecords,
}

/// Serves until SIGTERM or Ctrl-C, and prints the address once requests are answered. SIGHUP reads the key file and the
/// certificate again.
pub fn serve(
    mut config: ServeConfig,
    keys: KeySource,
    served: Served,
    terminal: &Terminal,
) -> anyhow::Result<()> {
    let Served {
        registry,
        folder,
        gallery,
        loader,
        records,
    } = served;
    config.downloads = Downloads::with(Arc::new(OriginalsDownload::new()?));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let (store, loader, check) = (Arc::new(gallery), Arc::new(loader), Arc::new(records));
        let stopped = stop_signal()?;
        // From now on, SIGHUP does not end the program.
        let reloads = ReloadSignal::listen()?;
        let read_only = config.read_only;
        let server = Server::bind(config, registry, store, loader, check).await?;
        reloads.serve(server.reloader(), keys);
        let url = server.url();
        let _announcement = (!read_only).then(|| Announcement::write(&folder, &url));
        terminal.result(&serde_json::json!({ "url": url }), |_| format!("{url}\n"))?;
        Ok(server.run(stopped).await?)
    })
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
