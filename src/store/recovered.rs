//! Reads the data of an earlier process.

use threadtap_core::event::SessionKey;
use threadtap_core::observation::ConversationKey;
use threadtap_core::time::UnixMillis;

use crate::store::reads::{self, JournalRow};
use crate::store::{ReadError, Store};

/// The data of an earlier process. Reading it blocks, one page at a time.
#[derive(Debug)]
pub struct Recovered {
    pub(super) store: Store,
    pub(super) first_used_at: UnixMillis,
    pub(super) journal_end: u64,
}

impl Recovered {
    /// When the data directory was first used.
    #[must_use]
    pub fn first_used_at(&self) -> UnixMillis {
        self.first_used_at
    }

    /// The states of settled conversations, in no particular order.
    pub fn conversations(&self) -> impl Iterator<Item = Result<(ConversationKey, String), ReadError>> + '_ {
        Pages::new(move |after| {
            self.store.read_blocking(move |connection| reads::conversations(connection, after, PAGE_ROWS))
        })
    }

    /// The accumulated conversations of runs, oldest first.
    pub fn histories(&self) -> impl Iterator<Item = Result<String, ReadError>> + '_ {
        Pages::new(move |after| {
            self.store.read_blocking(move |connection| reads::histories(connection, after, PAGE_ROWS))
        })
    }

    /// The states of open sessions, in no particular order.
    ///
    /// # Errors
    /// When the database cannot be read, or the store is closed.
    pub fn sessions(&self) -> Result<Vec<(SessionKey, String)>, ReadError> {
        self.store.read_blocking(reads::sessions)
    }

    /// What is known about the most recently seen users, most recent first.
    ///
    /// # Errors
    /// When the database cannot be read, or the store is closed.
    pub fn users(&self, limit: usize) -> Result<Vec<String>, ReadError> {
        self.store.read_blocking(move |connection| reads::users(connection, limit))
    }

    /// Whether an event is stored under this key.
    ///
    /// # Errors
    /// When the database cannot be read, or the store is closed.
    pub fn is_known(&self, key: &str) -> Result<bool, ReadError> {
        let key = key.to_owned();
        self.store.read_blocking(move |connection| reads::is_known(connection, &key))
    }

    /// The journal in the order it was written, without rows added since opening.
    pub fn journal(&self) -> impl Iterator<Item = Result<JournalRow, ReadError>> + '_ {
        Pages::new(move |after| {
            let end = self.journal_end;
            self.store.read_blocking(move |connection| reads::journal(connection, after, end, PAGE_ROWS))
        })
    }
}

/// Rows, fetched one page at a time. Ends after the first error.
struct Pages<T, F> {
    fetch: F,
    page: std::vec::IntoIter<(u64, T)>,
    after: u64,
    ended: bool,
}

impl<T, F: FnMut(u64) -> Result<Vec<(u64, T)>, ReadError>> Pages<T, F> {
    fn new(fetch: F) -> Self {
        Self { fetch, page: Vec::new().into_iter(), after: 0, ended: false }
    }
}

impl<T, F: FnMut(u64) -> Result<Vec<(u64, T)>, ReadError>> Iterator for Pages<T, F> {
    type Item = Result<T, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.page.as_slice().is_empty() && !self.ended {
            match (self.fetch)(self.after) {
                Ok(page) => self.page = page.into_iter(),
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
        let Some((id, row)) = self.page.next() else {
            self.ended = true;
            return None;
        };
        self.after = id;
        Some(Ok(row))
    }
}

const PAGE_ROWS: usize = 256;
