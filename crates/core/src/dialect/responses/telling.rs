//! Reports facts together with the attribution of the exchange.

use std::sync::Arc;

use super::object::Outputs;
use super::route::Route;
use super::{Asked, Observer};
use crate::dialect::history::History;
use crate::dialect::{GOES_ON_EVERY, Observed};
use crate::observation::{Api, ConversationKey, Fact, Observation, Run, RunOrigin, Turn};
use crate::time::UnixMillis;

impl Observer {
    /// Reports a state of the turn. The first report includes the input of the request.
    pub(super) fn turn(
        &mut self,
        run: Run,
        outputs: Outputs,
        whole: bool,
        at: UnixMillis,
        out: &mut Observed,
    ) {
        let Outputs { messages, reasoning, tool_calls, last_item, said } = outputs;
        let is_told = whole && run.status.is_terminal();
        let history = self.history.as_deref();
        let said = history.filter(|_| is_told).and_then(|history| history.with(|word| *word = said));
        let said_before = history.filter(|_| self.asked.is_some()).map(History::before).unwrap_or_default();
        let (origin, answers, history) = match self.asked.take() {
            None => (RunOrigin::Seen, Vec::new(), Vec::new()),
            Some(Asked { input, instructions, lost }) => {
                let origin = RunOrigin::Created {
                    messages: input.messages,
                    request_at: self.request_at,
                    trace_id: self.trace_id.take(),
                    streamed: self.streamed,
                    new_conversation: self.conversation.is_none(),
                    messages_lost: lost,
                    instructions,
                    additional_instructions: None,
                };
                (origin, input.answers, input.history)
            }
        };
        let id = run.id.clone();
        // A response without an id cannot be polled.
        let nameless = self.route == Route::Create && id == self.local_id;
        let run = Run { assistant: run.assistant.or_else(|| self.assistant.clone()), tool_calls, ..run };
        let turn = Turn {
            alias: self.alias.clone(),
            previous: self.previous.clone().filter(|previous| *previous != id),
            answers,
            history,
            last_item,
            said_before,
            said: said.into_iter().collect(),
            outputs: messages,
            reasoning,
            whole,
            background: self.background && !nameless,
            first_token_at: self.stream.first_token_at,
            ..Turn::new(Api::Responses, run, origin)
        };
        self.tell_of(&id, Fact::TurnSeen(Box::new(turn)), at, out);
    }

    /// Reports now and then that pieces of text still arrive. The pieces are not reported one by
    /// one.
    pub(super) fn tell_that_it_goes_on(&mut self, at: UnixMillis, out: &mut Observed) {
        if at.since(self.told_at) < GOES_ON_EVERY {
            return;
        }
        if let Some(run) = self.stream.run.as_ref().map(|run| run.id.clone()) {
            self.tell_of(&run.clone(), Fact::RunGoesOn { run }, at, out);
        }
    }

    /// Reports a fact about a conversation that has an id.
    pub(super) fn emit(&mut self, fact: Fact, at: UnixMillis, out: &mut Observed) {
        self.tell_of("", fact, at, out);
    }

    /// Reports a fact about a run. Without a conversation, the run is identified by its own id.
    pub(super) fn tell_of(&mut self, run: &str, fact: Fact, at: UnixMillis, out: &mut Observed) {
        self.told_at = at;
        let id = self.conversation.clone().unwrap_or_else(|| Arc::from(run));
        out.observations.push(Observation {
            conversation: ConversationKey { upstream: self.upstream.clone(), id },
            at,
            attribution: self.attribution.clone(),
            fact,
        });
    }
}
