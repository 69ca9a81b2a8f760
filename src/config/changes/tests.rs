//! No setting changes in silence.

use std::collections::HashMap;

use toml::Value;

use super::Changes;
use crate::config::Config;
use crate::config::tests::{load, uncommented};

fn config(text: &str) -> Config {
    load(text, &HashMap::new()).unwrap()
}

/// `value` with each of the settings in it changed in turn, by their keys. Tables in a list go by the list's key.
fn variants(key: &str, value: &Value) -> Vec<(String, Value)> {
    match value {
        Value::Table(table) => {
            let changed = table.iter().flat_map(|(name, value)| {
                let below = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                variants(&below, value).into_iter().map(move |(key, value)| {
                    let mut table = table.clone();
                    table.insert(name.clone(), value);
                    (key, Value::Table(table))
                })
            });
            changed.collect()
        }
        Value::Array(list) if list.first().is_some_and(Value::is_table) => {
            let changed = list.iter().enumerate().flat_map(|(at, item)| {
                variants(key, item).into_iter().map(move |(_, item)| {
                    let mut list = list.clone();
                    list[at] = item;
                    (key.to_owned(), Value::Array(list))
                })
            });
            changed.collect()
        }
        // Another type of sink has other keys.
        _ if key == "sinks.type" => Vec::new(),
        _ => vec![(key.to_owned(), other(key, value))],
    }
}

/// Another value that the setting may have.
fn other(key: &str, value: &Value) -> Value {
    match (key.rsplit('.').next().unwrap_or_default(), value) {
        ("listen" | "admin_listen", _) => Value::from("127.0.0.1:1"),
        ("upstream" | "url" | "host", _) => Value::from("http://127.0.0.1:1"),
        ("app_messages", _) => Value::from("drop"),
        ("level", _) => Value::from("debug"),
        ("format", _) => Value::from("json"),
        ("interactions", _) => Value::from("always"),
        ("responses", _) => Value::from("universal"),
        ("statuses", _) => Value::from(vec!["failed"]),
        (_, Value::String(text)) => match text.find(|char: char| !char.is_ascii_digit()) {
            Some(digits) if digits > 0 => {
                let (number, unit) = text.split_at(digits);
                Value::from(format!("{}{unit}", number.parse::<u64>().unwrap() + 1))
            }
            _ => Value::from(format!("{text}x")),
        },
        (_, Value::Integer(number)) => Value::from(number + 1),
        (_, Value::Float(number)) => Value::from(number / 2.0),
        (_, Value::Boolean(is)) => Value::from(!is),
        (_, Value::Array(list)) => {
            Value::Array(list.iter().cloned().chain([Value::from("x-other")]).collect())
        }
        (_, Value::Datetime(_) | Value::Table(_)) => panic!("{key} is not a setting"),
    }
}

#[test]
fn every_setting_of_the_example_is_applied_or_named() {
    // The key of a hash that is not made counts for nothing.
    let example = uncommented().replace("hash_credentials = false", "hash_credentials = true");
    let before = config(&example);
    let variants = variants("", &toml::from_str(&example).unwrap());
    assert!(variants.len() > 100, "{}", variants.len());
    for (key, changed) in variants {
        let after = config(&toml::to_string(&changed).unwrap());
        let Changes { applied, needs_restart } = Changes::between(&before, &after);
        assert_eq!([&applied[..], &needs_restart].concat(), [key.as_str()]);
        assert_eq!(is_applied_by_the_guide(&key), needs_restart.is_empty(), "{key} in docs/operations.md");
    }
}

/// Whether the table of docs/operations.md has a setting among those that are applied at once.
fn is_applied_by_the_guide(key: &str) -> bool {
    let guide = include_str!("../../../docs/operations.md");
    let (_, rows) = guide.split_once("| applied at once |").unwrap();
    let row = rows.lines().nth(2).unwrap();
    let (section, name) = key.split_once('.').unwrap_or(("", key));
    let whole = row.contains(&format!("`[{section}]`")) && !row.contains(&format!("except `{name}`"));
    whole || row.contains(&format!("`{key}`")) || row.contains(&format!("`[[{key}]]`"))
}

#[test]
fn what_is_the_same_in_other_words_has_not_changed() {
    let same = |before: &str, after: &str| {
        assert_eq!(Changes::between(&config(before), &config(after)), Changes::default(), "{after}");
    };
    same("", include_str!("../../../config.example.toml"));
    same("", "admin_listen = \"localhost:9090\"\n[attribution]\nhash_key = \"unused\"");
    let sink = "[[sinks]]\ntype = \"reconify\"\napp_key = \"a\"\napi_key = \"b\"\n";
    same(sink, &format!("{sink}name = \"reconify\""));
}

#[test]
fn secrets_are_compared_and_not_told() {
    let sink =
        "[[sinks]]\ntype = \"align\"\nproject_id = \"p\"\napi_key = \"hush\"\n[admin]\ntoken = \"hush\"";
    let changes = Changes::between(&config(sink), &config(&sink.replace("hush", "hush!")));
    assert_eq!(changes, Changes { applied: vec!["sinks", "admin.token"], needs_restart: Vec::new() });
    let named = config("[intake]\nkey_file = \"config.example.toml\"");
    assert_eq!(Changes::between(&config(""), &named).applied, ["intake.key"]);
}
