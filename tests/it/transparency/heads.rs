use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};

use crate::support::Rig;
use crate::support::http2::{Http2, request, whole};

const GET: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
const EMPTY: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

#[tokio::test]
async fn h1_order_case_and_repeated_lines_are_kept_and_nothing_is_added() {
    let mut rig = Rig::start().await;
    let (mut client, mut upstream) = rig
        .forward(concat!(
            "GET /v1/x?y=%20 HTTP/1.1\r\nX-B: 1\r\nhost: proxy\r\nAuthorization: Bearer k\r\nAccept: */*\r\n",
            "SET: 1\r\nSet: 2\r\nsEt: 2\r\nEmpty:\r\nOpenAI-Beta: assistants=v2\r\nFORWARDED: for=a\r\nset: 3\r\nVia: b\r\n\r\n"
        ))
        .await;
    let host = format!("host: {}", rig.upstream.address);
    upstream
        .expect_head(&[
            "GET /v1/x?y=%20 HTTP/1.1",
            "X-B: 1",
            &host,
            "Authorization: Bearer k",
            "Accept: */*",
            "SET: 1",
            "Set: 2",
            "sEt: 2",
            "Empty:",
            "OpenAI-Beta: assistants=v2",
            "FORWARDED: for=a",
            "set: 3",
            "Via: b",
        ])
        .await;
    upstream
        .send(concat!(
            "HTTP/1.1 200 OK\r\nZ: 1\r\nset-cookie: a\r\nSet-Cookie: b\r\ncontent-LENGTH: 2\r\nSERVER: s\r\n",
            "DATE: now\r\nA: 2\r\nZ: 3\r\n\r\nok"
        ))
        .await;
    client
        .expect_head(&[
            "HTTP/1.1 200 OK",
            "Z: 1",
            "set-cookie: a",
            "Set-Cookie: b",
            "content-LENGTH: 2",
            "SERVER: s",
            "DATE: now",
            "A: 2",
            "Z: 3",
        ])
        .await;
    client.expect("ok").await;
}

#[tokio::test]
async fn h1_order_and_repeated_lines_are_kept_and_nothing_is_added_on_http2() {
    let mut rig = Rig::start().await;
    let mut client = Http2::connect(rig.address).await;
    let get = request(Method::GET, "/v1/x?y=%20").header("x-b", "1").header("authorization", "Bearer k");
    let get = get.header("set", "1").header("set", "2").header("a", "");
    let answer = client.send(get.body(whole("")).unwrap());
    let mut upstream = rig.upstream.accept().await;
    let host = format!("host: {}", rig.upstream.address);
    let head =
        ["GET /v1/x?y=%20 HTTP/1.1", &host, "x-b: 1", "authorization: Bearer k", "set: 1", "set: 2", "a:"];
    upstream.expect_head(&head).await;
    upstream
        .send("HTTP/1.1 200 OK\r\nZ: 1\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 2\r\nA: 2\r\n\r\nok")
        .await;
    let response = answer.head().await;
    let lines: Vec<_> =
        response.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    let expected: [(&str, &[u8]); 5] =
        [("z", b"1"), ("set-cookie", b"a"), ("set-cookie", b"b"), ("content-length", b"2"), ("a", b"2")];
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn h2_only_hop_by_hop_fields_and_our_own_are_removed() {
    let mut rig = Rig::start().await;
    let (mut client, mut upstream) = rig
        .forward(concat!(
            "GET / HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, X-Hop\r\nx-hop: 1\r\nA: 1\r\nKeep-Alive: 5\r\n",
            "Proxy-Connection: keep-alive\r\nTE: gzip;q=0.5\r\nX-ThreadTap-User: me\r\nx-threadtap-session: s\r\n",
            "Connection: a-hop, Host, Content-Length\r\nA-Hop: 2\r\nProxy-Authorization: p\r\nX-Thread: t\r\nB: 2\r\n\r\n"
        ))
        .await;
    let host = format!("Host: {}", rig.upstream.address);
    upstream
        .expect_head(&["GET / HTTP/1.1", &host, "A: 1", "Proxy-Authorization: p", "X-Thread: t", "B: 2"])
        .await;
    upstream
        .send(concat!(
            "HTTP/1.1 200 OK\r\nA: 1\r\nConnection: keep-alive, x-hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n",
            "X-ThreadTap-Error: theirs\r\nContent-Length: 2\r\nB: 2\r\n\r\nok"
        ))
        .await;
    // An upstream that is another threadtap may have something to say.
    client
        .expect_head(&["HTTP/1.1 200 OK", "A: 1", "X-ThreadTap-Error: theirs", "Content-Length: 2", "B: 2"])
        .await;
    client.expect("ok").await;
}

#[tokio::test]
async fn h2_trailers_for_threadtap_are_removed_too() {
    let mut rig = Rig::start().await;
    let head = "POST /tapped HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (mut client, mut upstream) = rig.forward(head).await;
    client.send("1\r\na\r\n0\r\nX-Threadtap-User: me\r\nX-Sum: 1\r\nx-threadtap-app: a\r\n\r\n").await;
    upstream.until("\r\n\r\n1\r\na\r\n0\r\nx-sum: 1\r\n\r\n").await;
    upstream.send(EMPTY).await;
    client.head().await;

    let (answer, mut body) = Http2::connect(rig.address).await.post_streamed("/tapped");
    let mut trailers = http::HeaderMap::new();
    for (name, value) in [("x-threadtap-user", "me"), ("x-sum", "1"), ("x-threadtap-app", "a")] {
        trailers.insert(name, HeaderValue::from_static(value));
    }
    body.send_data("a".into()).await.unwrap();
    body.send_trailers(trailers).await.unwrap();
    upstream.until("1\r\na\r\n0\r\nx-sum: 1\r\n\r\n").await;
    upstream.send(EMPTY).await;
    answer.head().await;
}

#[tokio::test]
async fn h3_host_becomes_the_upstreams() {
    let mut rig = Rig::start().await;
    let (_client, mut upstream) = rig.forward("GET / HTTP/1.1\r\nA: 1\r\nHOST: Mine:1\r\n\r\n").await;
    upstream.expect_head(&["GET / HTTP/1.1", "A: 1", &format!("HOST: {}", rig.upstream.address)]).await;
    let _answer = Http2::connect(rig.address).await.get("/");
    rig.upstream.accept().await.until(&format!("\r\nhost: {}\r\n", rig.upstream.address)).await;
}

#[tokio::test]
async fn h4_the_clients_host_is_kept_if_so_configured() {
    let mut rig = Rig::start_with(|settings| settings.proxy.keep_client_host = true).await;
    let (_client, mut upstream) = rig.forward("GET / HTTP/1.1\r\nHost: Mine:1\r\n\r\n").await;
    upstream.expect_head(&["GET / HTTP/1.1", "Host: Mine:1"]).await;
    let _answer = Http2::connect(rig.address).await.get("/");
    rig.upstream.accept().await.expect_head(&["GET / HTTP/1.1", "host: client.example"]).await;
}

#[tokio::test]
async fn h5_odd_but_legal_targets_are_unchanged() {
    let mut rig = Rig::start().await;
    let (mut client, mut upstream) = rig.forward("GET /first HTTP/1.1\r\nHost: h\r\n\r\n").await;
    upstream.head().await;
    let long = format!("/{}", "a".repeat(60_000));
    for target in [
        "//",
        "///a//",
        "/?",
        "/a?",
        "/a??b",
        "/a//b/%2F%2f;x=1",
        "/a/../b/./c",
        "/%",
        "/%zz",
        "/a%00",
        "/threads/t",
        "/v1/threads/t/runs?limit=1&after=%20+x&",
        "/a=b&c",
        "/~a!$'()*,:@",
        "/?q=[]{}|^`\\",
        "/[]{}|^\"\\",
        "/<>`?<>\"`",
        "/a?b#c",
        "/#",
        "*",
        "/\u{fc}?\u{fc}",
        &long,
    ] {
        upstream.send(EMPTY).await;
        client.head().await;
        client.send(format!("OPTIONS {target} HTTP/1.1\r\nHost: h\r\n\r\n")).await;
        let head = upstream.head().await;
        assert!(head.starts_with(&format!("OPTIONS {target} HTTP/1.1\r\n")), "{target}: {head}");
    }
}

#[tokio::test]
async fn h5_odd_but_legal_targets_are_unchanged_from_http2() {
    let mut rig = Rig::start().await;
    let mut client = Http2::connect(rig.address).await;
    for target in ["//", "/?", "/a?", "/a//b/%2F%2f;x=1", "/a/../b", "/threads/t", "/%zz"] {
        let answer = client.get(target);
        let mut upstream = rig.upstream.accept().await;
        let head = upstream.head().await;
        assert!(head.starts_with(&format!("GET {target} HTTP/1.1\r\n")), "{target}: {head}");
        upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
        answer.text().await;
    }
}

#[tokio::test]
async fn h6_a_query_of_16_kilobytes_passes() {
    let mut rig = Rig::start().await;
    let target = format!("/v1/x?q={}", "q".repeat(16 << 10));
    let (_client, mut upstream) = rig.forward(&format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n")).await;
    assert!(upstream.head().await.starts_with(&format!("GET {target} HTTP/1.1\r\n")));
    let _answer = Http2::connect(rig.address).await.get(&target);
    let head = rig.upstream.accept().await.head().await;
    assert!(head.starts_with(&format!("GET {target} HTTP/1.1\r\n")));
}

#[tokio::test]
async fn h7_a_path_prefix_of_the_upstream_goes_before_the_target() {
    let mut rig = Rig::start_with(|settings| {
        let url = format!("http://{}/azure/openai/", settings.proxy.upstream.name());
        settings.proxy.upstream = url.parse().unwrap();
    })
    .await;
    let (_client, mut upstream) = rig.forward("GET /v1/x?a=b HTTP/1.1\r\nHost: h\r\n\r\n").await;
    upstream.until("GET /azure/openai/v1/x?a=b HTTP/1.1\r\n").await;
}

#[tokio::test]
async fn h8_bytes_beyond_ascii_in_values_pass() {
    let mut rig = Rig::start().await;
    let mut odd = b"X-Odd: a\tb ".to_vec();
    odd.extend(0x80..=0xff);
    let head = [b"GET / HTTP/1.1\r\nHost: h\r\n", &*odd, b"\r\n\r\n"].concat();
    let mut client = rig.client().await;
    client.send(&head).await;
    let mut upstream = rig.upstream.accept().await;
    let host = format!("GET / HTTP/1.1\r\nHost: {}\r\n", rig.upstream.address);
    upstream.expect(&host).await;
    assert_eq!(upstream.exactly(odd.len()).await, odd);
    upstream.until("\r\n\r\n").await;
    let head = [b"HTTP/1.1 200 OK\r\n", &*odd, b"\r\nContent-Length: 0\r\n\r\n"].concat();
    upstream.send(&head).await;
    assert_eq!(client.exactly(head.len()).await, head);

    let value = HeaderValue::from_bytes(&odd["X-Odd: ".len()..]).unwrap();
    let get = request(Method::GET, "/").header("x-odd", &value).body(whole("")).unwrap();
    let answer = Http2::connect(rig.address).await.send(get);
    upstream.until("\r\nx-odd: ").await;
    assert_eq!(upstream.exactly(value.len()).await, value.as_bytes());
    upstream.until("\r\n\r\n").await;
    upstream.send(&head).await;
    assert_eq!(answer.head().await.headers()["x-odd"], value);
}

#[tokio::test]
async fn h9_several_hundred_headers_pass() {
    let mut rig = Rig::start().await;
    let many: String = (0..900).map(|n| format!("h{n}: {n}\r\n")).collect();
    let (mut client, mut upstream) = rig.forward(&format!("GET / HTTP/1.1\r\nHost: h\r\n{many}\r\n")).await;
    assert!(upstream.head().await.ends_with(&format!("{many}\r\n")));
    upstream.send(format!("HTTP/1.1 200 OK\r\n{many}Content-Length: 0\r\n\r\n")).await;
    assert_eq!(client.head().await, format!("HTTP/1.1 200 OK\r\n{many}Content-Length: 0\r\n\r\n"));

    let mut get = request(Method::GET, "/").body(whole("")).unwrap();
    for n in 0..900 {
        get.headers_mut().append(HeaderName::try_from(format!("h{n}")).unwrap(), n.into());
    }
    let mut client = Http2::connect_with(rig.address, |builder| {
        builder.max_header_list_size(1 << 20);
    })
    .await;
    let answer = client.send(get);
    assert!(upstream.head().await.ends_with(&format!("{many}\r\n")));
    upstream.send(format!("HTTP/1.1 200 OK\r\n{many}Content-Length: 0\r\n\r\n")).await;
    assert_eq!(answer.head().await.headers().len(), 901);
}

#[tokio::test]
async fn h10_http_1_0_is_understood_with_and_without_a_host() {
    let mut rig = Rig::start().await;
    let host = format!("host: {}", rig.upstream.address);
    let (mut client, mut upstream) = rig.forward("GET /a HTTP/1.0\r\nA: 1\r\n\r\n").await;
    upstream.expect_head(&["GET /a HTTP/1.1", &host, "A: 1"]).await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    client.expect_head(&["HTTP/1.0 200 OK", "Content-Length: 2"]).await;
    assert_eq!(client.rest().await.unwrap(), b"ok");

    let host = format!("Host: {}", rig.upstream.address);
    let mut client = rig.client().await;
    for _ in 0..2 {
        client.send("GET /b HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\n").await;
        upstream.expect_head(&["GET /b HTTP/1.1", &host]).await;
        upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        client.expect_head(&["HTTP/1.0 200 OK", "Content-Length: 2", "connection: keep-alive"]).await;
        client.expect("ok").await;
    }

    let mut client = rig.client().await;
    client.send(GET).await;
    upstream.head().await;
    upstream.send("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    client.expect_head(&["HTTP/1.1 200 OK", "Content-Length: 2"]).await;
    client.expect("ok").await;
}

#[tokio::test]
async fn h11_the_invitation_to_send_a_body_is_upstreams() {
    let mut rig = Rig::start_with(|settings| settings.proxy.continue_timeout = Duration::MAX).await;
    let head = "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    let (mut client, mut upstream) = rig.forward(head).await;
    upstream.until("Expect: 100-continue\r\nContent-Length: 3\r\n\r\n").await;
    upstream.send("HTTP/1.1 100 Continue\r\n\r\n").await;
    client.expect("HTTP/1.1 100 Continue\r\n\r\n").await;
    client.send("abc").await;
    upstream.expect("abc").await;
    upstream.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok").await;
    client.expect_head(&["HTTP/1.1 200 OK", "Content-Length: 2"]).await;

    for refusal in ["401 Unauthorized", "413 Too Large", "417 Expectation Failed"] {
        let (mut client, mut upstream) = rig.forward(head).await;
        upstream.head().await;
        upstream.send(format!("HTTP/1.1 {refusal}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")).await;
        let head = client.head().await;
        assert!(head.starts_with(&format!("HTTP/1.1 {refusal}\r\nContent-Length: 0\r\n")), "{head}");
        // Nobody knows whether the body comes: nothing can follow.
        assert!(head.ends_with("\r\nconnection: close\r\n\r\n"), "{head}");
    }
    // Nor is there an invitation after an answer of ours, or in the middle of upstream's.
    let mut client = rig.client().await;
    client
        .send("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        .await;
    assert!(client.head().await.starts_with("HTTP/1.1 501 "));
    let rest = client.closed().await;
    assert!(rest.ends_with(b"}}"), "{}", String::from_utf8_lossy(&rest));
    let (mut client, mut upstream) = rig
        .forward("POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nab")
        .await;
    upstream.head().await;
    upstream.send("HTTP/1.1 100 Continue\r\n\r\n").await;
    upstream.expect("ab").await;
    client.expect("HTTP/1.1 100 Continue\r\n\r\n").await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    client.expect_head(&["HTTP/1.1 200 OK", "Content-Length: 2"]).await;
    client.expect("ok").await;
}

#[tokio::test]
async fn h11_a_body_is_not_held_back_for_ever_from_an_upstream_that_does_not_know_of_100() {
    let mut rig = Rig::start_with(|settings| settings.proxy.continue_timeout = Duration::ZERO).await;
    let head = "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    let (mut client, mut upstream) = rig.forward(head).await;
    client.expect("HTTP/1.1 100 Continue\r\n\r\n").await;
    client.send("abc").await;
    upstream.until("\r\n\r\nabc").await;
}

#[tokio::test]
async fn h12_the_reason_phrase_passes() {
    let mut rig = Rig::start().await;
    let (mut client, mut upstream) = rig.forward(GET).await;
    for status in ["299 Fine By Me", "200 ok", "429 Too  Many", "599 x"] {
        upstream.head().await;
        upstream.send(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n")).await;
        client.expect_head(&[&format!("HTTP/1.1 {status}"), "Content-Length: 0"]).await;
        client.send(GET).await;
    }
    let beyond_ascii = b"HTTP/1.1 429 Zu fr\xfch, tr\xc3\xa8s t\xf4t\x01\r\nContent-Length: 0\r\n\r\n";
    upstream.head().await;
    upstream.send(beyond_ascii).await;
    assert_eq!(client.exactly(beyond_ascii.len()).await, beyond_ascii);
}

#[tokio::test]
async fn h13_an_absolute_target_means_its_path_on_the_upstream() {
    let mut rig = Rig::start().await;
    let (_client, mut upstream) = rig
        .forward("GET http://elsewhere.example:1/v1/x?y HTTP/1.1\r\nHost: elsewhere.example:1\r\n\r\n")
        .await;
    upstream.expect_head(&["GET /v1/x?y HTTP/1.1", &format!("Host: {}", rig.upstream.address)]).await;
    let (_client, mut upstream) =
        rig.forward("GET http://elsewhere.example HTTP/1.1\r\nHost: e\r\n\r\n").await;
    upstream.expect_head(&["GET / HTTP/1.1", &format!("Host: {}", rig.upstream.address)]).await;
}

#[tokio::test]
async fn h14_cookies_that_http2_split_are_one_line_again() {
    let mut rig = Rig::start().await;
    let get = request(Method::GET, "/").header("cookie", "a=1").header("x-a", "1").header("cookie", "b=2");
    let _answer = Http2::connect(rig.address).await.send(get.body(whole("")).unwrap());
    let mut upstream = rig.upstream.accept().await;
    let host = format!("host: {}", rig.upstream.address);
    upstream.expect_head(&["GET / HTTP/1.1", &host, "cookie: a=1; b=2", "x-a: 1"]).await;
}
