//! `perennial serve`: the gallery and the live model version over HTTP.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use perennial_core::Registry;
use perennial_gallery::EmbeddedGallery;
use perennial_serve::{Keys, RegistryRecords, ServeConfig, Server, TlsFiles};

use crate::arguments::GlobalArguments;
use crate::configuration::{Layers, process_environment, to_toml};
use crate::exit_status::{ExitStatus, usage};
use crate::gallery_folder::GalleryArguments;
use crate::model_loading::TrainedLoader;
use crate::terminal::{LogFormat, Terminal};

/// Where a gallery's folder keeps what versions made of a few images when they first went live.
pub const PROBES_FOLDER: &str = "probes";

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    gallery: GalleryArguments,
    /// Settings of the service; --print-config shows them all
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address and port to listen on; port 0 for any free one [default: 127.0.0.1:7700]
    #[arg(long, env = "PERENNIAL_LISTEN", value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Keys of clients, one `read KEY` or `write KEY` per line; PERENNIAL_READ_KEY and PERENNIAL_WRITE_KEY hold one each
    #[arg(long, env = "PERENNIAL_KEYS", value_name = "FILE")]
    keys: Option<PathBuf>,
    /// Certificate chain for TLS, PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// Private key of the certificate, PEM
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// Folder for snapshots of the gallery; without it none can be made
    #[arg(long, value_name = "DIR")]
    snapshots: Option<PathBuf>,
    /// The least margin (cross-test minus self-test, a fraction) that certifies a pair of versions, instead of what the
    /// evaluation's tie rule says; below 0 it tolerates a loss
    #[arg(long, value_name = "FRACTION", allow_negative_numbers = true)]
    min_margin: Option<f64>,
    /// Only read: searches work, changes are refused with 403; the gallery may lie on a disk that cannot be written
    #[arg(long)]
    read_only: bool,
    /// Let versions meet that were never measured against each other; logged and shown
    #[arg(long)]
    force_uncertified: bool,
    /// How log lines on stderr are written: text, or one JSON object per line
    #[arg(
        long,
        env = "PERENNIAL_LOG_FORMAT",
        default_value = "text",
        value_name = "FORMAT"
    )]
    log_format: LogFormatArgument,
    /// Set a key of the configuration, such as batching.max_batch=64; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Print the resolved configuration and do nothing else
    #[arg(long)]
    print_config: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum LogFormatArgument {
    Text,
    Json,
}

impl Arguments {
    /// How the service logs.
    pub fn log_format(&self) -> LogFormat {
        match self.log_format {
            LogFormatArgument::Text => LogFormat::TimedText,
            LogFormatArgument::Json => LogFormat::Json,
        }
    }
}

pub fn run(
    arguments: &Arguments,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    let config = configuration(arguments)?;
    if arguments.print_config {
        let text = to_toml(&config)?;
        terminal.result(&serde_json::json!({ "config": config }), |_| text)?;
        return Ok(ExitStatus::Done);
    }
    let registry = global.open_registry()?;
    let gallery = match config.read_only {
        true => arguments.gallery.open_read_only()?,
        false => arguments.gallery.open()?,
    };
    let mut records = RegistryRecords::new(registry.clone());
    if let Some(least) = arguments.min_margin {
        records = records.with_min_margin(least);
    }
    let loader = TrainedLoader(global.device.open()?);
    serve(config, registry, gallery, loader, records, terminal)?;
    Ok(ExitStatus::Done)
}

/// Serves until SIGTERM or Ctrl-C, and prints the address once requests are answered.
pub fn serve(
    config: ServeConfig,
    registry: Registry,
    gallery: EmbeddedGallery,
    loader: TrainedLoader,
    records: RegistryRecords,
    terminal: &Terminal,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let (store, loader, check) = (Arc::new(gallery), Arc::new(loader), Arc::new(records));
        let stopped = stop_signal()?;
        let server = Server::bind(config, registry, store, loader, check).await?;
        let url = server.url();
        terminal.result(&serde_json::json!({ "url": url }), |_| format!("{url}\n"))?;
        Ok(server.run(stopped).await?)
    })
}

fn configuration(arguments: &Arguments) -> anyhow::Result<ServeConfig> {
    let layers = match &arguments.config {
        Some(path) => Layers::read(path)?,
        None => Layers::parse("defaults", "")?,
    };
    let mut config: ServeConfig = layers
        .environment(process_environment())?
        .set(&arguments.set)?
        .resolve()?;
    if let Some(listen) = arguments.listen {
        config.listen = listen;
    }
    if let (Some(certificate), Some(key)) = (&arguments.tls_certificate, &arguments.tls_key) {
        config.tls = Some(TlsFiles {
            certificate: certificate.clone(),
            key: key.clone(),
        });
    }
    if let Some(folder) = &arguments.snapshots {
        config.snapshots = Some(folder.clone());
    }
    let probes = || arguments.gallery.gallery.join(PROBES_FOLDER);
    config.probes.get_or_insert_with(probes);
    config.force_uncertified |= arguments.force_uncertified;
    config.read_only |= arguments.read_only;
    config.keys = keys(arguments.keys.as_deref())?;
    config.check().map_err(|error| usage(error.to_string()))?;
    Ok(config)
}

fn keys(file: Option<&Path>) -> anyhow::Result<Keys> {
    let wrong = |error: perennial_serve::ServeError| usage(error.to_string());
    let mut keys = Keys::from_environment().map_err(wrong)?;
    if let Some(file) = file {
        keys.merge(Keys::from_file(file).map_err(wrong)?);
    }
    Ok(keys)
}

/// Done at the first SIGTERM or Ctrl-C; a second Ctrl-C ends the program at once.
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
