//! What leaves the pipeline: events, with the sessions and users they belong to, and all else the store is asked to keep.

use std::sync::Arc;

use threadtap_core::attribution::User;
use threadtap_core::correlator::{ConversationState, Placed, Remembered};
use threadtap_core::dialect::NamedAssistant;
use threadtap_core::event::{Event, SessionKey, UserIdentified, key_of};
use threadtap_core::interaction::Interaction;
use threadtap_core::observation::ConversationKey;
use threadtap_core::session::{self, SessionChange, SessionState, Sessions};
use threadtap_core::sink::{self, Sink};
use threadtap_core::time::UnixMillis;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::console::Console;
use crate::metrics::{Metrics, StatusLabel};
use crate::names::Names;
use crate::store::{Op, json};
use crate::users::Users;

pub(super) struct Emission {
    sessions: Sessions,
    users: Users,
    names: Names,
    sinks: watch::Receiver<Vec<Arc<Sink>>>,
    console: watch::Receiver<Console>,
    metrics: Metrics,
    clock: Clock,
    /// The batch being made.
    ops: Vec<Op>,
    /// What it takes, about.
    bytes: usize,
}

impl Emission {
    pub(super) fn new(
        sessions: session::Config,
        users: Users,
        sinks: watch::Receiver<Vec<Arc<Sink>>>,
        console: watch::Receiver<Console>,
        metrics: Metrics,
        clock: Clock,
    ) -> Self {
        Self {
            sessions: Sessions::new(sessions),
            users,
            names: Names::new(),
            sinks,
            console,
            metrics,
            clock,
            ops: Vec::new(),
            bytes: 0,
        }
    }

    /// Takes back an open session.
    pub(super) fn restore(&mut self, key: SessionKey, state: SessionState) {
        self.sessions.restore(key, state);
    }

    /// Takes back what was known of a user.
    pub(super) fn restore_user(&self, user: &User) {
        self.users.learn(user);
    }

    /// Takes what an assistant is called.
    pub(super) fn name(&self, named: NamedAssistant) {
        self.names.learn(named);
    }

    /// The batch that was made.
    pub(super) fn take(&mut self) -> Vec<Op> {
        self.bytes = 0;
        std::mem::take(&mut self.ops)
    }

    /// What the batch takes, about.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Keeps an observation until its conversation is settled.
    pub(super) fn journal(&mut self, placed: &Placed) {
        self.push(Op::Journal {
            conversation: placed.conversation().clone(),
            at: placed.at(),
            body: json(placed),
        });
    }

    /// Lets the journal of a conversation go.
    pub(super) fn settled(&mut self, conversation: ConversationKey, state: Option<&ConversationState>) {
        let state = state.map(json);
        self.push(Op::Settle { conversation, state });
    }

    /// Keeps what a run's conversation added up to.
    pub(super) fn remember(&mut self, remembered: &Remembered) {
        let Remembered { conversation, run: _, said: _, at } = remembered;
        self.push(Op::Remember { conversation: conversation.clone(), at: *at, body: json(remembered) });
    }

    /// Emits an interaction, and before it what it tells of its user and its session.
    pub(super) fn interaction(&mut self, mut interaction: Interaction) {
        let now = self.clock.now();
        self.identify(&mut interaction, now);
        self.names.complete(&mut interaction);
        self.sessions.handle(&interaction, now);
        self.take_session_changes(now);
        let status = interaction.status.as_str();
        self.metrics.interactions.get_or_create(&StatusLabel { status }).inc();
        let console = *self.console.borrow();
        console.interaction(&interaction);
        let event = Event::Interaction(Box::new(interaction));
        let due = self.due(&event);
        self.push(Op::event(&event, now, due));
    }

    /// Closes the sessions of a conversation that was deleted.
    pub(super) fn conversation_deleted(&mut self, conversation: &ConversationKey) {
        let now = self.clock.now();
        self.sessions.handle_deletion(conversation, now);
        self.take_session_changes(now);
    }

    /// Forgets the open sessions of conversations that are to be forgotten.
    pub(super) fn forget_where(&mut self, which: impl Fn(&ConversationKey) -> bool) {
        self.sessions.forget_where(which);
    }

    /// Closes the sessions that are over.
    pub(super) fn handle_timeout(&mut self, now: UnixMillis) {
        self.sessions.handle_timeout(now);
        self.take_session_changes(now);
        self.metrics.sessions.set(i64::try_from(self.sessions.len()).unwrap_or(i64::MAX));
    }

    /// When [`Emission::handle_timeout`] wants to be called next.
    pub(super) fn poll_timeout(&self) -> Option<UnixMillis> {
        self.sessions.poll_timeout()
    }

    /// Completes the user of an interaction with what is known, and tells what is new.
    fn identify(&mut self, interaction: &mut Interaction, now: UnixMillis) {
        let Some(said) = &interaction.attribution.user else { return };
        let known = self.users.learn(said);
        if known.changed
            && let Some(id) = known.user.id()
        {
            let body = json(&known.user);
            let key = key_of(&["user_identified", id, &body, &now.0.to_string()]);
            self.push(Op::User { id: id.to_owned(), body });
            self.side_event(
                &Event::UserIdentified(Box::new(UserIdentified {
                    key,
                    user: known.user.clone(),
                    at: now,
                    session: Some(SessionKey::of(&interaction.attribution, &interaction.conversation)),
                    conversation: Some(interaction.conversation.clone()),
                    app: interaction.attribution.app.clone(),
                })),
                now,
            );
        }
        interaction.attribution.user = Some(known.user);
    }

    fn take_session_changes(&mut self, now: UnixMillis) {
        while let Some(change) = self.sessions.poll() {
            match change {
                SessionChange::Event(event) => self.side_event(&event, now),
                SessionChange::Remember(session, state) => {
                    let state = state.as_ref().map(json);
                    self.push(Op::Session { session, state });
                }
            }
        }
    }

    fn push(&mut self, op: Op) {
        self.bytes = self.bytes.saturating_add(op.bytes());
        self.ops.push(op);
    }

    /// Emits what is no record of a run: kept only where a sink wants it.
    fn side_event(&mut self, event: &Event, now: UnixMillis) {
        let due = self.due(event);
        if !due.is_empty() {
            self.push(Op::event(event, now, due));
        }
    }

    /// The sinks that accept an event.
    fn due(&self, event: &Event) -> Vec<Arc<str>> {
        sink::accepting(&self.sinks.borrow(), event)
    }
}
