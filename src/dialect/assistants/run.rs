//! Reads `thread.run` objects. Most exchanges are polls of one, so what says nothing is passed over: instructions and tools may be
//! long.

use std::fmt;
use std::mem::take;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::object::tool_call;
use crate::dialect::field::{id, raw, seconds};
use crate::observation::{Run, RunStatus};

/// The members of a `thread.run` object that say something; null where they are missing. Of several with the same name the last
/// one counts.
pub(super) struct Members([Value; NAMES]);

impl Members {
    /// None when it is another object, or no JSON.
    pub(super) fn of(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }

    /// The same of one that was read as part of something else.
    pub(super) fn of_value(object: &Value) -> Option<Self> {
        Self::deserialize(object).ok()
    }

    /// The run. None when it has no id.
    pub(super) fn run(mut self) -> Option<Run> {
        // `submit_tool_outputs`, or what Azure's agents call it for other kinds of tools.
        let mut actions =
            self.get(Name::RequiredAction).as_object().into_iter().flat_map(|action| action.values());
        let calls = actions.find_map(|action| action["tool_calls"].as_array());
        let time = |name| seconds(self.get(name));
        let kept = |name| raw(self.get(name));
        let run = Run {
            id: String::new(),
            status: match self.get(Name::Status).as_str().unwrap_or_default() {
                "cancelled" => RunStatus::Cancelled,
                "completed" => RunStatus::Completed,
                "expired" => RunStatus::Expired,
                "failed" => RunStatus::Failed,
                "incomplete" => RunStatus::Incomplete,
                "requires_action" => RunStatus::RequiresAction,
                other => RunStatus::Active(other.chars().take(MAX_STATUS_CHARS).collect()),
            },
            assistant: None,
            model: None,
            created_at: time(Name::CreatedAt),
            started_at: time(Name::StartedAt),
            ended_at: [Name::CompletedAt, Name::FailedAt, Name::CancelledAt].into_iter().find_map(time),
            expires_at: time(Name::ExpiresAt),
            usage: kept(Name::Usage),
            error: [Name::LastError, Name::IncompleteDetails].into_iter().find_map(kept),
            metadata: kept(Name::Metadata),
            tool_calls: calls.into_iter().flatten().filter_map(tool_call).collect(),
        };
        let [id, assistant, model] =
            [Name::Id, Name::AssistantId, Name::Model].map(|name| self.take_id(name));
        Some(Run { id: id?, assistant, model, ..run })
    }

    /// The id of the thread it is of.
    pub(super) fn thread(&self) -> &Value {
        self.get(Name::ThreadId)
    }

    /// The run's metadata.
    pub(super) fn metadata(&self) -> &Value {
        self.get(Name::Metadata)
    }

    fn get(&self, name: Name) -> &Value {
        &self.0[name as usize]
    }

    fn take_id(&mut self, name: Name) -> Option<String> {
        id(self.get(name))?;
        match take(&mut self.0[name as usize]) {
            Value::String(id) => Some(id),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Gather)
    }
}

struct Gather;

impl<'de> Visitor<'de> for Gather {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a run")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
        let mut members = Members([const { Value::Null }; NAMES]);
        while let Some(name) = map.next_key::<Name>()? {
            if let Name::Other = name {
                map.next_value::<PassedOver>()?;
                continue;
            }
            members.0[name as usize] = map.next_value()?;
            // What an object is, it says early.
            if let Name::Object = name
                && *members.get(name) != KIND
            {
                break;
            }
        }
        if *members.get(Name::Object) == KIND { Ok(members) } else { Err(A::Error::custom("another object")) }
    }
}

/// A value that is read as strictly as any, and not kept.
struct PassedOver;

impl<'de> Deserialize<'de> for PassedOver {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for PassedOver {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self, A::Error> {
        while members.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }
}

/// The names that are known.
#[derive(Clone, Copy, Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Name {
    AssistantId,
    CancelledAt,
    CompletedAt,
    CreatedAt,
    ExpiresAt,
    FailedAt,
    Id,
    IncompleteDetails,
    LastError,
    Metadata,
    Model,
    Object,
    RequiredAction,
    StartedAt,
    Status,
    ThreadId,
    Usage,
    #[serde(other)]
    Other,
}

const NAMES: usize = Name::Other as usize;
const KIND: &str = "thread.run";
const MAX_STATUS_CHARS: usize = 64;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(json: &str) -> Option<Run> {
        Members::of(json.as_bytes()).and_then(Members::run)
    }

    #[test]
    fn wrong_types_are_as_if_missing() {
        let odd = json!({"id": "run_1", "object": "thread.run", "status": 7, "created_at": "soon", "model": {}, "usage": 3,
                         "required_action": {"submit_tool_outputs": 1}, "metadata": [], "expires_at": null});
        let run = read(&odd.to_string()).unwrap();
        assert_eq!(run.status, RunStatus::Active(String::new()));
        assert!(run.created_at.is_none() && run.model.is_none() && run.usage.is_none());
        assert!(run.tool_calls.is_empty() && run.metadata.is_none());
        for id in [json!(null), json!(""), json!(5), json!("x".repeat(5000))] {
            assert!(read(&json!({"object": "thread.run", "id": id}).to_string()).is_none());
        }
    }

    #[test]
    fn what_says_nothing_is_passed_over_and_the_last_of_a_name_counts() {
        let json = br#"{ "tools": [{"a": [1, -2, 0.5, true, null, "\u00e9"]}], "id": "run_0", "object": "thread.run", "top_p": 1.0,
            "thread\u005fid": "t\u002f1", "status": "queued", "id": "run_1" }"#;
        let members = Members::of(json).unwrap();
        assert_eq!((members.thread(), members.metadata()), (&json!("t/1"), &Value::Null));
        assert_eq!(members.run().unwrap().id, "run_1");
    }

    #[test]
    fn part_of_something_else_it_is_read_alike() {
        let run = json!({"tools": [{"a": [1, null]}], "id": "run_1", "object": "thread.run", "thread_id": "t", "usage": {"a": 1}});
        let (part, alone) =
            (Members::of_value(&run).unwrap(), Members::of(run.to_string().as_bytes()).unwrap());
        assert_eq!(part.0, alone.0);
        assert!(Members::of_value(&json!({"object": "thread", "id": "t"})).is_none());
        assert!(Members::of_value(&json!([1])).is_none());
    }

    #[test]
    fn what_is_no_json_is_no_run_wherever_it_is_broken() {
        let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
        for value in [r#""\ud800""#, "1e999", "NaN", "tru", "[1,]", "{1:2}", "\"\u{1}\"", &deep] {
            for name in ["usage", "tools"] {
                let json = format!(r#"{{"object":"thread.run","id":"run_1","{name}":{value}}}"#);
                assert_eq!(
                    serde_json::from_str::<Value>(&json).is_ok(),
                    Members::of(json.as_bytes()).is_some(),
                    "{json}"
                );
                assert!(Members::of(json.as_bytes()).is_none(), "{json}");
            }
        }
        assert!(Members::of(b"{\"object\":\"thread.run\",\"id\":\"run_1\",\"x\":\"\xff\"}").is_none());
    }

    #[test]
    fn other_objects_and_broken_ones_are_none() {
        for json in [
            r#"{"id":"msg_1","object":"thread.message"}"#,
            r#"{"id":"run_1"}"#,
            r#"{"object":"thread.run","id":"run_1","object":"list"}"#,
            r#"{"object":"thread.run","id":"run_1""#,
            r#"{"object":"thread.run","id":"run_1"} x"#,
            "[]",
            "",
        ] {
            assert!(Members::of(json.as_bytes()).is_none(), "{json}");
        }
    }
}
