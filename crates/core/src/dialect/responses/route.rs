//! The endpoints of Responses and Conversations, recognised by a path's trailing segments.
//!
//! `/v1/responses`, `/openai/responses`, `/openai/v1/responses`, a Foundry project's, and that of one of its agents
//! (`/agents/{name}/endpoint/protocols/openai/responses`) are all the same. What is no word of a turn is no endpoint here: counting
//! and compacting input, listing what was asked or said before.

use http::Method;

use crate::dialect::path::Below;

/// An endpoint that tells something.
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
    /// Recognises a request; none when its answer tells nothing.
    pub(super) fn parse(method: &Method, path: &str) -> Option<Self> {
        Self::of_responses(method, path).or_else(|| Self::of_conversations(method, path))
    }

    /// Gives a response that was looked for the id it was looked for by, which the client was told before; what the answer says
    /// instead, if that is another: LiteLLM encrypts ids, and each time anew.
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

/// The agent whose endpoint a path is, on Foundry.
pub(super) fn agent(path: &str) -> Option<String> {
    Below::of(path, "agents")?.read(|below| match *below {
        [agent, "endpoint", ..] => Some(agent.to_owned()),
        _ => None,
    })
}

/// What stands in a response's place in a path and is none.
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
