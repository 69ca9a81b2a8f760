//! What a refused request reveals: OpenAI names the run that blocks it.

use serde_json::Value;

/// The run named in a refusal such as "Can't add messages to thread_… while a run run_… is active."
/// or "Thread thread_… already has an active run run_….". It is only a hint, because it is parsed
/// from a sentence. It must not create or end anything.
pub(super) fn active_run(body: &Value) -> Option<String> {
    let message = body["error"]["message"].as_str().filter(|message| message.len() <= MAX_MESSAGE_BYTES)?;
    if !message.contains("active") {
        return None;
    }
    let mut words = message.split_whitespace();
    words.find(|word| *word == "run")?;
    let id = words.next()?.trim_end_matches(['.', ',', ';', '!']);
    (!id.is_empty()).then(|| id.to_owned())
}

const MAX_MESSAGE_BYTES: usize = 4096;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_run_is_read_out_of_the_sentence() {
        for (message, expected) in [
            ("Can't add messages to thread_1 while a run run_1 is active.", Some("run_1")),
            ("Thread thread_1 already has an active run run_1.", Some("run_1")),
            ("1 validation error for Request", None),
            ("No run found that is active", Some("found")),
            ("", None),
        ] {
            assert_eq!(active_run(&json!({"error": {"message": message}})).as_deref(), expected);
        }
        assert_eq!(active_run(&json!({"detail": "active run run_1"})), None);
    }
}
