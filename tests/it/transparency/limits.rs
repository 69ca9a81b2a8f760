//! What cannot be kept, held as it is: when one of these fails, something was learnt and the table has to follow.

use std::time::Duration;

use http::Method;

use crate::support::Rig;
use crate::support::http2::{self, Frame, Http2, request, whole};

const GET: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

/// The bytes for which a request is refused when `target` holds them.
async fn refused(rig: &mut Rig, target: impl Fn(u8) -> Vec<u8>) -> Vec<u8> {
    let mut refused = Vec::new();
    for byte in 0x21..=0xff {
        let mut client = rig.client().await;
        client.send([b"GET ", &*target(byte), b" HTTP/1.0\r\n\r\n"].concat()).await;
        tokio::select! {
            upstream = rig.upstream.accept() => drop(upstream),
            head = client.head() => {
                assert!(head.starts_with("HTTP/1.0 400 ") || head.starts_with("HTTP/1.1 400 "), "{head}");
                refused.push(byte);
            }
        }
    }
    refused
}

#[tokio::test]
async fn l1_bytes_in_a_target_that_are_no_utf8_are_refused_and_http2_refuses_some_more() {
    let mut rig = Rig::start().await;
    let beyond: Vec<u8> = (0x7f..=0xff).collect();
    assert_eq!(refused(&mut rig, |byte| vec![b'/', byte]).await, beyond);
    assert_eq!(refused(&mut rig, |byte| vec![b'/', b'?', byte]).await, beyond);
    for (path, allowed) in [("/[", true), ("/<", false), ("/`", false)] {
        assert_eq!(
            path.parse::<http::Uri>().is_ok(),
            allowed,
            "{path}: what hyper's HTTP/2 makes of a target"
        );
    }
}

#[tokio::test]
async fn l4_informational_answers_but_100_and_101_are_not_passed_on() {
    let mut rig = Rig::start().await;
    let (mut client, mut upstream) = rig.forward(GET).await;
    upstream.head().await;
    upstream.send("HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n").await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    client.expect_head(&["HTTP/1.1 200 OK", "Content-Length: 2"]).await;
    client.expect("ok").await;
}

#[tokio::test]
async fn l5_an_http2_client_is_not_invited_to_send_its_body() {
    let mut rig = Rig::start().await;
    let mut client = Http2::connect(rig.address).await;
    let post = request(Method::POST, "/").header("expect", "100-continue").body(whole("abc")).unwrap();
    let answer = client.send(post);
    let mut upstream = rig.upstream.accept().await;
    upstream.until("expect: 100-continue\r\ncontent-length: 3\r\n\r\nabc").await;
    upstream.send("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(answer.text().await, "ok");
}

#[tokio::test]
async fn l6_names_of_trailers_go_lower_case_and_some_are_dropped() {
    let mut rig = Rig::start().await;
    let (mut client, mut upstream) =
        rig.forward("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    client.send("1\r\na\r\n0\r\nX-Sum: 1\r\nContent-Length: 9\r\nHost: other\r\n\r\n").await;
    upstream.until("\r\n\r\n1\r\na\r\n0\r\nx-sum: 1\r\n\r\n").await;
    upstream.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    upstream.send("1\r\nb\r\n0\r\nX-Sum: 2\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    client.until("\r\n\r\n1\r\nb\r\n0\r\nx-sum: 2\r\n\r\n").await;
}

#[tokio::test]
async fn l7_chunks_that_come_together_may_leave_as_one_and_extensions_are_dropped() {
    let mut rig = Rig::start().await;
    let (mut client, mut upstream) = rig.forward(GET).await;
    upstream.head().await;
    upstream.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    client.head().await;
    upstream.send("01;ext=\"1\"\r\na\r\n").await;
    client.expect("1\r\na\r\n").await;
    upstream.send("0;end\r\n\r\n").await;
    client.expect("0\r\n\r\n").await;
}

#[tokio::test]
async fn l8_a_close_delimited_answer_is_framed_anew_and_its_truncation_by_a_plain_close_is_not_seen() {
    let mut rig = Rig::start().await;
    let (mut client, mut upstream) = rig.forward(GET).await;
    upstream.head().await;
    upstream.send("HTTP/1.1 200 OK\r\nA: 1\r\n\r\nhalf").await;
    drop(upstream);
    client.expect_head(&["HTTP/1.1 200 OK", "A: 1", "transfer-encoding: chunked"]).await;
    client.expect("4\r\nhalf\r\n0\r\n\r\n").await;
}

#[tokio::test]
async fn l9_the_way_a_head_is_written_is_not_kept() {
    let mut rig = Rig::start().await;
    let (mut client, mut upstream) = rig.forward("GET / HTTP/1.1\r\nHost: h\r\nA:  \t1 \r\n\r\n").await;
    upstream.until("\r\nA: 1\r\n\r\n").await;
    upstream
        .send(
            "HTTP/1.0 429 Wait\r\nF: a\r\n  b\r\nS : 1\r\nN: a\0b\rc: d\r\nbad name: 2\r\nContent-Length: 1\r\n\r\nx",
        )
        .await;
    client.expect_head(&["HTTP/1.1 429 Wait", "F: a b", "S: 1", "N: a b c: d", "Content-Length: 1"]).await;
}

#[tokio::test]
async fn l10_a_client_that_has_sent_much_more_is_not_seen_to_leave() {
    let mut rig = Rig::start().await;
    let (client, mut upstream) = rig.forward(&GET.repeat(4000)).await;
    upstream.head().await;
    drop(client);
    // One that has sent less is seen to leave within milliseconds, see e1.
    assert!(tokio::time::timeout(Duration::from_millis(200), upstream.closed()).await.is_err());
}

#[tokio::test]
async fn l11_web_sockets_over_http2_are_not_offered() {
    let rig = Rig::start().await;
    let mut client = rig.client().await;
    client.send(http2::preface()).await;
    let settings = Frame::read_until(&mut client, http2::SETTINGS).await;
    let mut offered = settings.payload.chunks(6).map(|setting| u16::from_be_bytes([setting[0], setting[1]]));
    assert!(!offered.any(|setting| setting == 8), "{settings:?}");
}

#[tokio::test]
async fn l12_answers_that_cannot_be_understood_are_a_502() {
    let mut rig = Rig::start().await;
    let many: String = (0..1001).map(|n| format!("h{n}: {n}\r\n")).collect();
    for head in [
        "HTTP/1.1 20 OK\r\n\r\n".to_owned(),
        "HTTP/1.1 2000 OK\r\n\r\n".to_owned(),
        "HTTP/1.1 200OK\r\n\r\n".to_owned(),
        "http/1.1 200 OK\r\n\r\n".to_owned(),
        "HTTP/x 200 OK\r\n\r\n".to_owned(),
        format!("HTTP/1.1 200 OK\r\n{many}\r\n"),
        format!("HTTP/1.1 200 OK\r\nlong: {}\r\n\r\n", "x".repeat(512 << 10)),
        format!("HTTP/1.1 200 OK\r\nendless: {}", "x".repeat(512 << 10)),
    ] {
        let (mut client, mut upstream) = rig.forward(GET).await;
        upstream.head().await;
        upstream.send(&head).await;
        let answer = client.head().await;
        assert!(answer.contains("x-threadtap-error: upstream_answer\r\n"), "{head:.60}: {answer}");
    }
}

#[tokio::test]
async fn l13_an_idle_http2_connection_is_kept_for_as_long_as_it_answers_pings() {
    let mut rig = Rig::start_with(|settings| {
        settings.net.head_timeout = Duration::from_millis(50);
        settings.net.h2_ping_interval = Duration::from_millis(20);
        settings.net.h2_ping_timeout = Duration::from_secs(3600);
    })
    .await;
    let mut client = rig.client().await;
    client.send(http2::preface()).await;
    // So many that it has been idle for longer than a head may take.
    for _ in 0..5 {
        let ping = Frame::read_until(&mut client, http2::PING).await;
        client.send(Frame::new(http2::PING, http2::ACK, 0, ping.payload).bytes()).await;
    }
    client.send(Frame::get(1).bytes()).await;
    let mut upstream = rig.upstream.accept().await;
    upstream.head().await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(Frame::read_until(&mut client, http2::DATA).await.payload, b"ok");
}

#[tokio::test]
async fn l14_refusals_of_the_parser_have_no_body_and_no_reason() {
    let rig = Rig::start().await;
    let many: String = (0..1001).map(|n| format!("h{n}: {n}\r\n")).collect();
    for (head, status) in [
        ("GET / HTTP/1.1\r\nHost : h\r\n\r\n".to_owned(), "400 Bad Request"),
        (format!("GET / HTTP/1.1\r\n{many}\r\n"), "431 Request Header Fields Too Large"),
    ] {
        let mut client = rig.client().await;
        client.send(&head).await;
        client.expect_head(&[&format!("HTTP/1.1 {status}"), "connection: close", "content-length: 0"]).await;
        assert_eq!(client.closed().await, b"");
    }
}
