use crate::support::Rig;

const GET: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n";

#[tokio::test]
async fn a_client_that_leaves_cancels_the_request() {
    let mut rig = Rig::start().await;
    let (client, mut upstream) = rig.forward(GET).await;
    upstream.head().await;
    drop(client);
    upstream.closed().await;

    let (mut client, mut upstream) = rig.forward(GET).await;
    upstream.head().await;
    upstream.send(CHUNKED).await;
    client.until("1\r\na\r\n").await;
    drop(client);
    upstream.closed().await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_never_ended_cleanly() {
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
async fn what_came_before_the_break_still_arrives() {
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
async fn an_answer_that_only_the_close_delimits_breaks_off_with_a_reset() {
    let mut rig = Rig::start().await;
    let (mut client, mut upstream) = rig.forward("GET / HTTP/1.0\r\n\r\n").await;
    upstream.head().await;
    upstream.send(CHUNKED).await;
    client.until("\r\n\r\na").await;
    drop(upstream);
    assert_eq!(client.rest().await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_early_refusal_arrives_while_the_client_still_uploads() {
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
async fn a_slow_client_holds_up_upstream_and_not_memory() {
    let mut rig = Rig::start().await;
    let (mut client, mut upstream) = rig.forward(GET).await;
    upstream.head().await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n").await;
    client.head().await;
    let mut sent = 0;
    let chunk = vec![0; 1_000_000];
    while tokio::time::timeout(std::time::Duration::from_millis(300), upstream.send(&chunk)).await.is_ok() {
        sent += 1;
        assert!(sent < 90, "nothing holds upstream up");
    }
}

#[tokio::test]
async fn two_requests_share_a_connection_to_upstream() {
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
