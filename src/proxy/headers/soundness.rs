//! What must hold for any head whatever. For tests and fuzzing.

use http::{Request, Response};

use super::*;

/// Asserts that of any head exactly those lines go on that should. The first byte of `data` picks version and status; the rest
/// is lines of a name, a colon and a value.
pub fn assert_heads_are_sound(data: &[u8]) {
    let Some((&choice, text)) = data.split_first() else { return };
    let version = [Version::HTTP_11, Version::HTTP_10, Version::HTTP_2][usize::from(choice) % 3];
    let headers = headers_of(text);
    assert_request(version, &headers, choice & 8 != 0);
    let status = if choice & 4 == 0 { StatusCode::OK } else { StatusCode::SWITCHING_PROTOCOLS };
    assert_answer(version, status, &headers);
}

fn headers_of(text: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in text.split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    headers
}

fn assert_request(version: Version, headers: &HeaderMap, streamed: bool) {
    let mut head = Request::new(()).into_parts().0;
    head.version = version;
    head.headers = headers.clone();
    let hop = hop(&head);
    let host = HeaderValue::from_static("upstream");
    let hosts = headers.get_all(HOST).iter().count();
    if to_upstream(&mut head, hop, Some(&host), streamed).is_err() {
        assert!(hosts > 1, "only two hosts are refused");
        return;
    }
    assert!(hosts < 2, "two hosts are refused");
    let sent = head.headers;
    // These have rules of their own, below; all others stay as they are or go.
    let special = [HOST, TE, CONNECTION, UPGRADE, TRANSFER_ENCODING, COOKIE];
    let gone = |name: &HeaderName| {
        special.contains(name)
            || nominates(headers, name)
            || name.as_str().starts_with("x-threadtap-")
            || ["keep-alive", "proxy-connection", "http2-settings"].contains(&name.as_str())
    };
    let expected: Vec<_> = headers.iter().filter(|(name, _)| !gone(name)).collect();
    let got: Vec<_> = sent.iter().filter(|(name, _)| !special.contains(name)).collect();
    assert_eq!(got, expected);
    assert_eq!(sent.get_all(HOST).iter().collect::<Vec<_>>(), [&host]);
    assert!(sent.get_all(TE).iter().count() <= 1 && sent.get(TE).is_none_or(|value| value == "trailers"));
    let upgrades = [CONNECTION, UPGRADE].map(|name| sent.get_all(name).iter().count());
    assert_eq!(upgrades, if hop == Hop::WebSocket { [1, 1] } else { [0, 0] });
    if hop == Hop::WebSocket {
        assert!(sent[CONNECTION].as_bytes().eq_ignore_ascii_case(b"upgrade"));
        assert!(sent[UPGRADE].as_bytes().eq_ignore_ascii_case(b"websocket"));
    }
    let codings =
        |headers: &HeaderMap| headers.get_all(TRANSFER_ENCODING).iter().cloned().collect::<Vec<_>>();
    let added = streamed && !headers.contains_key(CONTENT_LENGTH) && !headers.contains_key(TRANSFER_ENCODING);
    let before = if added { vec![HeaderValue::from_static("chunked")] } else { codings(headers) };
    assert_eq!(codings(&sent), before);
    if version == Version::HTTP_2 {
        assert!(sent.get_all(COOKIE).iter().count() <= 1);
    } else if !nominates(headers, &COOKIE) {
        assert!(sent.get_all(COOKIE).iter().eq(headers.get_all(COOKIE)));
    }
}

fn assert_answer(version: Version, status: StatusCode, headers: &HeaderMap) {
    let mut head = Response::new(()).into_parts().0;
    head.status = status;
    head.headers = headers.clone();
    to_client(&mut head, version);
    let switches = status == StatusCode::SWITCHING_PROTOCOLS;
    let chunked = headers.contains_key(TRANSFER_ENCODING);
    let gone = |name: &HeaderName| {
        (!switches && ([CONNECTION, UPGRADE].contains(name) || nominates(headers, name)))
            || *name == TE
            || ["keep-alive", "proxy-connection", "http2-settings"].contains(&name.as_str())
            || (*name == TRANSFER_ENCODING && version == Version::HTTP_2)
            || (*name == CONTENT_LENGTH && chunked)
    };
    let expected: Vec<_> = headers.iter().filter(|(name, _)| !gone(name)).collect();
    assert_eq!(head.headers.iter().collect::<Vec<_>>(), expected);
}

/// Whether `Connection` names `name`, by another way than that of the code.
fn nominates(headers: &HeaderMap, name: &HeaderName) -> bool {
    let framing = [HOST, CONTENT_LENGTH, TRANSFER_ENCODING];
    let named = headers.get_all(CONNECTION).iter().any(|value| {
        let text = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
        text.split(',').any(|token| token.trim_matches([' ', '\t']) == name.as_str())
    });
    // They name what becomes of the connection, and are no fields.
    named && !framing.contains(name) && !["close", "keep-alive"].contains(&name.as_str())
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

    const LINES: &str = "((host|te|TE|connection|Connection|upgrade|cookie|content-length|transfer-encoding|keep-alive|x-threadtap-user|x-a|x-b|[a-z]{1,3}): ?(trailers|gzip, ?trailers|close|keep-alive, x-a|Upgrade|upgrade, x-b|websocket|h2c, WebSocket|chunked|gzip, chunked|host|cookie, te|[ -~]{0,8})\n){0,12}";
}
