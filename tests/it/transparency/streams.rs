use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;

use crate::support::http2::{self, Frame, Http2, text};
use crate::support::{Raw, Rig, soon};

const GET: &str = "GET /tapped HTTP/1.1\r\nHost: h\r\n\r\n";
const EVENTS: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
const ASK: &str = "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:X}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// What event streams may look like, and what no event stream should.
fn odd_streams() -> Vec<&'static [u8]> {
    vec![
        b"event: a\ndata: 1\n\ndata: [DONE]\n\n",
        b"event: a\r\ndata: 1\r\n\r\n",
        b"event: a\rdata: 1\r\r",
        b"data: 1\r\n\n\r\rdata: 2\n\r\n",
        b"\xef\xbb\xbfdata: after a byte order mark\n\n",
        b": a comment\n\n:\n\nid: 1\nretry: 5\n\n",
        "data: \u{1f9ea}\u{e9}\n\n".as_bytes(),
        b"data: \xff\xfe not UTF-8 \x00\n\n",
        b"data: {\"not\": \"json\n\n\n\nno colon\n\ndata: never ended",
    ]
}

#[tokio::test]
async fn s1_event_streams_pass_unchanged_however_they_are_written_and_wherever_they_are_split() {
    let mut rig = Rig::start().await;
    for stream in odd_streams() {
        let (mut client, mut upstream) = rig.forward(GET).await;
        upstream.head().await;
        upstream.send(EVENTS).await;
        client.head().await;
        // Every split, so each multi-byte character and each line end is cut somewhere.
        for at in 1..stream.len() {
            for part in [&stream[..at], &stream[at..]] {
                let part = chunk(part);
                upstream.send(&part).await;
                assert_eq!(client.exactly(part.len()).await, part);
            }
        }
    }
}

#[tokio::test]
async fn s1_event_streams_pass_unchanged_on_http2() {
    let mut rig = Rig::start().await;
    let mut client = Http2::connect(rig.address).await;
    for stream in odd_streams() {
        let answer = client.get("/tapped");
        let mut upstream = rig.upstream.accept().await;
        upstream.head().await;
        upstream.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n").await;
        let mut response = answer.head().await;
        for byte in stream {
            upstream.send([*byte]).await;
            let frame = soon("a frame", response.frame()).await.unwrap().unwrap();
            assert_eq!(*frame.into_data().unwrap(), [*byte]);
        }
        drop(upstream);
        assert_eq!(text(response).await, "");
    }
}

#[tokio::test]
async fn s2_an_event_of_8_megabytes_passes_whole() {
    let mut rig = Rig::start().await;
    let event = [b"data: ", &*vec![b'x'; 8 << 20], b"\n\n"].concat();
    let (mut client, mut upstream) = rig.forward(GET).await;
    upstream.head().await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n").await;
    upstream.send(format!("Content-Length: {}\r\n\r\n", event.len())).await;
    client.head().await;
    let (_, got) = tokio::join!(upstream.send(&event), client.exactly(event.len()));
    assert!(got == event);

    let answer = Http2::connect(rig.address).await.get("/tapped");
    upstream.head().await;
    let response = async { soon("the body", answer.head().await.into_body().collect()).await.unwrap() };
    let (_, got) = tokio::join!(
        async { upstream.send([EVENTS.as_bytes(), &chunk(&event), b"0\r\n\r\n"].concat()).await },
        response
    );
    assert!(got.to_bytes() == event);
}

/// Lets a quarter of an hour pass on every timer of the program, in steps, while `exchange` keeps what is alive answering.
async fn a_quarter_of_an_hour(mut exchange: impl AsyncFnMut()) {
    for _ in 0..90 {
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(10)).await;
        tokio::time::resume();
        exchange().await;
    }
}

#[tokio::test]
async fn s3_a_stream_that_is_idle_for_15_minutes_is_not_cut() {
    let mut rig = Rig::start().await;
    let (mut client, mut upstream) = rig.forward(GET).await;
    upstream.head().await;
    // First the head takes its time, then an event.
    a_quarter_of_an_hour(async || tokio::task::yield_now().await).await;
    upstream.send(EVENTS).await;
    client.head().await;
    a_quarter_of_an_hour(async || tokio::task::yield_now().await).await;
    let part = chunk(b"data: 1\n\n");
    upstream.send(&part).await;
    assert_eq!(client.exactly(part.len()).await, part);
    upstream.send("0\r\n\r\n").await;
    client.expect("0\r\n\r\n").await;
}

#[tokio::test]
async fn s3_an_upload_that_is_idle_for_15_minutes_is_not_cut() {
    let mut rig = Rig::start().await;
    let head = "POST /tapped HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (mut client, mut upstream) = rig.forward(head).await;
    upstream.head().await;
    a_quarter_of_an_hour(async || tokio::task::yield_now().await).await;
    let part = chunk(b"abc");
    client.send(&part).await;
    assert_eq!(upstream.exactly(part.len()).await, part);
}

#[tokio::test]
async fn s3_a_stream_that_is_idle_for_15_minutes_is_not_cut_on_http2() {
    let mut rig = Rig::start().await;
    let mut client = Http2::connect(rig.address).await;
    let answer = client.get("/tapped");
    let mut upstream = rig.upstream.accept().await;
    upstream.head().await;
    upstream.send(EVENTS).await;
    let mut response = answer.head().await;
    // An exchange gives the answers to pings the time to arrive, which the clock does not.
    a_quarter_of_an_hour(async || {
        assert_eq!(client.send(connect()).head().await.status(), 501);
    })
    .await;
    upstream.send(chunk(b"data: 1\n\n")).await;
    let frame = soon("a frame", response.frame()).await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "data: 1\n\n");
}

/// A request that is answered without upstream.
fn connect() -> http::Request<http2::Upload> {
    http::Request::connect("h:1").body(http2::whole("")).unwrap()
}

#[tokio::test]
async fn s3_a_tunnel_that_is_idle_for_15_minutes_is_not_cut() {
    let mut rig = Rig::start().await;
    let (mut client, mut upstream) = rig.forward(ASK).await;
    upstream.head().await;
    upstream.send(SWITCH).await;
    client.head().await;
    a_quarter_of_an_hour(async || tokio::task::yield_now().await).await;
    upstream.send("ping").await;
    client.expect("ping").await;
}

/// What all buffers between two sockets on one machine may hold together, in megabytes: those of the system grow to 6 and 4.
const BUFFERS: usize = 24;

#[tokio::test]
async fn s4_a_slow_client_holds_up_upstream_and_not_memory() {
    let mut rig = Rig::start().await;
    let (mut client, mut upstream) = rig.forward(GET).await;
    upstream.head().await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n").await;
    client.head().await;
    let taken = upstream.fill(90).await;
    assert!(taken < BUFFERS, "{taken} MB were taken from upstream");
    let mut left = taken * 1_000_000;
    while left > 0 {
        let count = left.min(1_000_000);
        client.exactly(count).await;
        left -= count;
    }
}

#[tokio::test]
async fn s4_a_slow_client_holds_up_upstream_and_not_memory_on_http2() {
    let mut rig = Rig::start().await;
    let answer = Http2::connect(rig.address).await.get("/tapped");
    let mut upstream = rig.upstream.accept().await;
    upstream.head().await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n").await;
    let _unread = answer.head().await;
    let taken = upstream.fill(90).await;
    assert!(taken < BUFFERS, "{taken} MB were taken from upstream");
}

#[tokio::test]
async fn s5_a_slow_upstream_holds_up_the_client_and_not_memory() {
    let mut rig = Rig::start().await;
    let (mut client, mut upstream) =
        rig.forward("POST /tapped HTTP/1.1\r\nHost: h\r\nContent-Length: 100000000\r\n\r\n").await;
    upstream.head().await;
    let taken = client.fill(90).await;
    assert!(taken < BUFFERS, "{taken} MB were taken from the client");

    let mut client = Http2::connect(rig.address).await;
    let (_answer, mut body) = client.post_streamed("/tapped");
    let mut upstream = rig.upstream.accept().await;
    upstream.head().await;
    let taken = fill(&mut body).await;
    assert!(taken < BUFFERS, "{taken} MB were taken from the client");
}

/// Sends for as long as the body is taken, and tells how many megabytes were.
async fn fill(body: &mut http_body_util::channel::Sender<Bytes>) -> usize {
    let megabyte = Bytes::from(vec![b'x'; 1_000_000]);
    for sent in 0..90 {
        let taken = tokio::time::timeout(Duration::from_millis(300), body.send_data(megabyte.clone())).await;
        if taken.is_err() {
            return sent;
        }
    }
    90
}

/// Exchanges that go on while others stand still.
async fn answer_one(rig: &mut Rig, client: &mut Http2) {
    let answer = client.get("/");
    let mut upstream = rig.upstream.accept().await;
    upstream.head().await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 300000\r\nConnection: close\r\n\r\n").await;
    let (_, got) = tokio::join!(upstream.send(vec![b'y'; 300_000]), answer.text());
    assert_eq!(got.len(), 300_000);
}

/// Makes each upstream send a body until nothing of it is taken any more.
async fn stall(upstreams: Vec<Raw>) -> Vec<Raw> {
    let filling = upstreams.into_iter().map(|mut upstream| {
        tokio::spawn(async move {
            upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n").await;
            upstream.fill(90).await;
            upstream
        })
    });
    let mut stalled = Vec::new();
    for upstream in filling.collect::<Vec<_>>() {
        stalled.push(upstream.await.unwrap());
    }
    stalled
}

#[tokio::test]
async fn s6_clients_that_do_not_read_do_not_stall_another() {
    let mut rig = Rig::start().await;
    let (mut clients, mut upstreams) = (Vec::new(), Vec::new());
    for _ in 0..20 {
        let (client, mut upstream) = rig.forward(GET).await;
        upstream.head().await;
        clients.push(client);
        upstreams.push(upstream);
    }
    let _stalled = stall(upstreams).await;
    let (mut client, mut upstream) = rig.forward(GET).await;
    upstream.head().await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").await;
    client.until("\r\n\r\nok").await;
    let mut client = Http2::connect(rig.address).await;
    answer_one(&mut rig, &mut client).await;
}

#[tokio::test]
async fn s6_streams_that_are_not_read_do_not_stall_another_of_their_connection() {
    let mut rig = Rig::start().await;
    let mut client = Http2::connect_with(rig.address, |builder| {
        // A client that means to read streams independently gives the connection more room than one of them.
        builder.initial_stream_window_size(64 << 10).initial_connection_window_size(16 << 20);
    })
    .await;
    let (mut answers, mut upstreams) = (Vec::new(), Vec::new());
    for _ in 0..20 {
        answers.push(client.get("/tapped"));
        let mut upstream = rig.upstream.accept().await;
        upstream.head().await;
        upstreams.push(upstream);
    }
    let _stalled = stall(upstreams).await;
    answer_one(&mut rig, &mut client).await;
}

#[tokio::test]
async fn s6_uploads_upstream_does_not_read_do_not_stall_another_of_their_connection() {
    let rig = Rig::start().await;
    uploads_beside_stalled(rig, 3).await;
    let rig = Rig::start_with(|settings| {
        settings.net.h2_connection_window_bytes = 9 * settings.net.h2_stream_window_bytes;
    });
    uploads_beside_stalled(rig.await, 8).await;
}

async fn uploads_beside_stalled(mut rig: Rig, count: usize) {
    let mut client = Http2::connect(rig.address).await;
    let mut stalled = Vec::new();
    for _ in 0..count {
        let (answer, mut body) = client.post_streamed("/tapped");
        let mut upstream = rig.upstream.accept().await;
        upstream.head().await;
        stalled.push(tokio::spawn(async move {
            fill(&mut body).await;
            (answer, body, upstream)
        }));
    }
    let mut unread = Vec::new();
    for stalled in stalled {
        unread.push(stalled.await.unwrap());
    }
    let (answer, mut body) = client.post_streamed("/");
    let mut upstream = rig.upstream.accept().await;
    upstream.head().await;
    body.send_data(Bytes::from("abc")).await.unwrap();
    upstream.expect("3\r\nabc\r\n").await;
    drop((answer, unread));
}

#[tokio::test]
async fn s7_a_frame_is_never_held_back_for_the_next() {
    let mut rig = Rig::start().await;
    let mut client = rig.client().await;
    client.send([http2::preface(), Frame::get(1).bytes()].concat()).await;
    let mut upstream = rig.upstream.accept().await;
    upstream.head().await;
    upstream.send(EVENTS).await;
    Frame::read_until(&mut client, http2::HEADERS).await;
    for event in ["data: 1\n\n", "data: 2\n\n"] {
        upstream.send(chunk(event.as_bytes())).await;
        assert_eq!(Frame::read_until(&mut client, http2::DATA).await.payload, event.as_bytes());
    }
}
