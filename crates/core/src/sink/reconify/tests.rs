use serde_json::{json, value::RawValue};

use super::*;
use crate::attribution::{Attribution, User};
use crate::interaction::{Pairing, Times, Tokens};
use crate::message::{Message, MessageStatus, Role};
use crate::observation::{Api, ConversationKey};

#[test]
fn a_completed_run_gives_the_recorded_body_byte_for_byte() {
    for recording in RECORDED {
        let recorded: Value = serde_json::from_str(recording).unwrap();
        let body = encode(&interaction_behind(&recorded));
        // `Value` compares objects without their order; the text does not.
        assert_eq!(body.to_string(), recorded.to_string());
    }
}

#[test]
fn a_run_without_output_gives_null_and_the_proxys_time_instead_of_zero() {
    let mut interaction = plain();
    interaction.status = Status::Failed;
    interaction.outputs.clear();
    interaction.times.ended_at = None;
    let body = encode(&interaction);
    assert_eq!(body["response"], Value::Null);
    assert_eq!(body["timestamps"], json!({"request": 1_725_321_819_000_u64, "response": 2_500}));

    interaction.times = Times { end_at: UnixMillis(9), ended_at: Some(0.0), ..Times::default() };
    assert_eq!(encode(&interaction)["timestamps"], json!({"request": 9, "response": 9}));
}

#[test]
fn a_completed_run_whose_outputs_were_not_seen_gives_an_empty_message_with_its_ids_and_usage() {
    let mut interaction = plain();
    interaction.outputs.clear();
    let body = encode(&interaction);
    let response = &body["response"];
    assert_eq!((&response["role"], &response["content"]), (&json!("assistant"), &json!([])));
    assert_eq!(
        (&response["run_id"], &response["thread_id"]),
        (&json!(interaction.run), &json!(interaction.conversation.id))
    );
    assert_eq!(response["usage"], serde_json::from_str::<Value>(interaction.usage.unwrap().get()).unwrap());
}

#[test]
fn several_messages_are_joined_in_order_into_the_last() {
    let mut interaction = plain();
    interaction.inputs = vec![
        message(json!({"id": "msg_1", "created_at": 1, "role": "user",
                       "content": [{"type": "text", "text": {"value": "one", "annotations": [7]}}]})),
        message(json!({"role": "user", "content": "two"})),
        message(
            json!({"id": "msg_3", "created_at": 3, "assistant_id": "", "thread_id": null, "role": "user",
                       "content": [{"type": "text", "text": "three"},
                                   {"type": "image_url", "image_url": {"url": "https://i"}}]}),
        ),
    ];
    assert_eq!(
        encode(&interaction)["request"].to_string(),
        json!({"id": "msg_3", "created_at": 3, "assistant_id": "asst_1", "thread_id": "thread_1", "role": "user",
               "content": [{"type": "text", "text": {"value": "one", "annotations": [7]}},
                           {"type": "text", "text": {"value": "two", "annotations": []}},
                           {"type": "text", "text": {"value": "three", "annotations": []}},
                           {"type": "image_url", "image_url": {"url": "https://i"}}],
               "model": "gpt-4o-mini"})
        .to_string()
    );
}

#[test]
fn an_input_born_in_a_request_has_no_id() {
    let mut interaction = plain();
    interaction.inputs =
        vec![message(json!({"id": null, "object": "thread.message", "role": "user", "content": "hi"}))];
    assert_eq!(
        encode(&interaction)["request"].to_string(),
        json!({"object": "thread.message", "role": "user",
               "content": [{"type": "text", "text": {"value": "hi", "annotations": []}}],
               "assistant_id": "asst_1", "thread_id": "thread_1", "model": "gpt-4o-mini"})
        .to_string()
    );
}

#[test]
fn a_run_without_input_still_tells_of_assistant_thread_and_model() {
    let mut interaction = plain();
    interaction.inputs.clear();
    assert_eq!(
        encode(&interaction)["request"],
        json!({"object": "thread.message", "role": "user", "content": [],
               "assistant_id": "asst_1", "thread_id": "thread_1", "model": "gpt-4o-mini"})
    );
}

#[test]
fn usage_is_left_out_when_unknown_and_kept_when_the_message_has_its_own() {
    let mut interaction = plain();
    interaction.usage = None;
    assert_eq!(encode(&interaction)["response"].get("usage"), None);

    interaction.usage = Some(raw(&json!({"total_tokens": 1})));
    interaction.outputs = vec![message(json!({"id": "m", "content": [], "usage": null}))];
    assert_eq!(encode(&interaction)["response"]["usage"], Value::Null);
}

#[test]
fn session_timeout_and_user_are_those_of_the_attribution() {
    let mut interaction = plain();
    interaction.attribution = Attribution {
        session: Some("MySession".to_owned()),
        session_timeout_minutes: Some(15),
        user: Some(User::from_id("123")),
        app: Some("shop".to_owned()),
        ..Attribution::default()
    };
    let body = encode(&interaction);
    assert_eq!(body["user"], json!({"userId": "123"}));
    assert_eq!(body["session"], json!("MySession"));
    assert_eq!(body["sessionTimeout"], json!(15));
}

#[test]
fn the_key_is_sent_as_a_header_and_secrets_are_never_shown() {
    let sink = sink(vec![Status::Completed]);
    let records = [record(plain())];
    let payload = sink.encode(&records).unwrap();
    assert_eq!(payload.headers["idempotency-key"], "key_1");
    assert_eq!(payload.body, sink.encode(&records).unwrap().body);
    for shown in [format!("{sink:?}"), format!("{payload:?}"), format!("{:?}", sink.config)] {
        assert!(!shown.contains("APPKEY") && !shown.contains("APIKEY"), "{shown}");
    }
}

#[test]
fn of_a_users_profile_only_what_the_vendor_knows_is_sent() {
    let user = |fields: Value| {
        let mut interaction = plain();
        interaction.attribution.user = Some(User(fields.as_object().unwrap().clone()));
        encode(&interaction)["user"].clone()
    };
    let profile = json!({"userId": "u", "email": "j@e.com", "displayName": "Jane", "ip": "192.0.2.1", "countryCode": "KR",
                         "createdAt": 1, "properties": {"plan": "pro"}, "gender": "female"});
    let sent = json!({"userId": "u", "email": "j@e.com", "gender": "female", "firstName": "Jane"});
    assert_eq!(user(profile), sent);
    let named = json!({"userId": "u", "displayName": "JJ", "lastName": "Doe"});
    assert_eq!(user(named), json!({"userId": "u", "lastName": "Doe"}));
}

#[test]
fn only_the_configured_statuses_are_accepted() {
    let mut interaction = plain();
    assert!(sink(vec![Status::Completed]).accepts(&Event::Interaction(Box::new(interaction.clone()))));
    interaction.status = Status::Failed;
    let failed = Event::Interaction(Box::new(interaction));
    assert!(!sink(vec![Status::Completed]).accepts(&failed));
    assert!(sink(vec![Status::Completed, Status::Failed]).accepts(&failed));
}

#[test]
fn an_answer_whose_status_is_not_ok_is_a_dead_letter() {
    let sink = sink(vec![Status::Completed]);
    for (code, body, expected) in [
        (200, r#"{"status":"ok"}"#, Verdict::Ack),
        (200, "", Verdict::Ack),
        (204, "<html>", Verdict::Ack),
        (200, r#"{"message":"thanks"}"#, Verdict::Ack),
        (200, r#"{"status":"error"}"#, Verdict::DeadLetter("status_not_ok")),
        (200, r#"{"status":false}"#, Verdict::DeadLetter("status_not_ok")),
        (500, r#"{"status":"ok"}"#, Verdict::Retry),
        (401, r#"{"status":"error"}"#, Verdict::Misconfigured),
    ] {
        let status = StatusCode::from_u16(code).unwrap();
        assert_eq!(sink.judge(status, body.as_bytes()), expected, "{code} {body}");
    }
}

#[test]
fn settings_that_cannot_work_are_refused() {
    assert!(Reconify::new(config()).is_ok());
    assert!(matches!(
        Reconify::new(Config { app_key: "".into(), ..config() }),
        Err(ConfigError::EmptyAppKey)
    ));
    assert!(matches!(
        Reconify::new(Config { api_key: "".into(), ..config() }),
        Err(ConfigError::EmptyApiKey)
    ));
    for url in ["/track", "ftp://host/track"] {
        let url = Uri::from_static(url);
        let refused = Reconify::new(Config { url, ..config() });
        assert!(matches!(refused, Err(ConfigError::UrlNotAbsolute(_))));
    }
}

fn sink(statuses: Vec<Status>) -> Reconify {
    let filter = Filter { statuses, ..Filter::default() };
    Reconify::new(Config { filter, ..config() }).unwrap()
}

fn config() -> Config {
    Config::new("APPKEY".into(), "APIKEY".into())
}

fn record(interaction: Interaction) -> Record {
    Record { event: Event::Interaction(Box::new(interaction)), first_message: None }
}

fn encode(interaction: &Interaction) -> Value {
    let payload = sink(vec![Status::Completed]).encode(&[record(interaction.clone())]).unwrap();
    serde_json::from_slice(&payload.body).unwrap()
}

fn turn() -> Interaction {
    let said = |role, id: Option<&str>, text: &str| {
        let content = json!([{"type": "text", "text": {"value": text, "annotations": []}}]);
        let mut object = json!({"object": "thread.message", "role": "user", "content": content});
        if let Some(id) = id {
            object = json!({"id": id, "object": "thread.message", "role": "assistant", "content": content});
        }
        Message { role, ..message(object) }
    };
    Interaction {
        api: Api::Responses,
        conversation: ConversationKey { upstream: "u".into(), id: "conv_1".into() },
        run: "resp_1".to_owned(),
        assistant: None,
        inputs: vec![
            said(Role::System, None, "be nice"),
            said(Role::User, None, "one"),
            said(Role::Tool, None, "5"),
            said(Role::User, None, "two"),
        ],
        outputs: vec![said(Role::Assistant, Some("msg_1"), "three")],
        usage: Some(raw(&json!({"input_tokens": 9, "output_tokens": 5}))),
        tokens: Some(Tokens { input: Some(9), output: Some(5), total: Some(14), ..Tokens::default() }),
        times: Times {
            created_at: Some(1.0),
            ended_at: Some(2.0),
            request_at: UnixMillis(1_500),
            end_at: UnixMillis(2_500),
            ..Times::default()
        },
        ..plain()
    }
}

#[test]
fn a_response_is_told_as_the_messages_of_an_assistant_in_its_session() {
    let body = encode(&turn());
    assert_eq!(
        (&body["reconify"]["format"], &body["reconify"]["type"]),
        (&json!("openai"), &json!("assistant"))
    );
    let text = |value: &str| json!({"type": "text", "text": {"value": value, "annotations": []}});
    assert_eq!(
        body["request"].to_string(),
        json!({"object": "thread.message", "role": "user", "content": [text("one"), text("two")],
               "thread_id": "conv_1", "model": "gpt-4o-mini"})
        .to_string()
    );
    assert_eq!(
        body["response"].to_string(),
        json!({"id": "msg_1", "object": "thread.message", "role": "assistant", "content": [text("three")],
               "thread_id": "conv_1", "run_id": "resp_1",
               "usage": {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}})
        .to_string()
    );
    assert_eq!(body["timestamps"], json!({"request": 1_500, "response": 2_500}), "one clock only");
    let named = Attribution { session: Some("s".to_owned()), ..Attribution::default() };
    let body = encode(&Interaction { attribution: named, ..turn() });
    assert_eq!((&body["request"]["thread_id"], &body["session"]), (&json!("s"), &json!("s")));
}

#[test]
fn a_response_without_text_tells_its_usage_and_never_one_it_does_not_know() {
    let silent = Interaction { outputs: Vec::new(), ..turn() };
    assert_eq!(encode(&silent)["response"]["usage"]["total_tokens"], 14);
    assert_eq!(encode(&silent)["response"]["content"], json!([]));
    let unknown = Interaction { usage: None, tokens: None, ..turn() };
    assert!(encode(&unknown)["response"].get("usage").is_none());
    let unseen = Interaction { outputs: Vec::new(), ..unknown };
    assert!(encode(&unseen)["response"].get("usage").is_none());
    assert_eq!(encode(&unseen)["response"]["run_id"], "resp_1");
    assert_eq!(encode(&Interaction { status: Status::Incomplete, ..unseen })["response"], Value::Null);
}

#[test]
fn a_response_can_be_told_as_lists_of_messages() {
    let config = Config { responses: ResponsesShape::Universal, ..config() };
    let record = Record { event: Event::Interaction(Box::new(turn())), first_message: Some(1) };
    let payload = Reconify::new(config).unwrap().encode(&[record]).unwrap();
    let body: Value = serde_json::from_slice(&payload.body).unwrap();
    assert_eq!(
        (&body["reconify"]["format"], &body["reconify"]["type"]),
        (&json!("universal"), &json!("chat"))
    );
    assert_eq!(
        body["request"],
        json!({"model": "gpt-4o-mini", "thread_id": "conv_1", "messages": [
            {"role": "user", "content": "one"}, {"role": "user", "content": "two"}]})
    );
    assert_eq!(
        body["response"],
        json!({"id": "resp_1", "model": "gpt-4o-mini",
               "choices": [{"index": 0, "message": {"role": "assistant", "content": "three"}}],
               "usage": {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}})
    );
}

#[test]
fn a_turn_in_which_only_tools_speak_is_not_told() {
    let sink = Reconify::new(config()).unwrap();
    let accepts = |interaction| sink.accepts(&Event::Interaction(Box::new(interaction)));
    let only_tools = || {
        let inputs = turn().inputs.into_iter().filter(|message| message.role == Role::Tool).collect();
        Interaction { inputs, outputs: Vec::new(), ..turn() }
    };
    assert!(accepts(turn()) && !accepts(only_tools()));
    assert!(accepts(Interaction { outputs: turn().outputs, ..only_tools() }));
    assert!(accepts(Interaction { inputs: Vec::new(), outputs: Vec::new(), ..plain() }), "a run always is");
}

/// The interaction the vendor's SDK was told of when it sent `recorded`: what it added is taken out again.
fn interaction_behind(recorded: &Value) -> Interaction {
    let (mut request, mut response) = (recorded["request"].clone(), recorded["response"].clone());
    let model = request.as_object_mut().unwrap().shift_remove("model").unwrap();
    let assistant = request["assistant_id"].take();
    let thread = request["thread_id"].clone();
    let usage = response.as_object_mut().unwrap().shift_remove("usage").unwrap();
    let seconds = |key: &str| recorded["timestamps"][key].as_f64().map(|millis| millis / 1000.0);
    Interaction {
        assistant: assistant.as_str().map(str::to_owned),
        model: model.as_str().map(str::to_owned),
        conversation: ConversationKey { upstream: "u".into(), id: thread.as_str().unwrap().into() },
        inputs: vec![message(request)],
        outputs: vec![message(response)],
        usage: Some(raw(&usage)),
        times: Times { started_at: seconds("request"), ended_at: seconds("response"), ..Times::default() },
        ..plain()
    }
}

fn plain() -> Interaction {
    Interaction {
        key: "key_1".to_owned(),
        api: Api::Assistants,
        conversation: ConversationKey { upstream: "u".into(), id: "thread_1".into() },
        run: "run_1".to_owned(),
        turn_id: None,
        parent_id: None,
        continuations: Vec::new(),
        status: Status::Completed,
        assistant: Some("asst_1".to_owned()),
        assistant_name: None,
        model: Some("gpt-4o-mini".to_owned()),
        attribution: Attribution::default(),
        trace_id: None,
        inputs: vec![message(json!({"id": "msg_in", "content": []}))],
        instructions: None,
        additional_instructions: None,
        outputs: vec![message(json!({"id": "msg_out", "content": []}))],
        tool_calls: Vec::new(),
        reasoning: Vec::new(),
        request: None,
        response: None,
        tokens: None,
        usage: Some(raw(&json!({"total_tokens": 3}))),
        usage_absent: None,
        error: None,
        metadata: None,
        times: Times {
            started_at: Some(1_725_321_819.0),
            ended_at: Some(1_725_321_821.0),
            request_at: UnixMillis(1_500),
            end_at: UnixMillis(2_500),
            ..Times::default()
        },
        inputs_complete: true,
        outputs_complete: true,
        assumed: false,
        pairing: Pairing::Exact,
    }
}

fn message(object: Value) -> Message {
    Message {
        id: object["id"].as_str().map(str::to_owned),
        role: Role::User,
        status: MessageStatus::Completed,
        created_at: object["created_at"].as_f64(),
        run: None,
        object: raw(&object),
    }
}

fn raw(value: &Value) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).unwrap()
}

/// Bodies the vendor's SDK 3.1.0 sent with the official OpenAI SDKs: a polled run and a streamed one.
const RECORDED: [&str; 2] = [include_str!("recorded/polled.json"), include_str!("recorded/streamed.json")];

/// A chat, as [`plain`] is a run.
fn chat() -> Interaction {
    let request =
        json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}], "temperature": 1});
    let response = json!({"id": "chatcmpl-1", "object": "chat.completion", "created": 1_725_321_819, "model": "gpt-4o-2024-08-06",
                          "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
                          "usage": {"total_tokens": 3}});
    Interaction {
        api: Api::Chat,
        run: "chatcmpl-1".to_owned(),
        assistant: None,
        model: Some("gpt-4o-2024-08-06".to_owned()),
        request: Some(raw(&request)),
        response: Some(raw(&response)),
        times: Times { started_at: None, ended_at: None, ..plain().times },
        ..plain()
    }
}

#[test]
fn a_chat_is_what_was_given_to_the_api_and_what_it_gave_with_the_proxys_times() {
    let interaction = chat();
    let (request, response) = (interaction.request.as_ref().unwrap(), interaction.response.as_ref().unwrap());
    assert_eq!(
        encode(&interaction).to_string(),
        format!(
            r#"{{"reconify":{{"format":"openai","appKey":"APPKEY","apiKey":"APIKEY","type":"chat","version":"3.1.0"}},"request":{request},"response":{response},"user":{{}},"session":null,"sessionTimeout":null,"timestamps":{{"request":1500,"response":2500}}}}"#
        )
    );
}

#[test]
fn a_chat_of_several_completions_is_the_last_with_the_usage_of_all() {
    let mut interaction = chat();
    interaction.continuations = vec!["chatcmpl-2".to_owned()];
    interaction.usage = Some(raw(&json!({"total_tokens": 40})));
    let mut expected: Value = serde_json::from_str(interaction.response.as_ref().unwrap().get()).unwrap();
    expected["usage"] = json!({"total_tokens": 40});
    assert_eq!(encode(&interaction)["response"], expected);
    interaction.usage = None;
    assert_eq!(encode(&interaction)["response"]["usage"], Value::Null);
}

#[test]
fn a_chat_whose_bodies_were_not_kept_is_sent_as_far_as_it_is_recorded() {
    let mut interaction = chat();
    (interaction.request, interaction.response) = (None, None);
    interaction.instructions = Some("be brief".to_owned());
    interaction.inputs = vec![
        Message {
            role: Role::Tool,
            ..message(json!({"role": "tool", "tool_call_id": "c1", "content": "9-5"}))
        },
        message(
            json!({"role": "user", "content": [{"type": "text", "text": {"value": "and then?", "annotations": []}}]}),
        ),
    ];
    interaction.outputs = vec![message(json!({"content": "closed", "finish_reason": "stop"}))];
    let body = encode(&interaction);
    assert_eq!(
        body["request"],
        json!({"model": "gpt-4o-2024-08-06", "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "tool", "content": "9-5", "tool_call_id": "c1"},
            {"role": "user", "content": "and then?"}]})
    );
    assert_eq!(
        body["response"],
        json!({"id": "chatcmpl-1", "object": "chat.completion", "model": "gpt-4o-2024-08-06",
               "choices": [{"index": 0, "message": {"role": "assistant", "content": "closed"}, "finish_reason": "stop"}],
               "usage": {"total_tokens": 3}})
    );
}

#[test]
fn a_chat_is_sent_if_somebody_says_something_in_it_even_if_it_was_cut_short() {
    let accepts = |statuses: Vec<Status>, interaction: Interaction| {
        sink(statuses).accepts(&Event::Interaction(Box::new(interaction)))
    };
    let cut_short = Interaction { status: Status::Incomplete, ..chat() };
    assert!(accepts(vec![Status::Completed], chat()));
    assert!(accepts(vec![Status::Completed], cut_short.clone()));
    assert!(!accepts(vec![Status::Failed], cut_short.clone()));
    assert!(!accepts(vec![Status::Completed], Interaction { api: Api::Assistants, ..cut_short }));
    assert!(!accepts(vec![Status::Completed], Interaction { status: Status::Failed, ..chat() }));
    let tool = Message { role: Role::Tool, ..message(json!({"role": "tool", "content": "9-5"})) };
    let silent = Interaction { inputs: vec![tool], outputs: Vec::new(), ..chat() };
    assert!(!accepts(vec![Status::Completed], silent));
}
