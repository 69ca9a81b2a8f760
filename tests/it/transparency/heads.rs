use crate::support::Rig;

#[tokio::test]
async fn order_case_and_repeated_lines_are_kept_and_nothing_is_added() {
    let mut rig = Rig::start().await;
    let (mut client, mut upstream) = rig
        .forward(concat!(
            "GET /v1/x?y=%20 HTTP/1.1\r\nX-B: 1\r\nhost: proxy\r\nConnection: keep-alive, X-Hop\r\nx-Hop: 1\r\n",
            "Authorization: Bearer k\r\nX-ThreadTap-User: me\r\nAccept: */*\r\nSET: 1\r\nSet: 2\r\n",
            "Keep-Alive: 5\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\nZ: \u{e9}\r\n\r\n"
        ))
        .await;
    let host = format!("host: {}", rig.upstream.address);
    let expected = [
        "GET /v1/x?y=%20 HTTP/1.1",
        "X-B: 1",
        &host,
        "Authorization: Bearer k",
        "Accept: */*",
        "SET: 1",
        "Set: 2",
        "Z: \u{e9}",
    ];
    upstream.expect_head(&expected).await;
    upstream
        .send(concat!(
            "HTTP/1.1 299 Fine By Me\r\nZ: 1\r\nConnection: keep-alive\r\nset-cookie: a\r\nSet-Cookie: b\r\n",
            "content-LENGTH: 2\r\nDATE: now\r\nKeep-Alive: timeout=5\r\nA: 2\r\n\r\nok"
        ))
        .await;
    let expected = [
        "HTTP/1.1 299 Fine By Me",
        "Z: 1",
        "set-cookie: a",
        "Set-Cookie: b",
        "content-LENGTH: 2",
        "DATE: now",
        "A: 2",
    ];
    client.expect_head(&expected).await;
    client.expect("ok").await;
}

#[tokio::test]
async fn odd_but_legal_targets_are_unchanged() {
    let mut rig = Rig::start().await;
    let long = format!("/?{}", "q".repeat(16 << 10));
    let (mut client, mut upstream) = rig.forward("GET /first HTTP/1.1\r\nHost: h\r\n\r\n").await;
    upstream.until("\r\n\r\n").await;
    for target in ["//", "/?", "/a//b/%2F%2f;x=1", "/threads/t", "*", "/\u{fc}", &long] {
        upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        client.head().await;
        client.send(format!("OPTIONS {target} HTTP/1.1\r\nHost: h\r\n\r\n")).await;
        assert!(upstream.head().await.starts_with(&format!("OPTIONS {target} HTTP/1.1\r\n")), "{target}");
    }
}

#[tokio::test]
async fn a_path_prefix_of_the_upstream_goes_before_the_target() {
    let mut rig = Rig::start_with(|settings| {
        let url = format!("http://{}/azure/openai/", settings.proxy.upstream.name());
        settings.proxy.upstream = url.parse().unwrap();
    })
    .await;
    let (_client, mut upstream) = rig.forward("GET /v1/x?a=b HTTP/1.1\r\nHost: h\r\n\r\n").await;
    upstream.until("GET /azure/openai/v1/x?a=b HTTP/1.1\r\n").await;
}

#[tokio::test]
async fn the_clients_host_is_kept_if_so_configured() {
    let mut rig = Rig::start_with(|settings| settings.proxy.keep_client_host = true).await;
    let (_client, mut upstream) = rig.forward("GET / HTTP/1.1\r\nHost: Mine:1\r\n\r\n").await;
    upstream.expect_head(&["GET / HTTP/1.1", "Host: Mine:1"]).await;
}

#[tokio::test]
async fn several_hundred_headers_and_folded_lines_pass() {
    let mut rig = Rig::start().await;
    let many: String = (0..900).map(|n| format!("h{n}: {n}\r\n")).collect();
    let (mut client, mut upstream) = rig.forward(&format!("GET / HTTP/1.1\r\nHost: h\r\n{many}\r\n")).await;
    assert!(upstream.head().await.ends_with(&format!("{many}\r\n")));
    upstream.send(format!("HTTP/1.1 200 OK\r\n{many}F: a\r\n  b\r\nContent-Length: 0\r\n\r\n")).await;
    let head = client.head().await;
    assert!(head.contains(&many) && head.contains("F: a b\r\n"), "{head}");
}

#[tokio::test]
async fn the_invitation_to_send_a_body_is_upstreams() {
    let mut rig =
        Rig::start_with(|settings| settings.proxy.continue_timeout = std::time::Duration::MAX).await;
    let head = "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    let (mut client, mut upstream) = rig.forward(head).await;
    upstream.until("Expect: 100-continue\r\nContent-Length: 3\r\n\r\n").await;
    upstream.send("HTTP/1.1 100 Continue\r\n\r\n").await;
    client.expect("HTTP/1.1 100 Continue\r\n\r\n").await;
    client.send("abc").await;
    upstream.expect("abc").await;

    let (mut client, mut upstream) = rig.forward(head).await;
    upstream.head().await;
    upstream.send("HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n").await;
    client.expect_head(&["HTTP/1.1 413 Too Large", "Content-Length: 0"]).await;
}

#[tokio::test]
async fn a_body_is_not_held_back_for_ever_from_an_upstream_that_does_not_know_of_100() {
    let mut rig =
        Rig::start_with(|settings| settings.proxy.continue_timeout = std::time::Duration::ZERO).await;
    let head = "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    let (mut client, mut upstream) = rig.forward(head).await;
    client.expect("HTTP/1.1 100 Continue\r\n\r\n").await;
    client.send("abc").await;
    upstream.until("\r\n\r\nabc").await;
}
