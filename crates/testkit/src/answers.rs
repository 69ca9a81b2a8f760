//! What the fake models say and call, whichever API asks.

use serde_json::{Map, Value};

/// A function of the app, with what it is given.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Function {
    pub(super) name: &'static str,
    pub(super) arguments: &'static str,
}

/// Why something fails.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Failure {
    pub(super) code: &'static str,
    pub(super) message: &'static str,
}

impl Failure {
    pub(super) const RATE_LIMIT: Self =
        Self { code: "rate_limit_exceeded", message: "You exceeded your current quota." };
    pub(super) const SERVER: Self = Self { code: "server_error", message: "Sorry, something went wrong." };
}

/// The behaviour that `behaviour` in the metadata names; else the one of this name.
pub(super) fn behaviour_named<B: Copy>(
    known: &[(&str, B)],
    metadata: &Map<String, Value>,
    name: Option<&str>,
) -> Option<B> {
    let name = metadata.get("behaviour").and_then(Value::as_str).or(name)?;
    known.iter().find(|(known, _)| *known == name).map(|(_, behaviour)| *behaviour)
}

/// The answer of a model that echoes.
pub(super) fn echo(inputs: &[&str]) -> String {
    format!("You said: {}", inputs.join(" / "))
}

/// The answer of a model that has called functions.
pub(super) fn conclusion(outputs: &[&str], inputs: &[&str]) -> String {
    format!("The tools said: {}. {}", outputs.join(", "), echo(inputs))
}

/// An answer of 400 words.
pub(super) fn long() -> String {
    let words: Vec<String> = (1..=LONG_WORDS).map(|n| format!("word{n}")).collect();
    words.join(" ")
}

/// What a shop answers, by the words of the question.
pub(super) fn shop_says(question: &str) -> &'static str {
    let question = question.to_lowercase();
    let known = SHOP.iter().find(|(word, _)| question.contains(word));
    known.map_or("I'm not sure. Shall I ask a colleague to call you back?", |(_, says)| *says)
}

/// Cuts a text into words that keep the blank before them, as tokens do.
pub(super) fn tokens(text: &str) -> impl Iterator<Item = String> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let mut chars = rest.char_indices();
        chars.next()?;
        let end = chars.find(|(_, c)| *c == ' ').map_or(rest.len(), |(at, _)| at);
        let (token, after) = rest.split_at(end);
        rest = after;
        Some(token.to_owned())
    })
}

pub(super) const REFUSAL: &str = "I can't help with that.";
pub(super) const WEATHER: Function = Function { name: "get_weather", arguments: "{\"city\":\"Paris\"}" };
pub(super) const TIME: Function = Function { name: "get_time", arguments: "{\"zone\":\"Europe/Paris\"}" };
const SHOP: [(&str, &str); 3] = [
    ("hours", "We are open from 9 to 5, Monday to Saturday. On Sundays we sleep in."),
    ("ship", "Yes, we ship there. It takes three to five days, and from 50 euros on it is free."),
    ("return", "Of course: within 30 days, no questions asked."),
];
const LONG_WORDS: usize = 400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_lose_nothing() {
        for text in ["", " ", "one", "one two", "  two  blanks ", "é à 😀 ü"] {
            assert_eq!(tokens(text).collect::<String>(), text);
        }
    }
}
