//! The Assistants endpoints, recognised by a path's trailing segments.
//!
//! The API may be served under any prefix (`/v1`, `/openai`, `/api/projects/{p}`, …), so only the
//! segments after the last `threads` segment count. Other products have paths of the same form (for
//! example LangGraph's `/threads`). A route only says where to look.
//! [`ObjectKind`](super::object_kind::ObjectKind) decides whether it is this API.

use http::Method;

use crate::dialect::path::Below;

/// An endpoint below `/threads`. Ids are percent-decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// `/threads/{t}/runs/{r}/cancel`
    CancelRun { thread: String },
    /// `/threads/{t}/messages/{m}`
    Message { thread: String },
    /// `/threads/{t}/messages`
    Messages { thread: String },
    /// `/threads/{t}/runs/{r}`
    Run { thread: String },
    /// `/threads/{t}/runs`
    Runs { thread: String },
    /// `/threads/{t}/runs/{r}/steps/{s}`
    Step { thread: String, run: String },
    /// `/threads/{t}/runs/{r}/steps`
    Steps { thread: String, run: String },
    /// `/threads/{t}/runs/{r}/submit_tool_outputs`
    SubmitToolOutputs { thread: String, run: String },
    /// `/threads/{t}`
    Thread { thread: String },
    /// `/threads/runs`: a thread and its run in one call
    ThreadRuns,
    /// `/threads`
    Threads,
}

impl Route {
    /// Recognises a path. None if it is not an endpoint of this API.
    pub(super) fn parse(path: &str) -> Option<Self> {
        Below::of(path, "threads")?.read(Self::of)
    }

    fn of(below: &[&str]) -> Option<Self> {
        let own = |text: &str| text.to_owned();
        Some(match *below {
            [] => Self::Threads,
            ["runs"] => Self::ThreadRuns,
            [t] => Self::Thread { thread: own(t) },
            [t, "messages"] => Self::Messages { thread: own(t) },
            [t, "messages", _] => Self::Message { thread: own(t) },
            [t, "runs"] => Self::Runs { thread: own(t) },
            [t, "runs", _] => Self::Run { thread: own(t) },
            [t, "runs", _, "cancel"] => Self::CancelRun { thread: own(t) },
            [t, "runs", r, "submit_tool_outputs"] => Self::SubmitToolOutputs { thread: own(t), run: own(r) },
            [t, "runs", r, "steps"] => Self::Steps { thread: own(t), run: own(r) },
            [t, "runs", r, "steps", _] => Self::Step { thread: own(t), run: own(r) },
            _ => return None,
        })
    }

    /// The thread named in the path.
    pub(super) fn thread(&self) -> Option<&str> {
        match self {
            Self::ThreadRuns | Self::Threads => None,
            Self::CancelRun { thread }
            | Self::Message { thread }
            | Self::Messages { thread }
            | Self::Run { thread }
            | Self::Runs { thread }
            | Self::Step { thread, .. }
            | Self::Steps { thread, .. }
            | Self::SubmitToolOutputs { thread, .. }
            | Self::Thread { thread } => Some(thread),
        }
    }

    /// Whether an exchange with this method can report anything.
    pub(super) fn takes(method: &Method) -> bool {
        matches!(*method, Method::GET | Method::POST | Method::DELETE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, expected: Option<Route>) {
        assert_eq!(Route::parse(path), expected, "{path}");
    }

    #[test]
    fn recognises_endpoints_under_any_prefix() {
        let thread = || "thread_1".to_owned();
        let run = || "run_1".to_owned();
        check("/v1/threads", Some(Route::Threads));
        check("/threads", Some(Route::Threads));
        check("/v1/threads/runs", Some(Route::ThreadRuns));
        check("/openai/threads/thread_1", Some(Route::Thread { thread: thread() }));
        check("/api/projects/p/threads/thread_1/messages", Some(Route::Messages { thread: thread() }));
        check("/openai/v1/threads/thread_1/messages/msg_1", Some(Route::Message { thread: thread() }));
        check("/v1/threads/thread_1/runs", Some(Route::Runs { thread: thread() }));
        check("/v1/threads/thread_1/runs/run_1", Some(Route::Run { thread: thread() }));
        check("/v1/threads/thread_1/runs/run_1/cancel", Some(Route::CancelRun { thread: thread() }));
        check(
            "/v1/threads/thread_1/runs/run_1/submit_tool_outputs",
            Some(Route::SubmitToolOutputs { thread: thread(), run: run() }),
        );
        check("/v1/threads/thread_1/runs/run_1/steps", Some(Route::Steps { thread: thread(), run: run() }));
        check(
            "/v1/threads/thread_1/runs/run_1/steps/step_1",
            Some(Route::Step { thread: thread(), run: run() }),
        );
    }

    #[test]
    fn escapes_doubled_and_trailing_slashes_do_not_matter() {
        let expected = Some(Route::Messages { thread: "a/b".to_owned() });
        check("//v1//threads/a%2Fb/messages/", expected.clone());
        check("/v1/threads/a%2fb/mess%61ges", expected);
        check("/v1/%74hre%61ds", Some(Route::Threads));
        check("/v1/%zz/threads", Some(Route::Threads));
    }

    #[test]
    fn other_paths_are_none() {
        for path in [
            "/v1/chat/completions",
            "/v1/chatkit/threads",
            "/v1/chatkit/threads/t/messages",
            "/organization/threads",
            "/v1/threads/t/state",
            "/v1/threads/t/runs/r/steps/s/more",
            "/v1/threadsx",
            "/",
            "*",
            "",
        ] {
            check(path, None);
        }
    }
}
