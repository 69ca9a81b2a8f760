//! The endpoints of Responses and Conversations, recognised by a path's trailing segments.
//!
//! `/v1/responses`, `/openai/responses`, `/openai/v1/responses`, a Foundry project's, and that of
//! one of its agents (`/agents/{name}/endpoint/protocols/openai/responses`) are all the same.
//! Requests that are not part of a turn are not included: counting and compacting input, listing
//! earlier input or output.

use http::Method;

use crate::dialect::path::Below;

/// An endpoint that reports something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// `GET`, `POST` or `DELETE /conversations/{c}`
    Conversation { conversation: String },
    /// `POST /conversations`
    Conversations,
    /// `POST /responses`
    Create,
    /// `DELETE /conversations/{c}/items/{i}`
    Item { conversation: String, item: String },
    /// `POST /conversations/{c}/items`
    Items { conversation: String },
    /// `GET /responses/{r}`, `POST /responses/{r}/cancel`
    Look { response: String },
}

impl Route {
    /// Recognises a request. None if its response reports nothing.
    pub(super) fn parse(method: &Method, path: &str) -> Option<Self> {
        Self::of_responses(method, path).or_else(|| Self::of_conversations(method, path))
    }

    /// Gives a requested response the id from the path, which the client already knows. Returns the
    /// id in the body if it is different: LiteLLM encrypts ids, with a different result each time.
    pub(super) fn rename(&self, id: &mut String) -> Option<String> {
        match self {
            Self::Look { response } if id != response => Some(std::mem::replace(id, response.clone())),
            _ => None,
        }
    }

    fn of_responses(method: &Method, path: &str) -> Option<Self> {
        let (get, post) = (method == Method::GET, method == Method::POST);
        let look = |response: &str| Some(Self::Look { response: response.to_owned() });
        Below::of(path, "responses")?.read(|below| match *below {
            [] if post => Some(Self::Create),
            [response] if get && !NO_RESPONSES.contains(&response) => look(response),
            [response, "cancel"] if post => look(response),
            _ => None,
        })
    }

    fn of_conversations(method: &Method, path: &str) -> Option<Self> {
        let (post, delete) = (method == Method::POST, method == Method::DELETE);
        let own = |text: &str| text.to_owned();
        Below::of(path, "conversations")?.read(|below| match *below {
            [] if post => Some(Self::Conversations),
            [c] if post || delete || method == Method::GET => {
                Some(Self::Conversation { conversation: own(c) })
            }
            [c, "items"] if post => Some(Self::Items { conversation: own(c) }),
            [c, "items", item] if delete => Some(Self::Item { conversation: own(c), item: own(item) }),
            _ => None,
        })
    }

    /// The conversation named in the path.
    pub(super) fn conversation(&self) -> Option<&str> {
        match self {
            Self::Conversation { conversation }
            | Self::Item { conversation, .. }
            | Self::Items { conversation } => Some(conversation),
            Self::Conversations | Self::Create | Self::Look { .. } => None,
        }
    }
}

/// The agent to which a path belongs, on Foundry.
pub(super) fn agent(path: &str) -> Option<String> {
    Below::of(path, "agents")?.read(|below| match *below {
        [agent, "endpoint", ..] => Some(agent.to_owned()),
        _ => None,
    })
}

/// Segments in the position of a response id that are not one.
const NO_RESPONSES: [&str; 2] = ["compact", "input_tokens"];

#[cfg(test)]
mod tests {
    use super::*;

    fn check(request: &str, expected: Option<Route>) {
        let (method, path) = request.split_once(' ').unwrap();
        assert_eq!(Route::parse(&method.parse().unwrap(), path), expected, "{request}");
    }

    #[test]
    fn endpoints_are_recognised_under_any_prefix() {
        for prefix in [
            "/v1",
            "",
            "/openai",
            "/openai/v1",
            "/api/projects/p/openai/v1",
            "/api/projects/p/agents/helper/endpoint/protocols/openai",
            "/v1/responses/of",
        ] {
            check(&format!("POST {prefix}/responses"), Some(Route::Create));
            check(&format!("POST {prefix}//respons%65s/"), Some(Route::Create));
            let look = || Some(Route::Look { response: "resp_1".to_owned() });
            check(&format!("GET {prefix}/responses/resp_1"), look());
            check(&format!("POST {prefix}/responses/resp_1/cancel"), look());
        }
        let conversation = || "conv_1".to_owned();
        check("POST /v1/conversations", Some(Route::Conversations));
        for method in ["GET", "POST", "DELETE"] {
            let route = Route::Conversation { conversation: conversation() };
            check(&format!("{method} /v1/conversations/conv_1"), Some(route));
        }
        check("POST /v1/conversations/conv_1/items", Some(Route::Items { conversation: conversation() }));
        check(
            "DELETE /v1/conversations/conv_1/items/msg_1",
            Some(Route::Item { conversation: conversation(), item: "msg_1".to_owned() }),
        );
    }

    #[test]
    fn what_is_no_turn_is_no_endpoint() {
        for request in [
            "GET /v1/responses",
            "POST /v1/responses/input_tokens",
            "POST /v1/responses/compact",
            "GET /v1/responses/resp_1/input_items",
            "DELETE /v1/responses/resp_1",
            "GET /v1/conversations/conv_1/items",
            "GET /v1/conversations/conv_1/items/msg_1",
            "GET /v1/conversations",
            "POST /v1/chatkit/responses",
            "POST /v1/responsesx",
            "POST /v1/chat/completions",
            "PUT /v1/conversations/conv_1",
        ] {
            check(request, None);
        }
    }

    #[test]
    fn an_agent_is_named_in_the_path_of_its_endpoint() {
        let path = "/api/projects/p/agents/my%20helper/endpoint/protocols/openai/responses";
        assert_eq!(agent(path).as_deref(), Some("my helper"));
        assert_eq!((agent("/v1/responses"), agent("/agents/x/runs/responses")), (None, None));
    }
}
