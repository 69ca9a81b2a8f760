mod memory;

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use http_body_util::BodyExt;

use crate::end_to_end::front::{Front, Mode};
use crate::support::binary::Binary;
use crate::support::http2::{self, Frame, Http2, request, text, whole};
use crate::support::{Raw, Rig, Upstream, soon};

const GET: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

#[tokio::test]
async fn b1_a_length_stays_a_length_and_every_byte_passes() {
    let mut rig = Rig::start().await;
    let body: Vec<u8> = (0..=255u8).cycle().take(300_000).collect();
    let (mut client, mut upstream) =
        rig.forward("POST /v1/files HTTP/1.1\r\nHost: h\r\nContent-Length: 300000\r\n\r\n").await;
    client.send(&body).await;
    let host = format!("Host: {}", rig.upstream.address);
    upstream.expect_head(&["POST /v1/files HTTP/1.1", &host, "Content-Length: 300000"]).await;
    assert_eq!(upstream.exactly(body.len()).await, body);
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n").await;
    let (_, got) = tokio::join!(upstream.send(&body), async {
        client.expect_head(&["HTTP/1.1 200 OK", "Content-Length: 300000"]).await;
        client.exactly(body.len()).await
    });
    assert_eq!(got, body);
}

#[tokio::test]
async fn b1_a_length_stays_a_length_from_and_to_http2() {
    let mut rig = Rig::start().await;
    let mut client = Http2::connect(rig.address).await;
    let answer = client.send(request(Method::POST, "/v1/x").body(whole("hello")).unwrap());
    let mut upstream = rig.upstream.accept().await;
    let host = format!("host: {}", rig.upstream.address);
    upstream.expect_head(&["POST /v1/x HTTP/1.1", &host, "content-length: 5"]).await;
    upstream.expect("hello").await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await;
    let response = answer.head().await;
    assert_eq!(
        response.headers().iter().collect::<Vec<_>>(),
        [(&http::header::CONTENT_LENGTH, &HeaderValue::from_static("2"))]
    );
    assert_eq!(text(response).await, "hi");
}

#[tokio::test]
async fn b2_chunks_stay_chunks() {
    let mut rig = Rig::start().await;
    let head = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (mut client, mut upstream) = rig.forward(head).await;
    let host = format!("Host: {}", rig.upstream.address);
    upstream.expect_head(&["POST / HTTP/1.1", &host, "Transfer-Encoding: chunked"]).await;
    for chunk in ["1\r\na\r\n", "2\r\nbc\r\n", "0\r\n\r\n"] {
        client.send(chunk).await;
        upstream.expect(chunk).await;
    }
    upstream.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    client.expect_head(&["HTTP/1.1 200 OK", "Transfer-Encoding: chunked"]).await;
    for chunk in ["1\r\na\r\n", "2\r\nbc\r\n", "0\r\n\r\n"] {
        upstream.send(chunk).await;
        client.expect(chunk).await;
    }
}

#[tokio::test]
async fn b2_a_body_of_unknown_length_is_chunked_from_http2_and_unframed_to_it() {
    let mut rig = Rig::start().await;
    let mut client = Http2::connect(rig.address).await;
    let (answer, mut body) = client.post_streamed("/");
    let mut upstream = rig.upstream.accept().await;
    let host = format!("host: {}", rig.upstream.address);
    upstream.expect_head(&["POST / HTTP/1.1", &host, "transfer-encoding: chunked"]).await;
    for (sent, expected) in [("a", "1\r\na\r\n"), ("bc", "2\r\nbc\r\n")] {
        body.send_data(Bytes::from(sent)).await.unwrap();
        upstream.expect(expected).await;
    }
    drop(body);
    upstream.expect("0\r\n\r\n").await;
    upstream.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n").await;
    let mut response = answer.head().await;
    assert_eq!(response.headers(), &HeaderMap::new());
    let frame = soon("a frame", response.frame()).await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "a");
    upstream.send("2\r\nbc\r\n0\r\n\r\n").await;
    assert_eq!(text(response).await, "bc");
}

#[tokio::test]
async fn b3_a_message_without_a_body_gains_none() {
    let mut rig = Rig::start().await;
    let (mut client, mut upstream) = rig.forward(GET).await;
    let host = format!("Host: {}", rig.upstream.address);
    upstream.expect_head(&["GET / HTTP/1.1", &host]).await;
    for method in ["DELETE", "OPTIONS", "PATCH", "POST", "PROPFIND", "PUT"] {
        upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        client.expect_head(&["HTTP/1.1 200 OK", "Content-Length: 0"]).await;
        client.send(format!("{method} / HTTP/1.1\r\nHost: h\r\n\r\n")).await;
        upstream.expect_head(&[&format!("{method} / HTTP/1.1"), &host]).await;
    }
}

#[tokio::test]
async fn b3_a_message_without_a_body_gains_none_from_http2() {
    let mut rig = Rig::start().await;
    let mut client = rig.client().await;
    client.send(http2::preface()).await;
    let host = format!("host: {}", rig.upstream.address);
    // The second entry of each is the method's index in the static table; hyper's client would add a length itself.
    for (stream, method, index) in [(1, "GET", 0x82), (3, "POST", 0x83)] {
        let mut get = Frame::get(stream);
        get.payload[0] = index;
        client.send(get.bytes()).await;
        let mut upstream = rig.upstream.accept().await;
        upstream.expect_head(&[&format!("{method} / HTTP/1.1"), &host]).await;
        upstream.send("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await;
        let answer = Frame::read_until(&mut client, http2::HEADERS).await;
        assert_eq!((answer.stream, answer.flags & http2::END_STREAM), (stream, http2::END_STREAM));
    }
}

#[tokio::test]
async fn b4_a_length_of_zero_is_kept() {
    let mut rig = Rig::start().await;
    let (mut client, mut upstream) =
        rig.forward("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n").await;
    let host = format!("Host: {}", rig.upstream.address);
    upstream.expect_head(&["POST / HTTP/1.1", &host, "Content-Length: 0"]).await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    client.expect_head(&["HTTP/1.1 200 OK", "Content-Length: 0"]).await;

    let mut client = Http2::connect(rig.address).await;
    let post = request(Method::POST, "/").header("content-length", "0").body(whole("")).unwrap();
    let answer = client.send(post);
    let host = format!("host: {}", rig.upstream.address);
    upstream.expect_head(&["POST / HTTP/1.1", &host, "content-length: 0"]).await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(answer.head().await.headers()["content-length"], "0");
}

#[tokio::test]
async fn b5_answers_that_have_no_body_end_with_their_head() {
    let mut rig = Rig::start().await;
    let (mut client, mut upstream) = rig.forward(GET).await;
    for status in ["204 No Content", "304 Not Modified"] {
        upstream.head().await;
        upstream.send(format!("HTTP/1.1 {status}\r\nX: 1\r\n\r\n")).await;
        client.expect_head(&[&format!("HTTP/1.1 {status}"), "X: 1"]).await;
        client.send(GET).await;
    }
    for (status, line) in [("204 No Content", "Content-Length: 0"), ("304 Not Modified", "Content-Length: 5")]
    {
        upstream.head().await;
        upstream.send(format!("HTTP/1.1 {status}\r\n{line}\r\nA: 1\r\n\r\n")).await;
        client.expect_head(&[&format!("HTTP/1.1 {status}"), line, "A: 1"]).await;
        client.send(GET).await;
    }
    // A client may wait for chunks that are announced.
    for status in ["204 No Content", "304 Not Modified"] {
        upstream.head().await;
        upstream.send(format!("HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\nA: 1\r\n\r\n")).await;
        client.expect_head(&[&format!("HTTP/1.1 {status}"), "A: 1"]).await;
        client.send(GET).await;
        if status.starts_with("204") {
            // The chunks may come after all.
            assert_eq!(upstream.closed().await, b"");
            upstream = rig.upstream.accept().await;
        }
    }
    upstream.head().await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nA: 1\r\n\r\n").await;
    client.expect_head(&["HTTP/1.1 200 OK", "Content-Length: 0", "A: 1"]).await;
    client.send("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    upstream.head().await;
    upstream.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nA: 1\r\n\r\n").await;
    client.expect_head(&["HTTP/1.1 200 OK", "Transfer-Encoding: chunked", "A: 1"]).await;
    client.send("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert!(upstream.head().await.starts_with("HEAD / HTTP/1.1\r\n"));
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n").await;
    client.expect_head(&["HTTP/1.1 200 OK", "Content-Length: 1234"]).await;
    client.send(GET).await;
    assert!(upstream.head().await.starts_with("GET / HTTP/1.1\r\n"));
}

#[tokio::test]
async fn b5_answers_that_have_no_body_end_with_their_head_on_http2() {
    let mut rig = Rig::start().await;
    let mut client = Http2::connect(rig.address).await;
    let answer = client.send(request(Method::HEAD, "/").body(whole("")).unwrap());
    let mut upstream = rig.upstream.accept().await;
    assert!(upstream.head().await.starts_with("HEAD / HTTP/1.1\r\n"));
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n").await;
    let response = answer.head().await;
    assert_eq!(response.headers()["content-length"], "1234");
    assert_eq!(text(response).await, "");
    for status in [204, 304] {
        let answer = client.get("/");
        upstream.head().await;
        upstream.send(format!("HTTP/1.1 {status} X\r\nX: 1\r\n\r\n")).await;
        let response = answer.head().await;
        assert_eq!((response.status().as_u16(), &response.headers()["x"]), (status, &HeaderValue::from(1)));
        assert_eq!(text(response).await, "");
    }
}

#[tokio::test]
async fn b6_a_body_that_ends_with_the_connection_arrives_whole() {
    let mut rig = Rig::start().await;
    let (mut client, mut upstream) = rig.forward(GET).await;
    upstream.head().await;
    upstream.send("HTTP/1.1 200 OK\r\n\r\nhello").await;
    client.expect_head(&["HTTP/1.1 200 OK", "transfer-encoding: chunked"]).await;
    client.expect("5\r\nhello\r\n").await;
    drop(upstream);
    client.expect("0\r\n\r\n").await;

    let (mut client, mut upstream) = rig.forward("GET / HTTP/1.0\r\n\r\n").await;
    upstream.head().await;
    upstream.send("HTTP/1.1 200 OK\r\n\r\nhello").await;
    drop(upstream);
    client.expect_head(&["HTTP/1.0 200 OK"]).await;
    assert_eq!(client.rest().await.unwrap(), b"hello");

    let answer = Http2::connect(rig.address).await.get("/");
    let mut upstream = rig.upstream.accept().await;
    upstream.head().await;
    upstream.send("HTTP/1.1 200 OK\r\n\r\nhello").await;
    drop(upstream);
    assert_eq!(answer.text().await, "hello");
}

#[tokio::test]
async fn b7_trailers_pass() {
    let mut rig = Rig::start().await;
    let head =
        "POST / HTTP/1.1\r\nHost: h\r\nTE: trailers\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (mut client, mut upstream) = rig.forward(head).await;
    client.send("1\r\na\r\n0\r\nX-Sum: 1\r\n\r\n").await;
    upstream.until("TE: trailers\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    upstream.expect("1\r\na\r\n0\r\nx-sum: 1\r\n\r\n").await;
    upstream.send("HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nb\r\n").await;
    upstream.send("0\r\nX-Sum: 2\r\n\r\n").await;
    client.head().await;
    client.expect("1\r\nb\r\n0\r\nx-sum: 2\r\n\r\n").await;
}

#[tokio::test]
async fn b7_trailers_pass_from_and_to_http2() {
    let mut rig = Rig::start().await;
    let mut client = Http2::connect(rig.address).await;
    let (sender, body) = http_body_util::channel::Channel::new(8);
    let post = request(Method::POST, "/").header("trailer", "x-sum");
    let answer = client.send(post.body(http_body_util::Either::Right(body)).unwrap());
    let mut upstream = rig.upstream.accept().await;
    upstream.head().await;
    let mut body = sender;
    body.send_data(Bytes::from("a")).await.unwrap();
    body.send_trailers(HeaderMap::from_iter([("x-sum".parse().unwrap(), HeaderValue::from(1))]))
        .await
        .unwrap();
    drop(body);
    upstream.expect("1\r\na\r\n0\r\nx-sum: 1\r\n\r\n").await;
    // Not announced: HTTP/2 needs no announcement.
    upstream
        .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 7\r\nConnection: x\r\n\r\n")
        .await;
    let body = soon("the body", answer.head().await.into_body().collect()).await.unwrap();
    assert_eq!(body.trailers().unwrap()["x-sum"], "7");
    assert_eq!(body.to_bytes(), "hi");
}

/// What TLS holds because its socket does not take it is a matter of `http1::output`'s tests; this one shows the whole way.
#[tokio::test]
async fn b9_an_upload_through_tls_is_sent_to_its_end() {
    let mut backend = Upstream::bind().await;
    let front = Front::start(Mode::PassSecurely, backend.address);
    let binary = Binary::start_securely(front.address, &Front::trusted());
    for length in [1, 70_000, 20_000_000] {
        let mut client = Raw::connect(binary.address).await;
        client.send(format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n")).await;
        let mut upstream = backend.accept().await;
        upstream.head().await;
        let sending = async {
            client.send(vec![b'x'; length]).await;
            client
        };
        // Nothing is read before all buffers on the way are full.
        let reading = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            assert!(upstream.exactly(length).await.iter().all(|byte| *byte == b'x'));
            upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").await;
        };
        let (mut client, ()) = tokio::join!(sending, reading);
        client.until("\r\n\r\nok").await;
    }
}

/// Fails when most bytes take as long as a socket's own delay (Nagle's, or that of acknowledgements), which is 40 ms or more. A
/// machine that is busy for a moment holds up only some of them.
fn check_delays(mut passed: Vec<Duration>) {
    passed.sort_unstable();
    let median = passed[passed.len() / 2];
    assert!(median < Duration::from_millis(30), "half of the bytes take {median:?} or longer");
}

#[expect(clippy::disallowed_methods, reason = "the time that a byte takes is what is measured")]
fn now() -> Instant {
    Instant::now()
}

#[tokio::test]
async fn b8_single_bytes_pass_one_by_one_and_at_once() {
    let mut rig = Rig::start().await;
    let head = "POST /tapped HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (mut client, mut upstream) = rig.forward(head).await;
    upstream.head().await;
    let events = "data: \u{e9}\r\n\r\n".repeat(60).into_bytes();
    let (mut up, mut down) = (Vec::new(), Vec::new());
    for byte in &events {
        let chunk = [b"1\r\n", std::slice::from_ref(byte), b"\r\n"].concat();
        let begun = now();
        client.send(&chunk).await;
        assert_eq!(upstream.exactly(chunk.len()).await, chunk);
        up.push(begun.elapsed());
    }
    client.send("0\r\n\r\n").await;
    upstream.expect("0\r\n\r\n").await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n").await;
    upstream.send("Transfer-Encoding: chunked\r\n\r\n").await;
    client.head().await;
    for byte in &events {
        let chunk = [b"1\r\n", std::slice::from_ref(byte), b"\r\n"].concat();
        let begun = now();
        upstream.send(&chunk).await;
        assert_eq!(client.exactly(chunk.len()).await, chunk);
        down.push(begun.elapsed());
    }
    check_delays(up);
    check_delays(down);
}

#[tokio::test]
async fn b8_single_bytes_pass_one_by_one_and_at_once_on_http2() {
    let mut rig = Rig::start().await;
    let mut client = Http2::connect(rig.address).await;
    let (answer, mut body) = client.post_streamed("/tapped");
    let mut upstream = rig.upstream.accept().await;
    upstream.head().await;
    let (mut up, mut down) = (Vec::new(), Vec::new());
    for byte in 0..=255 {
        let begun = now();
        body.send_data(Bytes::from(vec![byte])).await.unwrap();
        assert_eq!(upstream.exactly(6).await, [b'1', b'\r', b'\n', byte, b'\r', b'\n']);
        up.push(begun.elapsed());
    }
    drop(body);
    upstream.expect("0\r\n\r\n").await;
    upstream.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    let mut response = answer.head().await;
    for byte in 0..=255 {
        let begun = now();
        upstream.send([b'1', b'\r', b'\n', byte, b'\r', b'\n']).await;
        let frame = soon("a frame", response.frame()).await.unwrap().unwrap();
        assert_eq!(*frame.into_data().unwrap(), [byte]);
        down.push(begun.elapsed());
    }
    check_delays(up);
    check_delays(down);
}

#[tokio::test]
async fn b11_compressed_bodies_pass_as_they_are_and_compression_is_not_asked_for() {
    let mut rig = Rig::start().await;
    // What matters is that these bytes would change if anybody unpacked and packed them again, or could not unpack them at all.
    let packed: Vec<u8> = b"\x1f\x8b\x08\x00not gzip after all".iter().copied().chain(0..=255).collect();
    for encoding in ["gzip", "br", "zstd", "deflate", "x-unheard-of"] {
        let head = format!(
            "POST /tapped HTTP/1.1\r\nHost: h\r\nContent-Encoding: {encoding}\r\nContent-Length: {}\r\n\r\n",
            packed.len()
        );
        let (mut client, mut upstream) = rig.forward(&head).await;
        client.send(&packed).await;
        let seen = upstream.head().await;
        assert!(seen.contains(&format!("\r\nContent-Encoding: {encoding}\r\n")), "{seen}");
        assert!(!seen.to_lowercase().contains("accept-encoding"), "{seen}");
        assert_eq!(upstream.exactly(packed.len()).await, packed);
        let head = format!("Content-Encoding: {encoding}\r\nContent-Length: {}\r\n", packed.len());
        upstream.send(format!("HTTP/1.1 200 OK\r\n{head}Connection: close\r\n\r\n")).await;
        upstream.send(&packed).await;
        assert_eq!(client.head().await, format!("HTTP/1.1 200 OK\r\n{head}\r\n"));
        assert_eq!(client.exactly(packed.len()).await, packed);
    }
}

#[tokio::test]
async fn b12_a_transfer_coding_that_is_not_undone_keeps_its_name() {
    let mut rig = Rig::start().await;
    let head = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let (mut client, mut upstream) = rig.forward(head).await;
    upstream.until("\r\nTransfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n").await;
    upstream.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n").await;
    client.expect_head(&["HTTP/1.1 200 OK", "Transfer-Encoding: gzip, chunked"]).await;
    client.expect("3\r\nabc\r\n0\r\n\r\n").await;
}

#[tokio::test]
async fn b13_a_body_is_kept_whatever_the_method() {
    let mut rig = Rig::start().await;
    for method in ["GET", "HEAD", "DELETE", "OPTIONS", "REPORT"] {
        for framed in
            ["Content-Length: 3\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"]
        {
            let (_client, mut upstream) =
                rig.forward(&format!("{method} / HTTP/1.1\r\nHost: h\r\n{framed}")).await;
            upstream.until(framed).await;
        }
    }
    let mut client = Http2::connect(rig.address).await;
    for method in [Method::GET, Method::HEAD, Method::DELETE] {
        let (mut sender, body) = http_body_util::channel::Channel::new(8);
        let body = request(method, "/").body(http_body_util::Either::Right(body)).unwrap();
        let _answer = client.send(body);
        sender.send_data(Bytes::from("abc")).await.unwrap();
        drop(sender);
        rig.upstream.accept().await.until("transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n").await;
    }
}
