use crate::support::Rig;

const ASK: &str = "GET /v1/realtime HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

#[tokio::test]
async fn a_web_socket_is_a_tunnel_with_two_ends() {
    let mut rig = Rig::start().await;
    let (mut client, mut upstream) = rig.forward(ASK).await;
    upstream.until("Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n").await;
    upstream.send(format!("{SWITCH}early")).await;
    client.expect(SWITCH).await;
    client.expect("early").await;
    client.send([0x81, 0, 255]).await;
    assert_eq!(upstream.exactly(3).await, [0x81, 0, 255]);
    client.finish_sending().await;
    assert_eq!(upstream.rest().await.unwrap(), b"");
    upstream.send("bye").await;
    drop(upstream);
    assert_eq!(client.rest().await.unwrap(), b"bye");
}

#[tokio::test]
async fn a_refused_upgrade_is_an_ordinary_answer() {
    let mut rig = Rig::start().await;
    let (mut client, mut upstream) = rig.forward(ASK).await;
    upstream.head().await;
    upstream.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").await;
    client.expect_head(&["HTTP/1.1 403 Forbidden", "Content-Length: 2"]).await;
    client.expect("no").await;
}

#[tokio::test]
async fn a_switch_nobody_asked_for_is_refused() {
    let mut rig = Rig::start().await;
    let (mut client, mut upstream) = rig.forward("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    upstream.head().await;
    upstream.send(SWITCH).await;
    assert!(client.head().await.contains("x-threadtap-error: upstream_answer\r\n"));
}
