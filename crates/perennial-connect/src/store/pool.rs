//! A few connections, opened when they are needed and again after they broke.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use perennial_gallery::GalleryError;

use super::connector::Connector;
use super::session::{Bound, Session};
use crate::error::ConnectError;
use crate::failure::Failure;
use crate::turns::Turns;

/// How long an operation is repeated whose connection broke: about as long as a server takes to restart.
const PATIENCE: Duration = Duration::from_secs(10);

/// Every statement of a read sees the same state of the database.
const READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY";
/// Writes come one after another. What follows sees all that came before, also where the database's own default is a snapshot from before the
/// wait.
const WRITE: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; SELECT FROM perennial_meta FOR UPDATE";

#[derive(Debug)]
pub(super) struct Pool {
    connector: Connector,
    most: usize,
    connections: Mutex<Connections>,
    returned: Condvar,
    /// Writers of this process wait here, not each with a connection in the database.
    writers: Turns,
}

#[derive(Default)]
struct Connections {
    idle: Vec<Session>,
    /// Idle or lent.
    open: usize,
}

impl std::fmt::Debug for Connections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} open, {} idle", self.open, self.idle.len())
    }
}

impl Pool {
    pub(super) fn new(connector: Connector, most: usize) -> Self {
        Self {
            connector,
            most,
            connections: Mutex::default(),
            returned: Condvar::new(),
            writers: Turns::default(),
        }
    }

    pub(super) fn server(&self) -> &str {
        self.connector.server()
    }

    pub(super) fn max_indexed(&self) -> usize {
        self.connector.max_indexed()
    }

    /// Reads from one state of the database.
    ///
    /// # Errors
    /// Those of the work, [`GalleryError::Busy`] where no connection becomes free in time, and [`GalleryError::Database`].
    pub(super) fn read<T>(
        &self,
        bound: Bound,
        work: impl Fn(&Session) -> Result<T, Failure>,
    ) -> Result<T, GalleryError> {
        self.patiently(|session| session.transaction(READ, bound, &work))
    }

    /// Changes the gallery in one transaction, while nobody else does.
    ///
    /// # Errors
    /// Those of the work, [`GalleryError::Busy`] where too many write already, and [`GalleryError::Database`].
    pub(super) fn write<T>(
        &self,
        bound: Bound,
        work: impl Fn(&Session) -> Result<T, Failure>,
    ) -> Result<T, GalleryError> {
        let turn = self.writers.take(self.connector.timeout());
        let _turn = turn.map_err(|problem| self.busy(problem))?;
        self.patiently(|session| session.transaction(WRITE, bound, &work))
    }

    fn patiently<T>(
        &self,
        work: impl Fn(&Session) -> Result<T, Failure>,
    ) -> Result<T, GalleryError> {
        let mut until = None;
        let mut pause = Duration::from_millis(20);
        loop {
            let failure = match self.once(&work) {
                Ok(done) => return Ok(done),
                Err(failure) => failure,
            };
            let until = *until.get_or_insert_with(|| Instant::now() + PATIENCE);
            if !failure.may_pass() || Instant::now() >= until {
                return Err(failure.into_gallery(self.server()));
            }
            tracing::debug!(?failure, "trying again");
            std::thread::sleep(pause);
            pause = (2 * pause).min(Duration::from_secs(1));
        }
    }

    fn once<T>(&self, work: impl Fn(&Session) -> Result<T, Failure>) -> Result<T, Failure> {
        let session = self.take()?;
        // A defect in the work must not take the connection's place with it.
        let place = Place(self);
        let done = work(&session);
        // An error of the database leaves a transaction behind, or statements of tables that have changed since.
        if !matches!(done, Err(Failure::Database(_))) && session.is_open() {
            self.lock().idle.push(session);
            // The idle connection has it now.
            std::mem::forget(place);
            self.returned.notify_one();
        }
        if let Err(Failure::Database(ConnectError::Connection { .. })) = done {
            // The others are broken as well, since the server has gone, or will be opened again.
            let mut connections = self.lock();
            connections.open -= connections.idle.len();
            connections.idle.clear();
        }
        done
    }

    fn take(&self) -> Result<Session, Failure> {
        let (mut connections, waited) = self
            .returned
            .wait_timeout_while(self.lock(), self.connector.timeout(), |connections| {
                connections.idle.is_empty() && connections.open >= self.most
            })
            .unwrap_or_else(PoisonError::into_inner);
        while let Some(session) = connections.idle.pop() {
            if session.is_open() {
                return Ok(session);
            }
            connections.open -= 1;
        }
        if waited.timed_out() && connections.open >= self.most {
            drop(connections);
            let problem = format!(
                "all {} connections are in use (store.connections)",
                self.most
            );
            return Err(Failure::Refused(self.busy(problem)));
        }
        connections.open += 1;
        drop(connections);
        let opened = self.connector.open();
        if opened.is_err() {
            drop(Place(self));
        }
        opened
    }

    fn busy(&self, problem: String) -> GalleryError {
        GalleryError::Busy {
            server: self.server().to_owned(),
            problem,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Connections> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of a lent connection; another one may be opened when it is dropped.
struct Place<'a>(&'a Pool);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.lock().open -= 1;
        self.0.returned.notify_one();
    }
}
