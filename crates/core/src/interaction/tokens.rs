//! Token counts under common names for all APIs.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

/// Token counts of one run. A count that the API did not report is none, never 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    /// Input tokens, including cached ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<u64>,
    /// Output tokens, including reasoning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<u64>,
    /// The total.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// How many of `input` were cached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached: Option<u64>,
    /// How many of `output` are reasoning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<u64>,
}

impl Tokens {
    /// Reads a `usage` object: of the Assistants API and of Chat Completions (`prompt_tokens`, …),
    /// or of Responses (`input_tokens`, …), in the variants of `docs/records.md`. None if it
    /// contains no count.
    #[must_use]
    pub fn of(usage: &RawValue) -> Option<Self> {
        let usage: Value = serde_json::from_str(usage.get()).ok()?;
        let first = |names: &[&str]| names.iter().find_map(|name| count(usage.pointer(name)?));
        let input = first(&["/input_tokens", "/prompt_tokens"]);
        let reasoning = first(&[
            "/output_tokens_details/reasoning_tokens",
            "/completion_tokens_details/reasoning_tokens",
            "/reasoning_tokens",
        ]);
        let told = first(&["/total_tokens"]);
        let output = first(&["/output_tokens", "/completion_tokens"]).map(|output| {
            let with_reasoning = reasoning.and_then(|reasoning| output.checked_add(reasoning));
            // xAI does not include reasoning in the output. Only the total shows this.
            let adds_up =
                |with: &u64| told.is_some() && input.and_then(|input| input.checked_add(*with)) == told;
            with_reasoning.filter(adds_up).unwrap_or(output)
        });
        let sum = || input?.checked_add(output?);
        let tokens = Self {
            input,
            output,
            total: told.or_else(sum),
            cached: first(&[
                "/input_tokens_details/cached_tokens",
                "/prompt_tokens_details/cached_tokens",
                "/cached_tokens",
                "/prompt_cache_hit_tokens",
            ]),
            reasoning,
        };
        (tokens != Self::default()).then_some(tokens)
    }
}

/// A number of tokens. Some servers write whole numbers as floats.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole, positive and below 2^53")]
fn count(value: &Value) -> Option<u64> {
    let float = || value.as_f64().filter(|number| number.fract() == 0.0 && (0.0..9e15).contains(number));
    value.as_u64().or_else(|| float().map(|number| number as u64))
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
    fn reasoning_beside_the_output_is_added_to_it() {
        let usage = |total: u64| {
            json!({"prompt_tokens": 32, "completion_tokens": 9, "total_tokens": total,
                   "completion_tokens_details": {"reasoning_tokens": 94}})
        };
        check(&usage(135), Some([Some(32), Some(103), Some(135), None, Some(94)]));
        for total in [41, 134, 200] {
            check(&usage(total), Some([Some(32), Some(9), Some(total), None, Some(94)]));
        }
        let untold = json!({"prompt_tokens": 1, "completion_tokens": 2, "reasoning_tokens": 3});
        check(&untold, Some([Some(1), Some(2), Some(3), None, Some(3)]));
    }

    #[test]
    fn cached_tokens_stand_in_several_places() {
        let all = Some([Some(100), Some(5), Some(105), Some(64), None]);
        for place in [
            json!({"cached_tokens": 64}),
            json!({"prompt_cache_hit_tokens": 64, "prompt_cache_miss_tokens": 36}),
            json!({"prompt_tokens_details": {"cached_tokens": 64}, "cached_tokens": 1}),
        ] {
            let mut usage = json!({"prompt_tokens": 100.0, "completion_tokens": 5, "total_tokens": 105});
            usage.as_object_mut().unwrap().extend(place.as_object().unwrap().clone());
            check(&usage, all);
        }
    }

    #[test]
    fn what_is_not_told_is_none() {
        check(&json!({"input_tokens": 9}), Some([Some(9), None, None, None, None]));
        check(&json!({"input_tokens": 9, "output_tokens": 0}), Some([Some(9), Some(0), Some(9), None, None]));
        check(&json!({"input_tokens": "9", "x": 1}), None);
    }
}
