//! The path of an endpoint, under any prefix.

use crate::dialect::path;

/// A request for a completion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    /// The deployment named in the path, which stands for a model (Azure, and legacy engines).
    pub(super) deployment: Option<String>,
}

impl Route {
    /// Recognises a path. None if it does not request a completion. Longer paths are used to
    /// retrieve stored completions.
    pub(super) fn parse(path: &str) -> Option<Self> {
        if !path::may_name(path, "completions") {
            return None;
        }
        let segments = path::segments(path);
        let [before @ .., chat, completions] = &segments[..] else { return None };
        if chat != "chat" || completions != "completions" {
            return None;
        }
        let deployment = match before {
            [.., kind, name] if DEPLOYMENTS.contains(&&**kind) => Some(name.clone().into_owned()),
            _ => None,
        };
        Some(Self { deployment })
    }
}

/// The segments that come before the name of a deployment.
const DEPLOYMENTS: [&str; 2] = ["deployments", "engines"];

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, expected: Option<Option<&str>>) {
        let expected = expected.map(|deployment| Route { deployment: deployment.map(str::to_owned) });
        assert_eq!(Route::parse(path), expected, "{path}");
    }

    #[test]
    fn recognises_the_endpoint_under_any_prefix() {
        for path in [
            "/v1/chat/completions",
            "/chat/completions",
            "/openai/v1/chat/completions",
            "/api/v1/chat/completions",
            "//v1//chat/completions/",
            "/v1/ch%61t/%63ompletions",
            "/api/projects/p/openai/v1/chat/completions",
        ] {
            check(path, Some(None));
        }
    }

    #[test]
    fn a_deployment_is_read_from_the_path() {
        check("/openai/deployments/gpt%2D4o/chat/completions", Some(Some("gpt-4o")));
        check("/engines/m/chat/completions", Some(Some("m")));
        check("/deployments/chat/completions", Some(None));
    }

    #[test]
    fn other_paths_are_none() {
        for path in [
            "/v1/completions",
            "/v1/chat/completions/chatcmpl-1",
            "/v1/chat/completions/chatcmpl-1/messages",
            "/v1/chat",
            "/v1/chat/completionsx",
            "/v1/organization/usage/completions",
            "/v1/embeddings",
            "/",
            "*",
            "",
        ] {
            check(path, None);
        }
    }
}
