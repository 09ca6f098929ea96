//! Whether a connection waits for its next request, which only what answers the requests knows.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tower_service::Service;

/// Shared by a connection and what answers its requests: how often one began or was answered.
#[derive(Clone, Default)]
pub(crate) struct NextRequest(Arc<AtomicU64>);

impl NextRequest {
    /// Where all requests so far were answered, and there was one: the number of the next.
    pub(crate) fn awaited(&self) -> Option<u64> {
        let turns = self.0.load(Ordering::Relaxed);
        (turns > 0 && turns.is_multiple_of(2)).then_some(turns / 2)
    }

    fn turn(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Answers requests, and notices when they begin and end.
#[derive(Clone)]
pub(crate) struct Noticing<S> {
    service: S,
    next: NextRequest,
}

impl<S> Noticing<S> {
    pub(crate) fn new(service: S, next: NextRequest) -> Self {
        Self { service, next }
    }
}

impl<S, R> Service<R> for Noticing<S>
where
    S: Service<R>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: R) -> Self::Future {
        self.next.turn();
        let (next, answer) = (self.next.clone(), self.service.call(request));
        Box::pin(async move {
            let answer = answer.await;
            next.turn();
            answer
        })
    }
}
