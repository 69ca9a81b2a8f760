//! A fake analytics backend. It accepts all posted data, responds as its script says, and records
//! the requests.

use std::collections::VecDeque;
use std::fmt;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Either, Full};
use hyper::body::Incoming;
use serde_json::Value;
use tokio::sync::{Notify, watch};

use super::listener::{Answer, Link, Listener, Reply};

/// A running fake backend. Dropping it ends every connection.
pub struct Collector {
    desk: Arc<Desk>,
    listener: Listener,
}

/// A callback for each received request, called before the response. It must not block.
pub type OnReceived = Box<dyn Fn(&Received) + Send + Sync>;

/// Looks at the body of a request and can choose the response. It must not block.
pub type Judge = Box<dyn Fn(&Value) -> Option<Reaction> + Send + Sync>;

impl Collector {
    /// Starts a backend on a free loopback port. The first requests get the reactions in `answers`,
    /// one each, in the order their bodies are read. All later requests get [`Reaction::Ok`].
    ///
    /// # Errors
    ///
    /// If no port can be bound.
    pub async fn start(answers: impl IntoIterator<Item = Reaction>) -> io::Result<Self> {
        Self::launch(answers.into_iter().collect(), None, None).await
    }

    /// Starts a backend that inspects each request first. A reaction chosen by `judge` takes
    /// precedence over the script.
    ///
    /// # Errors
    ///
    /// If no port can be bound.
    pub async fn start_judging(judge: Judge) -> io::Result<Self> {
        Self::launch(VecDeque::new(), None, Some(judge)).await
    }

    /// Starts a backend that always responds with [`Reaction::Ok`] and calls `on_received` with
    /// each request.
    ///
    /// # Errors
    ///
    /// If no port can be bound.
    pub async fn start_with(on_received: OnReceived) -> io::Result<Self> {
        Self::launch(VecDeque::new(), Some(on_received), None).await
    }

    async fn launch(
        answers: VecDeque<Reaction>,
        on_received: Option<OnReceived>,
        judge: Option<Judge>,
    ) -> io::Result<Self> {
        let (log, _) = watch::channel(Vec::new());
        let recovered = Notify::new();
        let desk = Arc::new(Desk { answers: Mutex::new(answers), recovered, log, on_received, judge });
        let listener = Listener::start(Arc::clone(&desk), false).await?;
        Ok(Self { desk, listener })
    }

    /// Appends reactions to the script for future requests.
    pub fn script(&self, answers: impl IntoIterator<Item = Reaction>) {
        self.desk.answers.lock().expect("no holder panics").extend(answers);
    }

    /// Clears the script. From now on every request is accepted, and delayed responses are sent at
    /// once.
    pub fn recover(&self) {
        self.desk.answers.lock().expect("no holder panics").clear();
        self.desk.recovered.notify_waiters();
    }

    /// The address it listens on.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.listener.addr()
    }

    /// The URL of a path on this server, to configure as a sink's target.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr())
    }

    /// All requests so far whose body arrived completely, in that order. Includes refused requests.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        self.desk.log.borrow().clone()
    }

    /// The bodies of the accepted requests, which got a 2xx response.
    #[must_use]
    pub fn accepted(&self) -> Vec<Value> {
        self.desk.log.borrow().iter().filter(|r| r.reaction.accepts()).map(|r| r.body.clone()).collect()
    }

    /// Waits until `count` requests were received, including refused ones. Waits forever if that
    /// never happens.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    pub async fn wait_for(&self, count: usize) -> Vec<Received> {
        self.wait_until(|received| received.len() >= count).await
    }

    /// Waits until `enough` returns true for the received requests.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    pub async fn wait_until(&self, enough: impl Fn(&[Received]) -> bool) -> Vec<Received> {
        let mut log = self.desk.log.subscribe();
        let received = log.wait_for(|received| enough(received)).await;
        received.expect("the sender lives as long as the collector").clone()
    }
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Collector({})", self.addr())
    }
}

/// How to respond to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// Never responds. The connection stays open.
    BlackHole,
    /// `200 {"status":"ok"}`.
    Ok,
    /// Resets the connection.
    Reset,
    /// `200 {"status":"ok"}`, after this delay or when the backend recovers.
    Slow(Duration),
    /// This status, with `status: error` in the JSON body, and a `Retry-After` header with this
    /// many seconds.
    Status(u16, Option<u64>),
}

impl Reaction {
    /// Repeats the same reaction `times` times.
    #[must_use]
    pub fn times(self, times: usize) -> Vec<Self> {
        vec![self; times]
    }

    fn accepts(&self) -> bool {
        match self {
            Self::BlackHole | Self::Reset => false,
            Self::Ok | Self::Slow(_) => true,
            Self::Status(status, _) => (200..300).contains(status),
        }
    }
}

/// A received request.
#[derive(Clone, Debug)]
pub struct Received {
    /// The method. Backends usually receive `POST`.
    pub method: String,
    /// The path and query.
    pub target: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as JSON. A string if it is not valid JSON.
    pub body: Value,
    /// The raw body, to check that a retry sends the same bytes.
    pub bytes: Bytes,
    /// How the backend responded.
    pub reaction: Reaction,
}

/// The state shared by all connections.
struct Desk {
    answers: Mutex<VecDeque<Reaction>>,
    recovered: Notify,
    log: watch::Sender<Vec<Received>>,
    on_received: Option<OnReceived>,
    judge: Option<Judge>,
}

impl Answer for Desk {
    async fn answer(self: Arc<Self>, request: Request<Incoming>, link: Link) -> io::Result<Response<Reply>> {
        let (parts, body) = request.into_parts();
        let bytes = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let text = |_| Value::String(String::from_utf8_lossy(&bytes).into_owned());
        let body = serde_json::from_slice(&bytes).unwrap_or_else(text);
        // Created before the reaction is chosen, so that no recovery is missed in between.
        let recovered = self.recovered.notified();
        let judged = self.judge.as_ref().and_then(|judge| judge(&body));
        let scripted = || self.answers.lock().expect("no holder panics").pop_front();
        let reaction = judged.or_else(scripted).unwrap_or(Reaction::Ok);
        let received = Received {
            method: parts.method.to_string(),
            target: parts.uri.to_string(),
            headers: parts.headers,
            body,
            bytes,
            reaction: reaction.clone(),
        };
        if let Some(on_received) = &self.on_received {
            on_received(&received);
        }
        self.log.send_modify(|log| log.push(received));
        match reaction {
            Reaction::BlackHole => pending().await,
            Reaction::Ok => reply(200, None),
            Reaction::Reset => {
                link.reset_at_end();
                Err(io::Error::other("reset by the script"))
            }
            Reaction::Slow(delay) => {
                tokio::time::timeout(delay, recovered).await.ok();
                reply(200, None)
            }
            Reaction::Status(status, retry_after) => reply(status, retry_after),
        }
    }
}

fn reply(status: u16, retry_after: Option<u64>) -> io::Result<Response<Reply>> {
    let body = if status < 300 { "{\"status\":\"ok\"}" } else { "{\"status\":\"error\"}" };
    let mut response = Response::builder().status(status).header(CONTENT_TYPE, "application/json");
    if let Some(secs) = retry_after {
        response = response.header(RETRY_AFTER, secs);
    }
    response.body(Either::Left(Full::from(body))).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use http::Method;
    use serde_json::json;

    use super::*;
    use crate::client::Client;

    #[tokio::test]
    async fn answers_by_its_script_and_then_takes_everything() {
        let script =
            [Reaction::Status(503, Some(2)), Reaction::Reset, Reaction::Slow(Duration::from_millis(1))];
        let collector = Collector::start(script).await.unwrap();
        let client = Client::new(&collector.url(""));
        let refused = client.send(Method::POST, "/track", &json!({"n": 0})).await.unwrap();
        assert_eq!((refused.status.as_u16(), refused.headers["retry-after"].as_bytes()), (503, &b"2"[..]));
        client.send(Method::POST, "/track", &json!({"n": 1})).await.unwrap_err();
        for n in 2..4 {
            let taken = client.json(Method::POST, "/track", &json!({ "n": n })).await.unwrap();
            assert_eq!(taken, json!({"status": "ok"}));
        }
        let received = collector.wait_for(4).await;
        assert_eq!(received[0].target, "/track");
        assert_eq!(received[0].headers["content-type"], "application/json");
        assert_eq!(collector.accepted(), [json!({"n": 2}), json!({"n": 3})]);
    }

    #[tokio::test]
    async fn a_black_hole_takes_the_request_and_never_answers() {
        let collector = Collector::start(Reaction::BlackHole.times(1)).await.unwrap();
        let client = Client::new(&collector.url(""));
        let body = json!({});
        let mut answer = std::pin::pin!(client.send(Method::POST, "/", &body));
        tokio::select! {
            received = collector.wait_for(1) => assert_eq!(received.len(), 1),
            _ = &mut answer => panic!("a black hole answered"),
        }
    }

    #[tokio::test]
    async fn a_slow_backend_that_recovers_answers_at_once() {
        let collector = Collector::start(Reaction::Slow(Duration::from_secs(3600)).times(1)).await.unwrap();
        let client = Client::new(&collector.url(""));
        let body = json!({});
        let recovery = async {
            collector.wait_for(1).await;
            collector.recover();
        };
        let (answer, ()) = tokio::join!(client.json(Method::POST, "/", &body), recovery);
        assert_eq!(answer.unwrap(), json!({"status": "ok"}));
    }

    #[tokio::test]
    async fn a_judge_goes_before_the_script_where_it_has_an_opinion() {
        let judge = |body: &Value| (body["n"] == 1).then_some(Reaction::Status(400, None));
        let collector = Collector::start_judging(Box::new(judge)).await.unwrap();
        collector.script([Reaction::Status(503, None)]);
        let client = Client::new(&collector.url(""));
        for (n, status) in [(1, 400), (0, 503), (0, 200), (1, 400)] {
            let answered = client.send(Method::POST, "/", &json!({ "n": n })).await.unwrap();
            assert_eq!(answered.status.as_u16(), status);
        }
    }

    #[tokio::test]
    async fn tells_each_request_as_it_comes() {
        let (sender, told) = std::sync::mpsc::channel();
        let collector =
            Collector::start_with(Box::new(move |received| sender.send(received.body.clone()).unwrap()))
                .await
                .unwrap();
        Client::new(&collector.url("")).json(Method::POST, "/", &json!([1])).await.unwrap();
        assert_eq!(told.recv().unwrap(), json!([1]));
    }
}
