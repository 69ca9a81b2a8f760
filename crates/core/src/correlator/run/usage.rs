//! Adds up the token counts of several responses.

use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Number, Value};

/// Adds up the counts of two responses, by name. A count that only one of them reports is unknown
/// for both, and is omitted. A value that is not a count is omitted too, unless both are equal.
/// None if nothing is left.
pub(super) fn sum(first: &RawValue, second: &RawValue) -> Option<Box<RawValue>> {
    let read = |usage: &RawValue| serde_json::from_str(usage.get()).ok();
    let sum = both(read(first)?, &read(second)?).filter(Value::is_object)?;
    to_raw_value(&sum).ok()
}

fn both(first: Value, second: &Value) -> Option<Value> {
    match (first, second) {
        (Value::Number(first), Value::Number(second)) => add(&first, second).map(Value::Number),
        (Value::Object(first), Value::Object(second)) => {
            let named = first.into_iter().filter_map(|(name, first)| {
                let sum = both(first, second.get(&name)?)?;
                Some((name, sum))
            });
            Some(Value::Object(named.collect::<Map<String, Value>>()))
        }
        (first, second) => (first == *second).then_some(first),
    }
}

fn add(first: &Number, second: &Number) -> Option<Number> {
    match (first.as_u64(), second.as_u64()) {
        (Some(first), Some(second)) => first.checked_add(second).map(Number::from),
        _ => Number::from_f64(first.as_f64()? + second.as_f64()?),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(first: &Value, second: &Value, expected: Option<Value>) {
        let raw = |usage: &Value| to_raw_value(usage).unwrap();
        let found = sum(&raw(first), &raw(second));
        let found = found.map(|sum| serde_json::from_str::<Value>(sum.get()).unwrap());
        assert_eq!(found, expected, "{first} and {second}");
    }

    #[test]
    fn counts_are_added_by_name_and_details_too() {
        check(
            &json!({"input_tokens": 9, "input_tokens_details": {"cached_tokens": 4}, "cost": 0.25, "tier": "a"}),
            &json!({"input_tokens": 20, "input_tokens_details": {"cached_tokens": 8}, "cost": 0.5, "tier": "a"}),
            Some(
                json!({"input_tokens": 29, "input_tokens_details": {"cached_tokens": 12}, "cost": 0.75, "tier": "a"}),
            ),
        );
    }

    #[test]
    fn what_not_both_tell_is_left_out() {
        check(
            &json!({"prompt_tokens": 9, "prompt_tokens_details": null, "tier": "a", "only": 1}),
            &json!({"prompt_tokens": 1, "prompt_tokens_details": {"cached_tokens": 8}, "tier": "b"}),
            Some(json!({"prompt_tokens": 10})),
        );
        check(&json!({"n": u64::MAX}), &json!({"n": 1}), Some(json!({})));
        check(&json!([1]), &json!([1]), None);
    }
}
