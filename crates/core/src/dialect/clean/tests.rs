use proptest::prelude::*;
use serde_json::value::RawValue;

use super::writer::MAX_DEPTH;
use super::*;
use crate::dialect::inline;

fn text_of(json: &str) -> String {
    clean(json.as_bytes(), Rules::PLAIN).unwrap().text
}

fn masked(json: &str) -> String {
    let credentials = Credentials::default();
    clean(json.as_bytes(), Rules { credentials: Some(&credentials), ..Rules::PLAIN }).unwrap().text
}

#[test]
fn what_is_right_stays_as_it_was_written() {
    for json in [
        r#"{"a":[1,-0.5e+10,18446744073709551616,1e3,1e999,true,false,null],"":{},"b":[]}"#,
        r#""\ud83d\ude00 \"\\\/\b\f\n\r\t\u00e9é""#,
        r#"{"a":1,"a":2}"#,
        "7",
    ] {
        let clean = clean(json.as_bytes(), Rules::PLAIN).unwrap();
        assert_eq!((clean.text.as_str(), &clean.found), (json, &Found::default()));
    }
    assert_eq!(text_of(" { \"a\" : [ 1 ,\t2 ] }\r\n"), r#"{"a":[1,2]}"#);
    assert_eq!(text_of("\u{feff}{}"), "{}");
}

#[test]
fn what_writers_get_wrong_is_mended_and_told() {
    for (json, expected) in [
        (&br#"["a\ud83d","\ude00"]"#[..], r#"["a\ufffd","\ufffd"]"#),
        (br#""\ud83d\ud83d\ude00""#, r#""\ufffd\ud83d\ude00""#),
        (br#""\ud83d\n""#, r#""\ufffd\n""#),
        (b"\"\xF0\x9F\"", "\"\u{fffd}\""),
        (b"\"a\x01\nb\"", r#""a\u0001\u000ab""#),
        (br#""\x \u12 \u+123""#, r#""\\x \\u12 \\u+123""#),
    ] {
        let clean = clean(json, Rules::PLAIN).unwrap();
        assert_eq!(clean.text, expected);
        assert!(clean.found.character && !clean.found.no_number && !clean.found.left_out);
    }
    for (json, expected) in [
        (r#"{"a":NaN,"b":[-Infinity, Infinity]}"#, r#"{"a":null,"b":[null,null]}"#),
        ("[01,.5,+1,1.,-,1e]", ""),
        ("[01,.5,+1,1.,1e]", "[null,null,null,null,null]"),
    ] {
        let cleaned = clean(json.as_bytes(), Rules::PLAIN);
        assert_eq!(cleaned.as_ref().map(|clean| clean.text.as_str()).unwrap_or_default(), expected);
        assert!(cleaned.is_err() || cleaned.unwrap().found.no_number);
    }
}

#[test]
fn binary_data_becomes_little_longer() {
    for odd in [&b"\xff"[..], b"\xf0\x9f", b"\x01", b"\xffa", b"\\x"] {
        let json = [&b"\""[..], &odd.repeat(4 << 20), b"\""].concat();
        let Clean { text, found, .. } = clean(&json, Rules::PLAIN).unwrap();
        assert!(text.len() <= json.len() + MAX_GROWN_BYTES && found.character, "{odd:?}: {}", text.len());
        assert!(serde_json::from_str::<String>(&text).is_ok());
    }
    let few = masked("{\"a\":\"\u{1}\"}");
    assert_eq!(few, r#"{"a":"\u0001"}"#);
}

#[test]
fn what_is_no_json_is_broken_and_its_whole_members_stay() {
    for json in [
        "",
        " ",
        "{",
        "[1",
        "[1,]",
        "[1 2]",
        "{1:2}",
        "{\"a\" 1}",
        "{\"a\":}",
        "tru",
        "\"a",
        "\"a\\\"",
        "]",
        "{]",
        "x",
    ] {
        assert!(clean(json.as_bytes(), Rules::PLAIN).is_err(), "{json}");
    }
    let json = r#"{"id":"msg_1","content":[{"type":"text"}],"n":12}"#;
    for cut in 0..json.len() {
        let broken = clean(&json.as_bytes()[..cut], Rules::PLAIN).unwrap_err();
        let expected = match cut {
            0..=13 => "",
            14..=41 => r#"{"id":"msg_1"}"#,
            42..=48 => r#"{"id":"msg_1","content":[{"type":"text"}]}"#,
            _ => unreachable!(),
        };
        assert_eq!(broken.members, expected, "{}", &json[..cut]);
    }
}

#[test]
fn a_value_is_told_apart_from_what_follows() {
    let clean = clean(br#" {"a":1} {"b":2}"#, Rules::PLAIN).unwrap();
    assert_eq!((clean.text.as_str(), clean.read_bytes), (r#"{"a":1}"#, 8));
}

#[test]
fn depth_is_bounded_whatever_the_input() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let json = |depth: usize| format!("{}1{}", open.repeat(depth), close.repeat(depth));
        let shallow = clean(json(MAX_DEPTH).as_bytes(), Rules::PLAIN).unwrap();
        assert_eq!((shallow.text, shallow.found.left_out), (json(MAX_DEPTH), false));
        for depth in [MAX_DEPTH + 1, 130, 1_000_000] {
            let deep = clean(json(depth).as_bytes(), Rules::PLAIN).unwrap();
            assert!(deep.found.left_out);
            assert!(serde_json::from_str::<Value>(&deep.text).is_ok(), "a parser takes it");
        }
        assert!(clean(open.repeat(1_000_000).as_bytes(), Rules::PLAIN).is_err());
    }
}

#[test]
fn the_number_of_values_is_bounded_and_what_comes_behind_still_read() {
    let many = r#"{"a":0},"#.repeat(500_000);
    let json = format!(r#"{{"output":[{many}0],"usage":{{"total_tokens":7}},"status":"completed"}}"#);
    let clean = clean(json.as_bytes(), Rules::PLAIN).unwrap();
    assert!(clean.found.left_out && clean.text.len() < 2 << 20, "{}", clean.text.len());
    assert!(clean.text.ends_with(r#"],"usage":{"total_tokens":7},"status":"completed"}"#));
    let keys: String = (0..1_000_000).map(|key| format!("\"k{key}\":0,")).collect();
    let clean = super::clean(format!("{{{keys}\"z\":1}}").as_bytes(), Rules::PLAIN).unwrap();
    assert!(clean.found.left_out && serde_json::from_str::<Value>(&clean.text).is_ok());
}

#[test]
fn a_list_that_is_read_by_item_has_no_bound() {
    let items = r#"{"a":0},"#.repeat(500_000);
    let json = format!(r#"{{"messages":[{items}0],"other":[{items}0]}}"#);
    let rules = Rules { read_by_item: Some("messages"), ..Rules::PLAIN };
    let clean = clean(json.as_bytes(), rules).unwrap();
    let members: std::collections::BTreeMap<String, Box<RawValue>> =
        serde_json::from_str(&clean.text).unwrap();
    assert_eq!(members["messages"].get().len(), items.len() + 3);
    assert!(members["other"].get().len() < items.len() / 2 && clean.found.left_out);
}

#[test]
fn members_nobody_reads_are_left_out() {
    let rules = Rules { omitted: &["logprobs"], ..Rules::PLAIN };
    let clean =
        clean(br#"{"logprobs":[[{"a":"]"}]],"b":{"logprobs":1,"c":2,"logprobs":{}},"logprobs":0}"#, rules)
            .unwrap();
    assert_eq!((clean.text.as_str(), clean.found), (r#"{"b":{"c":2}}"#, Found::default()));
}

#[test]
fn credentials_are_masked_wherever_they_stand() {
    for (json, expected) in [
        (
            r#"{"data_sources":[{"type":"azure_search","parameters":{"endpoint":"https://x","authentication":{"type":"api_key","key":"s1"}}}]}"#,
            r#"{"data_sources":[{"type":"azure_search","parameters":{"endpoint":"https://x","authentication":{"type":"api_key","key":"[masked]"}}}]}"#,
        ),
        (
            r#"{"api_key":"s","apiKey":7,"\u0061pi-key":"s","password":"","secret_key":null,"max_tokens":5}"#,
            r#"{"api_key":"[masked]","apiKey":"[masked]","\u0061pi-key":"[masked]","password":"","secret_key":null,"max_tokens":5}"#,
        ),
        (
            r#"{"extra_headers":{"Authorization":"s","X-Trace":"t","x-goog-api-key":["s"]}}"#,
            r#"{"extra_headers":{"Authorization":"[masked]","X-Trace":"t","x-goog-api-key":["[masked]"]}}"#,
        ),
        (
            r#"{"headers":[{"name":"Authorization","value":"s"}]}"#,
            r#"{"headers":[{"name":"Authorization","value":"[masked]"}]}"#,
        ),
        (
            r#"{"tools":[{"type":"mcp","server_url":"https://u:s@h/?token=s","authorization":"s"}]}"#,
            r#"{"tools":[{"type":"mcp","server_url":"https://u:[masked]@h/?token=[masked]","authorization":"[masked]"}]}"#,
        ),
        (
            r#"{"image_url":{"url":"https:\/\/h\/a?sig=s"},"urls":["https://h/?sig=s"]}"#,
            r#"{"image_url":{"url":"https://h/a?sig=[masked]"},"urls":["https://h/?sig=[masked]"]}"#,
        ),
        (
            r#"{"parameters":{"type":"object","properties":{"password":{"type":"string","description":"x"},"auth":{"type":"object","title":"y"}}}}"#,
            r#"{"parameters":{"type":"object","properties":{"password":{"type":"string","description":"x"},"auth":{"type":"object","title":"y"}}}}"#,
        ),
        (
            r#"{"content":"my api_key is sk-1","arguments":"{\"api_key\":\"s\"}"}"#,
            r#"{"content":"my api_key is sk-1","arguments":"{\"api_key\":\"s\"}"}"#,
        ),
    ] {
        assert_eq!(masked(json), expected);
        assert_eq!(masked(expected), expected, "twice is as once");
    }
}

#[test]
fn inlined_files_become_descriptions_where_they_are_looked_for() {
    let long = "A".repeat(1000);
    let json = format!(
        r#"{{"data":"{long}","content":[{{"data":"{long}","text":"{long}"}}],"x":{{"content":{{"url":"{long}"}}}}}}"#
    );
    let of = |files| clean(json.as_bytes(), Rules { files, ..Rules::PLAIN }).unwrap().text;
    assert_eq!(of(Files::Kept), json);
    let described = "[1000 characters, sha256 c2e686823489ced2]";
    let in_content = format!(
        r#"{{"data":"{long}","content":[{{"data":"{described}","text":"{long}"}}],"x":{{"content":{{"url":"{long}"}}}}}}"#
    );
    assert_eq!(of(Files::DescribedInContent), in_content);
    let everywhere = format!(
        r#"{{"data":"{described}","content":[{{"data":"{described}","text":"{long}"}}],"x":{{"content":{{"url":"{described}"}}}}}}"#
    );
    assert_eq!(of(Files::Described), everywhere);
}

#[test]
fn halves_find_each_other_over_the_texts_of_a_stream() {
    let rules = Rules { halves: Halves::Marked, ..Rules::PLAIN };
    let check = |texts: &[&str], expected: &str, torn: bool| {
        let (mut all, mut run, mut is_torn) = (String::new(), HalfRun::default(), false);
        for text in texts {
            let clean = clean(format!("\"{text}\"").as_bytes(), rules).unwrap();
            all += &serde_json::from_str::<String>(&clean.text).unwrap();
            is_torn |= run.is_torn_by(clean.found.halves);
        }
        is_torn |= run.is_open();
        assert_eq!(join_halves(&all).unwrap_or(all), expected, "{texts:?}");
        assert_eq!(is_torn, torn, "{texts:?}");
    };
    check(&["a\\ud83d", "\\ude00b"], "a😀b", false);
    check(&["\\ud83d", "\\ude00\\ud83d", "\\ude00"], "😀😀", false);
    check(&["plain"], "plain", false);
    check(&["\\ud83d", "x", "\\ude00"], "\u{fffd}x\u{fffd}", true);
    check(&["\\ude00"], "\u{fffd}", true);
    check(&["\\ud83d"], "\u{fffd}", true);
    check(&["\\ud83d\\ud83d", "\\ude00"], "\u{fffd}😀", true);
}

fn any_json() -> impl Strategy<Value = Value> {
    let text = prop_oneof!["[a-z\"\\\\é ]{0,6}", Just("data:a,b".to_owned()), Just("A".repeat(300))];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e9..1e9).prop_map(Value::from),
        text.clone().prop_map(Value::from),
    ];
    let known = ["url", "data", "content"].map(|name| Just(name.to_owned()));
    let name = prop_oneof![text, proptest::strategy::Union::new(known)];
    leaf.prop_recursive(4, 64, 6, move |inner| {
        let list = prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from);
        let object = prop::collection::vec((name.clone(), inner), 0..6);
        prop_oneof![list, object.prop_map(|members| Value::Object(members.into_iter().collect()))]
    })
}

/// A name between its quotes: one that says something of its value or nearly, in some spelling, with escapes or without.
fn any_written_name() -> impl Strategy<Value = String> {
    let names = [
        "api_key",
        "Authorization",
        "set-cookie",
        "id.token",
        "headers",
        "image url",
        "auth",
        "key",
        "urls",
        "content",
    ];
    let letters = (prop::sample::select(names.to_vec()), prop::collection::vec(0..12_u8, 16));
    letters.prop_map(|(name, changes)| {
        let written = name.chars().zip(changes).map(|(letter, change)| match change {
            0 => format!("\\u{:04x}", u32::from(letter)),
            1 => letter.to_ascii_uppercase().to_string(),
            2 => format!("_{letter}"),
            3 => format!("{letter}\\\""),
            _ => letter.to_string(),
        });
        written.collect()
    })
}

proptest! {
    #[test]
    fn a_message_is_kept_as_by_way_of_a_tree(value in any_json()) {
        let json = serde_json::to_string_pretty(&value).unwrap();
        let mut value: Value = serde_json::from_str(&json).unwrap();
        if let Some(content) = value.get_mut("content") {
            inline::shorten(content);
        }
        let kept = kept(&json, Files::DescribedInContent).unwrap();
        prop_assert_eq!(kept.get(), value.to_string());
    }

    #[test]
    fn what_is_plain_needs_no_cleaning(members in prop::collection::vec((any_written_name(), any_json()), 0..3)) {
        let members = members.iter().map(|(name, value)| format!("\"{name}\" : {value}"));
        let json = format!("{{{}}}", members.collect::<Vec<_>>().join(", "));
        let credentials = Credentials::default();
        if is_plain(&json, &credentials)
            && let Ok(value) = serde_json::from_str::<Value>(&json)
        {
            let cleaned: Value = serde_json::from_str(&masked(&json)).unwrap();
            prop_assert_eq!(cleaned, value);
        }
    }

    #[test]
    fn any_text_becomes_json_that_a_parser_takes(json in "[NaIinfty\"\\\\u\\-d8c0é,:\\[\\]{}1.e\u{1} ]{0,40}") {
        assert_that_parsers_take_it(json.as_bytes());
    }

    #[test]
    fn any_bytes_are_taken(json in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(b"{}[]\",:\\ud8".to_vec())], 0..60)) {
        assert_that_parsers_take_it(&json);
    }

    #[test]
    fn what_a_parser_takes_stays_the_same(units in prop::collection::vec(prop_oneof![any::<u16>(), 0xD7F0..0xE010_u16], 0..12)) {
        let json: String = units.iter().map(|unit| format!("\\u{unit:04x}")).collect();
        let read: String = serde_json::from_str(&text_of(&format!("\"{json}\""))).unwrap();
        prop_assert_eq!(read, String::from_utf16_lossy(&units));
    }
}

#[test]
fn every_input_that_fuzzing_kept_is_sound() {
    threadtap_corpus::replay("json", assert_that_parsers_take_it);
}
