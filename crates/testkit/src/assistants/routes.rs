//! Routes requests to the state.

use serde_json::json;

use super::state::State;
use crate::call::{Call, Routed, Source, api_of};
use crate::fault::Fault;
use crate::page::PageQuery;
use crate::script::Progress;
use crate::stream::Event;
use crate::vendor::Vendor;

/// Handles a request for this API, or for an unknown one.
pub(crate) fn route(state: &mut State, call: &Call<'_>) -> Result<Routed, Fault> {
    let Call { method, path, query, body, now } = *call;
    let (_, segments) = api_of(path);
    match (method, segments.as_slice()) {
        ("POST", ["threads"]) => {
            let id = state.create_thread(body, now)?;
            Ok(Routed::Created(state.thread(&id)?.object()))
        }
        ("GET", ["threads"]) if Vendor::of(path) == Vendor::Azure => {
            state.list_threads(&PageQuery::parse(query)?).map(Routed::Found)
        }
        ("POST", ["threads", "runs"]) => {
            let created = state.create_thread_and_run(body, now)?;
            begun(state, created, call)
        }
        ("GET", ["threads", thread]) => Ok(Routed::Found(state.thread(thread)?.object())),
        ("POST", ["threads", thread]) => state.modify_thread(thread, body).map(Routed::Found),
        ("DELETE", ["threads", thread]) => state.delete_thread(thread).map(Routed::Found),
        ("GET", ["threads", thread, "messages"]) => {
            state.list_messages(thread, &PageQuery::parse(query)?).map(Routed::Found)
        }
        ("POST", ["threads", thread, "messages"]) => {
            state.create_message(thread, body, now).map(Routed::Created)
        }
        ("GET", ["threads", thread, "messages", message]) => {
            state.message(thread, message).map(Routed::Found)
        }
        ("POST", ["threads", thread, "messages", message]) => {
            state.modify_message(thread, message, body).map(Routed::Found)
        }
        ("DELETE", ["threads", thread, "messages", message]) => {
            state.delete_message(thread, message).map(Routed::Found)
        }
        ("GET", ["threads", thread, "runs"]) => {
            state.list_runs(thread, &PageQuery::parse(query)?).map(Routed::Found)
        }
        ("POST", ["threads", thread, "runs"]) => {
            let created = state.create_run(thread, body, now)?;
            begun(state, created, call)
        }
        ("GET", ["threads", thread, "runs", run]) => {
            state.playing(thread, run)?;
            if state.progress == Progress::Polls {
                state.poll(run, now);
            }
            state.view(thread, run).map(Routed::Found)
        }
        ("POST", ["threads", thread, "runs", run]) => state.modify_run(thread, run, body).map(Routed::Found),
        ("POST", ["threads", thread, "runs", run, "cancel"]) => {
            state.cancel_run(thread, run)?;
            state.release(run, now);
            state.view(thread, run).map(Routed::Found)
        }
        ("POST", ["threads", thread, "runs", run, "submit_tool_outputs"]) => {
            let first = state.submit(thread, run, body, now)?;
            if body["stream"] == true {
                return Ok(Routed::Stream(Source::Run { run: (*run).to_owned(), first }));
            }
            state.release(run, now);
            state.view(thread, run).map(Routed::Found)
        }
        ("GET", ["threads", thread, "runs", run, "steps"]) => {
            state.list_steps(thread, run, &PageQuery::parse(query)?).map(Routed::Found)
        }
        ("GET", ["threads", thread, "runs", run, "steps", step]) => {
            state.step(thread, run, step).map(Routed::Found)
        }
        ("GET", ["assistants"]) => {
            let assistants = state.assistants.clone();
            PageQuery::parse(query)?.cut(assistants).map(Routed::Found)
        }
        ("POST", ["assistants"]) => Ok(Routed::Created(state.create_assistant(body, now))),
        ("GET", ["assistants", id]) => state.assistant(id).map(Routed::Found),
        ("POST", ["assistants", id]) => state.modify_assistant(id, body).map(Routed::Found),
        ("DELETE", ["assistants", id]) => state.delete_assistant(id).map(Routed::Found),
        ("GET", []) if path.ends_with("/models") => Ok(Routed::Found(json!({"object": "list", "data": []}))),
        _ => Err(Fault::unknown_url(method, path)),
    }
}

/// The response to the creation of a run.
fn begun(state: &mut State, created: (String, Vec<Event>), call: &Call<'_>) -> Result<Routed, Fault> {
    let (run, first) = created;
    if call.body["stream"] == true {
        return Ok(Routed::Stream(Source::Run { run, first }));
    }
    state.release(&run, call.now);
    state.view_run(&run).map(Routed::Created)
}
