//! Token counts in one vocabulary, whatever the API calls them.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

/// Token counts of one run. What the API did not tell is none, never 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    /// What was read, cached tokens included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<u64>,
    /// What was written, reasoning included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<u64>,
    /// Both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// How many of `input` came from a cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached: Option<u64>,
    /// How many of `output` are reasoning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<u64>,
}

impl Tokens {
    /// Reads a `usage` object: of the Assistants API and of Chat Completions (`prompt_tokens`, …), or of Responses
    /// (`input_tokens`, …). None if it tells nothing.
    #[must_use]
    pub fn of(usage: &RawValue) -> Option<Self> {
        let usage: Value = serde_json::from_str(usage.get()).ok()?;
        let either = |names: [&str; 2]| names.into_iter().find_map(|name| usage.pointer(name)?.as_u64());
        let (input, output) =
            (either(["/input_tokens", "/prompt_tokens"]), either(["/output_tokens", "/completion_tokens"]));
        let sum = || input?.checked_add(output?);
        let tokens = Self {
            input,
            output,
            total: usage["total_tokens"].as_u64().or_else(sum),
            cached: either(["/input_tokens_details/cached_tokens", "/prompt_tokens_details/cached_tokens"]),
            reasoning: either([
                "/output_tokens_details/reasoning_tokens",
                "/completion_tokens_details/reasoning_tokens",
            ]),
        };
        (tokens != Self::default()).then_some(tokens)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use serde_json::value::to_raw_value;

    use super::*;

    fn check(usage: &Value, expected: Option<[Option<u64>; 5]>) {
        let expected = expected.map(|[input, output, total, cached, reasoning]| Tokens {
            input,
            output,
            total,
            cached,
            reasoning,
        });
        assert_eq!(Tokens::of(&to_raw_value(usage).unwrap()), expected, "{usage}");
    }

    #[test]
    fn whatever_they_are_called_they_are_the_same_counts() {
        let all = Some([Some(9), Some(5), Some(14), Some(4), Some(3)]);
        check(
            &json!({"input_tokens": 9, "output_tokens": 5, "total_tokens": 14,
                    "input_tokens_details": {"cached_tokens": 4}, "output_tokens_details": {"reasoning_tokens": 3}}),
            all,
        );
        check(
            &json!({"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14,
                    "prompt_tokens_details": {"cached_tokens": 4}, "completion_tokens_details": {"reasoning_tokens": 3}}),
            all,
        );
    }

    #[test]
    fn what_is_not_told_is_none() {
        check(&json!({"input_tokens": 9}), Some([Some(9), None, None, None, None]));
        check(&json!({"input_tokens": 9, "output_tokens": 0}), Some([Some(9), Some(0), Some(9), None, None]));
        check(&json!({"input_tokens": "9", "x": 1}), None);
    }
}
