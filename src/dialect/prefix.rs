//! What can still be read of a JSON object that was cut: the members before the cut.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};

/// The members of the object that are whole. Empty when it is no object.
pub(super) fn members(json: &[u8]) -> Map<String, Value> {
    let mut members = Map::new();
    let seed = Gather(&mut members);
    // The cut is an error, and what was gathered before it stays.
    let _ = seed.deserialize(&mut serde_json::Deserializer::from_slice(json));
    members
}

struct Gather<'a>(&'a mut Map<String, Value>);

impl<'de> DeserializeSeed<'de> for Gather<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Gather<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some((name, value)) = map.next_entry::<String, Value>()? {
            self.0.insert(name, value);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_members_survive_a_cut_anywhere() {
        let text = r#"{"id":"msg_1","object":"thread.message","content":[{"type":"text"}],"n":1}"#;
        for cut in 0..=text.len() {
            let members = members(&text.as_bytes()[..cut]);
            assert_eq!(members.contains_key("id"), cut > r#"{"id":"msg_1""#.len() - 1, "{cut}");
        }
        assert!(members(b"[1,2]").is_empty() && members(b"").is_empty());
    }
}
