use serde_json::{Value, json};

use super::limits::MAX_ID;
use super::*;
use crate::event::{
    Feedback, FeedbackTarget, Rating, SessionClosed, SessionKey, SessionOpened, UserIdentified,
};
use crate::time::UnixMillis;

/// What the vendor's Node SDK (`alignai`) sent for one event of each kind, decoded from its binary form.
const RECORDED: &str = include_str!("recorded.json");

/// 2026-11-20T10:14:47.123Z.
const AT: UnixMillis = UnixMillis(1_795_169_687_123);

fn align(change: impl FnOnce(&mut Config)) -> Align {
    let mut config = Config::new("key-1".into(), "proj-1".to_owned());
    change(&mut config);
    Align::new(config).unwrap()
}

fn record(event: Event) -> Record {
    Record { event, first_message: None }
}

fn encode_with(align: &Align, records: &[Record]) -> (Value, u64) {
    let payload = align.encode(records).unwrap();
    (serde_json::from_slice(&payload.body).unwrap(), payload.cuts)
}

/// The one event a record becomes, and what was cut.
fn encode(event: Event) -> (Value, u64) {
    let (mut request, cuts) = encode_with(&align(|_| {}), &[record(event)]);
    (request["events"][0].take(), cuts)
}

fn session(id: &str) -> SessionKey {
    SessionKey { scope: "app:".to_owned(), id: id.to_owned() }
}

fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_str(&value.to_string()).unwrap()
}

fn user(fields: Value) -> Event {
    let user = from(fields);
    Event::UserIdentified(Box::new(UserIdentified {
        key: "k".to_owned(),
        user,
        at: AT,
        session: None,
        conversation: None,
        app: None,
    }))
}

fn opened(id: &str, attribution: Value, assistant: Option<&str>) -> Event {
    Event::SessionOpened(Box::new(SessionOpened {
        key: "k".to_owned(),
        session: session(id),
        conversation: from(json!({"upstream": "u", "id": "t"})),
        at: AT,
        attribution: from(attribution),
        assistant: assistant.map(str::to_owned),
    }))
}

fn closed(id: &str) -> Event {
    let session = json!({"scope": "app:", "id": id});
    Event::SessionClosed(from::<Box<SessionClosed>>(json!({"key": "k", "session": session,
        "conversation": {"upstream": "u", "id": "t"}, "at": AT, "reason": "idle"})))
}

fn feedback(target: FeedbackTarget, rating: Rating) -> Feedback {
    Feedback {
        key: "k".to_owned(),
        rating,
        comment: None,
        score: None,
        target,
        session: session("sess-1"),
        conversation: None,
        run: None,
        at: AT,
        app: None,
    }
}

fn message(role: &str, content: Value) -> Value {
    json!({"id": null, "role": role, "status": "completed", "created_at": 1_795_169_000, "run": null,
           "object": {"object": "thread.message", "role": role, "content": content}})
}

fn interaction(inputs: &[Value], outputs: &[Value], source: &str) -> Event {
    Event::Interaction(from(
        json!({"key": "run-key", "conversation": {"upstream": "u", "id": "t"}, "run": "r",
        "status": "completed", "assistant": "a", "model": "m", "attribution": {"session": "sess-1"}, "inputs": inputs,
        "outputs": outputs, "tool_calls": [], "usage": null, "usage_absent": "not_reported", "error": null, "metadata": null,
        "times": {"created_at": null, "started_at": null, "ended_at": null, "request_at": AT, "first_token_at": null,
        "end_at": AT.0 + 1, "source": source}, "inputs_complete": true, "outputs_complete": true, "assumed": false,
        "pairing": "exact"}),
    ))
}

#[test]
fn each_event_has_the_shape_the_vendors_sdk_gives_it() {
    let jane = json!({"userId": "user-1", "displayName": "Jane", "email": "j@e.com", "countryCode": "KR",
                      "createdAt": 1_704_164_645_678_u64, "properties": {"plan": "pro"}});
    let talk = interaction(
        &[message("user", json!("hello é 🌍"))],
        &[message("assistant", json!([{"type": "text", "text": {"value": "hi", "annotations": []}}]))],
        "live",
    );
    let target = FeedbackTarget::Message { number: 2, id: None };
    let records = [
        user(jane),
        user(json!({"userId": "user-min"})),
        opened("sess-1", json!({"user": {"userId": "user-1"}}), Some("asst_1")),
        opened("sess-2", json!({"user": {"userId": "user-1"}}), None),
        talk,
        closed("sess-1"),
        Event::Feedback(Box::new(feedback(target, Rating::ThumbsUp))),
        Event::Feedback(Box::new(feedback(FeedbackTarget::Session, Rating::ThumbsDown))),
    ];
    let records = records.map(|event| Record { event, first_message: Some(1) });
    let (ours, cuts) = encode_with(&align(|_| {}), &records);
    let mut recorded: Value = serde_json::from_str(RECORDED).unwrap();
    // The SDK says that a user of whom no such time is known was created just now.
    let second = recorded["events"][1]["properties"]["userProperties"].as_object_mut().unwrap();
    assert!(second.remove("userCreateTime").is_some());
    // The app's own properties, which no traffic tells.
    for at in [2, 4] {
        let properties = recorded["events"][at]["properties"].as_object_mut().unwrap();
        assert!(properties.remove("customProperties").is_some());
    }
    let comparable = |request: &Value| {
        let mut events = request["events"].as_array().unwrap().clone();
        for event in &mut events {
            // Ids and times are of the moment.
            assert!(event["id"].as_str().is_some_and(|id| !id.is_empty()));
            event["id"] = json!("id");
            event["createTime"] = json!("time");
            if let Some(start) = event["properties"]["sessionProperties"].get_mut("sessionStartTime") {
                *start = json!("time");
            }
        }
        events
    };
    assert_eq!(comparable(&ours), comparable(&recorded));
    assert_eq!(cuts, 0);
    let payload = align(|_| {}).encode(&records).unwrap();
    assert_eq!(payload.uri, "https://api.impaction.ai/ingestion.v1alpha.IngestionService/CollectEvents");
    assert_eq!(payload.headers["authorization"], "Bearer key-1");
    assert_eq!(payload.headers["content-type"], "application/json");
    assert_eq!(payload.headers["connect-protocol-version"], "1");
}

#[test]
fn the_same_records_give_the_same_bytes_and_every_event_an_id_of_its_own() {
    let records = [
        record(interaction(&[message("user", json!("a")), message("user", json!("b"))], &[], "live")),
        record(closed("s")),
    ];
    let (align, again) = (align(|_| {}), align(|_| {}));
    let request = align.encode(&records).unwrap();
    assert_eq!(request.body, again.encode(&records).unwrap().body);
    let whole: Value = serde_json::from_slice(&request.body).unwrap();
    let ids: std::collections::BTreeSet<_> =
        whole["events"].as_array().unwrap().iter().map(|event| event["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 3);
    // An event keeps its id in whatever request it is sent.
    let alone = encode_with(&align, &records[..1]).0;
    assert_eq!(alone["events"][1]["id"], whole["events"][1]["id"]);
    assert_ne!(alone["requestId"], whole["requestId"]);
}

#[test]
fn messages_carry_their_numbers_and_nobody_else_speaks() {
    let inputs = [
        message("other", json!("system text")),
        message("assistant", json!("earlier")),
        message("user", json!("q")),
    ];
    let event = interaction(&inputs, &[message("assistant", json!([]))], "live");
    let record = Record { event, first_message: Some(7) };
    assert_eq!(Align::weight(&record), 3);
    let (request, _) = encode_with(&align(|_| {}), &[record]);
    let said: Vec<_> = request["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| &event["properties"]["messageProperties"])
        .collect();
    let seen = said.iter().map(|said| {
        (
            said["messageIndexHint"].as_u64().unwrap(),
            said["messageRole"].as_str().unwrap(),
            said["messageContent"].as_str().unwrap(),
        )
    });
    let seen: Vec<_> = seen.collect();
    assert_eq!(
        seen,
        [(7, "ROLE_ASSISTANT", "earlier"), (8, "ROLE_USER", "q"), (9, "ROLE_ASSISTANT", "[no text]")]
    );
}

#[test]
fn times_are_the_proxys_where_it_was_there_and_the_apis_where_it_was_not() {
    let times = |source: &str| {
        let event = interaction(&[message("user", json!("q"))], &[message("assistant", json!("a"))], source);
        let (request, _) = encode_with(&align(|_| {}), &[record(event)]);
        [0, 1].map(|at| request["events"][at]["createTime"].as_str().unwrap().to_owned())
    };
    assert_eq!(times("live"), ["2026-11-20T10:14:47.123Z", "2026-11-20T10:14:47.124Z"]);
    assert_eq!(times("backfilled"), ["2026-11-20T10:03:20.000Z", "2026-11-20T10:03:20.000Z"]);
}

#[test]
fn what_is_too_long_is_made_to_fit_and_counted() {
    let long = "x".repeat(400);
    let (event, cuts) =
        encode(user(json!({"userId": long, "displayName": long, "email": long, "countryCode": "USA",
        "properties": {"ok": long, "not ok": "x", "number": 7}})));
    assert_eq!(cuts, 6);
    let properties = &event["properties"]["userProperties"];
    assert_eq!(properties["userId"].as_str().unwrap().len(), MAX_ID);
    assert_eq!(properties["userDisplayName"].as_str().unwrap().len(), MAX_ID);
    assert_eq!(properties["userEmail"].as_str().unwrap().len(), MAX_VALUE);
    assert!(properties.get("userLocation").is_none());
    let custom = event["properties"]["customProperties"].as_object().unwrap();
    assert_eq!(custom.keys().collect::<Vec<_>>(), ["ok"]);
    assert_eq!(custom["ok"]["stringValue"].as_str().unwrap().len(), MAX_VALUE);

    let (event, cuts) = encode(opened(&long, json!({}), Some(&long)));
    assert_eq!(cuts, 2);
    let again = encode(closed(&long)).0;
    let id =
        |event: &Value| event["properties"]["sessionProperties"]["sessionId"].as_str().unwrap().to_owned();
    assert_eq!(id(&event), id(&again), "the same id wherever it stands");
}

#[test]
fn a_country_is_two_letters_and_what_is_not_is_left_out_and_counted() {
    for (code, is_country) in [("KR", true), ("kr", true), ("USA", false), ("é", false), ("K1", false)] {
        let (event, cuts) = encode(user(json!({"userId": "u", "countryCode": code})));
        let location = &event["properties"]["userProperties"]["userLocation"]["countryCode"];
        let expected = if is_country { json!(code) } else { Value::Null };
        assert_eq!((location, cuts), (&expected, u64::from(!is_country)), "{code}");
    }
}

#[test]
fn a_session_whose_user_is_not_known_gets_a_pseudonym_of_its_own_or_the_configured_one() {
    let user_of = |align: &Align, id: &str| {
        let (request, _) =
            encode_with(align, &[record(opened(id, json!({"user": {"email": "j@e.com"}}), None))]);
        request["events"][0]["properties"]["sessionProperties"]["userId"].as_str().unwrap().to_owned()
    };
    let own = align(|_| {});
    assert_eq!(user_of(&own, "a"), user_of(&own, "a"));
    assert_ne!(user_of(&own, "a"), user_of(&own, "b"));
    assert!(user_of(&own, "a").len() <= MAX_ID);
    let named = align(|config| config.unknown_user = UnknownUser::Named("nobody".to_owned()));
    assert_eq!(user_of(&named, "a"), "nobody");
}

#[test]
fn configured_properties_come_first_and_ten_are_the_most() {
    let own: serde_json::Map<String, Value> = (0..12).map(|n| (format!("own{n}"), json!("v"))).collect();
    let align = align(|config| {
        config.properties =
            BTreeMap::from([("env".to_owned(), "prod".to_owned()), ("own3".to_owned(), "ours".to_owned())]);
    });
    let (request, cuts) = encode_with(&align, &[record(user(json!({"userId": "u", "properties": own})))]);
    let custom = request["events"][0]["properties"]["customProperties"].as_object().unwrap();
    assert_eq!(custom.len(), 10);
    assert_eq!(
        (&custom["env"], &custom["own3"]),
        (&json!({"stringValue": "prod"}), &json!({"stringValue": "ours"}))
    );
    assert_eq!(cuts, 4, "three had no room, one had no place beside ours");
}

#[test]
fn a_comment_and_a_score_are_properties_of_feedback() {
    let mut said = feedback(FeedbackTarget::Session, Rating::ThumbsUp);
    said.comment = Some("good".to_owned());
    said.score = Some(0.5);
    let (event, _) = encode(Event::Feedback(Box::new(said)));
    let expected = json!({"comment": {"stringValue": "good"}, "score": {"stringValue": "0.5"}});
    assert_eq!(event["properties"]["customProperties"], expected);
}

#[test]
fn only_what_tells_something_is_accepted() {
    let align = align(|_| {});
    assert!(!align.accepts(&interaction(&[], &[message("other", json!("x"))], "live")));
    assert!(align.accepts(&interaction(&[message("user", json!("x"))], &[], "live")));
    assert!(!align.accepts(&user(json!({"email": "j@e.com"}))));
    assert!(align.encode(&[]).is_none());
}

#[test]
fn success_is_connects_and_a_web_page_is_not() {
    let align = align(|_| {});
    for (code, body, expected) in [
        (200, "{}", Verdict::Ack),
        (200, "", Verdict::Ack),
        (200, "<html>welcome</html>", Verdict::Misconfigured),
        (401, r#"{"code":"unauthenticated"}"#, Verdict::Misconfigured),
        (400, r#"{"code":"invalid_argument"}"#, Verdict::DeadLetter("refused")),
        (413, "", Verdict::Split),
        (429, "{}", Verdict::Retry),
        (503, "{}", Verdict::Retry),
    ] {
        assert_eq!(
            align.judge(StatusCode::from_u16(code).unwrap(), body.as_bytes()),
            expected,
            "{code} {body}"
        );
    }
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let check = |expected: &str, change: &dyn Fn(&mut Config)| {
        let mut config = Config::new("key".into(), "project".to_owned());
        change(&mut config);
        let error = Align::new(config).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    let properties = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
    check("the api key is empty", &|config| config.api_key = "".into());
    check("visible characters", &|config| config.api_key = "a\nb".into());
    check("the project id is empty", &|config| config.project_id.clear());
    check("is not an absolute", &|config| config.host = Uri::from_static("/x"));
    check("is not an absolute", &|config| config.host = Uri::from_static("ftp://x"));
    check("the property 1a", &|config| config.properties = properties("1a", "x"));
    check("the value of the property a", &|config| config.properties = properties("a", &"x".repeat(257)));
    check("there are 11", &|config| {
        config.properties = (0..11).map(|n| (format!("a{n}"), "x".to_owned())).collect();
    });
}

#[test]
fn the_key_is_never_shown() {
    let align = Align::new(Config::new("hush-hush".into(), "p".to_owned())).unwrap();
    let payload = align.encode(&[record(closed("s"))]).unwrap();
    for shown in [format!("{align:?}"), format!("{payload:?}"), format!("{:?}", align.config)] {
        assert!(!shown.contains("hush-hush"), "{shown}");
    }
}
