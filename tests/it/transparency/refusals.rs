mod strict;

use std::time::Duration;

use http::Method;

use self::strict::Strict;
use crate::support::http2::{self, Frame, Http2, request, whole};
use crate::support::{Raw, Rig, eventually, pass};

const GET: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Reads answers up to the last that is expected, and tells their statuses.
async fn statuses(client: &mut Raw, count: usize) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..count {
        let Some(head) = client.head_or_end().await else { break };
        let head = head.to_ascii_lowercase();
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
        client.exactly(length.map_or(0, |length| length.parse().unwrap())).await;
        statuses.push(head[9..12].parse().unwrap());
    }
    statuses
}

/// Sends a request that others read in two ways, with one behind it that must not be taken for part of it, nor the other way
/// round, and compares the answers and what a strict upstream saw.
async fn check(shape: &[u8], expected_statuses: &[u16], expected_seen: &[&str]) {
    let mut rig = Rig::start().await;
    let upstream = Strict::of(&mut rig).await;
    let mut client = rig.client().await;
    client.send([shape, b"GET /next HTTP/1.1\r\nHost: h\r\n\r\n"].concat()).await;
    let name = String::from_utf8_lossy(shape).into_owned();
    let got = statuses(&mut client, expected_statuses.len()).await;
    assert_eq!(
        (got, upstream.take()),
        (expected_statuses.to_vec(), expected_seen.iter().map(|seen| (*seen).to_owned()).collect()),
        "{name:?}"
    );
    if expected_statuses.last().is_some_and(|status| *status == 400) {
        assert_eq!(client.closed().await, b"", "{name:?}");
        assert_eq!(upstream.take(), Vec::<String>::new(), "{name:?}");
    }
}

#[tokio::test]
async fn r1_ambiguous_framing_is_refused_or_framed_anew() {
    let post = |rest: &str| format!("POST /a HTTP/1.1\r\nHost: h\r\n{rest}").into_bytes();
    let smuggled = "GET /smuggled HTTP/1.1\r\nX: y";
    // A length and chunks: the chunks count, and the connection is closed.
    check(
        &post(&format!("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}")),
        &[200],
        &["POST /a "],
    )
    .await;
    check(
        &post(&format!("Transfer-Encoding: chunked\r\nContent-Length: 60\r\n\r\n0\r\n\r\n{smuggled}")),
        &[200],
        &["POST /a "],
    )
    .await;
    // Two lengths.
    check(
        &post("Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc"),
        &[200, 200],
        &["POST /a abc", "GET /next "],
    )
    .await;
    check(&post("Content-Length: 3, 3\r\n\r\nabc"), &[400], &[]).await;
    check(&post("Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc"), &[400], &[]).await;
    // Lengths that are none.
    for length in ["+3", "-3", "0x3", "3 3", "3;", "3.0", "", "99999999999999999999"] {
        check(&post(&format!("Content-Length: {length}\r\n\r\nabc")), &[400], &[]).await;
    }
    // Codings that are not chunked, or not last.
    for coding in [
        "chunked, identity",
        "chunked, gzip",
        "chunked, chunked",
        "xchunked",
        "gzip",
        "identity",
        "chunked;x",
        "\"chunked\"",
        "\"a, chunked",
        "gzip;q=\"x, chunked",
        "",
        ",",
        ", chunked",
        "chunked,",
        "gzip,, chunked",
        "\x0bchunked",
        "chunked\x0b",
        "\u{a0}chunked",
    ] {
        check(&post(&format!("Transfer-Encoding: {coding}\r\n\r\n3\r\nabc\r\n0\r\n\r\n")), &[400], &[]).await;
    }
    for lines in [
        "Transfer-Encoding:\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    ] {
        check(&post(&format!("{lines}\r\n\r\n3\r\nabc\r\n0\r\n\r\n")), &[400], &[]).await;
    }
    // Chunks for HTTP/1.0.
    check(
        b"POST /a HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        &[400],
        &[],
    )
    .await;
}

#[tokio::test]
async fn r1_ambiguous_lines_are_refused_or_written_anew() {
    let get = |rest: &str| format!("GET /a HTTP/1.1\r\nHost: h\r\n{rest}").into_bytes();
    check(b"GET /a HTTP/1.1\nHost: h\n\n", &[200, 200], &["GET /a ", "GET /next "]).await;
    check(&get("A: 1\nContent-Length: 3\n\nabc"), &[200, 200], &["GET /a abc", "GET /next "]).await;
    for line in [
        "Content-Length : 3",
        "Transfer-Encoding : chunked",
        " Content-Length: 3",
        "\tContent-Length: 3",
        "Content-Length\t: 3",
        "A: 1\rContent-Length: 3",
        "A: 1\0",
        "A\0: 1",
        "A: 1\r\n Transfer-Encoding: chunked",
        ": 1",
        "no colon",
        "A\u{e9}: 1",
        "(A): 1",
        "A B: 1",
    ] {
        check(&get(&format!("{line}\r\n\r\n")), &[400], &[]).await;
    }
    for line in [
        "GET /a",
        "GET  /a HTTP/1.1",
        "GET /a HTTP/1.1 ",
        "GET /a b HTTP/1.1",
        "GET /a HTTP/1.2",
        "GET /a HTTP/2.0",
        "G(T /a HTTP/1.1",
        "GET /a\tHTTP/1.1",
    ] {
        check(format!("{line}\r\nHost: h\r\n\r\n").as_bytes(), &[400], &[]).await;
    }
}

#[tokio::test]
async fn r1_ambiguous_chunks_are_refused_and_never_complete_a_request() {
    let post = |body: &str| {
        format!("POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{body}").into_bytes()
    };
    check(&post("003;x=\"\r\n\"\r\nabc\r\n0\r\n\r\n"), &[400], &[]).await;
    check(&post("003;x=y\r\nabc\r\n0;z\r\n\r\n"), &[200, 200], &["POST /a abc", "GET /next "]).await;
    for size in ["0x3", "+3", "-1", "3 3", "g", "", "ffffffffffffffff3", "3;x\n", "3\n", "3\r"] {
        check(&post(&format!("{size}\r\nabc\r\n0\r\n\r\n")), &[400], &[]).await;
    }
    check(&post("3\r\nabcd\r\n0\r\n\r\n"), &[400], &[]).await;
    check(&post("3\r\nabc0\r\n\r\n"), &[400], &[]).await;
    check(&post("3\r\nabc\n0\r\n\r\n"), &[400], &[]).await;
    check(&post("3\r\nabc\r\n0\r\nbad line\r\n\r\n"), &[400], &[]).await;
    check(&post("3\r\nabc\r\n0\r\n\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"), &[400], &[]).await;
    check(&post("3\r\nabc\r\n0\r\nX: 1\n\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"), &[400], &[]).await;
}

#[tokio::test]
async fn r2_two_hosts_and_targets_that_are_no_path_are_refused_with_a_reason() {
    for (shape, token) in [
        ("GET /a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "client_host"),
        ("GET /a HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n", "client_host"),
        ("GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n", "client_target"),
    ] {
        let rig = Rig::start().await;
        let mut client = rig.client().await;
        client.send(shape).await;
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
        assert!(head.contains(&format!("x-threadtap-error: {token}\r\n")), "{head}");
        check(shape.as_bytes(), &[400, 200], &["GET /next "]).await;
    }
}

#[tokio::test]
async fn r3_oversize_heads_are_refused() {
    let mut rig = Rig::start_with(|settings| {
        settings.net.max_headers = 50;
        settings.net.max_head_bytes = 16 << 10;
        settings.net.max_header_list_bytes = 4 << 10;
    })
    .await;
    let lines = |count: usize, length: usize| -> String {
        (0..count).map(|n| format!("h{n}: {}\r\n", "x".repeat(length))).collect()
    };
    for (oversize, rest) in [(lines(51, 1), "\r\n"), (lines(1, 16 << 10), "\r\n"), (lines(40, 500), "")] {
        let mut client = rig.client().await;
        client.send(format!("GET / HTTP/1.1\r\n{oversize}{rest}")).await;
        assert_eq!(statuses(&mut client, 1).await, [431]);
        client.closed().await;
    }
    let mut client = Http2::connect(rig.address).await;
    let get = request(Method::GET, "/").header("x", "x".repeat(5 << 10)).body(whole("")).unwrap();
    assert_eq!(client.send(get).head().await.status(), 431);
    // Neither connection nor listener took harm.
    let answer = client.get("/");
    let mut upstream = rig.upstream.accept().await;
    upstream.head().await;
    upstream.send(OK).await;
    assert_eq!(answer.text().await, "ok");
}

#[tokio::test]
async fn r4_slow_heads_are_not_waited_for() {
    let mut rig = Rig::start_with(|settings| settings.net.head_timeout = Duration::from_secs(100)).await;
    let mut slow = rig.client().await;
    slow.send("GET / HT").await;
    // Whoever sends a byte now and then is slow too.
    let mut trickling = rig.client().await;
    let mut sent = 0;
    while trickling.try_send(b"G").await.is_ok() {
        sent += 1;
        assert!(sent < 500, "a head may take for ever");
        pass(Duration::from_secs(2)).await;
    }
    slow.closed().await;
    let (mut client, mut upstream) = rig.forward(GET).await;
    upstream.head().await;
    // An answer may take longer than a head.
    pass(Duration::from_secs(200)).await;
    upstream.send(OK).await;
    client.until("ok").await;
}

#[tokio::test]
async fn r4_slow_heads_are_not_waited_for_on_http2() {
    let rig = Rig::start_with(|settings| {
        settings.net.h2_ping_interval = Duration::from_millis(50);
        settings.net.h2_ping_timeout = Duration::from_millis(50);
    })
    .await;
    let mut client = rig.client().await;
    let open = Frame::new(http2::HEADERS, http2::END_STREAM, 1, &http2::GET_BLOCK[..3]);
    client.send([http2::preface(), open.bytes()].concat()).await;
    // Nothing may come before the rest of the head, not even the answer to a ping.
    client.closed().await;
}

#[tokio::test]
async fn r5_silence_and_half_a_preface_are_not_waited_for() {
    let rig = Rig::start_with(|settings| settings.net.first_byte_timeout = Duration::from_millis(50)).await;
    let mut silent = rig.client().await;
    let mut partial = rig.client().await;
    partial.send("PRI * HTTP/2.0\r\n").await;
    assert_eq!(silent.closed().await, b"");
    assert_eq!(partial.closed().await, b"");
}

#[tokio::test]
async fn r5_by_default_silence_lasts_10_seconds_and_an_idle_connection_75() {
    let mut rig = Rig::start().await;
    let (mut idle, mut upstream) = rig.forward(GET).await;
    upstream.head().await;
    upstream.send(OK).await;
    idle.until("\r\n\r\nok").await;
    let mut silent = rig.client().await;
    eventually("both connections", || rig.metrics.connections.get() == 2).await;
    pass(Duration::from_secs(9)).await;
    assert_eq!(rig.metrics.connections.get(), 2);
    pass(Duration::from_secs(2)).await;
    silent.closed().await;
    pass(Duration::from_secs(60)).await;
    assert_eq!(rig.metrics.connections.get(), 1);
    pass(Duration::from_secs(5)).await;
    idle.closed().await;
}

#[tokio::test]
async fn r6_a_connection_that_idles_is_closed_and_costs_no_request() {
    let mut rig = Rig::start_with(|settings| settings.net.head_timeout = Duration::from_secs(100)).await;
    let (mut client, mut upstream) = rig.forward(GET).await;
    upstream.head().await;
    upstream.send(OK).await;
    client.until("ok").await;
    pass(Duration::from_secs(101)).await;
    assert_eq!(client.closed().await, b"");
}

/// A client that goes on while another floods, and how many of its requests were answered.
async fn bystander(rig: &mut Rig, flood: impl Future<Output = ()> + Send + 'static) -> usize {
    let strict = Strict::of(rig).await;
    let mut client = rig.client().await;
    let flood = tokio::spawn(flood);
    let mut answered = 0;
    while answered < 20 || !flood.is_finished() {
        client.send("GET /bystander HTTP/1.1\r\nHost: h\r\n\r\n").await;
        assert_eq!(statuses(&mut client, 1).await, [200]);
        answered += 1;
    }
    flood.await.unwrap();
    // What the flood made reach upstream.
    strict.take().iter().filter(|request| *request != "GET /bystander ").count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r7_a_flood_of_requests_taken_back_ends_its_connection_and_hurts_nobody() {
    let mut rig = Rig::start().await;
    let mut client = rig.client().await;
    let reached = bystander(&mut rig, async move {
        let mut flood = http2::preface();
        for stream in (0..20_000).map(|n| 2 * n + 1) {
            flood.extend(Frame::get(stream).bytes());
            flood.extend(Frame::reset(stream).bytes());
        }
        // The connection may be over before all of it is sent.
        let _ = client.try_send(&flood).await;
        let goaway = Frame::read_until(&mut client, http2::GOAWAY).await;
        assert_eq!(goaway.payload[4..8], ENHANCE_YOUR_CALM);
        client.closed().await;
    })
    .await;
    assert!(reached < 1000, "{reached} requests of the flood reached upstream");
}

/// Slow enough for each request to be looked at before it is taken back, as those of an impatient client are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r7_requests_that_are_begun_and_taken_back_hurt_nobody() {
    let mut rig = Rig::start().await;
    let mut client = rig.client().await;
    let metrics = rig.metrics.clone();
    bystander(&mut rig, async move {
        client.send(http2::preface()).await;
        for stream in (0..2000).map(|n| 2 * n + 1) {
            if client.try_send(&Frame::get(stream).bytes()).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
            if client.try_send(&Frame::reset(stream).bytes()).await.is_err() {
                break;
            }
        }
    })
    .await;
    eventually("the end of every exchange", || metrics.exchanges_in_progress.get() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r8_a_flood_of_continuations_ends_its_connection_and_hurts_nobody() {
    for piece in [&b""[..], &[b'x'; 16_000]] {
        let mut rig = Rig::start().await;
        let mut client = rig.client().await;
        let piece = piece.to_vec();
        let reached = bystander(&mut rig, async move {
            let mut flood = http2::preface();
            // A field whose name never ends, so that nothing can be decoded and dropped.
            let open = [&http2::GET_BLOCK[..3], &[0, 0x7f, 0xff, 0xff, 0x7f]].concat();
            flood.extend(Frame::new(http2::HEADERS, http2::END_STREAM, 1, open).bytes());
            client.send(flood).await;
            let continuation = Frame::new(http2::CONTINUATION, 0, 1, piece).bytes();
            let mut sent = 0;
            while client.try_send(&continuation).await.is_ok() {
                sent += 1;
                assert!(sent < 100_000, "nothing ends the flood");
            }
        })
        .await;
        assert_eq!(reached, 0);
    }
}

#[tokio::test]
async fn r9_a_malformed_body_is_the_clients_fault() {
    let mut rig = Rig::start().await;
    let head = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    for body in ["nonsense\r\n", "3\r\nabcd\r\n", "3\r\nabc\r\nxyz\r\n"] {
        let (mut client, mut upstream) = rig.forward(head).await;
        upstream.head().await;
        client.send(body).await;
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
        assert!(head.contains("x-threadtap-error: client_body\r\n"), "{head}");
        assert!(head.contains("\r\nconnection: close\r\n"), "{head}");
        let got = upstream.closed().await;
        assert!(
            !String::from_utf8_lossy(&got).contains("0\r\n\r\n"),
            "the request was ended as if it were whole"
        );
    }
}

#[tokio::test]
async fn r10_beyond_the_limit_connections_wait_and_a_tunnel_counts() {
    let mut rig = Rig::start_with(|settings| settings.net.max_connections = 1).await;
    let ask = "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let (mut socket, mut tunnel) = rig.forward(ask).await;
    tunnel.head().await;
    tunnel.send("HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").await;
    socket.head().await;
    tunnel.send("x").await;
    socket.expect("x").await;
    assert_eq!(rig.metrics.connections.get(), 1);
    let mut waiting = rig.client().await;
    waiting.send(GET).await;
    drop((socket, tunnel));
    rig.upstream.accept().await.head().await;
}

#[tokio::test]
async fn r10_a_connection_without_a_request_gives_way_to_a_new_client() {
    let mut rig = Rig::start_with(|settings| settings.net.max_connections = 1).await;
    let (mut idle, mut upstream) = rig.forward(GET).await;
    upstream.head().await;
    upstream.send(OK).await;
    idle.until("ok").await;
    let mut silent = rig.client().await;
    assert_eq!(idle.rest().await.unwrap(), b"");
    let mut half = rig.client().await;
    half.send("GET / HTTP/1.1\r\nHo").await;
    assert_eq!(silent.rest().await.unwrap(), b"");
    let mut http2 = Http2::connect(rig.address).await;
    assert_eq!(half.closed().await, b"");
    let answer = http2.get("/");
    upstream.head().await;
    upstream.send(OK).await;
    assert_eq!(answer.text().await, "ok");
    let (mut client, mut other) = (rig.client().await, upstream);
    http2.closed().await;
    // One whose exchange is in progress stays until it is over.
    client.send(GET).await;
    other.head().await;
    let mut waiting = rig.client().await;
    waiting.send(GET).await;
    other.send(OK).await;
    client.until("ok").await;
    assert_eq!(client.rest().await.unwrap(), b"");
    other.head().await;
    other.send(OK).await;
    waiting.until("ok").await;
}

/// That the example holds the defaults, and that all of it is understood, is a test of the configuration.
#[test]
fn r11_every_limit_is_a_setting() {
    let example =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/config.example.toml")).unwrap();
    let example: toml::Table = example.parse().unwrap();
    for (section, keys) in [
        (
            "server",
            &[
                "max_connections",
                "first_byte_timeout",
                "head_timeout",
                "max_headers",
                "max_head",
                "max_header_list",
                "h2_max_streams",
                "h2_stream_window",
                "h2_connection_window",
                "h2_memory",
                "h2_max_pending_resets",
                "h2_ping_interval",
                "h2_ping_timeout",
                "half_close",
            ][..],
        ),
        (
            "proxy",
            &["connect_timeout", "continue_timeout", "max_headers", "max_head", "linger", "linger_timeout"],
        ),
    ] {
        for key in keys {
            assert!(example[section].get(key).is_some(), "{section}.{key}");
        }
    }
}

/// What a client cannot take is its own part, however much others hold.
#[tokio::test]
async fn r12_requests_for_which_there_is_no_memory_are_refused_and_each_connection_has_some() {
    let mut rig = Rig::start_with(|settings| settings.net.h2_memory_bytes = 100 << 10).await;
    let mut greedy = rig.client().await;
    greedy.send(http2::preface()).await;
    let mut held = Vec::new();
    let mut stream = 1;
    // As many as it gets.
    let refused = loop {
        greedy.send(Frame::get(stream).bytes()).await;
        tokio::select! {
            upstream = rig.upstream.accept() => held.push(upstream),
            frame = Frame::read_until(&mut greedy, http2::RST_STREAM) => break frame,
        }
        stream += 2;
    };
    assert_eq!((refused.stream, &*refused.payload), (stream, &REFUSED_STREAM[..]));
    assert!((20..=25).contains(&held.len()), "{} requests of 24 KiB", held.len());
    assert_eq!(rig.metrics.h2_refused.get(), 1);

    let answer = Http2::connect(rig.address).await.get("/");
    let mut upstream = rig.upstream.accept().await;
    upstream.head().await;
    upstream.send(OK).await;
    assert_eq!(answer.text().await, "ok");
    // One that is over makes room for another.
    let mut first = held.swap_remove(0);
    first.head().await;
    first.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").await;
    Frame::read_until(&mut greedy, http2::DATA).await;
    greedy.send(Frame::get(stream + 2).bytes()).await;
    upstream.head().await;
}

/// RFC 9113 §7.
const REFUSED_STREAM: [u8; 4] = [0, 0, 0, 7];
/// RFC 9113 §7.
const ENHANCE_YOUR_CALM: [u8; 4] = [0, 0, 0, 0xb];
