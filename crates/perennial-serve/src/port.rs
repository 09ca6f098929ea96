//! The port of a service, and what every connection to it meets: their number, time limits, TLS.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum_server::Handle;
use hyper_util::rt::TokioTimer;

use crate::config::{ServeConfig, Timeouts};
use crate::connections::LimitedAcceptor;
use crate::durations::seconds;
use crate::error::ServeError;
use crate::telemetry::Telemetry;
use crate::tls::Tls;

/// What is kept of a connection's bytes before its request is understood. Headers beyond it are 431.
const CONNECTION_BUFFER: usize = 64 << 10;
/// How often it is logged at most that connections cannot be accepted.
const NOT_ACCEPTED: Duration = Duration::from_secs(10);

/// A port that is taken.
pub(crate) struct Port {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Tls>,
    limited: LimitedAcceptor,
    timeouts: Timeouts,
}

/// Answers connections until its handle says that it ends.
pub(crate) type Answers = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

impl Port {
    /// Takes the port of the settings, after it has read the certificate.
    ///
    /// # Errors
    /// [`ServeError::Listen`] and [`ServeError::Tls`].
    pub(crate) fn open(
        config: &ServeConfig,
        telemetry: &Arc<Telemetry>,
    ) -> Result<Self, ServeError> {
        let wanted = config.listen;
        let listener = TcpListener::bind(wanted).map_err(|source| ServeError::Listen {
            address: wanted,
            source,
        })?;
        let address = listener.local_addr()?;
        if config.keys.is_empty() && !wanted.ip().is_loopback() {
            tracing::warn!(
                %address,
                "everybody who reaches this address may read and write; configure keys, or listen on 127.0.0.1"
            );
        }
        if !config.keys.is_empty() && config.tls.is_none() && !wanted.ip().is_loopback() {
            tracing::warn!(%address, "keys are sent unencrypted; configure TLS, or put a TLS proxy in front");
        }
        let tls = config.tls.clone().map(Tls::load).transpose()?;
        let tls = tls.map(|(tls, expires)| {
            telemetry.certificate(expires);
            tls
        });
        Ok(Self {
            listener,
            address,
            tls,
            limited: LimitedAcceptor::new(config, Arc::clone(telemetry)),
            timeouts: config.timeouts.clone(),
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// Answers connections by an application. The port stays taken when that ends, and connections then wait for the next one that answers.
    pub(crate) fn answer(&self, app: Router, handle: Handle<SocketAddr>) -> io::Result<Answers> {
        let mut server = axum_server::from_tcp(self.listener.try_clone()?)?
            .handle(handle)
            .first_request_timeout(seconds(self.timeouts.header_seconds))
            .accept_error_handler(not_accepted())
            .http1_only();
        server
            .http_builder()
            .http1()
            .timer(TokioTimer::new())
            // From the end of an answer, so it ends idle connections. Headers that have begun are timed by the connection itself.
            .header_read_timeout(seconds(self.timeouts.idle_seconds))
            .max_buf_size(CONNECTION_BUFFER);
        let limited = self.limited.clone();
        // Limits per client need to know who is connected.
        let app = app.into_make_service_with_connect_info::<SocketAddr>();
        Ok(match self.tls.clone() {
            #[cfg(feature = "tls")]
            Some(tls) => {
                let acceptor = tls.acceptor(limited, &self.timeouts);
                Box::pin(server.acceptor(acceptor).serve(app))
            }
            #[cfg(not(feature = "tls"))]
            Some(tls) => match tls {},
            None => Box::pin(server.acceptor(limited).serve(app)),
        })
    }
}

/// Says now and then that no connections are taken because the system gives none, such as for want of open files. Those that are refused or broken are
/// the clients' affair.
fn not_accepted() -> impl Fn(Option<&SocketAddr>, &io::Error) + Send + Sync {
    let said: Mutex<Option<Instant>> = Mutex::default();
    move |client, error| {
        if client.is_some() {
            return;
        }
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_none_or(|said| said.elapsed() >= NOT_ACCEPTED) {
            *said = Some(Instant::now());
            tracing::error!(%error, "connections cannot be accepted; clients wait");
        }
    }
}
