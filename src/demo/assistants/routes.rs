//! Which request asks what of the state.

use std::sync::Arc;

use serde_json::{Value, json};

use super::fault::Fault;
use super::page::PageQuery;
use super::play::Event;
use super::script::Progress;
use super::server::Server;
use super::vendor::Vendor;

/// The answer to a request that is not refused.
pub(super) enum Routed {
    /// Something new.
    Created(Value),
    /// Something that was there.
    Found(Value),
    /// A run, as it plays.
    Stream {
        run: String,
        /// What the stream begins with.
        first: Vec<Event>,
    },
}

/// Answers a request. Whatever precedes `threads` or `assistants` in the path is a prefix and ignored, so that the server
/// can stand in for any deployment.
pub(super) fn route(
    server: &Arc<Server>,
    method: &str,
    path: &str,
    query: &str,
    body: &Value,
) -> Result<Routed, Fault> {
    let all: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let start = all.iter().position(|segment| matches!(*segment, "threads" | "assistants"));
    let segments = start.map_or(&[][..], |start| &all[start..]);
    let now = server.now_secs();
    let state = || server.state();
    match (method, segments) {
        ("POST", ["threads"]) => {
            let mut state = state();
            let id = state.create_thread(body, now)?;
            Ok(Routed::Created(state.thread(&id)?.object()))
        }
        ("GET", ["threads"]) if Vendor::of(path) == Vendor::Azure => {
            state().list_threads(&PageQuery::parse(query)?).map(Routed::Found)
        }
        ("POST", ["threads", "runs"]) => {
            let created = state().create_thread_and_run(body, now)?;
            begun(server, created, body)
        }
        ("GET", ["threads", thread]) => Ok(Routed::Found(state().thread(thread)?.object())),
        ("POST", ["threads", thread]) => state().modify_thread(thread, body).map(Routed::Found),
        ("DELETE", ["threads", thread]) => {
            let deleted = state().delete_thread(thread)?;
            server.changed.notify_waiters();
            Ok(Routed::Found(deleted))
        }
        ("GET", ["threads", thread, "messages"]) => {
            state().list_messages(thread, &PageQuery::parse(query)?).map(Routed::Found)
        }
        ("POST", ["threads", thread, "messages"]) => {
            state().create_message(thread, body, now).map(Routed::Created)
        }
        ("GET", ["threads", thread, "messages", message]) => {
            state().message(thread, message).map(Routed::Found)
        }
        ("POST", ["threads", thread, "messages", message]) => {
            state().modify_message(thread, message, body).map(Routed::Found)
        }
        ("DELETE", ["threads", thread, "messages", message]) => {
            state().delete_message(thread, message).map(Routed::Found)
        }
        ("GET", ["threads", thread, "runs"]) => {
            state().list_runs(thread, &PageQuery::parse(query)?).map(Routed::Found)
        }
        ("POST", ["threads", thread, "runs"]) => {
            let created = state().create_run(thread, body, now)?;
            begun(server, created, body)
        }
        ("GET", ["threads", thread, "runs", run]) => {
            let mut state = state();
            state.playing(thread, run)?;
            if server.script.progress == Progress::Polls {
                state.poll(run, now);
            }
            state.view(thread, run).map(Routed::Found)
        }
        ("POST", ["threads", thread, "runs", run]) => {
            state().modify_run(thread, run, body).map(Routed::Found)
        }
        ("POST", ["threads", thread, "runs", run, "cancel"]) => {
            let cancelled = state().cancel_run(thread, run)?;
            server.release(run);
            Ok(Routed::Found(cancelled))
        }
        ("POST", ["threads", thread, "runs", run, "submit_tool_outputs"]) => {
            let first = state().submit(thread, run, body, now)?;
            if body["stream"] == true {
                return Ok(Routed::Stream { run: (*run).to_owned(), first });
            }
            server.release(run);
            state().view(thread, run).map(Routed::Found)
        }
        ("GET", ["threads", thread, "runs", run, "steps"]) => {
            state().list_steps(thread, run, &PageQuery::parse(query)?).map(Routed::Found)
        }
        ("GET", ["threads", thread, "runs", run, "steps", step]) => {
            state().step(thread, run, step).map(Routed::Found)
        }
        ("GET", ["assistants"]) => {
            let assistants = state().assistants.clone();
            PageQuery::parse(query)?.cut(assistants).map(Routed::Found)
        }
        ("POST", ["assistants"]) => Ok(Routed::Created(state().create_assistant(body, now))),
        ("GET", ["assistants", id]) => state().assistant(id).map(Routed::Found),
        ("POST", ["assistants", id]) => state().modify_assistant(id, body).map(Routed::Found),
        ("DELETE", ["assistants", id]) => state().delete_assistant(id).map(Routed::Found),
        ("GET", []) if all.last() == Some(&"models") => {
            Ok(Routed::Found(json!({"object": "list", "data": []})))
        }
        _ => Err(Fault::unknown_url(method, path)),
    }
}

/// The answer to the creation of a run.
fn begun(server: &Arc<Server>, created: (String, Vec<Event>), body: &Value) -> Result<Routed, Fault> {
    let (run, first) = created;
    if body["stream"] == true {
        return Ok(Routed::Stream { run, first });
    }
    server.release(&run);
    let mut state = server.state();
    state.view_run(&run).map(Routed::Created)
}
