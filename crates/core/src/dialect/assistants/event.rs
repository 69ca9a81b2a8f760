//! Events of a run's stream.

use serde_json::Value;

use super::Observer;
use super::members::{Members, Name};
use super::object_kind::ObjectKind;
use super::stream::Stream;
use crate::dialect::attribution::Owner;
use crate::dialect::registry::NotJson;
use crate::dialect::{GOES_ON_EVERY, Observed, Problem};
use crate::observation::{Fact, MessageOrigin};
use crate::time::UnixMillis;

impl Observer {
    /// Reads one event of an event stream.
    ///
    /// # Errors
    /// When the data is not JSON.
    pub(super) fn read_event(
        &mut self,
        name: &str,
        data: &str,
        at: UnixMillis,
        out: &mut Observed,
    ) -> Result<(), NotJson> {
        if self.known_event(name, data, at, out)? { Ok(()) } else { self.odd_event(name, data, at, out) }
    }

    /// Reads an event that contains an object of the API, a piece of one, or nothing. Returns false
    /// if it contains something else.
    fn known_event(
        &mut self,
        name: &str,
        data: &str,
        at: UnixMillis,
        out: &mut Observed,
    ) -> Result<bool, NotJson> {
        if self.stream.get_or_insert_default().take_delta(name, data, at) {
            self.tell_that_it_goes_on(at, out);
            return Ok(true);
        }
        if data.is_empty() || data == "[DONE]" || data == "\"done\"" {
            return Ok(true);
        }
        let members = Members::of(data).map_err(|_| NotJson)?;
        if name == "error" {
            return Ok(false);
        }
        match ObjectKind::of_event(&members, name) {
            // The run reports the messages of a create-thread-and-run request. See `end` for the
            // case that it never arrives.
            Some(ObjectKind::Thread) => {
                self.learn_thread(&members[Name::Id]);
                self.order.note_metadata(&mut self.attribution, &members[Name::Metadata], Owner::Thread);
            }
            Some(ObjectKind::List) => out.problem(Problem::UnexpectedShape),
            None if members.object().is_empty() => return Ok(false),
            kind => self.object(kind, data, &members, at, out),
        }
        Ok(true)
    }

    /// Reads an event that has no API object at its top level: an error, or a wrapped object.
    fn odd_event(
        &mut self,
        name: &str,
        data: &str,
        at: UnixMillis,
        out: &mut Observed,
    ) -> Result<(), NotJson> {
        let mut event: Value = serde_json::from_str(data).map_err(|_| NotJson)?;
        let mut is_error = name == "error";
        // LiteLLM wraps each event, once: {"data": OBJECT, "event": NAME}.
        if !is_error
            && event.get("object").is_none()
            && event["data"].is_object()
            && let Some(name) = event["event"].as_str().map(str::to_owned)
        {
            event = event["data"].take();
            is_error = name == "error";
            if !is_error && self.known_event(&name, &event.to_string(), at, out)? {
                return Ok(());
            }
        }
        let tells_error = event.get("error").is_some_and(|error| !error.is_null());
        match &mut self.stream {
            Some(stream) if is_error || tells_error => stream.note_error(&event),
            _ => out.problem(Problem::UnexpectedShape),
        }
        Ok(())
    }

    /// Reports objects of which only pieces were seen. Called before something that may settle the
    /// run.
    pub(super) fn flush_partials(&mut self, at: UnixMillis, out: &mut Observed) {
        let (Some(stream), Some(thread)) = (&mut self.stream, &self.thread) else { return };
        let (messages, steps) = (stream.take_messages(thread), stream.take_steps());
        for step in steps {
            self.emit(Fact::StepSeen(Box::new(step)), at, out);
        }
        for message in messages {
            let origin = MessageOrigin::Streamed;
            self.emit(Fact::MessageSeen { message, origin, requested_at: None }, at, out);
        }
    }

    /// Reports now and then that pieces of text still arrive. The pieces are not reported one by
    /// one.
    fn tell_that_it_goes_on(&mut self, at: UnixMillis, out: &mut Observed) {
        if at.since(self.told_at) < GOES_ON_EVERY {
            return;
        }
        if let Some(run) = self.stream.as_ref().and_then(Stream::run) {
            let run = run.to_owned();
            self.emit(Fact::RunGoesOn { run }, at, out);
        }
    }
}
