use std::time::Duration;

use threadtap::metrics::{DropLabel, DropReason};
use threadtap_core::dialect;
use threadtap_core::exchange::{End, Ending};

use crate::support::{Captured, Rig};

const GET: &str = "GET /tapped HTTP/1.1\r\nHost: h\r\n\r\n";
const EVENTS: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n";

fn dropped(rig: &Rig, reason: DropReason) -> u64 {
    rig.metrics.dropped.get_or_create(&DropLabel { reason }).get()
}

#[tokio::test]
async fn what_passed_is_what_the_pipeline_gets_before_the_client_sees_the_end() {
    let mut rig = Rig::start().await;
    let (mut client, mut upstream) = rig
        .forward(concat!(
            "POST /tapped/%61?q=1 HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer secret\r\nX-Threadtap-User: me\r\n",
            "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{\"\r\n4\r\na\":1\r\n1\r\n}\r\n0\r\n\r\n"
        ))
        .await;
    upstream.until("0\r\n\r\n").await;
    upstream
        .send("HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\n")
        .await;
    upstream.send("Content-Encoding: br\r\nContent-Length: 5\r\n\r\nhello").await;
    client.until("hello").await;
    let start = rig.start_captured();
    assert_eq!((start.method.as_str(), &*start.path, &*start.query), ("POST", "/tapped/%61", "q=1"));
    assert_eq!(&*start.upstream, rig.upstream.address.to_string());
    assert_eq!((&*start.request_body.bytes, start.request_body.complete), (&b"{\"a\":1}"[..], true));
    assert_eq!((start.status, start.content_type.unwrap().as_bytes()), (201, &b"application/json"[..]));
    assert_eq!(start.content_encoding.unwrap(), "gzip, br");
    let headers: Vec<_> = start.request_headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(headers, ["x-threadtap-user", "content-type"]);
    assert!(start.request_at <= start.response_at);
    let segment = rig.segment_captured();
    assert_eq!((segment.seq, &*segment.bytes), (0, &b"hello"[..]));
    let end = rig.end_captured();
    assert_eq!((end.segments, end.ending), (1, Ending::Complete));
    rig.nothing_captured();
    assert_eq!((rig.metrics.capture_bytes.get(), rig.metrics.pipeline_queue.get()), (0, 0));
    assert_eq!(rig.metrics.captured.get(), 1);
}

#[tokio::test]
async fn the_first_event_is_handed_over_at_once_and_the_rest_in_segments() {
    let mut rig = Rig::start().await;
    let (mut client, mut upstream) = rig.forward(GET).await;
    upstream.head().await;
    upstream.send(EVENTS).await;
    client.head().await;
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    for text in ["data: 1\n\n", "data: 2\n\n", "data: 3\n\n"] {
        upstream.send(chunk(text)).await;
        client.expect(&chunk(text)).await;
    }
    assert!(rig.start_captured().request_body.complete);
    assert_eq!(rig.segment_captured().bytes, b"data: 1\n\n");
    rig.nothing_captured();
    let long = "x".repeat(20_000);
    upstream.send(chunk(&long)).await;
    upstream.send("0\r\n\r\n").await;
    client.until("0\r\n\r\n").await;
    let mut all = Vec::new();
    let end = loop {
        match rig.captured() {
            Captured::Segment(segment) => all.extend(segment.bytes),
            Captured::End(end) => break end,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(String::from_utf8(all).unwrap(), format!("data: 2\n\ndata: 3\n\n{long}"));
    assert_eq!(end.ending, Ending::Complete);
}

#[tokio::test]
async fn how_a_body_ended_is_told() {
    let mut rig = Rig::start().await;
    let (mut client, mut upstream) = rig.forward(GET).await;
    upstream.head().await;
    upstream.send(format!("{EVENTS}1\r\na\r\n")).await;
    client.until("1\r\na\r\n").await;
    drop(upstream);
    client.closed().await;
    rig.start_captured();
    rig.segment_captured();
    assert_eq!(rig.end_captured().ending, Ending::UpstreamFailed);

    let (mut client, mut upstream) = rig.forward(GET).await;
    upstream.head().await;
    upstream.send(format!("{EVENTS}1\r\na\r\n")).await;
    client.until("1\r\na\r\n").await;
    drop(client);
    upstream.closed().await;
    rig.start_captured();
    rig.segment_captured();
    assert_eq!(rig.end_captured().ending, Ending::ClientGone);

    let (mut client, mut upstream) = rig.forward(GET).await;
    upstream.head().await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    client.head().await;
    rig.start_captured();
    let end = rig.end_captured();
    assert_eq!((end.segments, end.ending), (0, Ending::Complete));
}

#[tokio::test]
async fn an_answer_whose_client_left_is_read_on_if_that_is_set() {
    let mut rig =
        Rig::start_with(|settings| settings.proxy.finish_after_disconnect = Duration::from_secs(60)).await;
    let (mut client, mut upstream) = rig.forward(GET).await;
    upstream.head().await;
    upstream.send(format!("{EVENTS}1\r\na\r\n")).await;
    client.until("1\r\na\r\n").await;
    drop(client);
    rig.start_captured();
    assert_eq!(rig.segment_captured().bytes, b"a");
    // Long after the proxy must have noticed that the client is gone.
    while rig.metrics.connections.get() > 0 {
        tokio::task::yield_now().await;
    }
    upstream.send("1\r\nb\r\n0\r\n\r\n").await;
    let mut rest = Vec::new();
    let end = loop {
        match rig.next_captured() {
            Some(Captured::Segment(segment)) => rest.extend(segment.bytes),
            Some(Captured::End(end)) => break end,
            Some(other) => panic!("{other:?}"),
            None => tokio::task::yield_now().await,
        }
    };
    assert_eq!((&*rest, end.ending), (&b"b"[..], Ending::Complete));
}

#[tokio::test]
async fn an_answer_is_read_on_no_longer_than_is_set_and_only_if_it_is_captured() {
    let mut rig =
        Rig::start_with(|settings| settings.proxy.finish_after_disconnect = Duration::from_millis(50)).await;
    let (mut client, mut upstream) = rig.forward(GET).await;
    upstream.head().await;
    upstream.send(format!("{EVENTS}1\r\na\r\n")).await;
    client.until("1\r\na\r\n").await;
    drop(client);
    upstream.closed().await;
    rig.start_captured();
    rig.segment_captured();
    assert_eq!(rig.end_captured().ending, Ending::ClientGone);

    let mut rig =
        Rig::start_with(|settings| settings.proxy.finish_after_disconnect = Duration::from_secs(3600)).await;
    let (mut client, mut upstream) = rig.forward("GET /other HTTP/1.1\r\nHost: h\r\n\r\n").await;
    upstream.head().await;
    upstream.send(format!("{EVENTS}1\r\na\r\n")).await;
    client.until("1\r\na\r\n").await;
    drop(client);
    upstream.closed().await;
}

#[tokio::test]
async fn what_is_of_no_interest_or_must_not_be_seen_is_not_copied() {
    let mut rig = Rig::start().await;
    for request in [
        "GET /other HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /tapped HTTP/1.1\r\nHost: h\r\nX-Threadtap-Capture: None\r\n\r\n",
    ] {
        let (mut client, mut upstream) = rig.forward(request).await;
        assert!(!upstream.head().await.to_lowercase().contains("x-threadtap"));
        upstream.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok").await;
        client.until("ok").await;
        rig.nothing_captured();
    }
}

#[tokio::test]
async fn of_what_no_dialect_reads_only_the_beginning_is_copied() {
    let mut rig = Rig::start_with(|settings| settings.proxy.interest = dialect::interest).await;
    let body = format!(r#"{{"model":"m","prompt":"{}"}}"#, "x".repeat(100_000));
    let (mut client, mut upstream) = rig
        .forward(&format!("POST /other HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
        .await;
    upstream.until("\"}").await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    client.until("ok").await;
    let request = rig.start_captured().request_body;
    assert!(request.bytes.len() == 64 << 10 && !request.complete);
    assert!(
        matches!(rig.captured(), Captured::End(End { segments: 0, .. })),
        "of the response only the head"
    );
    assert_eq!(dropped(&rig, DropReason::body_too_large), 0, "nothing of use was lost");
    rig.nothing_captured();
}

#[tokio::test]
async fn an_early_answer_comes_with_as_much_of_the_request_as_had_passed() {
    let mut rig = Rig::start().await;
    let (mut client, mut upstream) =
        rig.forward("POST /tapped HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc").await;
    upstream.until("abc").await;
    upstream.send("HTTP/1.1 400 N\r\nContent-Length: 2\r\n\r\nno").await;
    client.until("no").await;
    let start = rig.start_captured();
    assert_eq!((&*start.request_body.bytes, start.request_body.complete), (&b"abc"[..], false));
}

#[tokio::test]
async fn beyond_the_limit_the_copy_stops_and_the_stream_does_not() {
    let mut rig = Rig::start_with(|settings| {
        settings.capture.max_body_bytes = 1000;
        settings.capture.max_prefix_bytes = 10;
    })
    .await;
    let body = "y".repeat(5000);
    let head = format!("POST /tapped HTTP/1.1\r\nHost: h\r\nContent-Length: 5000\r\n\r\n{body}");
    let (mut client, mut upstream) = rig.forward(&head).await;
    upstream.until(&body).await;
    let chunk = format!("1388\r\n{body}\r\n");
    upstream
        .send(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}{chunk}0\r\n\r\n"))
        .await;
    let got = client.until("0\r\n\r\n").await;
    assert_eq!(got.matches('y').count(), 10_000);
    let start = rig.start_captured();
    assert_eq!((start.request_body.bytes.len(), start.request_body.complete), (10, false));
    assert_eq!(rig.segment_captured().bytes.len(), 1000);
    assert_eq!(rig.end_captured().segments, 2);
    rig.nothing_captured();
    assert_eq!(dropped(&rig, DropReason::body_too_large), 2);
}

/// Runs some tapped streams and checks that the client gets all of them.
async fn streams_pass(rig: &mut Rig) {
    for _ in 0..5 {
        let (mut client, mut upstream) = rig.forward(GET).await;
        upstream.head().await;
        upstream.send(EVENTS).await;
        client.head().await;
        let chunk = format!("4e20\r\n{}\r\n", "z".repeat(20_000));
        for _ in 0..10 {
            upstream.send(&chunk).await;
        }
        upstream.send("0\r\n\r\n").await;
        assert_eq!(client.until("0\r\n\r\n").await.matches('z').count(), 200_000);
    }
}

#[tokio::test]
async fn a_full_queue_loses_captures_and_is_never_felt() {
    let mut rig = Rig::start_with(|settings| settings.capture.queue = 1).await;
    streams_pass(&mut rig).await;
    assert!(dropped(&rig, DropReason::queue_full) >= 5);
    assert_eq!(rig.metrics.pipeline_queue.get(), 1);
    while rig.next_captured().is_some() {}
    assert_eq!((rig.metrics.capture_bytes.get(), rig.metrics.pipeline_queue.get()), (0, 0));
}

#[tokio::test]
async fn a_used_up_budget_loses_captures_and_is_never_felt() {
    let mut rig = Rig::start_with(|settings| settings.capture.budget_bytes = 100_000).await;
    streams_pass(&mut rig).await;
    assert!(dropped(&rig, DropReason::byte_budget) >= 5);
    assert!(rig.metrics.capture_bytes.get() <= 100_000);
    // An exchange for whose head there is no room is lost as a whole.
    let (mut segments, mut holes, mut lost) = (0, 0, 5);
    while let Some(capture) = rig.next_captured() {
        match capture {
            Captured::Start(_) => (segments, lost) = (0, lost - 1),
            Captured::Segment(_) => segments += 1,
            Captured::End(end) => holes += end.segments - segments,
        }
    }
    assert_eq!(u64::from(holes + lost), dropped(&rig, DropReason::byte_budget));
    assert_eq!(rig.metrics.capture_bytes.get(), 0);
}

#[tokio::test]
async fn a_pipeline_that_is_gone_is_never_felt() {
    let mut rig = Rig::start().await;
    rig.captured = None;
    streams_pass(&mut rig).await;
    assert_eq!((rig.metrics.capture_bytes.get(), rig.metrics.pipeline_queue.get()), (0, 0));
}
