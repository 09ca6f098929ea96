//! Startup from settings to a listening socket, and graceful shutdown.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use axum::Router;
use axum_server::Handle;
use perennial_core::Registry;
use perennial_upgrade::{CompatibilityCheck, EncoderLoader};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::config::{ServeConfig, Timeouts};
use crate::durations::seconds;
use crate::error::ServeError;
use crate::port::Port;
use crate::reembedding;
use crate::reload::Reloader;
use crate::router;
use crate::served_store::ServedStore;
use crate::service::Service;
use crate::starting::Starting;
use crate::telemetry::Telemetry;

/// How often raw measurements are folded into buckets.
const UPKEEP: Duration = Duration::from_secs(5);
/// How often it is looked whose canaries are due; their versions say how often that is.
const DRIFT: Duration = Duration::from_secs(1);

/// A service whose port is taken, and whose gallery and model are still to be loaded. Until then it answers that it lives and that it is not ready.
pub struct Listening {
    config: ServeConfig,
    port: Port,
    starting: Starting,
    telemetry: Arc<Telemetry>,
}

impl Listening {
    /// Checks the settings, takes the port, and answers there: `/livez` and `/healthz` with 200, everything else with 503. Must be called inside a
    /// multi-threaded tokio runtime.
    ///
    /// # Errors
    /// [`ServeError`]: a setting or TLS file that cannot work, an address in use.
    pub fn begin(config: ServeConfig) -> Result<Self, ServeError> {
        config.check()?;
        let telemetry = Arc::new(Telemetry::new());
        let port = Port::open(&config, &telemetry)?;
        let starting = Starting::begin(&port)?;
        Ok(Self {
            config,
            port,
            starting,
            telemetry,
        })
    }

    /// Loads the live version and checks it.
    ///
    /// # Errors
    /// [`ServeError`]: a registry or gallery that cannot be read, a live version that fails its checks, a setting that does not fit them.
    pub async fn load(
        self,
        registry: Registry,
        store: Arc<dyn ServedStore>,
        loader: Arc<dyn EncoderLoader>,
        check: Arc<dyn CompatibilityCheck>,
    ) -> Result<Server, ServeError> {
        let Self {
            config,
            port,
            starting,
            telemetry,
        } = self;
        let (service, batcher) = start(config, registry, store, loader, check, telemetry).await?;
        // From now on connections wait for the service itself.
        starting.end().await;
        Ok(Server {
            service,
            port,
            batcher,
        })
    }
}

/// A service that is loaded, and answers once [`run`](Self::run) is called.
pub struct Server {
    service: Arc<Service>,
    port: Port,
    batcher: JoinHandle<()>,
}

impl Server {
    /// Takes the port, loads the live version, and checks it: [`Listening`] in one step. Must be called inside a multi-threaded tokio runtime.
    ///
    /// # Errors
    /// Those of [`Listening::begin`] and [`Listening::load`].
    pub async fn bind(
        config: ServeConfig,
        registry: Registry,
        store: Arc<dyn ServedStore>,
        loader: Arc<dyn EncoderLoader>,
        check: Arc<dyn CompatibilityCheck>,
    ) -> Result<Self, ServeError> {
        let listening = Listening::begin(config)?;
        listening.load(registry, store, loader, check).await
    }

    /// Where it listens; with port 0 in the settings, the port that was free.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// The address for a browser.
    pub fn url(&self) -> String {
        let scheme = match self.port.tls() {
            Some(_) => "https",
            None => "http",
        };
        format!("{scheme}://{}/", self.address())
    }

    /// What replaces keys and certificate while the service runs.
    pub fn reloader(&self) -> Reloader {
        Reloader::new(&self.service, self.port.tls().cloned())
    }

    /// Answers until `shutdown` is done, then takes no more connections (after `timeouts.drain_delay_seconds`), finishes the requests in progress within the drain time,
    /// and flushes the gallery.
    ///
    /// # Errors
    /// [`ServeError`]: a listener that fails, a gallery that cannot be flushed.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), ServeError> {
        let Self {
            service,
            port,
            batcher,
        } = self;
        let timeouts = service.config.timeouts.clone();
        let handle = Handle::new();
        let app = router::build(Arc::clone(&service));
        let address = port.address();
        let mut serving = port.answer(app, handle.clone())?;
        // With the answers, the port goes.
        drop(port);
        let upkeep = tokio::spawn(upkeep(Arc::downgrade(&service)));
        tracing::info!(%address, "serving");

        let ended = tokio::select! {
            ended = &mut serving => ended,
            () = shutdown => {
                service.lifecycle.drain();
                let stopping = stop_after(&timeouts, &handle);
                tokio::select! {
                    ended = &mut serving => ended,
                    () = stopping => (&mut serving).await,
                }
            }
        };
        drop(serving);
        upkeep.abort();
        let store = Arc::clone(&service.gallery.store);
        // With the last reference goes the batcher's queue, so its task ends; a request cut off by the drain time may still
        // hold one, and is not waited for.
        drop(service);
        let _ = tokio::time::timeout(Duration::from_secs(1), batcher).await;
        tokio::task::spawn_blocking(move || store.flush()).await??;
        tracing::info!("stopped");
        Ok(ended?)
    }
}

/// Stops taking connections, after the time in which whoever sends requests here may see that the service is not ready any more.
async fn stop_after(timeouts: &Timeouts, handle: &Handle<SocketAddr>) {
    let delay = timeouts.drain_delay_seconds;
    if delay > 0.0 {
        tracing::info!(
            seconds = delay,
            "stopping soon: /readyz says so, and requests are still taken"
        );
        tokio::time::sleep(seconds(delay)).await;
    }
    tracing::info!("stopping: no new connections, requests in progress are finished");
    handle.graceful_shutdown(Some(seconds(timeouts.drain_seconds)));
}

/// Runs a service from start to end; [`Server`] is the same in two steps, for callers that need the address in between.
///
/// # Errors
/// Those of [`Server::bind`] and [`Server::run`].
pub async fn serve(
    config: ServeConfig,
    registry: Registry,
    store: Arc<dyn ServedStore>,
    loader: Arc<dyn EncoderLoader>,
    check: Arc<dyn CompatibilityCheck>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let server = Server::bind(config, registry, store, loader, check).await?;
    server.run(shutdown).await
}

/// All routes without a listener, for a server of the caller's own: everything that [`serve`] does, but for TLS, the time limit
/// on headers, and the drain at the end. Limits per client hold where that server tells who is connected
/// ([`axum::extract::ConnectInfo`] with a [`SocketAddr`]). Must be called inside a multi-threaded tokio runtime.
///
/// # Errors
/// Those of [`Server::bind`] that do not concern the listener.
pub async fn application(
    config: ServeConfig,
    registry: Registry,
    store: Arc<dyn ServedStore>,
    loader: Arc<dyn EncoderLoader>,
    check: Arc<dyn CompatibilityCheck>,
) -> Result<Router, ServeError> {
    config.check()?;
    let telemetry = Arc::new(Telemetry::new());
    // The batcher's task ends by itself with the last reference to the service.
    let (service, _) = start(config, registry, store, loader, check, telemetry).await?;
    tokio::spawn(upkeep(Arc::downgrade(&service)));
    Ok(router::build(service))
}

async fn start(
    config: ServeConfig,
    registry: Registry,
    store: Arc<dyn ServedStore>,
    loader: Arc<dyn EncoderLoader>,
    check: Arc<dyn CompatibilityCheck>,
    telemetry: Arc<Telemetry>,
) -> Result<(Arc<Service>, JoinHandle<()>), ServeError> {
    // Building the batcher needs the runtime, loading the model must not hold up its thread.
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || {
        let _inside = runtime.enter();
        let (service, batcher) = Service::start(config, registry, store, loader, check, telemetry)?;
        tokio::spawn(reembedding::work(Arc::downgrade(&service.reembedder)));
        tokio::spawn(watch_endpoints(Arc::downgrade(&service)));
        Ok((service, batcher))
    })
    .await?
}

/// Looks for embedding services whose model has changed; ends with the service.
async fn watch_endpoints(service: Weak<Service>) {
    let mut ticks = tokio::time::interval(DRIFT);
    // After a slow service, not several checks in a row.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(service) = service.upgrade() else {
            return;
        };
        let looked = tokio::task::spawn_blocking(move || service.look_for_drift()).await;
        if let Err(error) = looked {
            tracing::error!(%error, "the canaries of embedding services were not looked at");
        }
    }
}

/// Ends with the service.
async fn upkeep(service: Weak<Service>) {
    let mut ticks = tokio::time::interval(UPKEEP);
    let mut keeping: Option<JoinHandle<()>> = None;
    loop {
        ticks.tick().await;
        let Some(service) = service.upgrade() else {
            return;
        };
        service.telemetry.upkeep();
        // What was stored or certified meanwhile may need other old encoders. Loading them may take longer than a tick.
        if keeping.as_ref().is_none_or(JoinHandle::is_finished) {
            keeping = Some(tokio::task::spawn_blocking(move || {
                service.inference.tried.let_go_unused(Instant::now());
                if service.gallery.store.is_shared() {
                    service.gallery.count_for_others();
                }
                let (gallery, backfill) = (&service.gallery, &service.reembedder.backfill);
                let forgotten = backfill.forget_changed(&*gallery.store, &gallery.stored());
                if let Err(error) = forgotten {
                    tracing::warn!(%error, "failed items of the backfill could not be looked at");
                }
                let planning = &service.planning;
                planning.keep_encoders(false);
                planning.try_encoders_again();
                planning.log_left_out();
            }));
        }
    }
}
