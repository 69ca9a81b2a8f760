//! A message's JSON as it is kept: without the space between tokens, and with descriptions in the place of inlined files.
//!
//! It is the same as reading a value, shortening it ([`inline::shorten`]) and writing it again, and takes a fraction of the time: most
//! of what is kept is text, which needs no tree. It is written while it is read, so a member that is given twice stays so; of those the
//! last counts.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::ser::{Error as _, Serialize, SerializeMap, SerializeSeq, Serializer};
use serde_json::value::{RawValue, to_raw_value};

use crate::dialect::field::Text;
use crate::dialect::inline;

/// A message's JSON as it is kept. None when it is no JSON.
pub(super) fn of_message(json: &str) -> Option<Box<RawValue>> {
    to_raw_value(&Transcript(json)).ok()
}

/// A message's JSON. Serialising it writes it anew; it fails where that is no JSON.
struct Transcript<'a>(&'a str);

impl Serialize for Transcript<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut from = serde_json::Deserializer::from_str(self.0);
        let copy = Copy { to: serializer, place: Place::Message };
        from.deserialize_any(copy).map_err(S::Error::custom)
    }
}

/// Where a value stands: files are only looked for in fields meant for them.
#[derive(Clone, Copy)]
enum Place {
    /// Within the content.
    Content,
    /// In a field of it that may hold a file.
    File,
    /// The message itself.
    Message,
    /// Elsewhere.
    Other,
}

impl Place {
    /// The place of a member of what stands here.
    fn of_member(self, name: &str) -> Self {
        match self {
            Self::Content | Self::File if inline::may_be_encoded(name) => Self::File,
            Self::Content | Self::File => Self::Content,
            Self::Message if name == "content" => Self::Content,
            Self::Message | Self::Other => Self::Other,
        }
    }

    /// The place of an item of what stands here.
    fn of_item(self) -> Self {
        match self {
            Self::Content | Self::File => Self::Content,
            Self::Message | Self::Other => Self::Other,
        }
    }
}

/// Hands on what is read to who writes it.
struct Copy<S> {
    to: S,
    place: Place,
}

impl<'de, S: Serializer> Visitor<'de> for Copy<S> {
    type Value = S::Ok;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<S::Ok, E> {
        self.to.serialize_bool(value).map_err(E::custom)
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<S::Ok, E> {
        self.to.serialize_i64(value).map_err(E::custom)
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<S::Ok, E> {
        self.to.serialize_u64(value).map_err(E::custom)
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<S::Ok, E> {
        self.to.serialize_f64(value).map_err(E::custom)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<S::Ok, E> {
        let shorter = if let Place::File = self.place { inline::shorter(text) } else { None };
        self.to.serialize_str(shorter.as_deref().unwrap_or(text)).map_err(E::custom)
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<S::Ok, E> {
        self.to.serialize_unit().map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<S::Ok, A::Error> {
        let mut to = self.to.serialize_seq(None).map_err(A::Error::custom)?;
        let place = self.place.of_item();
        while items.next_element_seed(Item { to: &mut to, place })?.is_some() {}
        to.end().map_err(A::Error::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<S::Ok, A::Error> {
        let mut to = self.to.serialize_map(None).map_err(A::Error::custom)?;
        while let Some(Text(name)) = members.next_key()? {
            to.serialize_key(&*name).map_err(A::Error::custom)?;
            members.next_value_seed(Member { to: &mut to, place: self.place.of_member(&name) })?;
        }
        to.end().map_err(A::Error::custom)
    }
}

struct Item<'a, S> {
    to: &'a mut S,
    place: Place,
}

impl<'de, S: SerializeSeq> DeserializeSeed<'de> for Item<'_, S> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        self.to.serialize_element(&Nested::new(from, self.place)).map_err(D::Error::custom)
    }
}

struct Member<'a, S> {
    to: &'a mut S,
    place: Place,
}

impl<'de, S: SerializeMap> DeserializeSeed<'de> for Member<'_, S> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        self.to.serialize_value(&Nested::new(from, self.place)).map_err(D::Error::custom)
    }
}

/// What is read when it is written, which is once.
struct Nested<D> {
    from: Cell<Option<D>>,
    place: Place,
}

impl<D> Nested<D> {
    fn new(from: D, place: Place) -> Self {
        Self { from: Cell::new(Some(from)), place }
    }
}

impl<'de, D: Deserializer<'de>> Serialize for Nested<D> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let from = self.from.take().ok_or_else(|| S::Error::custom("it was written before"))?;
        from.deserialize_any(Copy { to: serializer, place: self.place }).map_err(S::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn kept(json: &str) -> Option<String> {
        of_message(json).map(|raw| raw.get().to_owned())
    }

    #[test]
    fn what_is_written_is_what_was_read_without_the_space() {
        let json = "{ \"a\" : [ 1 , -2, 1.0, 1e3, true, null ],\n\t\"b c\": { }, \"\\u00e9\": \"\\ud83d\\ude00 \\n\" }";
        let compact = r#"{"a":[1,-2,1.0,1000.0,true,null],"b c":{},"é":"😀 \n"}"#;
        assert_eq!(kept(json).unwrap(), compact);
    }

    #[test]
    fn what_is_no_json_is_not_written() {
        let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
        for json in [r#"["\ud800"]"#, r#"{"a":1e999}"#, "{", &deep] {
            assert_eq!(kept(json), None, "{json}");
        }
    }

    #[test]
    fn only_files_in_the_content_give_way_to_descriptions() {
        let long = "A".repeat(300);
        let content = json!({"url": long, "data": [long], "image_url": {"text": long, "url": long}});
        let message = json!({"content": content, "data": long, "metadata": {"url": long}});
        assert_eq!(kept(&message.to_string()).unwrap().matches(&long).count(), 4);
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let text = prop_oneof!["[a-z\"\\\\é ]{0,6}", Just("data:a,b".to_owned()), Just("A".repeat(300))];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-1e9..1e9).prop_map(Value::from),
            text.clone().prop_map(Value::from),
        ];
        let known = ["url", "data", "content"].map(|name| Just(name.to_owned()));
        let name = prop_oneof![text, proptest::strategy::Union::new(known)];
        leaf.prop_recursive(4, 64, 6, move |inner| {
            let list = prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from);
            let object = prop::collection::vec((name.clone(), inner), 0..6);
            prop_oneof![list, object.prop_map(|members| Value::Object(members.into_iter().collect()))]
        })
    }

    proptest! {
        #[test]
        fn it_is_the_same_as_by_way_of_a_tree(value in any_json()) {
            let json = serde_json::to_string_pretty(&value).unwrap();
            let mut value: Value = serde_json::from_str(&json).unwrap();
            if let Some(content) = value.get_mut("content") {
                inline::shorten(content);
            }
            prop_assert_eq!(kept(&json).unwrap(), value.to_string());
        }
    }
}
