//! How many clients may be connected at once, how long the headers of a request may take, and how long an answer may be left unread.

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
use crate::next_request::{NextRequest, Noticing};
use crate::process::Process;
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
    header: Duration,
    patience: Duration,
    /// A client that expects TLS cannot read a plain-text answer.
    plain: bool,
    telemetry: Arc<Telemetry>,
}

impl LimitedAcceptor {
    pub(crate) fn new(config: &ServeConfig, telemetry: Arc<Telemetry>) -> Self {
        let limit = within_files(config.limits.connections, Process::now().max_files);
        telemetry.connections(0);
        Self {
            places: Arc::new(Semaphore::new(limit)),
            rejections: Arc::new(Semaphore::new(MAX_PENDING_REJECTIONS)),
            limit,
            header: seconds(config.timeouts.header_seconds),
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

/// As many connections as the process may have, beside those that are refused and a quarter of its files for everything else. Beyond that, they would not
/// even be refused.
fn within_files(wanted: usize, max_files: Option<u64>) -> usize {
    let most = max_files.and_then(|files| usize::try_from(files - files / 4).ok());
    let most = most.map_or(usize::MAX, |most| {
        most.saturating_sub(MAX_PENDING_REJECTIONS)
    });
    let most = most.max(1);
    if wanted > most {
        tracing::warn!(
            wanted,
            most,
            "limits.connections is more than the limit of open files allows: only so many clients are taken at once; raise that limit (LimitNOFILE, ulimit -n)"
        );
    }
    wanted.min(most)
}

impl<S: Send + 'static> Accept<TcpStream, S> for LimitedAcceptor {
    type Stream = Connection;
    type Service = Noticing<S>;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Connection, Noticing<S>)>> + Send>>;

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
            let next = NextRequest::default();
            let connection = Connection {
                stream,
                next: next.clone(),
                header: acceptor.header,
                begun: None,
                patience: acceptor.patience,
                stalled: None,
                _place: Place {
                    permit: Some(place),
                    acceptor,
                },
            };
            Ok((connection, Noticing::new(service, next)))
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

/// A connection with a write timeout: a client that reads nothing for that long is disconnected. So is one that begins the headers of a further request
/// and does not end them; the first request's are timed by the server.
pub(crate) struct Connection {
    stream: TcpStream,
    next: NextRequest,
    header: Duration,
    /// The number of a further request, and what runs from its first byte.
    begun: Option<(u64, Pin<Box<Sleep>>)>,
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
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let Some(number) = self.next.awaited() else {
            self.begun = None;
            return read;
        };
        // The time of an earlier one is over with its answer.
        self.begun.take_if(|(begun, _)| *begun != number);
        if self.begun.is_none() && read.is_ready() && buffer.filled().len() > before {
            self.begun = Some((number, Box::pin(tokio::time::sleep(self.header))));
        }
        let begun = self.begun.as_mut();
        let is_over = begun.is_some_and(|(_, time)| time.as_mut().poll(context).is_ready());
        match is_over {
            true => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            false => read,
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_everything_else() {
        for (wanted, files, taken) in [
            (512, Some(8192), 512),
            (512, Some(1024), 512),
            (1000, Some(1024), 736),
            (512, Some(64), 16),
            (512, Some(0), 1),
            (512, None, 512),
        ] {
            assert_eq!(within_files(wanted, files), taken, "{wanted} {files:?}");
        }
    }
}
