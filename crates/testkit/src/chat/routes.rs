//! Routes requests to the state.

use super::legacy;
use super::state::State;
use crate::call::{Call, Routed, api_of};
use crate::fault::Fault;
use crate::page::PageQuery;
use crate::script::ChatShape;

/// Handles a request for Chat Completions, or for one of the older endpoints.
pub(crate) fn route(state: &mut State, call: &Call<'_>, shape: ChatShape) -> Result<Routed, Fault> {
    let Call { method, path, query, body, now } = *call;
    let (_, segments) = api_of(path);
    match (method, segments.as_slice()) {
        ("POST", ["chat", "completions"]) => state.create(call, deployment(path), shape),
        ("GET", ["chat", "completions"]) => state.list(&PageQuery::parse(query)?).map(Routed::Found),
        ("GET", ["chat", "completions", id]) => Ok(Routed::Found(state.stored(id)?.object())),
        ("POST", ["chat", "completions", id]) => state.modify(id, body).map(Routed::Found),
        ("DELETE", ["chat", "completions", id]) => state.delete(id).map(Routed::Found),
        ("GET", ["chat", "completions", id, "messages"]) => {
            state.list_messages(id, &PageQuery::parse(query)?).map(Routed::Found)
        }
        ("POST", ["completions"]) => legacy::complete(body, now).map(Routed::Found),
        ("POST", ["embeddings"]) => legacy::embed(body).map(Routed::Found),
        _ => Err(Fault::unknown_url(method, path)),
    }
}

/// The deployment in an Azure path, which replaces the model.
fn deployment(path: &str) -> Option<&str> {
    let (_, after) = path.split_once("/deployments/")?;
    after.split('/').next()
}
