//! The members of an object that carry information.
//!
//! Most exchanges are polls of a run, whose instructions and tools may be long, or messages, whose
//! text is kept as it is. Everything that is not needed is skipped without building a tree of it.

use std::fmt;
use std::ops::Index;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

/// The known members of an object. Missing members are null. If a name occurs several times, the
/// last one counts.
#[derive(Debug)]
pub(super) struct Members<'a> {
    values: [Value; NAMES],
    /// The content of a list, each item as it was written.
    data: Option<&'a RawValue>,
}

impl<'a> Members<'a> {
    /// Reads an object. A value that is not an object has no members.
    ///
    /// # Errors
    /// When the text is not JSON.
    pub(super) fn of(json: &'a str) -> serde_json::Result<Self> {
        if json.trim_start().starts_with('[') {
            // A bare list without an enclosing object.
            return Ok(Self { data: Some(serde_json::from_str(json)?), ..Self::none() });
        }
        match serde_json::from_str(json) {
            Err(error) if error.is_data() => {
                let IgnoredAny = serde_json::from_str(json)?;
                Ok(Self::none())
            }
            read => read,
        }
    }

    fn none() -> Self {
        Self { values: [const { Value::Null }; NAMES], data: None }
    }

    /// The value of the object's `object` member.
    pub(super) fn object(&self) -> &str {
        self[Name::Object].as_str().unwrap_or_default()
    }

    /// Whether it may be a list.
    pub(super) fn has_data(&self) -> bool {
        self.data.is_some_and(|data| data.get().starts_with('['))
    }

    /// The items of a list. None if there is no list.
    pub(super) fn items(&self) -> Option<Vec<&'a RawValue>> {
        serde_json::from_str(self.data?.get()).ok()
    }
}

impl Index<Name> for Members<'_> {
    type Output = Value;

    fn index(&self, name: Name) -> &Value {
        &self.values[name as usize]
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Gather)
    }
}

struct Gather;

impl<'de> Visitor<'de> for Gather {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
        let mut members = Members::none();
        while let Some(name) = map.next_key::<Name>()? {
            match name {
                Name::Data => members.data = Some(map.next_value()?),
                Name::Other => _ = map.next_value::<IgnoredAny>()?,
                name => members.values[name as usize] = map.next_value()?,
            }
        }
        Ok(members)
    }
}

/// The known member names.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
pub(super) enum Name {
    AssistantId,
    CancelledAt,
    CompletedAt,
    CreatedAt,
    Deleted,
    ExpiresAt,
    FailedAt,
    HasMore,
    Id,
    IncompleteDetails,
    LastError,
    Metadata,
    Model,
    Object,
    RequiredAction,
    Role,
    RunId,
    StartedAt,
    Status,
    StepDetails,
    ThreadId,
    Usage,
    /// Not kept as a value: [`Members::items`].
    Data,
    /// Not kept.
    #[serde(other)]
    Other,
}

const NAMES: usize = Name::Data as usize;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_says_nothing_is_passed_over_and_the_last_of_a_name_counts() {
        let json = r#"{ "tools": [{"a": [1, -2, 0.5, true, null, "\u00e9"]}], "id": "run_0", "object": "thread.run", "top_p": 1.0,
            "thread\u005fid": "t\u002f1", "status": "queued", "id": "run_1" }"#;
        let members = Members::of(json).unwrap();
        assert_eq!((members.object(), &members[Name::Metadata]), ("thread.run", &Value::Null));
        assert_eq!((&members[Name::ThreadId], &members[Name::Id]), (&json!("t/1"), &json!("run_1")));
        assert!(members.items().is_none());
    }

    #[test]
    fn items_are_told_as_they_were_written() {
        let members = Members::of(r#"{"data": 1, "data": [ {"a" : 1}, 2]}"#).unwrap();
        let items: Vec<&str> = members.items().unwrap().into_iter().map(RawValue::get).collect();
        assert_eq!(items, [r#"{"a" : 1}"#, "2"]);
        assert!(Members::of(r#"{"data": {}}"#).unwrap().items().is_none());
    }

    #[test]
    fn what_is_no_json_is_no_object_wherever_it_is_broken() {
        let deep = "[".repeat(500);
        for value in ["NaN", "tru", "[1,]", "{1:2}", "\"\u{1}\"", &deep] {
            for name in ["usage", "tools", "data"] {
                let json = format!(r#"{{"object":"thread.run","id":"run_1","{name}":{value}}}"#);
                assert!(serde_json::from_str::<Value>(&json).is_err(), "{json}");
                assert!(Members::of(&json).is_err(), "{json}");
            }
        }
        for json in [r#"{"object":"thread.run","id":"run_1""#, r#"{"id":"run_1"} x"#, "[1,]", "[] x", ""] {
            assert!(Members::of(json).is_err(), "{json}");
        }
        for json in ["[{}]", "7", " null", "\"x\""] {
            assert_eq!(Members::of(json).unwrap().object(), "", "{json}");
        }
    }
}
