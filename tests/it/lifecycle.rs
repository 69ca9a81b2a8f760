use std::time::Duration;

use threadtap::net::Drained;

use crate::support::{Rig, eventually};

const GET: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

#[tokio::test]
async fn a_drain_lets_exchanges_and_tunnels_end_and_takes_no_more() {
    let mut rig = Rig::start().await;
    let mut idle = rig.client().await;
    let (mut client, mut upstream) = rig.forward(GET).await;
    upstream.head().await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no").await;
    client.until("\r\n\r\no").await;
    let ask = "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let (mut socket, mut tunnel) = rig.forward(ask).await;
    tunnel.head().await;
    tunnel.send("HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").await;
    socket.head().await;
    rig.drain();
    assert_eq!(idle.closed().await, b"");
    upstream.send("k").await;
    client.expect("k").await;
    assert_eq!(client.rest().await.unwrap(), b"");
    tunnel.send("still").await;
    socket.expect("still").await;
    drop(tunnel);
    assert_eq!(socket.closed().await, b"");
    drop(socket);
    assert_eq!(rig.drained().await, Drained::Complete);
    assert_eq!(rig.metrics.connections.get(), 0);
    assert_eq!(rig.metrics.exchanges_in_progress.get(), 0);
}

#[tokio::test]
async fn what_is_not_over_when_the_grace_is_gets_cut() {
    let mut rig = Rig::start_with(|settings| settings.grace = Duration::from_millis(50)).await;
    let (mut client, mut upstream) = rig.forward(GET).await;
    upstream.head().await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no").await;
    client.until("\r\n\r\no").await;
    let ask = "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let (mut socket, mut tunnel) = rig.forward(ask).await;
    tunnel.head().await;
    tunnel.send("HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").await;
    socket.head().await;
    rig.drain();
    assert_eq!(rig.drained().await, Drained::Cut);
    client.closed().await;
    socket.closed().await;
    upstream.closed().await;
    tunnel.closed().await;
}

#[tokio::test]
async fn exchanges_and_connections_are_counted() {
    let mut rig = Rig::start().await;
    let (mut client, mut upstream) = rig.forward(GET).await;
    upstream.head().await;
    let metrics = rig.metrics.clone();
    assert_eq!((metrics.connections.get(), metrics.exchanges_in_progress.get()), (1, 1));
    upstream.send("HTTP/1.1 404 N\r\nContent-Length: 2\r\n\r\nok").await;
    client.until("ok").await;
    drop(client);
    eventually("the end", || (metrics.connections.get(), metrics.exchanges_in_progress.get()) == (0, 0))
        .await;
    let result = threadtap::metrics::ResultLabel { result: "4xx" };
    assert_eq!(metrics.exchanges.get_or_create(&result).get(), 1);
}
