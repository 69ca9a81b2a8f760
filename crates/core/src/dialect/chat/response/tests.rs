//! Chunks in, a response out.

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::dialect::chat::finish::Finish;

fn fold(chunks: &[Value]) -> Response {
    let mut response = Response::default();
    for chunk in chunks {
        let text = chunk.to_string();
        response.push(&Object::parse(&text).unwrap());
    }
    response
}

fn delta(index: u64, delta: &Value) -> Value {
    json!({"id": "c1", "object": "chat.completion.chunk", "created": 7, "model": "m",
           "choices": [{"index": index, "delta": delta, "finish_reason": null}]})
}

fn finish(index: u64, reason: &str) -> Value {
    json!({"id": "c1", "choices": [{"index": index, "delta": {}, "finish_reason": reason}]})
}

fn json_of(response: &Response) -> Value {
    serde_json::from_str(response.to_json().unwrap().get()).unwrap()
}

fn message(response: &Response, place: usize) -> Value {
    json_of(response)["choices"][place]["message"].take()
}

fn tool_calls(response: &Response) -> Vec<(String, String, String)> {
    let calls = response.choices().iter().flat_map(|choice| choice.tool_calls("c1"));
    calls.map(|call| (call.id, call.name.unwrap_or_default(), call.arguments.unwrap_or_default())).collect()
}

#[test]
fn a_stream_gives_the_answer_it_was_made_of() {
    let response = fold(&[
        delta(0, &json!({"role": "assistant", "content": "", "refusal": null})),
        delta(0, &json!({"content": "Hé"})),
        delta(0, &json!({"content": "llo"})),
        finish(0, "stop"),
        json!({"id": "c1", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}),
    ]);
    assert_eq!(
        json_of(&response),
        json!({"id": "c1", "object": "chat.completion", "created": 7, "model": "m",
               "choices": [{"index": 0, "message": {"role": "assistant", "content": "Héllo", "refusal": null},
                            "logprobs": null, "finish_reason": "stop"}],
               "usage": {"prompt_tokens": 3, "completion_tokens": 2}, "system_fingerprint": null})
    );
    assert!(response.is_finished() && !response.is_incomplete());
    assert_eq!(response.created(), Some(7.0));
}

#[test]
fn choices_are_told_apart_by_their_index_however_they_are_mixed() {
    let response = fold(&[
        delta(1, &json!({"content": "b"})),
        delta(0, &json!({"content": "a"})),
        json!({"choices": [{"index": 1, "delta": {"content": "B"}}, {"index": 0, "delta": {"content": "A"}}]}),
        finish(1, "length"),
    ]);
    assert_eq!(
        (message(&response, 0)["content"].as_str(), message(&response, 1)["content"].as_str()),
        (Some("aA"), Some("bB"))
    );
    assert!(!response.is_finished(), "one of them is still being written");
    assert_eq!(response.choices()[1].finish(), Some(Finish::CutShort));
    assert_ne!(response.choices()[0].finish(), Some(Finish::CutShort));
}

#[test]
fn usage_counts_wherever_it_stands_and_the_last_one_that_is_not_null() {
    let usage = |n: u64| json!({"total_tokens": n});
    for (chunks, expected) in [
        (vec![json!({"choices": [], "usage": usage(1)}), json!({"choices": [], "usage": null})], 1),
        (vec![json!({"choices": [], "usage": usage(1)}), json!({"choices": [], "usage": usage(2)})], 2),
        (vec![json!({"choices": [{"index": 0, "delta": {}, "usage": usage(3)}]})], 3),
        (vec![json!({"choices": [], "x_groq": {"id": "x", "usage": usage(4)}})], 4),
        (vec![json!({"usage": usage(5)}), json!({"choices": [], "usage": {}}), json!({"usage": [6]})], 5),
    ] {
        assert_eq!(fold(&chunks).usage().unwrap().get(), usage(expected).to_string());
    }
    assert!(fold(&[json!({"choices": [], "usage": 7})]).usage().is_none());
}

#[test]
fn calls_are_put_together_by_their_index() {
    let response = fold(&[
        delta(
            0,
            &json!({"role": "assistant", "content": null, "tool_calls": [
            {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}]}),
        ),
        delta(
            0,
            &json!({"tool_calls": [{"index": 1, "id": "b", "type": "function", "function": {"name": "g", "arguments": "{\"y"}}]}),
        ),
        delta(0, &json!({"tool_calls": [{"index": 0, "function": {"arguments": "{\"x\":"}}]})),
        delta(
            0,
            &json!({"tool_calls": [{"index": 1, "function": {"arguments": "\":2}"}}, {"index": 0, "function": {"arguments": "1}"}}]}),
        ),
        finish(0, "tool_calls"),
    ]);
    assert_eq!(message(&response, 0)["content"], Value::Null);
    assert_eq!(
        message(&response, 0)["tool_calls"],
        json!([{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{\"x\":1}"}},
               {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{\"y\":2}"}}])
    );
    let own = |text: &str| text.to_owned();
    assert_eq!(
        tool_calls(&response),
        [(own("a"), own("f"), own("{\"x\":1}")), (own("b"), own("g"), own("{\"y\":2}"))]
    );
}

#[test]
fn calls_are_told_apart_on_servers_that_number_them_oddly() {
    let call = |fields: Value| delta(0, &json!({"tool_calls": [fields]}));
    let check = |chunks: &[Value], expected: &[(&str, &str, &str)]| {
        let calls = tool_calls(&fold(chunks));
        let calls: Vec<_> =
            calls.iter().map(|(id, name, args)| (id.as_str(), name.as_str(), args.as_str())).collect();
        assert_eq!(calls, expected);
    };
    // All are number 0, and each is whole.
    check(
        &[
            call(json!({"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}})),
            call(json!({"index": 0, "id": "b", "function": {"name": "f", "arguments": "[]"}})),
        ],
        &[("a", "f", "{}"), ("b", "f", "[]")],
    );
    // Each piece has an id made up for it, or the name again.
    check(
        &[
            call(json!({"index": 0, "id": "a", "function": {"name": "f", "arguments": "{"}})),
            call(json!({"index": 0, "id": "b", "function": {"arguments": "}"}})),
            call(json!({"index": 0, "id": "a", "function": {"name": "f", "arguments": " "}})),
        ],
        &[("a", "f", "{} ")],
    );
    // No index, no ids; arguments that are an object.
    check(
        &[
            call(json!({"function": {"name": "f", "arguments": {"x": 1}}})),
            call(json!({"function": {"name": "g", "arguments": "{"}})),
            call(json!({"function": {"arguments": "}"}})),
        ],
        &[("c1#0#0", "f", "{\"x\":1}"), ("c1#0#1", "g", "{}")],
    );
    check(
        &[call(json!({"index": 0, "id": "a", "type": "custom", "custom": {"name": "t", "input": "text"}}))],
        &[("a", "t", "text")],
    );
    check(&[delta(0, &json!({"tool_calls": [7, null], "function_call": "f"}))], &[]);
}

#[test]
fn the_form_before_tools_is_a_call_too() {
    let response = fold(&[
        delta(0, &json!({"function_call": {"name": "f", "arguments": ""}})),
        delta(0, &json!({"function_call": {"arguments": "{}"}})),
        finish(0, "function_call"),
    ]);
    assert_eq!(message(&response, 0)["function_call"], json!({"name": "f", "arguments": "{}"}));
    assert_eq!(tool_calls(&response), [("c1#0#0".to_owned(), "f".to_owned(), "{}".to_owned())]);
}

#[test]
fn refusals_and_reasoning_are_kept_apart_from_the_text() {
    let response = fold(&[
        delta(0, &json!({"reasoning_content": "hm", "reasoning": "hm"})),
        delta(0, &json!({"reasoning": "m", "reasoning_details": [{"text": "m"}]})),
        delta(
            0,
            &json!({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "…"}]},
                                     {"type": "text", "text": "said"}]}),
        ),
        delta(0, &json!({"refusal": "n"})),
        delta(0, &json!({"refusal": "o"})),
    ]);
    let said = message(&response, 0);
    assert_eq!(
        (&said["content"], &said["refusal"], &said["reasoning_content"]),
        (&json!("said"), &json!("no"), &json!("hmm…"))
    );
    assert_eq!(response.choices()[0].reasoning(), "hmm…");
    assert_eq!(
        response.choices()[0].parts(),
        [
            json!({"type": "text", "text": {"value": "said", "annotations": []}}),
            json!({"type": "refusal", "refusal": "no"})
        ]
    );
}

#[test]
fn filters_between_the_chunks_disturb_nothing() {
    let response = fold(&[
        json!({"id": "", "model": "", "created": 0, "choices": [], "prompt_filter_results": [{"prompt_index": 0}]}),
        delta(0, &json!({"content": "a"})),
        json!({"id": "", "choices": [{"index": 0, "content_filter_offsets": {"check_offset": 1}, "content_filter_results": {}, "finish_reason": null}]}),
        delta(0, &json!({"content": "b"})),
        json!({"id": "", "choices": [{"index": 0, "content_filter_results": {}, "finish_reason": "stop"}]}),
    ]);
    assert_eq!((response.id(), response.model(), response.created()), (Some("c1"), Some("m"), Some(7.0)));
    assert_eq!(message(&response, 0)["content"], "ab");
    assert!(response.is_finished());
}

#[test]
fn errors_are_kept_in_whichever_form_they_are_told() {
    for (chunk, expected) in [
        (json!({"error": {"message": "boom"}}), r#"{"message":"boom"}"#),
        (json!({"object": "error", "message": "boom", "code": 500}), r#""boom""#),
        (json!({"error": "boom"}), r#""boom""#),
    ] {
        let response = fold(&[delta(0, &json!({"content": "a"})), chunk]);
        assert_eq!(response.error().unwrap().get(), expected);
        assert_eq!(message(&response, 0)["content"], "a");
    }
    assert!(fold(&[json!({"choices": [], "error": null})]).error().is_none());
}

#[test]
fn pictures_and_sound_are_described() {
    let url = format!("data:image/png;base64,{}", "A".repeat(1000));
    let response = fold(&[
        delta(0, &json!({"audio": {"id": "au", "transcript": "he"}})),
        delta(0, &json!({"audio": {"data": "AAAA", "transcript": "llo"}})),
        delta(0, &json!({"images": [{"type": "image_url", "image_url": {"url": url}}]})),
    ]);
    let parts = json!(response.choices()[0].parts()).to_string();
    assert!(parts.contains("[1000 characters, sha256 "), "{parts}");
    assert!(
        parts.contains(r#""data":"[4 characters, sha256 63c1dd951ffedf6f]","transcript":"hello""#),
        "{parts}"
    );
}

#[test]
fn a_whole_message_at_the_end_of_a_stream_says_nothing_twice() {
    let whole = json!({"choices": [{"index": 0, "message": {"role": "assistant", "content": "ab"}, "finish_reason": "stop"}]});
    let response = fold(&[delta(0, &json!({"content": "a"})), delta(0, &json!({"content": "b"})), whole]);
    assert_eq!(message(&response, 0)["content"], "ab");
    assert!(response.is_finished());
}

#[test]
fn what_is_kept_has_a_bound_and_what_is_left_out_is_said() {
    let piece = delta(0, &json!({"content": "x".repeat(1 << 20)}));
    let response = fold(&[
        piece.clone(),
        piece.clone(),
        piece.clone(),
        piece.clone(),
        piece,
        delta(0, &json!({"content": "y"})),
    ]);
    assert!(response.is_incomplete());
    assert_eq!(
        message(&response, 0)["content"].as_str().unwrap().len(),
        4 << 20,
        "and nothing is missing in between"
    );
    let many: Vec<Value> = (0..200).map(|index| delta(index, &json!({"content": "x"}))).collect();
    assert!(fold(&many).is_incomplete() && fold(&many).choices().len() == 128);
    let calls: Vec<Value> =
        (0..600).map(|index| delta(0, &json!({"tool_calls": [{"index": index, "id": "a"}]}))).collect();
    assert!(fold(&calls).is_incomplete());
}

#[test]
fn what_is_no_chunk_is_said_to_be_none() {
    let mut response = Response::default();
    assert_eq!(response.push(&Object::parse(r#"{"detail":"x"}"#).unwrap()), None);
    assert!(response.is_empty());
    assert_eq!(response.push(&Object::parse(r#"{"choices":7,"id":[]}"#).unwrap()), Some(false));
    assert!(!response.is_empty() && response.is_incomplete(), "there may be output in it");
}

#[test]
fn numbers_no_number_can_hold_harm_nothing() {
    let text = r#"{"id":"c1","created":1e400,"choices":[{"index":1e9,"delta":{"content":"a","annotations":[1e400],"tool_calls":[{"index":-1}]}}],"usage":{"total_tokens":1e400}}"#;
    let mut response = Response::default();
    response.push(&Object::parse(text).unwrap());
    assert_eq!(message(&response, 0)["content"], "a");
    assert!(response.created().is_none());
    assert_eq!(json_of(&response)["usage"].to_string(), r#"{"total_tokens":1e+400}"#);
    assert_eq!(response.usage().unwrap().get(), r#"{"total_tokens":1e400}"#, "it is kept word for word");
}

proptest! {
    /// However a text is cut into deltas and mixed with others, each choice has its own, whole.
    #[test]
    fn any_cuts_give_the_same_texts(
        texts in prop::collection::vec("[a-zé\"\\\\\u{1F600}]{0,20}", 1..4),
        order in prop::collection::vec((0_usize..4, 1_usize..5), 0..40),
    ) {
        let mut rest: Vec<Vec<char>> = texts.iter().map(|text| text.chars().rev().collect()).collect();
        let mut chunks = Vec::new();
        let end = (0..texts.len()).map(|choice| (choice, 100));
        for (choice, length) in order.into_iter().chain(end) {
            let Some(rest) = rest.get_mut(choice) else { continue };
            let piece: String = std::iter::from_fn(|| rest.pop()).take(length).collect();
            let call = json!([{"index": 0, "id": "t", "function": {"name": "f", "arguments": piece}}]);
            chunks.push(delta(choice as u64, &json!({"content": piece, "tool_calls": call})));
        }
        let response = fold(&chunks);
        for (place, text) in texts.iter().enumerate() {
            let said = message(&response, place);
            prop_assert_eq!(said["content"].as_str(), Some(text.as_str()));
            prop_assert_eq!(said["tool_calls"][0]["function"]["arguments"].as_str(), Some(text.as_str()));
        }
    }
}

#[test]
fn a_piece_without_id_and_name_goes_to_the_call_that_is_being_written() {
    let piece = |call: Value| json!({"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]});
    let begun = |index: u64, id: &str| {
        piece(json!({"index": index, "id": id, "function": {"name": id, "arguments": ""}}))
    };
    let more = |index: u64, text: &str| piece(json!({"index": index, "function": {"arguments": text}}));
    let arguments = |chunks: &[Value]| -> Vec<String> {
        let calls = fold(chunks).choices()[0].tool_calls("o");
        calls.into_iter().map(|call| call.arguments.unwrap()).collect()
    };
    // Pieces are numbered, and not calls.
    let counted = [begun(0, "a"), more(1, "{"), more(2, "}"), begun(3, "b"), more(4, "{}")];
    assert_eq!(arguments(&counted), ["{}", "{}"]);
    // All pieces are numbered 0, although the calls are not.
    let zeros = [begun(0, "a"), more(0, "{}"), begun(1, "b"), more(0, "{\"b\":"), more(0, "1}")];
    assert_eq!(arguments(&zeros), ["{}", "{\"b\":1}"]);
    // Two are written in turns.
    let turns = [begun(0, "a"), begun(1, "b"), more(0, "{\"a\":"), more(1, "{"), more(0, "1}"), more(1, "}")];
    assert_eq!(arguments(&turns), ["{\"a\":1}", "{}"]);
}

#[test]
fn what_is_told_in_pieces_beside_the_text_is_whole_in_the_answer() {
    let chunk = |delta: Value, logprobs: Value| json!({"citations": ["u"], "choices": [{"index": 0, "delta": delta, "logprobs": logprobs}]});
    let detail = |text: &str| json!([{"type": "reasoning.text", "index": 0, "text": text, "format": "f"}]);
    let response = fold(&[
        chunk(json!({"reasoning_details": detail("Let me ")}), Value::Null),
        chunk(json!({"reasoning_details": detail("think.")}), Value::Null),
        chunk(json!({"content": "4"}), json!({"content": [{"token": "4"}], "refusal": null})),
        chunk(json!({"content": "2"}), json!({"content": [{"token": "2"}], "refusal": null})),
    ]);
    assert_eq!(response.choices()[0].reasoning(), "Let me think.");
    let json = json_of(&response);
    assert_eq!(json["citations"], json!(["u"]));
    assert_eq!(
        json["choices"][0]["logprobs"],
        json!({"content": [{"token": "4"}, {"token": "2"}], "refusal": null})
    );
    assert_eq!(json["choices"][0]["message"]["reasoning_details"], detail("Let me think."));
}

#[test]
fn log_probabilities_that_are_too_long_leave_the_text_alone() {
    let chunk = |text: &str, bytes: usize| json!({"choices": [{"index": 0, "delta": {"content": text}, "logprobs": {"content": ["x".repeat(bytes)]}}]});
    let response = fold(&[chunk("a", 3 << 20), chunk("b", 3 << 20), chunk("c", 1)]);
    let choice = &json_of(&response)["choices"][0];
    assert_eq!((&choice["message"]["content"], &choice["logprobs"]), (&json!("abc"), &Value::Null));
    assert!(!response.is_incomplete() && response.held_bytes() < 100);
}

#[test]
fn errors_are_found_wherever_vendors_put_them() {
    for chunk in [
        json!({"error": {"message": "m"}}),
        json!({"x_groq": {"error": {"message": "m"}}}),
        json!({"object": "error", "message": "m"}),
        json!({"base_resp": {"status_code": 1004, "status_msg": "m"}}),
        json!({"choices": [{"index": 0, "error": {"message": "m"}}]}),
    ] {
        assert!(fold(std::slice::from_ref(&chunk)).error().unwrap().get().contains("\"m\""), "{chunk}");
    }
    let fine = json!({"choices": [], "base_resp": {"status_code": 0, "status_msg": ""}});
    assert!(fold(&[fine]).error().is_none());
}

#[test]
fn what_has_an_odd_form_is_read_or_said_to_be_missing() {
    let choice = |choice: Value| fold(&[json!({"choices": [choice]})]);
    for told in [
        json!({"message": {"content": {"type": "text", "text": "hi"}}}),
        json!({"message": {"content": ["h", {"type": "text", "text": "i"}]}}),
        json!({"delta": "hi"}),
        json!({"text": "hi"}),
    ] {
        let response = choice(told.clone());
        assert_eq!(message(&response, 0)["content"], "hi", "{told}");
        assert!(!response.is_incomplete(), "{told}");
    }
    let call = json!({"id": "c", "function": {"name": "f", "arguments": "{}"}});
    assert_eq!(choice(json!({"message": {"tool_calls": call}})).choices()[0].tool_calls("o").len(), 1);
    for unread in [
        json!({"message": {"content": 7}}),
        json!({"message": {"content": [7]}}),
        json!({"delta": 7}),
        json!({"message": [7]}),
        json!({"message": {"tool_calls": 7}}),
        json!({"message": {"tool_calls": [7]}}),
        json!(7),
    ] {
        assert!(choice(unread.clone()).is_incomplete(), "{unread}");
    }
}

#[test]
fn a_whole_message_replaces_its_pieces_only_if_it_says_something() {
    let choice = |choice: Value| json!({"choices": [choice]});
    let pieces = choice(json!({"index": 0, "delta": {"content": "all of it"}}));
    let empty =
        choice(json!({"index": 0, "message": {"role": "assistant", "content": ""}, "finish_reason": "stop"}));
    assert_eq!(message(&fold(&[pieces.clone(), empty]), 0)["content"], "all of it");
    let whole = choice(json!({"index": 0, "message": {"content": "all of it"}, "finish_reason": "stop"}));
    assert_eq!(message(&fold(&[pieces, whole]), 0)["content"], "all of it");
    let call = json!({"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}});
    let beside = choice(json!({"index": 0, "delta": {"tool_calls": [call]}, "message": {"content": ""}}));
    assert_eq!(fold(&[beside]).choices()[0].tool_calls("o").len(), 1);
}

#[test]
fn the_worst_reason_of_a_choice_counts() {
    let reason = |reasons: &[Value]| {
        let chunks: Vec<Value> = reasons
            .iter()
            .map(|reason| json!({"choices": [{"index": 0, "finish_reason": reason}]}))
            .collect();
        fold(&chunks).choices()[0].finish_reason().map(str::to_owned)
    };
    for (reasons, expected) in [
        (json!(["stop"]), Some("stop")),
        (json!(["length", "stop"]), Some("length")),
        (json!(["error", "length"]), Some("error")),
        (json!(["length", "error"]), Some("error")),
        (json!(["running", "running", "stop"]), Some("stop")),
        (json!(["stop", "whatever"]), Some("stop")),
        (json!(["null", "", null]), None),
        (json!([{"type": "length"}]), Some(r#"{"type":"length"}"#)),
    ] {
        assert_eq!(reason(reasons.as_array().unwrap()).as_deref(), expected, "{reasons}");
    }
    let long = reason(&[json!(format!("error: {}", "é".repeat(100)))]).unwrap();
    assert!(
        long.starts_with("error: é") && long.chars().count() == 64 && Finish::of(&long) == Finish::Failed
    );
}

#[test]
fn an_error_that_says_nothing_is_none() {
    for error in [json!(""), json!(false), json!({}), json!([]), json!(0), Value::Null] {
        let chunk =
            json!({"error": error, "choices": [{"index": 0, "error": error, "delta": {"content": "a"}}]});
        assert!(fold(&[chunk]).error().is_none(), "{error}");
    }
}
