//! What JSON writers get wrong, and readers understand all the same: escapes of half a character, bytes that are not UTF-8, and words
//! in the place of numbers.
//!
//! JavaScript cuts strings between UTF-16 code units, and servers cut them between tokens; a lone half (RFC 8259 §8.2) is no
//! character. Python writes `NaN` and `Infinity`, and reads them. The parser refuses all of the text because of one of these. What is
//! repaired is read, and counted as a problem.

use std::borrow::Cow;

use super::Problem;

/// The text of a document that the parser refuses, as far as it can be repaired.
#[derive(Debug)]
pub(super) struct Repaired<'a> {
    pub(super) text: Cow<'a, str>,
    /// What was repaired, if anything.
    pub(super) problem: Option<Problem>,
}

impl<'a> Repaired<'a> {
    pub(super) fn of(json: &'a [u8]) -> Self {
        let mut text = String::from_utf8_lossy(json);
        let mut problem = matches!(text, Cow::Owned(_)).then_some(Problem::HalfCharacter);
        if let Some(repaired) = halves(&text) {
            (text, problem) = (Cow::Owned(repaired), Some(Problem::HalfCharacter));
        }
        if let Some(repaired) = numbers(&text) {
            (text, problem) = (Cow::Owned(repaired), problem.or(Some(Problem::NoNumber)));
        }
        Self { text, problem }
    }
}

/// Replaces each escape of half a character by that of U+FFFD; none where there is nothing to replace.
pub(super) fn halves(json: &str) -> Option<String> {
    let mut repaired = String::new();
    let (mut copied, mut at) = (0, 0);
    while let Some(offset) = memchr::memchr(b'\\', json.as_bytes().get(at..).unwrap_or_default()) {
        let escape = at + offset;
        at = escape
            + match unit(json, escape) {
                // The character behind it is escaped, and may be a backslash.
                None => 2,
                Some(HIGH_FIRST..LOW_FIRST)
                    if matches!(unit(json, escape + ESCAPE_BYTES), Some(LOW_FIRST..=LOW_LAST)) =>
                {
                    2 * ESCAPE_BYTES
                }
                Some(HIGH_FIRST..=LOW_LAST) => {
                    repaired.push_str(&json[copied..escape]);
                    repaired.push_str("\\ufffd");
                    copied = escape + ESCAPE_BYTES;
                    ESCAPE_BYTES
                }
                Some(_) => ESCAPE_BYTES,
            };
    }
    repaired.push_str(&json[copied..]);
    (copied > 0).then_some(repaired)
}

/// Replaces `NaN`, `Infinity` and `-Infinity`, where a value stands, by `null`; none where there is nothing to replace.
pub(super) fn numbers(json: &str) -> Option<String> {
    let mut repaired = String::new();
    let mut rest = json;
    while let Some(at) = memchr::memchr3(b'"', b'N', b'I', rest.as_bytes()) {
        let (before, from) = rest.split_at(at);
        if from.starts_with('"') {
            let (text, behind) = from.split_at(string_bytes(from));
            repaired.push_str(before);
            repaired.push_str(text);
            rest = behind;
            continue;
        }
        let word = ["NaN", "Infinity"].into_iter().find(|word| from.starts_with(word))?;
        repaired.push_str(before.strip_suffix('-').unwrap_or(before));
        repaired.push_str("null");
        rest = &from[word.len()..];
    }
    repaired.push_str(rest);
    (repaired != json).then_some(repaired)
}

/// The length in bytes of the string that a text begins with, quotes included.
fn string_bytes(text: &str) -> usize {
    let mut at = 1;
    while let Some(offset) = memchr::memchr2(b'"', b'\\', &text.as_bytes()[at.min(text.len())..]) {
        at += offset;
        match text.as_bytes()[at] {
            b'"' => return at + 1,
            // The next character is escaped. The rest of a longer one is skipped by the search.
            _ => at += 2,
        }
    }
    text.len()
}

/// The UTF-16 code unit that is escaped here.
fn unit(json: &str, at: usize) -> Option<u16> {
    let digits = json.as_bytes().get(at..at + ESCAPE_BYTES)?.strip_prefix(b"\\u")?;
    u16::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
}

const ESCAPE_BYTES: usize = "\\u0000".len();
const HIGH_FIRST: u16 = 0xD800;
const LOW_FIRST: u16 = 0xDC00;
const LOW_LAST: u16 = 0xDFFF;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn halves_of_characters_are_replaced_and_nothing_else() {
        for (json, expected) in [
            (r#""\ud83d\ude00""#, None),
            (r#""a\ud83d""#, Some(r#""a\ufffd""#)),
            (r#""\ude00 \uD83D\uDE00 \uDE00""#, Some(r#""\ufffd \uD83D\uDE00 \ufffd""#)),
            (r#""\ud83d\ud83d\ude00""#, Some(r#""\ufffd\ud83d\ude00""#)),
            (r#""\\ud83d""#, None),
            (r#""\\\ud83d""#, Some(r#""\\\ufffd""#)),
            (r#""\ud83d\n""#, Some(r#""\ufffd\n""#)),
            (r#""\udéé""#, None),
            (r#""\ud8"#, None),
            (r#"\ud83d"#, Some(r"\ufffd")),
            ("", None),
        ] {
            assert_eq!(halves(json).as_deref(), expected, "{json}");
        }
    }

    #[test]
    fn words_in_the_place_of_numbers_are_read_as_null() {
        for (json, expected) in [
            (r#"{"a":NaN,"b":[-Infinity, Infinity]}"#, Some(r#"{"a":null,"b":[null, null]}"#)),
            (r#"{"NaN":"Infinity \" NaN","x":1}"#, None),
            (r#"["a\\",NaN]"#, Some(r#"["a\\",null]"#)),
            (r#"["\"",NaN,"é\é"]"#, Some(r#"["\"",null,"é\é"]"#)),
            (r#"{"a":Nope}"#, None),
            (r#""NaN"#, None),
            (r#"""#, None),
            (r#""\"#, None),
            ("NaN", Some("null")),
            ("", None),
        ] {
            assert_eq!(numbers(json).as_deref(), expected, "{json}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(json in "[NaIinfty\"\\\\u\\-d8c0é,:]{0,24}") {
            for repaired in [halves(&json), numbers(&json)].into_iter().flatten() {
                prop_assert!(repaired != json);
            }
        }

        #[test]
        fn repaired_strings_can_be_read(units in prop::collection::vec(prop_oneof![any::<u16>(), 0xD7F0..0xE010_u16], 0..12)) {
            let json: String = units.iter().map(|unit| format!("\\u{unit:04x}")).collect();
            let read: String = {
                let json = format!("\"{json}\"");
                serde_json::from_str(halves(&json).as_deref().unwrap_or(&json)).unwrap()
            };
            prop_assert_eq!(read, String::from_utf16_lossy(&units));
        }
    }
}
