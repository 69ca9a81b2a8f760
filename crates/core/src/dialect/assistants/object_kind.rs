//! What kind an object is. Its `object` field decides. If that does not help, its place and its
//! members decide.
//!
//! Servers leave `object` out, or use a name of their own, most often on lists. The path says which
//! kind is expected, and an object that has the members of that kind is accepted. A path alone
//! proves nothing: LangGraph's paths have the same form, and its objects have no `id`.

use serde_json::Value;

use super::members::{Members, Name};
use super::route::Route;
use crate::dialect::field;

/// A kind of object of this API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ObjectKind {
    List,
    Message,
    MessageDeleted,
    Run,
    Step,
    Thread,
    ThreadDeleted,
}

impl ObjectKind {
    /// The kind of the response to a request.
    pub(super) fn of_response(members: &Members<'_>, route: &Route) -> Option<Self> {
        if let Some(kind) = Self::named(members.object()) {
            return Some(kind);
        }
        let deleted = members[Name::Deleted] == true;
        match (Self::expected(route), route) {
            (_, Route::Messages { .. } | Route::Runs { .. } | Route::Steps { .. }) if members.has_data() => {
                Some(Self::List)
            }
            (Self::Thread, _) if deleted => Some(Self::ThreadDeleted),
            (Self::Message, _) if deleted => Some(Self::MessageDeleted),
            _ => Self::of_item(members, route),
        }
    }

    /// The kind of a list item. The items should be of the kind that `route` is about.
    pub(super) fn of_item(members: &Members<'_>, route: &Route) -> Option<Self> {
        let expected = || Some(Self::expected(route)).filter(|kind| kind.fits(members));
        Self::named(members.object()).or_else(expected)
    }

    /// The kind of the data of an event with this name.
    pub(super) fn of_event(members: &Members<'_>, name: &str) -> Option<Self> {
        let by_name = || {
            Some(match name.strip_prefix("thread.")? {
                "created" => Self::Thread,
                rest if rest.starts_with("message.") => Self::Message,
                rest if rest.starts_with("run.step.") => Self::Step,
                rest if rest.starts_with("run.") => Self::Run,
                _ => return None,
            })
        };
        let by_members = || {
            let names_owner = [Name::ThreadId, Name::AssistantId, Name::RunId].map(|name| &members[name]);
            let owned = names_owner.iter().any(|id| field::id(id).is_some());
            [Self::Step, Self::Message, Self::Run].into_iter().find(|kind| owned && kind.fits(members))
        };
        Self::named(members.object())
            .or_else(|| by_name().filter(|kind| kind.fits(members)))
            .or_else(by_members)
    }

    fn named(object: &str) -> Option<Self> {
        Some(match object {
            "list" => Self::List,
            "thread" => Self::Thread,
            "thread.deleted" => Self::ThreadDeleted,
            "thread.message" => Self::Message,
            "thread.message.deleted" => Self::MessageDeleted,
            "thread.run" => Self::Run,
            "thread.run.step" => Self::Step,
            _ => return None,
        })
    }

    /// The kind of object that a request is about.
    fn expected(route: &Route) -> Self {
        match route {
            Route::CancelRun { .. }
            | Route::Run { .. }
            | Route::Runs { .. }
            | Route::SubmitToolOutputs { .. }
            | Route::ThreadRuns => Self::Run,
            Route::Message { .. } | Route::Messages { .. } => Self::Message,
            Route::Step { .. } | Route::Steps { .. } => Self::Step,
            Route::Thread { .. } | Route::Threads => Self::Thread,
        }
    }

    /// Whether an object has the members that all objects of this kind have.
    fn fits(self, members: &Members<'_>) -> bool {
        let has = |name, is: fn(&Value) -> bool| is(&members[name]);
        field::id(&members[Name::Id]).is_some()
            && match self {
                Self::Message => has(Name::Role, Value::is_string),
                Self::Run => has(Name::Status, Value::is_string) && !has(Name::Role, Value::is_string),
                Self::Step => has(Name::StepDetails, Value::is_object),
                Self::Thread => !has(Name::Status, Value::is_string) && !has(Name::Role, Value::is_string),
                Self::List | Self::MessageDeleted | Self::ThreadDeleted => false,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, json: &str, expected: Option<ObjectKind>) {
        let route = Route::parse(path).unwrap();
        assert_eq!(ObjectKind::of_response(&Members::of(json).unwrap(), &route), expected, "{path} {json}");
    }

    #[test]
    fn path_and_members_say_what_the_object_field_does_not() {
        for object in ["", r#""object":null,"#, r#""object":"assistant.thing","#, r#""object":7,"#] {
            let json = |rest: &str| format!("{{{object}{rest}}}");
            let list = json(r#""has_more":false,"data":[]"#);
            let run = json(r#""id":"r","status":"queued""#);
            let deleted = json(r#""id":"x","deleted":true"#);
            check("/v1/threads/t/messages", &list, Some(ObjectKind::List));
            check("/v1/threads/t/runs", &list, Some(ObjectKind::List));
            check("/v1/threads/t/runs/r/steps", &list, Some(ObjectKind::List));
            check("/v1/threads/t/runs/r", &list, None);
            check("/v1/threads/t/messages", &json(r#""id":"m","role":"user""#), Some(ObjectKind::Message));
            check("/v1/threads/t/messages/m", &deleted, Some(ObjectKind::MessageDeleted));
            check("/v1/threads/t", &deleted, Some(ObjectKind::ThreadDeleted));
            check("/v1/threads", &json(r#""id":"t""#), Some(ObjectKind::Thread));
            check("/v1/threads/runs", &run, Some(ObjectKind::Run));
            check("/v1/threads/t/runs", &run, Some(ObjectKind::Run));
            check("/v1/threads/t/runs/r/submit_tool_outputs", &run, Some(ObjectKind::Run));
            check(
                "/v1/threads/t/runs/r/steps/s",
                &json(r#""id":"s","step_details":{}"#),
                Some(ObjectKind::Step),
            );
        }
        check("/v1/threads/t/messages", "[]", Some(ObjectKind::List));
    }

    #[test]
    fn objects_of_other_products_on_the_same_paths_are_none() {
        for (path, json) in [
            ("/threads/t/runs", r#"{"run_id":"r","thread_id":"t","assistant_id":"a","status":"pending"}"#),
            ("/threads", r#"{"thread_id":"t","status":"idle","values":null}"#),
            ("/threads/t/runs/r", r#"{"error":{"message":"m"}}"#),
            ("/threads/t/messages", r#"{"id":"m"}"#),
            ("/threads/t/runs", r#"{"id":"r","status":7}"#),
        ] {
            check(path, json, None);
        }
    }

    #[test]
    fn the_object_field_counts_where_it_is_known() {
        check(
            "/v1/threads/t/runs",
            r#"{"object":"thread.message","id":"m","status":"x"}"#,
            Some(ObjectKind::Message),
        );
    }

    #[test]
    fn events_are_known_by_their_name_or_their_members() {
        let check = |name: &str, json: &str, expected| {
            assert_eq!(ObjectKind::of_event(&Members::of(json).unwrap(), name), expected, "{name} {json}");
        };
        let run = r#"{"id":"r","thread_id":"t","status":"queued"}"#;
        check("thread.run.created", run, Some(ObjectKind::Run));
        check("message", run, Some(ObjectKind::Run));
        check("message", r#"{"id":"r","status":"queued"}"#, None);
        check("thread.created", r#"{"id":"t"}"#, Some(ObjectKind::Thread));
        check("thread.message.completed", r#"{"id":"m","role":"assistant"}"#, Some(ObjectKind::Message));
        check("message", r#"{"id":"m","role":"assistant","thread_id":"t"}"#, Some(ObjectKind::Message));
        let step = r#"{"id":"s","status":"completed","run_id":"r","step_details":{}}"#;
        check("thread.run.step.completed", step, Some(ObjectKind::Step));
        check("message", step, Some(ObjectKind::Step));
        check("thread.run.completed", r#"{"data":{"id":"r"},"event":"thread.run.completed"}"#, None);
        check("error", r#"{"message":"m"}"#, None);
    }
}
