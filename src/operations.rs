//! What an operator can ask for: each is one function over the store, whoever asks.
//!
//! The admin listener offers them as its API; the commands call that API when an instance runs, and the same functions on the
//! store itself when none does. Large work is done a page at a time, so that who asks can show how far it is and nothing is held up.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use thiserror::Error;
use threadtap_core::event::Event;
use threadtap_core::observation::ConversationKey;
use threadtap_core::sink::Sink;
use threadtap_core::time::UnixMillis;
use tokio::sync::watch;

use crate::descriptors::Shares;
use crate::pipeline;
use crate::store::{
    Cursor, DeadLetter, DeadLetters, Erased, Overview, Period, ReadError, Refused, Store, Subject,
};
use crate::users::Users;

/// The operations. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Operations {
    store: Store,
    /// What a running instance holds in memory.
    memory: Option<(pipeline::Handle, Users)>,
    sinks: watch::Receiver<Vec<Arc<Sink>>>,
    limits: Option<Shares>,
}

/// How an instance is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Its version.
    pub version: String,
    /// Its process; none where only the store was opened.
    pub process: Option<u32>,
    /// The sinks it delivers to.
    pub sinks: Vec<String>,
    /// How many connections it may have; none where only the store was opened.
    #[serde(default)]
    pub limits: Option<Shares>,
    /// Its store.
    pub store: Overview,
}

/// Asks for dead letters.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct DeadLetterQuery {
    /// Of one sink.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sink: Option<Arc<str>>,
    /// After this number.
    #[serde(default)]
    pub after: u64,
    /// With their events.
    #[serde(default)]
    pub events: bool,
}

/// Some dead letters, oldest first.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeadLetterPage {
    /// The dead letters; none at the end.
    pub data: Vec<DeadLetter>,
}

/// How many there were.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Changed {
    /// So many.
    pub changed: u64,
}

/// Asks for the records of a period.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ExportQuery {
    /// Unix milliseconds; the first that belongs to it.
    pub since: u64,
    /// Unix milliseconds; the first that does not.
    pub until: u64,
    /// Where the page before ended: its time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_at: Option<u64>,
    /// Where the page before ended: its number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_id: Option<u64>,
}

/// Some records, oldest first.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExportPage {
    /// The events, each as it is stored; there may be none although there is a next page.
    pub data: Vec<Box<RawValue>>,
    /// Where to go on; none at the end.
    pub next: Option<Cursor>,
}

/// Asks to make the records of a period due once more.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ResendQuery {
    /// At this sink.
    pub sink: String,
    /// Derived in this period.
    #[serde(flatten)]
    pub period: Period,
    /// Where the page before ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Cursor>,
}

/// What a page of resending came to.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ResendPage {
    /// Records that were made due; those that wait already are not counted.
    pub made_due: u64,
    /// Where to go on; none at the end.
    pub next: Option<Cursor>,
}

/// Why something was not done.
#[derive(Debug, Error)]
pub enum OperationError {
    /// What was named is not there.
    #[error("{0}")]
    NotFound(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] ReadError),
    /// What waits in memory cannot be written now, and so not be reached.
    #[error("the store cannot write at the moment; try again later")]
    Failing,
    /// It has to be asked again, later.
    #[error(transparent)]
    TooBusy(#[from] pipeline::TooBusy),
}

impl From<Refused> for OperationError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Closed => Self::Store(ReadError::Closed),
            Refused::Full => Self::Failing,
        }
    }
}

impl Operations {
    /// Operations on a store; with `memory` on that of an instance that runs.
    #[must_use]
    pub fn new(
        store: Store,
        memory: Option<(pipeline::Handle, Users)>,
        sinks: watch::Receiver<Vec<Arc<Sink>>>,
    ) -> Self {
        Self { store, memory, sinks, limits: None }
    }

    /// Says, in the status, what limits of connections the instance has.
    #[must_use]
    pub fn with_limits(self, limits: Shares) -> Self {
        Self { limits: Some(limits), ..self }
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// How it is.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn status(&self) -> Result<Status, OperationError> {
        let sinks = self.sinks.borrow().iter().map(|sink| sink.name().to_string()).collect();
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            process: self.memory.is_some().then(std::process::id),
            sinks,
            limits: self.limits,
            store: self.store.overview().await?,
        })
    }

    /// What was given up.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn dead_letters(&self, query: &DeadLetterQuery) -> Result<DeadLetterPage, OperationError> {
        let DeadLetterQuery { sink, after, events } = query.clone();
        Ok(DeadLetterPage { data: self.store.dead_letters(sink, after, PAGE_LETTERS, events).await? })
    }

    /// One that was given up, with its event.
    ///
    /// # Errors
    /// When there is no such dead letter, or the store fails.
    pub async fn dead_letter(&self, id: u64) -> Result<DeadLetter, OperationError> {
        let found = self.store.dead_letter(id).await?;
        found.ok_or_else(|| OperationError::NotFound(format!("there is no dead letter {id}")))
    }

    /// Makes dead letters due again.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn retry(&self, which: DeadLetters) -> Result<Changed, OperationError> {
        Ok(Changed { changed: self.store.retry_dead_letters(which).await? })
    }

    /// Lets dead letters go.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn drop(&self, which: DeadLetters) -> Result<Changed, OperationError> {
        Ok(Changed { changed: self.store.drop_dead_letters(which).await? })
    }

    /// A page of the interactions of a period.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn export(&self, query: ExportQuery) -> Result<ExportPage, OperationError> {
        let ExportQuery { since, until, after_at, after_id } = query;
        let period = Period { since: UnixMillis(since), until: UnixMillis(until) };
        let after = after_at.zip(after_id).map(|(at, id)| Cursor { at: UnixMillis(at), id });
        let page = self.store.events_in(period, Some("interaction"), after).await?;
        let data = page.rows.into_iter().filter_map(|row| RawValue::from_string(row.body).ok());
        Ok(ExportPage { data: data.collect(), next: page.next })
    }

    /// Makes a page of the events of a period due at a sink once more: those its filter accepts, in the order they came.
    ///
    /// # Errors
    /// When there is no such sink, or the store fails.
    pub async fn resend(&self, query: &ResendQuery) -> Result<ResendPage, OperationError> {
        let sink = {
            let sinks = self.sinks.borrow();
            let sink = sinks.iter().find(|sink| **sink.name() == *query.sink);
            sink.cloned().ok_or_else(|| {
                let names: Vec<&str> = sinks.iter().map(|sink| &**sink.name()).collect();
                let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
                OperationError::NotFound(format!("there is no sink `{}`; there are: {names}", query.sink))
            })?
        };
        let page = self.store.events_in(query.period, None, query.after).await?;
        let meant = page
            .rows
            .iter()
            .filter(|row| serde_json::from_str::<Event>(&row.body).is_ok_and(|event| sink.accepts(&event)));
        let meant = meant.map(|row| row.id).collect();
        let made_due = self.store.make_due(sink.name().clone(), meant).await?;
        Ok(ResendPage { made_due, next: page.next })
    }

    /// Erases a conversation, or all that has to do with a user: in memory, in every table, in free pages and in the log. What
    /// upstream answers afterwards is recorded as if it were new.
    ///
    /// # Errors
    /// When the store fails; what was erased before is gone.
    pub async fn forget(&self, subject: &Subject) -> Result<Erased, OperationError> {
        let mut erased = Erased::default();
        for _ in 0..FORGET_ROUNDS {
            let conversations = self.store.conversations_of(subject).await?;
            if let Some((pipeline, users)) = &self.memory {
                if let Subject::User(user) = subject {
                    users.forget(user);
                }
                let (subject, known) = (subject.clone(), conversations.clone());
                let which = move |key: &ConversationKey| match &subject {
                    Subject::Conversation(id) => *key.id == **id,
                    Subject::User(_) => known.contains(key),
                };
                pipeline.forget(which).await?;
            }
            // What was handed over before must be there to be erased.
            let written = tokio::time::timeout(WRITE_PATIENCE, self.store.apply(Vec::new())).await;
            written.map_err(|_| OperationError::Failing)??;
            let step = self.store.erase(subject, &conversations).await?;
            let nothing = step == Erased::default();
            add(&mut erased, &step);
            if nothing {
                break;
            }
        }
        self.store.scrub().await?;
        erased.not_covered = self.store.set_aside();
        Ok(erased)
    }
}

fn add(sum: &mut Erased, step: &Erased) {
    let Erased {
        conversations,
        events,
        deliveries,
        dead_letters,
        observations,
        states,
        feedback,
        not_covered: _,
    } = step;
    sum.conversations = sum.conversations.max(*conversations);
    sum.events += events;
    sum.deliveries += deliveries;
    sum.dead_letters += dead_letters;
    sum.observations += observations;
    sum.states += states;
    sum.feedback += feedback;
}

const PAGE_LETTERS: usize = 500;
const WRITE_PATIENCE: Duration = Duration::from_secs(10);
/// What came in between is found by a second look; the last one finds nothing.
const FORGET_ROUNDS: usize = 3;
