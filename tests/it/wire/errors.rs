use std::sync::{Arc, Mutex};

use crate::support::{Raw, Rig, Upstream};

const GET: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Reads an answer of threadtap's own and checks all of it.
async fn expect_error(client: &mut Raw, status: &str, token: &str) {
    let head = client.head().await;
    assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{head}");
    assert!(head.contains(&format!("x-threadtap-error: {token}\r\n")), "{head}");
    assert!(head.contains("content-type: application/json\r\n"), "{head}");
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next()).unwrap();
    let body: serde_json::Value =
        serde_json::from_slice(&client.exactly(length.parse().unwrap()).await).unwrap();
    assert_eq!(body["error"]["type"], "threadtap_upstream_error");
    assert_eq!(body["error"]["code"], token);
    assert!(body["error"]["message"].is_string());
}

async fn to(url: &str) -> (Rig, Raw) {
    let url = url.to_owned();
    let rig = Rig::start_with(|settings| {
        settings.proxy.upstream = url.parse().unwrap();
        settings.proxy.connect_timeout = std::time::Duration::from_secs(1);
    })
    .await;
    let mut client = rig.client().await;
    client.send(GET).await;
    (rig, client)
}

#[tokio::test]
async fn an_upstream_that_refuses_connections() {
    let closed = Upstream::bind().await.address;
    let (_rig, mut client) = to(&format!("http://{closed}")).await;
    expect_error(&mut client, "502 Bad Gateway", "upstream_unreachable").await;
}

#[tokio::test]
async fn an_upstream_that_does_not_accept_in_time() {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    // With the backlog full, the system no longer answers who wants to connect.
    let mut waiting = Vec::new();
    let moment = std::time::Duration::from_millis(200);
    while let Ok(connected) = tokio::time::timeout(moment, tokio::net::TcpStream::connect(address)).await {
        waiting.push(connected.unwrap());
    }
    let (_rig, mut client) = to(&format!("http://{address}")).await;
    expect_error(&mut client, "504 Gateway Timeout", "upstream_timeout").await;
}

#[tokio::test]
async fn an_upstream_without_an_address() {
    let (_rig, mut client) = to("http://nowhere.invalid").await;
    let head = client.head().await;
    // Some resolvers do not answer for unknown names in time.
    assert!(head.contains("upstream_dns") || head.contains("upstream_timeout"), "{head}");
}

#[tokio::test]
async fn an_upstream_that_speaks_no_tls() {
    let mut upstream = Upstream::bind().await;
    let (_rig, mut client) = to(&format!("https://{}", upstream.address)).await;
    tokio::spawn(async move {
        upstream.accept().await.send("HTTP/1.1 400 Bad Request\r\n\r\n").await;
    });
    expect_error(&mut client, "502 Bad Gateway", "upstream_tls").await;
}

#[tokio::test]
async fn an_upstream_that_closes_instead_of_answering_is_asked_once() {
    let mut rig = Rig::start().await;
    for reset in [false, true] {
        let (mut client, mut upstream) =
            rig.forward("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx").await;
        upstream.until("\r\n\r\nx").await;
        if reset {
            upstream.reset()
        } else {
            drop(upstream)
        }
        expect_error(&mut client, "502 Bad Gateway", "upstream_closed").await;
        let (mut client, mut upstream) = rig.forward(GET).await;
        upstream.head().await;
        if reset {
            upstream.reset()
        } else {
            drop(upstream)
        }
        expect_error(&mut client, "502 Bad Gateway", "upstream_closed").await;
    }
}

#[tokio::test]
async fn a_used_connection_that_upstream_closes_costs_a_get_nothing_and_a_post_is_not_repeated() {
    let mut rig = Rig::start().await;
    let (mut client, mut upstream) = rig.forward(GET).await;
    upstream.head().await;
    upstream.send(OK).await;
    client.until("ok").await;
    client.send(GET).await;
    upstream.head().await;
    drop(upstream);
    let mut upstream = rig.upstream.accept().await;
    upstream.head().await;
    upstream.send(OK).await;
    client.until("ok").await;

    client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx").await;
    upstream.until("\r\n\r\nx").await;
    drop(upstream);
    expect_error(&mut client, "502 Bad Gateway", "upstream_closed").await;
}

#[tokio::test]
async fn an_answer_that_is_not_http() {
    let mut rig = Rig::start().await;
    let (mut client, mut upstream) = rig.forward(GET).await;
    upstream.head().await;
    upstream.send("SSH-2.0-OpenSSH\r\n\r\n").await;
    expect_error(&mut client, "502 Bad Gateway", "upstream_answer").await;
}

#[tokio::test]
async fn a_malformed_body_is_the_clients_fault() {
    let mut rig = Rig::start().await;
    let head = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (mut client, mut upstream) = rig.forward(head).await;
    upstream.head().await;
    client.send("nonsense\r\n").await;
    expect_error(&mut client, "400 Bad Request", "client_body").await;
    assert_eq!(upstream.closed().await, b"");
}

#[tokio::test]
async fn what_is_refused_does_not_reach_upstream() {
    let rig = Rig::start().await;
    for (request, status, token) in [
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400 Bad Request", "client_host"),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", "501 Not Implemented", "connect"),
        (
            "POST /_threadtap/feedback HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
            "404 Not Found",
            "not_found",
        ),
    ] {
        let mut client = rig.client().await;
        client.send(request).await;
        expect_error(&mut client, status, token).await;
    }
}

#[tokio::test]
async fn an_error_of_upstream_passes_as_it_is() {
    let mut rig = Rig::start().await;
    let (mut client, mut upstream) = rig.forward(GET).await;
    upstream.head().await;
    upstream.send("HTTP/1.1 502 Oh\r\nContent-Length: 2\r\n\r\nno").await;
    client.expect_head(&["HTTP/1.1 502 Oh", "Content-Length: 2"]).await;
    client.expect("no").await;
}

/// An upstream that keeps connections alive, says so, and closes them at the moment the next request may be on its way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_was_sent_is_sent_twice() {
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
    let clients = (0..4).map(|client| {
        let address = rig.address;
        tokio::spawn(async move {
            let mut connection = Raw::connect(address).await;
            let mut answered = Vec::new();
            for n in 0..500 {
                let id = client * 1000 + n;
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
    assert!(answered.len() > 1000, "{} of 2000 were answered", answered.len());
}
