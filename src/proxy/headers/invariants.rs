//! Invariants that hold for every head. For tests and fuzzing.

use http::{HeaderName, HeaderValue, Method};

use super::*;

/// Names in lower case, and values.
type Lines = Vec<(String, Vec<u8>)>;

/// Asserts that exactly the right lines of any head are forwarded. The first byte of `data` selects
/// version and status; the rest is lines of a name, a colon and a value.
pub fn assert_heads_are_sound(data: &[u8]) {
    let Some((&choice, text)) = data.split_first() else { return };
    let version = [Version::HTTP_11, Version::HTTP_10, Version::HTTP_2][usize::from(choice) % 3];
    let fields = fields_of(text);
    assert_request(version, &fields);
    let status = if choice & 4 == 0 { StatusCode::OK } else { StatusCode::SWITCHING_PROTOCOLS };
    assert_answer(version, status, &fields);
}

fn fields_of(text: &[u8]) -> Fields {
    let mut fields = Fields::default();
    for line in text.split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let value = line[colon + 1..].trim_ascii();
        if HeaderName::from_bytes(&line[..colon]).is_ok() && HeaderValue::from_bytes(value).is_ok() {
            fields.push(&line[..colon], value);
        }
    }
    fields
}

fn lines(fields: &Fields) -> Lines {
    let lower = |name: &[u8]| String::from_utf8_lossy(name).to_ascii_lowercase();
    fields.iter().map(|(name, value)| (lower(name), value.to_vec())).collect()
}

fn values(lines: &Lines, name: &str) -> Vec<String> {
    let values = lines.iter().filter(|(other, _)| other == name).map(|(_, value)| value);
    values.map(|value| String::from_utf8_lossy(value).into_owned()).collect()
}

fn assert_request(version: Version, fields: &Fields) {
    let mut head =
        RequestHead { method: Method::GET, target: "/".to_owned(), version, fields: fields.clone() };
    let before = lines(fields);
    let hop = hop(&head);
    let hosts = values(&before, "host").len();
    if to_upstream(&mut head, hop, Some("upstream")).is_err() {
        assert!(hosts > 1, "only two hosts are refused");
        return;
    }
    assert!(hosts < 2, "two hosts are refused");
    let sent = lines(&head.fields);
    // These have their own rules, below. All others stay unchanged or are removed.
    let special = ["host", "te", "connection", "upgrade", "content-length", "cookie"];
    let gone = |name: &str| {
        special.contains(&name)
            || nominates(&before, name)
            || name.starts_with("x-threadtap-")
            || ["keep-alive", "proxy-connection", "http2-settings"].contains(&name)
    };
    let expected: Lines = before.iter().filter(|(name, _)| !gone(name)).cloned().collect();
    let got: Lines = sent.iter().filter(|(name, _)| !special.contains(&&**name)).cloned().collect();
    assert_eq!(got, expected);
    assert_eq!(values(&sent, "host"), ["upstream"]);
    assert!(
        matches!(&*values(&sent, "te"), [] | [_]) && values(&sent, "te").iter().all(|te| te == "trailers")
    );
    let upgrades = ["connection", "upgrade"].map(|name| values(&sent, name).len());
    assert_eq!(upgrades, if hop == Hop::WebSocket { [1, 1] } else { [0, 0] });
    if hop == Hop::WebSocket {
        assert!(values(&sent, "connection")[0].eq_ignore_ascii_case("upgrade"));
        assert!(values(&sent, "upgrade")[0].eq_ignore_ascii_case("websocket"));
    }
    let chunked = !values(&before, "transfer-encoding").is_empty();
    let lengths = values(&before, "content-length");
    assert_eq!(values(&sent, "content-length"), if chunked { &[] } else { &lengths[..lengths.len().min(1)] });
    if version == Version::HTTP_2 {
        assert!(values(&sent, "cookie").len() <= 1);
    } else if !nominates(&before, "cookie") {
        assert_eq!(values(&sent, "cookie"), values(&before, "cookie"));
    }
}

fn assert_answer(version: Version, status: StatusCode, fields: &Fields) {
    let mut head = ResponseHead::new(status);
    head.fields = fields.clone();
    to_client(&mut head, version);
    let before = lines(fields);
    let switches = status == StatusCode::SWITCHING_PROTOCOLS;
    let gone = |name: &str| {
        (!switches && (["connection", "upgrade"].contains(&name) || nominates(&before, name)))
            || name == "te"
            || ["keep-alive", "proxy-connection", "http2-settings"].contains(&name)
            || (name == "transfer-encoding" && version == Version::HTTP_2)
    };
    let mut expected = before.clone();
    expected.retain(|(name, _)| !gone(name));
    assert_eq!(lines(&head.fields), expected);
}

/// Whether `Connection` lists `name`, computed differently from the code under test.
fn nominates(lines: &Lines, name: &str) -> bool {
    let framing = ["host", "content-length", "transfer-encoding"];
    let named = values(lines, "connection").iter().any(|value| {
        value.to_ascii_lowercase().split(',').any(|token| token.trim_matches([' ', '\t']) == name)
    });
    // These say what happens to the connection, and are not fields.
    named && !framing.contains(&name) && !["close", "keep-alive"].contains(&name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_head_is_sound(choice: u8, text in LINES) {
            super::assert_heads_are_sound(&[&[choice], text.as_bytes()].concat());
        }
    }

    #[test]
    fn every_input_that_fuzzing_kept_is_sound() {
        threadtap_corpus::replay("heads", super::assert_heads_are_sound);
    }

    const LINES: &str = "((host|te|TE|connection|Connection|upgrade|cookie|content-length|transfer-encoding|keep-alive|x-threadtap-user|x-a|x-b|[a-z]{1,3}): ?(trailers|gzip, ?trailers|close|keep-alive, x-a|Upgrade|upgrade, x-b|websocket|h2c, WebSocket|chunked|gzip, chunked|host|cookie, te|[ -~]{0,8})\n){0,12}";
}
