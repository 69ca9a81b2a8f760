use crate::support::Rig;

#[tokio::test]
async fn a_length_stays_a_length_and_every_byte_passes() {
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
async fn chunks_stay_chunks_and_each_passes_before_the_next_is_sent() {
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
async fn events_leave_as_they_come_even_byte_by_byte() {
    let mut rig = Rig::start().await;
    let (mut client, mut upstream) = rig.forward("GET /tapped HTTP/1.1\r\nHost: h\r\n\r\n").await;
    upstream.head().await;
    upstream
        .send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    client.head().await;
    for byte in "data: \u{e9}\r\n\r\n".as_bytes() {
        let chunk = [b"1\r\n", std::slice::from_ref(byte), b"\r\n"].concat();
        upstream.send(&chunk).await;
        assert_eq!(client.exactly(chunk.len()).await, chunk);
    }
}

#[tokio::test]
async fn a_message_without_a_body_gains_none() {
    let mut rig = Rig::start().await;
    let (mut client, mut upstream) = rig.forward("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let host = format!("Host: {}", rig.upstream.address);
    upstream.expect_head(&["GET / HTTP/1.1", &host]).await;
    upstream.send("HTTP/1.1 204 No Content\r\nX: 1\r\n\r\n").await;
    client.expect_head(&["HTTP/1.1 204 No Content", "X: 1"]).await;
    client.send("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    upstream.expect_head(&["HEAD / HTTP/1.1", &host]).await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n").await;
    client.expect_head(&["HTTP/1.1 200 OK", "Content-Length: 1234"]).await;
    client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n").await;
    upstream.expect_head(&["POST / HTTP/1.1", &host, "Content-Length: 0"]).await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    client.expect_head(&["HTTP/1.1 200 OK", "Content-Length: 0"]).await;
}

#[tokio::test]
async fn a_get_with_a_body_keeps_it() {
    let mut rig = Rig::start().await;
    let head = "GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let (_client, mut upstream) = rig.forward(head).await;
    upstream.until("Transfer-Encoding: chunked\r\n\r\n").await;
    upstream.expect("3\r\nabc\r\n0\r\n\r\n").await;
}

#[tokio::test]
async fn a_body_that_ends_with_the_connection_arrives_whole() {
    let mut rig = Rig::start().await;
    let (mut client, mut upstream) = rig.forward("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
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
}

#[tokio::test]
async fn announced_trailers_pass() {
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
