//! How a handle queries the store's thread: with closures that the thread runs between two commits.

use rusqlite::{Connection, Transaction, TransactionBehavior};
use threadtap_core::time::UnixMillis;
use tokio::sync::oneshot;

use crate::store::apply::Effects;
use crate::store::trouble::Failure;
use crate::store::{Op, ReadError, Refused, Store};

impl Store {
    pub(super) async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, ReadError> {
        self.enqueue_read(query)?.await.map_err(|_| ReadError::Closed)?.map_err(ReadError::Database)
    }

    pub(super) fn read_blocking<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, ReadError> {
        self.enqueue_read(query)?.blocking_recv().map_err(|_| ReadError::Closed)?.map_err(ReadError::Database)
    }

    fn enqueue_read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<oneshot::Receiver<rusqlite::Result<T>>, ReadError> {
        let (reply, answer) = oneshot::channel();
        let read = Box::new(move |connection: &Connection| {
            let answer = query(connection);
            let told = answer.as_ref().map(|_| ()).map_err(Failure::from);
            // A caller that went away needs no reply.
            let _ = reply.send(answer);
            told
        });
        self.shared.inbox.put_read(read).map_err(|_| ReadError::Closed)?;
        Ok(answer)
    }

    /// Runs a change in its own transaction, between two commits, and returns its result. The
    /// change succeeds or fails as a whole, and is not retried.
    pub(super) async fn change<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Transaction<'_>, UnixMillis) -> rusqlite::Result<(T, Effects)> + Send + 'static,
    ) -> Result<T, ReadError> {
        let (reply, answer) = oneshot::channel();
        let change = Box::new(move |connection: &mut Connection, now| {
            let made = connection.transaction_with_behavior(TransactionBehavior::Immediate).and_then(
                |transaction| {
                    let made = act(&transaction, now)?;
                    transaction.commit()?;
                    Ok(made)
                },
            );
            let told = made.as_ref().map(|_| ()).map_err(Failure::from);
            let (value, effects) = match made {
                Ok((value, effects)) => (Ok(value), effects),
                Err(error) => (Err(error), Effects::default()),
            };
            // The change is made even if nobody waits for the result.
            let _ = reply.send(value);
            told.map(|()| effects)
        });
        self.shared.inbox.put_change(change).map_err(|_| ReadError::Closed)?;
        answer.await.map_err(|_| ReadError::Closed)?.map_err(ReadError::Database)
    }

    pub(super) fn write_acknowledged(&self, ops: Vec<Op>) -> Result<oneshot::Receiver<()>, Refused> {
        let (written, acknowledged) = oneshot::channel();
        self.shared.inbox.put_acknowledged(ops, written)?;
        Ok(acknowledged)
    }
}
