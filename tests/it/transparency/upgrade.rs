use std::time::Duration;

use threadtap::metrics::SideLabel;
use threadtap::net::Drained;

use crate::support::http2::{self, Http2, whole};
use crate::support::{Raw, Rig};

const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: a\r\n\r\n";

fn ask(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\nSec-WebSocket-Protocol: realtime, openai-insecure-api-key.k\r\n\r\n"
    )
}

async fn tunnel(rig: &mut Rig) -> (Raw, Raw) {
    let (mut client, mut upstream) = rig.forward(&ask("/v1/realtime")).await;
    upstream.head().await;
    upstream.send(SWITCH).await;
    client.expect(SWITCH).await;
    (client, upstream)
}

/// A frame of RFC 6455 §5.2, masked with zeros if a client's.
fn frame(opcode: u8, masked: bool, payload: &[u8]) -> Vec<u8> {
    assert!(payload.len() < 126);
    let length = u8::try_from(payload.len()).unwrap();
    let head =
        if masked { vec![0x80 | opcode, 0x80 | length, 0, 0, 0, 0] } else { vec![0x80 | opcode, length] };
    [&head, payload].concat()
}

const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;

#[tokio::test]
async fn u1_a_web_socket_is_a_tunnel_with_two_ends() {
    let mut rig = Rig::start().await;
    for path in ["/v1/realtime?model=m", "/v1/responses"] {
        let (mut client, mut upstream) = rig.forward(&ask(path)).await;
        let host = format!("Host: {}", rig.upstream.address);
        upstream
            .expect_head(&[
                &format!("GET {path} HTTP/1.1"),
                &host,
                "Connection: Upgrade",
                "Upgrade: websocket",
                "Sec-WebSocket-Key: k",
                "Sec-WebSocket-Protocol: realtime, openai-insecure-api-key.k",
            ])
            .await;
        upstream.send(format!("{SWITCH}early")).await;
        client.expect(SWITCH).await;
        client.expect("early").await;
        for opcode in [TEXT, PING] {
            for _ in 0..50 {
                client.send(frame(opcode, true, b"{}")).await;
                assert_eq!(upstream.exactly(8).await, frame(opcode, true, b"{}"));
                upstream.send(frame(opcode, false, b"{}")).await;
                assert_eq!(client.exactly(4).await, frame(opcode, false, b"{}"));
            }
        }
        client.finish_sending().await;
        assert_eq!(upstream.rest().await.unwrap(), b"");
        upstream.send("bye").await;
        drop(upstream);
        assert_eq!(client.rest().await.unwrap(), b"bye");
    }
}

#[tokio::test]
async fn u10_the_frames_of_a_web_socket_are_counted() {
    let mut rig = Rig::start().await;
    let (mut client, mut upstream) = tunnel(&mut rig).await;
    let frames = |from| rig.metrics.frames.get_or_create_owned(&SideLabel { from }).get();
    for _ in 0..3 {
        client.send(frame(TEXT, true, b"{}")).await;
        assert_eq!(upstream.exactly(8).await, frame(TEXT, true, b"{}"));
    }
    upstream.send([frame(TEXT, false, b"{}"), frame(PING, false, b"")].concat()).await;
    assert_eq!(client.exactly(6).await.len(), 6);
    assert_eq!((frames("client"), frames("upstream")), (3, 2));
}

#[tokio::test]
async fn u2_close_codes_arrive_on_the_other_side() {
    let mut rig = Rig::start().await;
    for code in [1000_u16, 1001, 1011, 4000] {
        let close = [&code.to_be_bytes(), &b"why"[..]].concat();
        let (mut client, mut upstream) = tunnel(&mut rig).await;
        upstream.send(frame(CLOSE, false, &close)).await;
        drop(upstream);
        assert_eq!(client.rest().await.unwrap(), frame(CLOSE, false, &close));

        let (mut client, mut upstream) = tunnel(&mut rig).await;
        client.send(frame(CLOSE, true, &close)).await;
        assert_eq!(upstream.exactly(11).await, frame(CLOSE, true, &close));
        upstream.send(frame(CLOSE, false, &close)).await;
        assert_eq!(client.exactly(7).await, frame(CLOSE, false, &close));
        drop(client);
        upstream.closed().await;
    }
}

#[tokio::test]
async fn u3_a_side_that_does_not_read_holds_up_the_other_and_nothing_else() {
    let mut rig = Rig::start().await;
    let (mut client, mut upstream) = tunnel(&mut rig).await;
    let taken = upstream.fill(90).await;
    assert!(taken < 24, "{taken} MB were taken from upstream");
    // The other direction still flows.
    client.send("hello").await;
    upstream.expect("hello").await;
    let taken = client.fill(90).await;
    assert!(taken < 24, "{taken} MB were taken from the client");
    let (mut client, mut upstream) = tunnel(&mut rig).await;
    client.send("hello").await;
    upstream.expect("hello").await;
}

#[tokio::test]
async fn u4_a_tunnel_is_waited_for_in_the_drain_and_cut_after_its_grace() {
    let mut rig = Rig::start().await;
    let (mut client, mut upstream) = tunnel(&mut rig).await;
    rig.drain();
    for _ in 0..3 {
        upstream.send("still").await;
        client.expect("still").await;
    }
    assert_eq!((rig.metrics.connections.get(), rig.metrics.exchanges_in_progress.get()), (1, 1));
    drop(upstream);
    assert_eq!(client.closed().await, b"");
    drop(client);
    assert_eq!(rig.drained().await, Drained::Complete);
    assert_eq!((rig.metrics.connections.get(), rig.metrics.exchanges_in_progress.get()), (0, 0));

    let mut rig = Rig::start_with(|settings| settings.grace = Duration::from_millis(50)).await;
    let (mut client, mut upstream) = tunnel(&mut rig).await;
    rig.drain();
    assert_eq!(rig.drained().await, Drained::Cut);
    client.closed().await;
    upstream.closed().await;
}

#[tokio::test]
async fn u5_an_offer_to_speak_http2_is_not_passed_on() {
    let mut rig = Rig::start().await;
    let host = format!("Host: {}", rig.upstream.address);
    for (offer, kept) in [
        ("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n", &[][..]),
        ("Connection: Upgrade\r\nUpgrade: TLS/1.3\r\n", &[]),
        ("Upgrade: websocket\r\n", &[]),
        (
            "Connection: Upgrade\r\nUpgrade: h2c, websocket\r\n",
            &["Connection: Upgrade", "Upgrade: websocket"],
        ),
    ] {
        let (_client, mut upstream) =
            rig.forward(&format!("GET / HTTP/1.1\r\nHost: h\r\n{offer}A: 1\r\n\r\n")).await;
        let mut expected = vec!["GET / HTTP/1.1", &host];
        expected.extend(kept);
        expected.push("A: 1");
        upstream.expect_head(&expected).await;
    }
}

#[tokio::test]
async fn u6_connect_is_refused_with_a_reason() {
    let rig = Rig::start().await;
    let mut client = rig.client().await;
    client.send("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n").await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 501 ") && head.contains("x-threadtap-error: connect\r\n"), "{head}");
    client.until("\"code\":\"connect\"}}").await;

    let connect = http::Request::connect("a:1").body(whole("")).unwrap();
    let response = Http2::connect(rig.address).await.send(connect).head().await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["x-threadtap-error"]),
        (501, &"connect".parse().unwrap())
    );
    assert!(http2::text(response).await.contains("CONNECT is not supported"));
}

#[tokio::test]
async fn u7_a_refused_upgrade_is_an_ordinary_answer() {
    let mut rig = Rig::start().await;
    let (mut client, mut upstream) = rig.forward(&ask("/v1/realtime")).await;
    upstream.head().await;
    upstream.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").await;
    client.expect_head(&["HTTP/1.1 403 Forbidden", "Content-Length: 2"]).await;
    client.expect("no").await;
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    upstream.until("GET / HTTP/1.1\r\n").await;
}

#[tokio::test]
async fn u8_a_switch_nobody_asked_for_is_refused() {
    let mut rig = Rig::start().await;
    let (mut client, mut upstream) = rig.forward("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    upstream.head().await;
    upstream.send(SWITCH).await;
    assert!(client.head().await.contains("x-threadtap-error: upstream_answer\r\n"));
    upstream.closed().await;
}

#[tokio::test]
async fn u9_a_tunnel_ends_on_both_sides_when_one_is_reset() {
    let mut rig = Rig::start().await;
    let (mut client, upstream) = tunnel(&mut rig).await;
    upstream.reset();
    assert_eq!(client.closed().await, b"");
    let (client, mut upstream) = tunnel(&mut rig).await;
    client.reset();
    assert_eq!(upstream.closed().await, b"");
}
