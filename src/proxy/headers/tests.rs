use http::Method;

use super::*;

fn fields(lines: &[(&str, &str)]) -> Fields {
    let mut fields = Fields::default();
    lines.iter().for_each(|(name, value)| fields.push(name, value));
    fields
}

fn request(version: Version, lines: &[(&str, &str)]) -> RequestHead {
    RequestHead { method: Method::GET, target: "/".to_owned(), version, fields: fields(lines) }
}

fn lines(fields: &Fields) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    fields.iter().map(|(name, value)| format!("{}: {}", text(name), text(value))).collect()
}

fn sent(version: Version, lines_in: &[(&str, &str)]) -> Vec<String> {
    let mut head = request(version, lines_in);
    let hop = hop(&head);
    to_upstream(&mut head, hop, Some("up")).unwrap();
    lines(&head.fields)
}

fn answered(version: Version, status: u16, lines_in: &[(&str, &str)]) -> Vec<String> {
    let mut head = ResponseHead::new(StatusCode::from_u16(status).unwrap());
    head.fields = fields(lines_in);
    to_client(&mut head, version);
    lines(&head.fields)
}

#[test]
fn what_remains_keeps_its_order() {
    let headers = [
        ("accept", "*/*"),
        ("connection", "keep-alive, x-gone"),
        ("host", "proxy"),
        ("x-threadtap-user", "u"),
        ("x-gone", "1"),
        ("b", "1"),
        ("keep-alive", "timeout=5"),
        ("a", "1"),
        ("proxy-connection", "keep-alive"),
        ("b", "2"),
        ("authorization", "Bearer k"),
    ];
    let expected = ["accept: */*", "host: up", "b: 1", "a: 1", "b: 2", "authorization: Bearer k"];
    assert_eq!(sent(Version::HTTP_11, &headers), expected);
}

#[test]
fn a_request_without_a_host_gets_one() {
    assert_eq!(sent(Version::HTTP_10, &[("a", "1")]), ["host: up", "a: 1"]);
}

#[test]
fn two_hosts_are_refused() {
    let mut head = request(Version::HTTP_11, &[("host", "a"), ("host", "b")]);
    let error = to_upstream(&mut head, Hop::Message, None).unwrap_err();
    assert_eq!(error.kind(), Kind::ClientHost);
}

#[test]
fn the_clients_host_can_be_kept() {
    let mut head = request(Version::HTTP_11, &[("a", "1"), ("host", "mine")]);
    to_upstream(&mut head, Hop::Message, None).unwrap();
    assert_eq!(lines(&head.fields), ["a: 1", "host: mine"]);
}

#[test]
fn only_a_web_socket_is_asked_for() {
    let connection = ("connection", "keep-alive, Upgrade");
    let headers = [("host", "h"), connection, ("upgrade", "WebSocket"), ("sec-websocket-key", "k")];
    let expected = ["host: up", "connection: Upgrade", "upgrade: WebSocket", "sec-websocket-key: k"];
    assert_eq!(sent(Version::HTTP_11, &headers), expected);
    let headers = [connection, ("upgrade", "h2c, websocket"), ("host", "h")];
    assert_eq!(sent(Version::HTTP_11, &headers), ["connection: Upgrade", "upgrade: websocket", "host: up"]);
    let headers = [
        ("host", "h"),
        ("connection", "Upgrade, HTTP2-Settings"),
        ("upgrade", "h2c"),
        ("http2-settings", "A"),
    ];
    assert_eq!(sent(Version::HTTP_11, &headers), ["host: up"]);
    assert_eq!(sent(Version::HTTP_11, &[("host", "h"), ("upgrade", "websocket")]), ["host: up"]);
    assert_eq!(sent(Version::HTTP_10, &[("host", "h"), connection, ("upgrade", "websocket")]), ["host: up"]);
}

#[test]
fn framing_cannot_be_nominated_away() {
    let headers =
        [("host", "h"), ("connection", "content-length, host, x"), ("content-length", "3"), ("x", "1")];
    assert_eq!(sent(Version::HTTP_11, &headers), ["host: up", "content-length: 3"]);
}

#[test]
fn of_te_only_trailers_goes_on() {
    assert_eq!(
        sent(Version::HTTP_11, &[("host", "h"), ("te", "gzip, Trailers")]),
        ["host: up", "te: trailers"]
    );
    assert_eq!(sent(Version::HTTP_11, &[("host", "h"), ("te", "gzip")]), ["host: up"]);
}

#[test]
fn cookies_that_http2_split_are_joined() {
    let headers = [("cookie", "a=1"), ("x", "1"), ("cookie", "b=2"), ("cookie", "c=3")];
    assert_eq!(sent(Version::HTTP_2, &headers), ["host: up", "cookie: a=1; b=2; c=3", "x: 1"]);
    assert_eq!(sent(Version::HTTP_11, &headers[..3]), ["host: up", "cookie: a=1", "x: 1", "cookie: b=2"]);
}

#[test]
fn of_an_answer_only_what_is_for_this_hop_goes() {
    let headers = [
        ("date", "now"),
        ("connection", "keep-alive, x-hop"),
        ("x-hop", "1"),
        ("transfer-encoding", "chunked"),
        ("keep-alive", "timeout=5"),
        ("set-cookie", "a"),
        ("set-cookie", "b"),
        ("x-threadtap-error", "from-another"),
    ];
    let kept = ["date: now", "transfer-encoding: chunked", "set-cookie: a", "set-cookie: b"];
    let mut expected = kept.to_vec();
    expected.push("x-threadtap-error: from-another");
    assert_eq!(answered(Version::HTTP_11, 200, &headers), expected);
    expected.remove(1);
    assert_eq!(answered(Version::HTTP_2, 200, &headers), expected);
}

#[test]
fn an_answer_that_switches_protocols_says_so() {
    let headers = [("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-accept", "a")];
    let expected = ["connection: upgrade", "upgrade: websocket", "sec-websocket-accept: a"];
    assert_eq!(answered(Version::HTTP_11, 101, &headers), expected);
    assert_eq!(answered(Version::HTTP_11, 426, &headers), ["sec-websocket-accept: a"]);
}

#[test]
fn a_length_goes_on_once_and_not_beside_chunks() {
    let lengths = [("content-length", "3"), ("host", "h"), ("Content-Length", "3")];
    assert_eq!(sent(Version::HTTP_11, &lengths), ["content-length: 3", "host: up"]);
    let both = [("content-length", "3"), ("host", "h"), ("transfer-encoding", "chunked")];
    assert_eq!(sent(Version::HTTP_11, &both), ["host: up", "transfer-encoding: chunked"]);
}

#[test]
fn what_is_said_to_threadtap_ends_here_however_long_its_name() {
    for length in 0..20 {
        let name = format!("X-Threadtap-{}", "i".repeat(length));
        assert_eq!(sent(Version::HTTP_11, &[("host", "h"), (&name, "1")]), ["host: up"], "{name}");
    }
}

#[test]
fn trailers_for_threadtap_end_here_too() {
    let mut trailers = HeaderMap::new();
    for (name, value) in
        [("x-sum", "1"), ("x-threadtap-user", "u"), ("x-threadtap-user", "v"), ("x-threadtap-x", "w")]
    {
        trailers.append(name, value.parse().unwrap());
    }
    trailers_to_upstream(&mut trailers);
    assert_eq!(trailers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["x-sum"]);
}
