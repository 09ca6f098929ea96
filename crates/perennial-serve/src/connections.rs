//! How many clients may be connected at once, and how long one may leave an answer unread.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum_server::accept::Accept;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

use crate::config::ServeConfig;
use crate::durations::seconds;
use crate::telemetry::Telemetry;

/// Rejected connections that may be answered with a 503 at the same time; any further one is closed without a response.
const MAX_PENDING_REJECTIONS: usize = 32;
/// How long a rejected client may take to read the answer.
const REJECTION: Duration = Duration::from_secs(1);
/// The answer to a connection beyond the limit.
const REFUSAL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n\
    content-length: 0\r\n\r\n";

/// Limits the number of concurrent connections.
#[derive(Clone)]
pub(crate) struct LimitedAcceptor {
    places: Arc<Semaphore>,
    rejections: Arc<Semaphore>,
    limit: usize,
    patience: Duration,
    /// A client that expects TLS cannot read a plain-text answer.
    plain: bool,
    telemetry: Arc<Telemetry>,
}

impl LimitedAcceptor {
    pub(crate) fn new(config: &ServeConfig, telemetry: Arc<Telemetry>) -> Self {
        let limit = config.limits.connections;
        telemetry.connections(0);
        Self {
            places: Arc::new(Semaphore::new(limit)),
            rejections: Arc::new(Semaphore::new(MAX_PENDING_REJECTIONS)),
            limit,
            patience: seconds(config.timeouts.write_seconds),
            plain: config.tls.is_none(),
            telemetry,
        }
    }

    fn count(&self) {
        self.telemetry
            .connections(self.limit - self.places.available_permits());
    }
}

impl<S: Send + 'static> Accept<TcpStream, S> for LimitedAcceptor {
    type Stream = Connection;
    type Service = S;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Connection, S)>> + Send>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let acceptor = self.clone();
        Box::pin(async move {
            let Ok(place) = Arc::clone(&acceptor.places).try_acquire_owned() else {
                acceptor.telemetry.refused_connection();
                let rejection = Arc::clone(&acceptor.rejections).try_acquire_owned();
                if acceptor.plain && rejection.is_ok() {
                    let _ = tokio::time::timeout(REJECTION, refuse(stream)).await;
                }
                return Err(io::Error::other("too many connections"));
            };
            stream.set_nodelay(true)?;
            acceptor.count();
            let connection = Connection {
                stream,
                patience: acceptor.patience,
                stalled: None,
                _place: Place {
                    permit: Some(place),
                    acceptor,
                },
            };
            Ok((connection, service))
        })
    }
}

/// Sends the answer and reads the client's bytes: closing a connection with unread bytes resets it, and the answer is lost.
async fn refuse(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(REFUSAL).await?;
    stream.shutdown().await?;
    let mut unread = [0; 4096];
    while stream.read(&mut unread).await? > 0 {}
    Ok(())
}

/// A connection's slot, released when it ends.
struct Place {
    permit: Option<OwnedSemaphorePermit>,
    acceptor: LimitedAcceptor,
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(self.permit.take());
        self.acceptor.count();
    }
}

/// A connection with a write timeout: a client that reads nothing for that long is disconnected.
pub(crate) struct Connection {
    stream: TcpStream,
    patience: Duration,
    /// Runs while the client reads nothing.
    stalled: Option<Pin<Box<Sleep>>>,
    _place: Place,
}

impl Connection {
    /// The result of a write; an error after the timeout.
    fn written<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let patience = self.patience;
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.written(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
