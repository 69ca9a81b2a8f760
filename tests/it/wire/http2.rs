use bytes::Bytes;
use http::{Request, Version};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::support::{Rig, soon};

async fn connect(rig: &Rig) -> http2::SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(rig.address).await.unwrap();
    let (client, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    client
}

#[tokio::test]
async fn an_http2_client_is_forwarded_as_http1() {
    let mut rig = Rig::start().await;
    let mut client = connect(&rig).await;
    let request = Request::post("http://client.example/v1/x?y")
        .version(Version::HTTP_2)
        .header("cookie", "a=1")
        .header("x-a", "1")
        .header("cookie", "b=2")
        .body(Full::from("hello"))
        .unwrap();
    let answer = tokio::spawn(client.send_request(request));
    let mut upstream = rig.upstream.accept().await;
    let host = format!("host: {}", rig.upstream.address);
    let expected = ["POST /v1/x?y HTTP/1.1", &host, "cookie: a=1; b=2", "x-a: 1", "content-length: 5"];
    upstream.expect_head(&expected).await;
    upstream.expect("hello").await;
    upstream
        .send("HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n")
        .await;
    let response = soon("the head", answer).await.unwrap().unwrap();
    assert_eq!(response.headers().keys().collect::<Vec<_>>(), ["trailer"]);
    upstream.send("2\r\nhi\r\n0\r\nX-Sum: 7\r\n\r\n").await;
    let body = soon("the body", response.into_body().collect()).await.unwrap();
    assert_eq!(body.trailers().unwrap()["x-sum"], "7");
    assert_eq!(body.to_bytes(), "hi");
}

#[tokio::test]
async fn a_long_target_passes() {
    let mut rig = Rig::start().await;
    let mut client = connect(&rig).await;
    let target = format!("/v1/x?q={}", "q".repeat(17_000));
    let request = Request::get(format!("http://h{target}")).body(Full::default()).unwrap();
    let _answer = tokio::spawn(client.send_request(request));
    let mut upstream = rig.upstream.accept().await;
    assert!(upstream.head().await.starts_with(&format!("GET {target} HTTP/1.1\r\n")));
}

#[tokio::test]
async fn a_client_that_leaves_cancels_its_requests() {
    let mut rig = Rig::start().await;
    let mut client = connect(&rig).await;
    let get = || Request::get("http://h/").body(Full::default()).unwrap();
    let unanswered = tokio::spawn(client.send_request(get()));
    let mut first = rig.upstream.accept().await;
    first.head().await;
    let streaming = tokio::spawn(client.send_request(get()));
    let mut second = rig.upstream.accept().await;
    second.head().await;
    second.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab").await;
    let streaming = soon("the head", streaming).await.unwrap().unwrap();
    unanswered.abort();
    first.closed().await;
    drop(streaming);
    second.closed().await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_breaks_its_stream_and_no_other() {
    let mut rig = Rig::start().await;
    let mut client = connect(&rig).await;
    let get = |path: &str| Request::get(format!("http://h{path}")).body(Full::default()).unwrap();
    let broken = tokio::spawn(client.send_request(get("/broken")));
    let mut upstream = rig.upstream.accept().await;
    upstream.head().await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab").await;
    let broken = soon("the head", broken).await.unwrap().unwrap();
    let whole = tokio::spawn(client.send_request(get("/whole")));
    let mut other = rig.upstream.accept().await;
    other.head().await;
    drop(upstream);
    assert!(soon("the end", broken.into_body().collect()).await.is_err());
    other.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let whole = soon("the head", whole).await.unwrap().unwrap();
    assert_eq!(soon("the body", whole.into_body().collect()).await.unwrap().to_bytes(), "ok");
}

#[tokio::test]
async fn an_answer_of_our_own_to_head_has_no_body() {
    let mut rig = Rig::start().await;
    let mut client = connect(&rig).await;
    for _ in 0..2 {
        let head = Request::head("http://h/").body(Full::default()).unwrap();
        let answer = tokio::spawn(client.send_request(head));
        drop(rig.upstream.accept().await);
        let answer = soon("the head", answer).await.unwrap().unwrap();
        assert_eq!(answer.status(), 502);
        assert!(answer.headers().contains_key("content-length"));
        assert_eq!(soon("the body", answer.into_body().collect()).await.unwrap().to_bytes(), "");
    }
}
