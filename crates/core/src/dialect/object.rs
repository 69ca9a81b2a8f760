//! A JSON object whose members are read only on request.
//!
//! Chunks are many and short, and most of them have one string that matters. A member of the wrong
//! type is treated as missing. If a key occurs twice, the last one counts.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::dialect::field::Text;

/// The members of an object, in order.
#[derive(Debug, Default)]
pub(in crate::dialect) struct Object<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Object<'a> {
    /// Reads an object. None if the text is not JSON, or not an object.
    pub(in crate::dialect) fn parse(json: &'a str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }

    /// All members, in order.
    pub(in crate::dialect) fn members(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.0.iter().map(|(name, value)| (&**name, *value))
    }

    /// Whether there is a member of this name, null or not.
    pub(in crate::dialect) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(key, _)| key == name)
    }

    /// A member that is not null, as it was written.
    pub(in crate::dialect) fn raw(&self, name: &str) -> Option<&'a RawValue> {
        let (_, value) = self.0.iter().rev().find(|(key, _)| key == name)?;
        Some(*value).filter(|value| value.get() != "null")
    }

    /// A string that is not empty.
    pub(in crate::dialect) fn text(&self, name: &str) -> Option<Cow<'a, str>> {
        text(self.raw(name)?).filter(|text| !text.is_empty())
    }

    /// A number.
    pub(in crate::dialect) fn number(&self, name: &str) -> Option<f64> {
        serde_json::from_str(self.raw(name)?.get()).ok()
    }

    /// A number of things.
    pub(in crate::dialect) fn count(&self, name: &str) -> Option<u64> {
        serde_json::from_str(self.raw(name)?.get()).ok()
    }

    /// An object.
    pub(in crate::dialect) fn object(&self, name: &str) -> Option<Self> {
        Self::parse(self.raw(name)?.get())
    }

    /// The items of a list. Empty if it is not a list.
    pub(in crate::dialect) fn list(&self, name: &str) -> Vec<&'a RawValue> {
        self.raw(name).and_then(|list| serde_json::from_str(list.get()).ok()).unwrap_or_default()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members)
    }
}

/// Calls `show` with each item of a list, without holding the items. Does nothing if it is not a
/// list.
pub(in crate::dialect) fn for_each_item<'a>(list: &'a RawValue, show: impl FnMut(&'a RawValue)) {
    let mut list = serde_json::Deserializer::from_str(list.get());
    // If it is not a list, this is an error and `show` is not called.
    drop(list.deserialize_seq(Items(show)));
}

struct Items<F>(F);

impl<'de, F: FnMut(&'de RawValue)> Visitor<'de> for Items<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        while let Some(item) = items.next_element()? {
            (self.0)(item);
        }
        Ok(())
    }
}

/// Reads a string.
pub(in crate::dialect) fn text(value: &RawValue) -> Option<Cow<'_, str>> {
    serde_json::from_str::<Text<'_>>(value.get()).ok().map(|text| text.0)
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Object<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
        let mut members = Vec::with_capacity(8);
        while let Some((Text(name), value)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
            members.push((name, value));
        }
        Ok(Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_another_type_are_as_if_missing() {
        let json = r#"{"a":"x","b":null,"c":[1,{"d":2}],"n":1.5,"o":{"e":"\u00e9"},"empty":""}"#;
        let object = Object::parse(json).unwrap();
        assert_eq!(object.text("a").as_deref(), Some("x"));
        assert!(object.raw("b").is_none() && object.text("c").is_none() && object.text("empty").is_none());
        assert_eq!((object.list("c").len(), object.list("a").len(), object.list("none").len()), (2, 0, 0));
        assert_eq!((object.number("n"), object.count("n"), object.number("a")), (Some(1.5), None, None));
        assert_eq!(object.object("o").unwrap().text("e").as_deref(), Some("é"));
        assert!(object.object("a").is_none());
    }

    #[test]
    fn of_a_key_given_twice_the_last_counts() {
        let object = Object::parse(r#"{"a":"x","\u0061":"y"}"#).unwrap();
        assert_eq!(object.text("a").as_deref(), Some("y"));
    }

    #[test]
    fn what_is_no_object_is_none() {
        for text in ["", "[]", "7", "{", r#"{"a":}"#, "{} x", "[DONE]"] {
            assert!(Object::parse(text).is_none(), "{text}");
        }
    }
}
