use std::io::ErrorKind;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt;
use threadtap::net::Drained;

use crate::support::http2::{self, Frame, Http2, request, whole};
use crate::support::{Raw, Rig, Upstream, eventually, pass, soon, without_timers};

const GET: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n";

/// Waits for the end of exchanges whose clients have left: at once, which is to say that it waits for no timer.
async fn cancelled(upstreams: Vec<Raw>) {
    without_timers(async {
        for mut upstream in upstreams {
            upstream.closed().await;
        }
    })
    .await;
}

#[tokio::test]
async fn e1_a_client_that_leaves_cancels_its_request_at_once() {
    let mut rig = Rig::start().await;
    let (mut clients, mut upstreams) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let (client, mut upstream) = rig.forward(GET).await;
        upstream.head().await;
        clients.push(client);
        upstreams.push(upstream);

        let (mut client, mut upstream) = rig.forward(GET).await;
        upstream.head().await;
        upstream.send(CHUNKED).await;
        client.until("1\r\na\r\n").await;
        clients.push(client);
        upstreams.push(upstream);

        let (client, mut upstream) =
            rig.forward("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nab").await;
        upstream.until("\r\n\r\nab").await;
        clients.push(client);
        upstreams.push(upstream);

        // One that has sent its next request already.
        let (client, mut upstream) = rig.forward(&GET.repeat(2)).await;
        upstream.head().await;
        clients.push(client);
        upstreams.push(upstream);
    }
    drop(clients);
    cancelled(upstreams).await;
}

#[tokio::test]
async fn e1_a_client_that_closes_its_sending_side_leaves_unless_configured_otherwise() {
    let mut rig = Rig::start().await;
    let (mut client, mut upstream) = rig.forward(GET).await;
    upstream.head().await;
    client.finish_sending().await;
    upstream.closed().await;

    let mut rig = Rig::start_with(|settings| settings.net.half_close = true).await;
    let (mut client, mut upstream) = rig.forward(GET).await;
    upstream.head().await;
    client.finish_sending().await;
    upstream.send(OK).await;
    client.until("\r\n\r\nok").await;
}

#[tokio::test]
async fn e1_a_stream_that_is_reset_cancels_its_request_and_no_other() {
    let mut rig = Rig::start().await;
    let mut client = Http2::connect(rig.address).await;
    let unanswered = client.get("/");
    let mut first = rig.upstream.accept().await;
    first.head().await;
    let streaming = client.get("/");
    let mut second = rig.upstream.accept().await;
    second.head().await;
    second.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab").await;
    let streaming = streaming.head().await;
    let whole = client.get("/");
    let mut third = rig.upstream.accept().await;
    third.head().await;
    drop((unanswered, streaming));
    cancelled(vec![first, second]).await;
    third.send(OK).await;
    assert_eq!(whole.text().await, "ok");
}

#[tokio::test]
async fn e2_an_answer_that_breaks_off_is_never_ended_cleanly() {
    let mut rig = Rig::start().await;
    for reset in [false, true] {
        let (mut client, mut upstream) = rig.forward(GET).await;
        upstream.head().await;
        upstream.send(CHUNKED).await;
        client.until("1\r\na\r\n").await;
        if reset {
            upstream.reset()
        } else {
            drop(upstream)
        }
        assert_eq!(client.closed().await, b"");

        let (mut client, mut upstream) = rig.forward(GET).await;
        upstream.head().await;
        upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab").await;
        client.until("ab").await;
        if reset {
            upstream.reset()
        } else {
            drop(upstream)
        }
        assert_eq!(client.closed().await, b"");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e3_what_came_before_the_break_still_arrives() {
    let mut rig = Rig::start().await;
    for _ in 0..200 {
        let (mut client, mut upstream) = rig.forward(GET).await;
        upstream.head().await;
        upstream.send(format!("{CHUNKED}2\r\nbc\r\nnonsense\r\n")).await;
        client.head().await;
        let got = String::from_utf8(client.closed().await).unwrap();
        // The two chunks may come as one frame each or together; what matters is that nothing is lost and nothing ended.
        assert_eq!(got.matches(char::is_alphabetic).collect::<String>(), "abc", "{got}");
        assert!(!got.contains("0\r\n\r\n"), "{got}");
    }
}

#[tokio::test]
async fn e2_an_answer_that_only_the_close_delimits_breaks_off_with_a_reset() {
    let mut rig = Rig::start().await;
    let (mut client, mut upstream) = rig.forward("GET / HTTP/1.0\r\n\r\n").await;
    upstream.head().await;
    upstream.send(CHUNKED).await;
    client.until("\r\n\r\na").await;
    drop(upstream);
    assert_eq!(client.rest().await.unwrap_err().kind(), ErrorKind::ConnectionReset);

    // The same where upstream's own end is the close, and it is a reset.
    for (request, end) in [("GET / HTTP/1.0\r\n\r\n", "a"), (GET, "1\r\na\r\n")] {
        let (mut client, mut upstream) = rig.forward(request).await;
        upstream.head().await;
        upstream.send("HTTP/1.1 200 OK\r\n\r\na").await;
        client.until(&format!("\r\n\r\n{end}")).await;
        upstream.reset();
        let rest = client.rest().await;
        assert!(
            rest.as_ref().is_ok_and(|rest| request == GET && rest.is_empty()) || rest.is_err(),
            "{rest:?}"
        );
    }
}

#[tokio::test]
async fn e2_an_answer_that_breaks_off_breaks_its_stream_and_no_other() {
    let mut rig = Rig::start().await;
    let mut client = Http2::connect(rig.address).await;
    for (framing, reset) in
        [("Content-Length: 5", false), ("Content-Length: 5", true), ("X: close-delimited", true)]
    {
        let broken = client.get("/broken");
        let mut upstream = rig.upstream.accept().await;
        upstream.head().await;
        upstream.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\nab")).await;
        let mut broken = broken.head().await;
        assert_eq!(soon("a frame", broken.frame()).await.unwrap().unwrap().into_data().unwrap(), "ab");
        let whole = client.get("/whole");
        let mut other = rig.upstream.accept().await;
        other.head().await;
        if reset {
            upstream.reset()
        } else {
            drop(upstream)
        }
        assert!(soon("the end", broken.into_body().collect()).await.is_err());
        other.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").await;
        assert_eq!(whole.text().await, "ok");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e4_an_early_answer_arrives_while_the_client_still_uploads() {
    let mut rig = Rig::start().await;
    for _ in 0..50 {
        let (mut client, mut upstream) =
            rig.forward("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 8000000\r\n\r\n").await;
        upstream.head().await;
        upstream.send("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno").await;
        drop(upstream);
        // Writes all before it reads, as many clients do.
        client.send(vec![b'x'; 8_000_000]).await;
        assert!(client.head().await.starts_with("HTTP/1.1 413 Too Large\r\n"));
        client.expect("no").await;
    }
}

#[tokio::test]
async fn e4_an_upload_that_stops_after_an_early_answer_is_counted_and_not_waited_for_for_ever() {
    let linger = Duration::from_secs(300);
    let mut rig = Rig::start_with(|settings| settings.proxy.linger_timeout = linger).await;
    for close in ["", "Connection: close\r\n"] {
        let upload = format!("POST / HTTP/1.1\r\nHost: h\r\n{close}Content-Length: 1000000\r\n\r\nab");
        let (mut client, mut upstream) = rig.forward(&upload).await;
        upstream.until("\r\n\r\nab").await;
        upstream.send("HTTP/1.1 401 No\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno").await;
        drop(upstream);
        client.until("\r\n\r\nno").await;
        pass(linger - Duration::from_secs(10)).await;
        assert_eq!(rig.metrics.connections.get(), 1, "it is open for what the client still sends");
        pass(Duration::from_secs(20)).await;
        eventually("its end", || rig.metrics.connections.get() == 0).await;
        client.closed().await;
    }
}

#[tokio::test]
async fn e4_an_early_answer_arrives_while_an_http2_client_still_uploads() {
    let mut rig = Rig::start().await;
    let mut client = Http2::connect(rig.address).await;
    for status in [401, 413] {
        let (answer, mut body) = client.post_streamed("/");
        let mut upstream = rig.upstream.accept().await;
        upstream.head().await;
        upstream
            .send(format!("HTTP/1.1 {status} X\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"))
            .await;
        drop(upstream);
        let megabyte = Bytes::from(vec![b'x'; 1_000_000]);
        let uploading = tokio::spawn(async move { while body.send_data(megabyte.clone()).await.is_ok() {} });
        let response = answer.head().await;
        assert_eq!(response.status(), status);
        assert_eq!(http2::text(response).await, "no");
        uploading.abort();
    }
}

#[tokio::test]
async fn e8_connections_to_upstream_are_used_again() {
    let mut rig = Rig::start().await;
    let (mut client, mut upstream) = rig.forward(GET).await;
    for _ in 0..3 {
        upstream.head().await;
        upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        client.until("ok").await;
        client.send(GET).await;
    }
    upstream.head().await;
}

/// An exchange over a new connection to upstream, which idles then.
async fn answered_anew(rig: &mut Rig, client: &mut Raw) -> Raw {
    client.send(GET).await;
    let mut upstream = rig.upstream.accept().await;
    upstream.head().await;
    upstream.send(OK).await;
    client.until("\r\n\r\nok").await;
    upstream
}

#[tokio::test]
async fn e5_a_get_that_meets_an_idle_close_is_sent_again_once_and_a_post_is_not() {
    let mut rig = Rig::start().await;
    let (mut client, mut upstream) = rig.forward(GET).await;
    upstream.head().await;
    upstream.send(OK).await;
    client.until("ok").await;
    for method in ["GET", "HEAD"] {
        client.send(format!("{method} / HTTP/1.1\r\nHost: h\r\n\r\n")).await;
        upstream.head().await;
        drop(upstream);
        upstream = rig.upstream.accept().await;
        assert!(upstream.head().await.starts_with(method));
        upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n").await;
        client.until("\r\n\r\n").await;
        if method == "GET" {
            upstream.send("ok").await;
            client.expect("ok").await;
        }
    }
    client.send(GET).await;
    upstream.head().await;
    drop(upstream);
    rig.upstream.accept().await.head().await;
    // A new connection is not one that idled; a second time would be a third request.
    assert!(client.head().await.contains("x-threadtap-error: upstream_closed\r\n"));
    client.until("}}").await;

    let mut upstream = answered_anew(&mut rig, &mut client).await;

    // One that has begun to answer was not idle.
    client.send(GET).await;
    upstream.head().await;
    upstream.send("HTTP/1.1 200 OK\r\nX").await;
    drop(upstream);
    assert!(client.head().await.contains("x-threadtap-error: upstream_closed\r\n"));
    client.until("}}").await;

    let mut upstream = answered_anew(&mut rig, &mut client).await;
    client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx").await;
    upstream.until("\r\n\r\nx").await;
    drop(upstream);
    assert!(client.head().await.contains("x-threadtap-error: upstream_closed\r\n"));
}

const CLIENTS: usize = 8;
const REQUESTS: usize = 8000;

/// An upstream that keeps connections alive, says so, and closes them at the moment the next request may be on its way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e6_nothing_that_was_sent_is_sent_twice() {
    let mut rig = Rig::start().await;
    let seen = Arc::new(Mutex::new(Vec::<usize>::new()));
    let mut listener = std::mem::replace(&mut rig.upstream, Upstream::bind().await);
    let serving = tokio::spawn({
        let seen = Arc::clone(&seen);
        async move {
            loop {
                let mut connection = listener.accept().await;
                let seen = Arc::clone(&seen);
                tokio::spawn(async move {
                    for turn in 0..3 {
                        let Some(head) = connection.head_or_end().await else { return };
                        connection.exactly(1).await;
                        let id =
                            head.split("id: ").nth(1).and_then(|rest| rest.split("\r\n").next()).unwrap();
                        seen.lock().unwrap().push(id.parse().unwrap());
                        connection.send(OK).await;
                        for _ in 0..turn {
                            tokio::task::yield_now().await;
                        }
                    }
                });
            }
        }
    });
    let clients = (0..CLIENTS).map(|client| {
        let address = rig.address;
        tokio::spawn(async move {
            let mut connection = Raw::connect(address).await;
            let mut answered = Vec::new();
            for n in 0..REQUESTS / CLIENTS {
                let id = client * REQUESTS + n;
                connection
                    .send(format!("POST / HTTP/1.1\r\nHost: h\r\nid: {id}\r\nContent-Length: 1\r\n\r\nx"))
                    .await;
                let head = connection.head().await;
                if head.starts_with("HTTP/1.1 200 OK") {
                    connection.expect("ok").await;
                    answered.push(id);
                } else {
                    assert!(head.contains("x-threadtap-error: upstream_closed"), "{head}");
                    connection.until("}}").await;
                }
            }
            answered
        })
    });
    let mut answered = Vec::new();
    for client in clients.collect::<Vec<_>>() {
        answered.extend(client.await.unwrap());
    }
    serving.abort();
    let mut seen = std::mem::take(&mut *seen.lock().unwrap());
    seen.sort_unstable();
    let requests = seen.len();
    seen.dedup();
    assert_eq!(seen.len(), requests, "a request was sent twice");
    assert!(answered.iter().all(|id| seen.binary_search(id).is_ok()));
    println!("{} of {REQUESTS} were answered, the rest were told upstream_closed", answered.len());
    assert!(answered.len() > REQUESTS / 2);
}

#[tokio::test]
async fn e7_a_drain_tells_http2_clients_to_go_away_and_lets_their_streams_end() {
    let mut rig = Rig::start().await;
    let mut client = rig.client().await;
    client.send([http2::preface(), Frame::get(1).bytes()].concat()).await;
    let mut upstream = rig.upstream.accept().await;
    upstream.head().await;
    rig.drain();
    // The first allows for what is on its way, the second names the last stream that is served (RFC 9113 §6.8).
    let last_stream = |frame: &Frame| u32::from_be_bytes(frame.payload[..4].try_into().unwrap());
    assert_eq!(last_stream(&Frame::read_until(&mut client, http2::GOAWAY).await), (1 << 31) - 1);
    let ping = Frame::read_until(&mut client, http2::PING).await;
    client.send(Frame::new(http2::PING, http2::ACK, 0, ping.payload).bytes()).await;
    assert_eq!(last_stream(&Frame::read_until(&mut client, http2::GOAWAY).await), 1);
    client.send(Frame::get(3).bytes()).await;
    upstream.send(OK).await;
    let data = Frame::read_until(&mut client, http2::DATA).await;
    assert_eq!((data.stream, &*data.payload), (1, &b"ok"[..]));
    assert_eq!(rig.drained().await, Drained::Complete);
}

#[tokio::test]
async fn e7_http2_streams_are_drained_and_cut() {
    for (grace, outcome) in [(Duration::from_secs(10), Drained::Complete), (Duration::ZERO, Drained::Cut)] {
        let mut rig = Rig::start_with(|settings| settings.grace = grace).await;
        let mut client = Http2::connect(rig.address).await;
        let answer = client.send(request(Method::GET, "/").body(whole("")).unwrap());
        let mut upstream = rig.upstream.accept().await;
        upstream.head().await;
        rig.drain();
        if outcome == Drained::Complete {
            upstream.send(OK).await;
            assert_eq!(answer.text().await, "ok");
        } else {
            assert!(answer.result().await.is_err());
        }
        assert_eq!(rig.drained().await, outcome);
        client.closed().await;
    }
}
