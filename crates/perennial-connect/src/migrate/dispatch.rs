//! The database that an address leads to, and the runtime that waits for it.

use std::future::Future;

use crate::error::ConnectError;

/// Runs an operation to its end. Two threads serve the connections, so that no connection waits while another one's data are prepared.
pub(super) fn wait<T>(
    operation: impl Future<Output = Result<T, ConnectError>>,
) -> Result<T, ConnectError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(operation)
}

/// Runs `$step::<E>($place, …)` with the engine `E` of an address.
macro_rules! dispatch {
    ($address:expr, $step:ident($($argument:expr),*)) => {
        match $address.place() {
            #[cfg(feature = "pgvector")]
            crate::address::Place::Postgres(place) => crate::migrate::dispatch::wait(
                $step::<crate::postgres::Postgres>(place, $($argument),*),
            ),
            #[cfg(feature = "qdrant")]
            crate::address::Place::Qdrant(place) => crate::migrate::dispatch::wait(
                $step::<crate::qdrant::Qdrant>(place, $($argument),*),
            ),
        }
    };
}

pub(super) use dispatch;
