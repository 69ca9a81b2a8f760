//! The texts and function calls of the fake models, shared by all APIs.

use std::borrow::Cow;

use serde_json::{Map, Value};

/// A call of one of the app's functions, with its arguments.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Function {
    pub(super) name: Cow<'static, str>,
    /// JSON.
    pub(super) arguments: Cow<'static, str>,
}

impl Function {
    const fn of(name: &'static str, arguments: &'static str) -> Self {
        Self { name: Cow::Borrowed(name), arguments: Cow::Borrowed(arguments) }
    }

    /// The first function of a request whose name says that it hands the conversation over to
    /// another agent. Its arguments are the `arguments` in the metadata (`{}` if there are none).
    pub(super) fn of_handoff(tools: &Value, metadata: &Map<String, Value>) -> Option<Self> {
        // In Chat Completions the function is nested inside the tool. In Responses the tool is the
        // function.
        let names =
            tools.as_array()?.iter().filter_map(|tool| tool.get("function").unwrap_or(tool)["name"].as_str());
        let mut handoffs = names.filter(|name| HANDOFFS.iter().any(|word| name.contains(word)));
        let arguments = metadata.get("arguments").and_then(Value::as_str).unwrap_or("{}");
        Some(Self { name: handoffs.next()?.to_owned().into(), arguments: arguments.to_owned().into() })
    }
}

/// Why a run, response or completion fails.
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

/// The behaviour named by `behaviour` in the metadata, or else the behaviour called `name`.
pub(super) fn behaviour_named<B: Copy>(
    known: &[(&str, B)],
    metadata: &Map<String, Value>,
    name: Option<&str>,
) -> Option<B> {
    let name = metadata.get("behaviour").and_then(Value::as_str).or(name)?;
    known.iter().find(|(known, _)| *known == name).map(|(_, behaviour)| *behaviour)
}

/// The text of a model that echoes.
pub(super) fn echo(inputs: &[&str]) -> String {
    format!("You said: {}", inputs.join(" / "))
}

/// The text of a model that has called functions.
pub(super) fn conclusion(outputs: &[&str], inputs: &[&str]) -> String {
    format!("The tools said: {}. {}", outputs.join(", "), echo(inputs))
}

/// The two halves in which a function's arguments are streamed.
pub(super) fn halves(arguments: &str) -> (&str, &str) {
    arguments.split_at(arguments.floor_char_boundary(arguments.len() / 2))
}

/// A text of 400 words.
pub(super) fn long() -> String {
    let words: Vec<String> = (1..=LONG_WORDS).map(|n| format!("word{n}")).collect();
    words.join(" ")
}

/// The answer of a shop, chosen by the words of the question.
pub(super) fn shop_says(question: &str) -> &'static str {
    let question = question.to_lowercase();
    let known = SHOP.iter().find(|(word, _)| question.contains(word));
    known.map_or("I'm not sure. Shall I ask a colleague to call you back?", |(_, says)| *says)
}

/// Splits a text into words that keep their leading blank, as tokens do.
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
pub(super) const WEATHER: Function = Function::of("get_weather", "{\"city\":\"Paris\"}");
pub(super) const TIME: Function = Function::of("get_time", "{\"zone\":\"Europe/Paris\"}");
/// A function whose name contains one of these hands a conversation over.
const HANDOFFS: [&str; 3] = ["hand_off", "handoff", "transfer_to"];
const SHOP: [(&str, &str); 3] = [
    ("hours", "We are open from 9 to 5, Monday to Saturday. On Sundays we sleep in."),
    ("ship", "Yes, we ship there. It takes three to five days, and from 50 euros on it is free."),
    ("return", "Of course: within 30 days, no questions asked."),
];
const LONG_WORDS: usize = 400;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_handoff_is_known_by_the_name_of_its_function() {
        let metadata = Map::from_iter([("arguments".to_owned(), json!(r#"{"to_agent":"cashier"}"#))]);
        let named =
            |name: &str| [json!({"type": "function", "name": "get_weather"}), json!({ "name": name })];
        for name in ["handoff", "hand_off_to_cashier", "Handoff-transfer_to_cashier"] {
            let found = Function::of_handoff(&json!(named(name)), &metadata).unwrap();
            assert_eq!((&*found.name, &*found.arguments), (name, r#"{"to_agent":"cashier"}"#));
        }
        let in_chat = json!([{"type": "function", "function": {"name": "transfer_to_cashier"}}]);
        let found = Function::of_handoff(&in_chat, &Map::new()).unwrap();
        assert_eq!((&*found.name, &*found.arguments), ("transfer_to_cashier", "{}"));
        for tools in [json!(null), json!([{"type": "web_search"}]), json!(named("get_time"))] {
            assert_eq!(Function::of_handoff(&tools, &metadata), None);
        }
    }

    #[test]
    fn characters_are_not_halved() {
        assert_eq!((halves("{}"), halves("aéb"), halves("")), (("{", "}"), ("a", "éb"), ("", "")));
    }

    #[test]
    fn tokens_lose_nothing() {
        for text in ["", " ", "one", "one two", "  two  blanks ", "é à 😀 ü"] {
            assert_eq!(tokens(text).collect::<String>(), text);
        }
    }
}
