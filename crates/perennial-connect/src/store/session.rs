//! One connection, used by one thread at a time.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use futures_util::TryStreamExt;
use futures_util::stream::FuturesOrdered;
use tokio::runtime::Runtime;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

use crate::error::ConnectError;
use crate::failure::Failure;
use crate::postgres::{PostgresAddress, cancel, connect};

/// Prepared statements that are kept. Their texts depend on the conditions of filters, of which there are few.
const KEPT_STATEMENTS: usize = 200;
/// What the server may take beyond its own limit until its refusal is here.
const GRACE: Duration = Duration::from_secs(10);
/// How long a statement of a long operation may take.
const LONG: Duration = Duration::from_secs(3600);
/// Statements that are sent before the first answer is awaited.
const PIPELINED: usize = 16;

/// How long an operation may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bound {
    Usual,
    /// An hour for each statement.
    Long,
}

/// Parameters of a statement.
pub(super) type Parameters<'a> = [&'a (dyn ToSql + Sync)];

pub(super) struct Session {
    /// Taken only by `drop`.
    runtime: Option<Runtime>,
    client: Client,
    statements: RefCell<HashMap<String, Statement>>,
    usual: Duration,
    limit: Cell<Duration>,
    /// What approximate searches set for their transaction, `{}` standing for the number of candidates.
    hnsw_settings: &'static str,
}

impl Session {
    /// Connects, and runs the statements that every session begins with.
    ///
    /// # Errors
    /// Those of the connection and of the statements.
    pub(super) fn open(
        address: &PostgresAddress,
        setup: &str,
        usual: Duration,
        hnsw_settings: &'static str,
    ) -> Result<Self, ConnectError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let opened = runtime.block_on(async {
            tokio::time::timeout(usual + GRACE, async {
                let client = connect(address).await?;
                client.batch_execute(setup).await?;
                Ok::<Client, ConnectError>(client)
            })
            .await
        });
        let client = opened.map_err(|_| silent(usual + GRACE))??;
        Ok(Self {
            runtime: Some(runtime),
            client,
            statements: RefCell::default(),
            usual,
            limit: Cell::new(usual + GRACE),
            hnsw_settings,
        })
    }

    /// Whether it can still be used.
    pub(super) fn is_open(&self) -> bool {
        !self.client.is_closed()
    }

    /// The settings of an approximate search that looks at so many candidates.
    pub(super) fn hnsw_settings(&self, candidates: usize) -> String {
        self.hnsw_settings.replace("{}", &candidates.to_string())
    }

    /// Takes the limits of time away, for what may take hours.
    ///
    /// # Errors
    /// Those of the statement.
    pub(super) fn without_limits(&self) -> Result<(), Failure> {
        self.limit.set(Duration::from_secs(30 * 86_400));
        self.batch("SET statement_timeout = 0; SET lock_timeout = 0")
    }

    /// Runs work between `begin` and `COMMIT`, or takes it back.
    ///
    /// # Errors
    /// Those of the work and of the statements.
    pub(super) fn transaction<T>(
        &self,
        begin: &str,
        bound: Bound,
        work: impl FnOnce(&Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let done = match bound {
            Bound::Usual => {
                self.limit.set(self.usual + GRACE);
                self.batch(begin)
            }
            Bound::Long => {
                self.limit.set(LONG + GRACE);
                let seconds = LONG.as_secs();
                self.batch(&format!(
                    "{begin}; SET LOCAL statement_timeout = '{seconds}s'"
                ))
            }
        };
        let done = done.and_then(|()| work(self)).and_then(|done| {
            self.batch("COMMIT")?;
            Ok(done)
        });
        // After an error of the database the session is closed, which takes everything back.
        if matches!(done, Err(Failure::Refused(_))) {
            self.batch("ROLLBACK")?;
        }
        done
    }

    /// Runs statements without parameters, in one trip to the server.
    ///
    /// # Errors
    /// Those of the statements.
    pub(super) fn batch(&self, sql: &str) -> Result<(), Failure> {
        self.wait(self.client.batch_execute(sql))
    }

    /// The rows that a statement returns.
    ///
    /// # Errors
    /// Those of the statement.
    pub(super) fn query(
        &self,
        sql: &str,
        parameters: &Parameters<'_>,
    ) -> Result<Vec<Row>, Failure> {
        let statement = self.statement(sql)?;
        self.wait(self.client.query(&statement, parameters))
    }

    /// The rows that a statement returns for each list of parameters.
    ///
    /// # Errors
    /// Those of the statement.
    pub(super) fn query_each(
        &self,
        sql: &str,
        lists: &[Vec<&(dyn ToSql + Sync)>],
    ) -> Result<Vec<Vec<Row>>, Failure> {
        let statement = self.statement(sql)?;
        let mut found = Vec::with_capacity(lists.len());
        for some in lists.chunks(PIPELINED) {
            // Each answer has the whole limit to itself: the server works at one statement after the other.
            let mut each: FuturesOrdered<_> = some
                .iter()
                .map(|parameters| self.client.query(&statement, parameters))
                .collect();
            while let Some(rows) = self.wait(each.try_next())? {
                found.push(rows);
            }
        }
        Ok(found)
    }

    /// Calls `take` with every row that a statement returns, as they come.
    ///
    /// # Errors
    /// Those of the statement and of `take`.
    pub(super) fn stream(
        &self,
        sql: &str,
        mut take: impl FnMut(&Row) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let statement = self.statement(sql)?;
        let none: [&(dyn ToSql + Sync); 0] = [];
        let rows = self.wait(self.client.query_raw(&statement, none))?;
        let mut rows = pin!(rows);
        while let Some(row) = self.wait(rows.try_next())? {
            take(&row)?;
        }
        Ok(())
    }

    fn statement(&self, sql: &str) -> Result<Statement, Failure> {
        if let Some(statement) = self.statements.borrow().get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.wait(self.client.prepare(sql))?;
        let mut kept = self.statements.borrow_mut();
        if kept.len() >= KEPT_STATEMENTS {
            kept.clear();
        }
        kept.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    fn wait<T>(
        &self,
        operation: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Failure> {
        let runtime = self.runtime.as_ref().expect("it is taken by drop alone");
        let limit = self.limit.get();
        runtime.block_on(async {
            match tokio::time::timeout(limit, operation).await {
                Ok(answer) => Ok(answer?),
                Err(_) => {
                    let token = self.client.cancel_token();
                    let _ = tokio::time::timeout(GRACE, cancel(&token)).await;
                    Err(silent(limit).into())
                }
            }
        })
    }
}

/// Not worth a second attempt: the first one took all the time there is.
fn silent(limit: Duration) -> ConnectError {
    ConnectError::State(format!(
        "the server gave no answer for {} s",
        limit.as_secs()
    ))
}

impl Drop for Session {
    fn drop(&mut self) {
        // A runtime that is dropped inside another one would panic.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
