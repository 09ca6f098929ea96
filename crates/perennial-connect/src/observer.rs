//! What long operations tell, and who may stop them.

use std::sync::Arc;

/// Asked whether work shall end, from any thread.
pub type StopSignal = Arc<dyn Fn() -> bool + Send + Sync>;

/// Follows a long operation, and may stop it.
pub trait Observer {
    /// Rows done since the start of the operation, and how many there are where that is known.
    fn rows(&mut self, _done: u64, _total: Option<u64>) {}

    /// Something that the user should know, in one line.
    fn note(&mut self, _text: &str) {}

    /// Asked between batches; after `true` the operation ends with [`Interrupted`](crate::ConnectError::Interrupted).
    fn stopped(&self) -> bool {
        false
    }

    /// The same question for waits within a request, which a thread of its own may sit through; nothing where they are not ended.
    fn stop_signal(&self) -> Option<StopSignal> {
        None
    }
}

/// An observer that says nothing and stops nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {}
