//! Routes requests to the state.

use serde_json::{Value, json};

use super::items::{self, words};
use super::play::Advanced;
use super::state::State;
use crate::call::{Call, Routed, Source, api_of};
use crate::fault::Fault;
use crate::page::PageQuery;
use crate::script::Progress;

/// Handles a request for Responses or Conversations.
pub(crate) fn route(state: &mut State, call: &Call<'_>, omit_links: bool) -> Result<Routed, Fault> {
    let Call { method, path, query, body, now } = *call;
    let (_, segments) = api_of(path);
    match (method, segments.as_slice()) {
        ("POST", ["conversations"]) => state.create_conversation(body, now).map(Routed::Created),
        ("GET", ["conversations", id]) => Ok(Routed::Found(state.conversation(id)?.object())),
        ("POST", ["conversations", id]) => state.modify_conversation(id, body).map(Routed::Found),
        ("DELETE", ["conversations", id]) => state.delete_conversation(id).map(Routed::Found),
        ("GET", ["conversations", id, "items"]) => {
            state.list_items(id, &PageQuery::parse(query)?).map(Routed::Found)
        }
        ("POST", ["conversations", id, "items"]) => state.add_items(id, body).map(Routed::Created),
        ("GET", ["conversations", id, "items", item]) => state.item(id, item).map(Routed::Found),
        ("DELETE", ["conversations", id, "items", item]) => state.delete_item(id, item).map(Routed::Found),
        ("POST", ["responses"]) => create(state, body, omit_links, now),
        ("POST", ["responses", "compact"]) => compact(state, body, now).map(Routed::Found),
        ("POST", ["responses", "input_tokens"]) => {
            let given = items::given(&body["input"], &mut state.random)?;
            let tokens = 10 + given.iter().map(words).sum::<u64>();
            Ok(Routed::Found(json!({"object": "response.input_tokens", "input_tokens": tokens})))
        }
        ("GET", ["responses", id]) => retrieve(state, id, query, now),
        ("DELETE", ["responses", id]) => state.delete(id).map(Routed::Found),
        ("POST", ["responses", id, "cancel"]) => state.cancel(id, now).map(Routed::Found),
        ("GET", ["responses", id, "input_items"]) => {
            let response = state.stored(id)?;
            let given = response.context.iter().chain(&response.inputs).cloned().collect();
            PageQuery::parse(query)?.cut(given).map(Routed::Found)
        }
        _ => Err(Fault::unknown_url(method, path)),
    }
}

fn create(state: &mut State, body: &Value, omit_links: bool, now: u64) -> Result<Routed, Fault> {
    let id = state.create(body, omit_links, now)?;
    if body["stream"] == true {
        return Ok(Routed::Stream(Source::Response { response: id, from: 0, drives: true }));
    }
    if body["background"] == true {
        state.release(&id, now);
        return state.view(&id).map(Routed::Created);
    }
    loop {
        match state.advance(&id, now) {
            Advanced::Act { .. } => {}
            Advanced::Over => break,
            Advanced::Stalled => return Ok(Routed::Never),
        }
    }
    let (usage, response) = (state.usage, &mut state.responses.get_mut(&id).expect("it was created"));
    if response.log.iter().any(crate::stream::Event::is_error) {
        response.refused = true;
        response.stored = false;
        return Err(Fault::trouble(500));
    }
    Ok(Routed::Created(response.view(usage)))
}

fn retrieve(state: &mut State, id: &str, query: &str, now: u64) -> Result<Routed, Fault> {
    let parameter = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(known, _)| *known == name).map(|(_, value)| value)
    };
    let progress = state.progress;
    let response = state.stored(id)?;
    if parameter("stream") == Some("true") {
        if !response.in_background() || response.request["stream"] != true {
            let message = "This response cannot be streamed because it was not created with background=true and stream=true.";
            return Err(Fault::invalid("stream", message));
        }
        let from = match parameter("starting_after").map(str::parse::<usize>) {
            Some(Ok(last)) => last.saturating_add(1),
            Some(Err(_)) => return Err(Fault::invalid("starting_after", "Invalid 'starting_after'.")),
            None => 0,
        };
        let drives = state.take_over(id);
        return Ok(Routed::Stream(Source::Response { response: id.to_owned(), from, drives }));
    }
    if progress == Progress::Polls {
        state.poll(id, now);
    }
    state.view(id).map(Routed::Found)
}

/// A compact replacement for the previous items. It does not count as a response or a turn.
fn compact(state: &mut State, body: &Value, now: u64) -> Result<Value, Fault> {
    let given = items::given(&body["input"], &mut state.random)?;
    let tokens = 10 + given.iter().map(words).sum::<u64>();
    let users = given.into_iter().filter(|item| item["role"] == "user");
    let mut output: Vec<Value> = users.collect();
    let (id, content) = (state.random.id("cmp"), state.random.id("gAAAAA"));
    output.push(json!({"id": id, "type": "compaction", "encrypted_content": content}));
    Ok(json!({
        "id": state.random.id("resp"), "object": "response.compaction", "created_at": now, "output": output,
        "usage": {
            "input_tokens": tokens, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 1,
            "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": tokens + 1,
        },
    }))
}

impl State {
    /// Whether a response is over, for an observer that does not drive it.
    pub(super) fn rests(&self, id: &str) -> Advanced {
        let over = self.responses.get(id).is_none_or(|response| response.state.is_terminal());
        if over { Advanced::Over } else { Advanced::Stalled }
    }
}
