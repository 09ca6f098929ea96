//! Reading rows when they are asked for, or ahead of that.

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use super::rows::RowQuery;
use super::wire::RawValue;
use crate::engine::Batch;
use crate::error::ConnectError;

/// Batches that wait for their turn at most. While one part of a run is held up, the others go on with what waits.
const WAITING: usize = 2;

type Next = Result<Option<Batch<RawValue, u32>>, ConnectError>;

/// Reads rows in the order of their key.
pub(crate) enum RowReader {
    /// On the session's connection, when they are asked for.
    Asked(RowQuery),
    /// On a connection of its own, ahead of that.
    Ahead(ReadAhead),
}

/// Reads on by itself from the first place that is asked for.
pub(crate) struct ReadAhead {
    start: Option<(Client, RowQuery)>,
    /// The place that the next batch begins at.
    place: Option<RawValue>,
    batches: Option<mpsc::Receiver<Next>>,
    task: Option<JoinHandle<()>>,
}

impl RowReader {
    /// Reads ahead with a client that nothing else uses, and which the query was prepared for.
    pub(super) fn ahead(client: Client, query: RowQuery) -> Self {
        Self::Ahead(ReadAhead {
            start: Some((client, query)),
            place: None,
            batches: None,
            task: None,
        })
    }

    /// The next rows after a key; nothing at the end. One that reads ahead is asked for the place of the batch that it gave last.
    pub(super) async fn next(&mut self, client: &Client, after: Option<&RawValue>) -> Next {
        match self {
            Self::Asked(query) => query.next(client, after).await,
            Self::Ahead(ahead) => ahead.next(after).await,
        }
    }
}

impl ReadAhead {
    async fn next(&mut self, after: Option<&RawValue>) -> Next {
        if let Some((client, query)) = self.start.take() {
            let (sender, receiver) = mpsc::channel(WAITING);
            let place = after.cloned();
            self.place = place.clone();
            self.task = Some(tokio::spawn(read_on(client, query, place, sender)));
            self.batches = Some(receiver);
        }
        debug_assert_eq!(self.place.as_ref(), after, "batches are read in turn");
        let next = match &mut self.batches {
            Some(batches) => batches.recv().await,
            None => None,
        };
        // The task ends after the last batch and after an error, and nobody asks for more then. Its end must not pass for that of the table.
        let batch = next.unwrap_or_else(|| {
            Err(ConnectError::Connection {
                server: "the database".to_owned(),
                problem: "the rows that are read ahead ended early".to_owned(),
            })
        })?;
        if let Some(batch) = &batch {
            self.place.clone_from(&batch.place);
        }
        Ok(batch)
    }
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

async fn read_on(
    client: Client,
    query: RowQuery,
    mut place: Option<RawValue>,
    sender: mpsc::Sender<Next>,
) {
    loop {
        let next = query.next(&client, place.as_ref()).await;
        let more = match &next {
            Ok(Some(batch)) if !batch.last => {
                place.clone_from(&batch.place);
                true
            }
            _ => false,
        };
        if sender.send(next).await.is_err() || !more {
            return;
        }
    }
}
