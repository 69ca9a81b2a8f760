//! An analytics backend that answers as a test says and remembers what it was sent.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use threadtap_core::event::Event;
use threadtap_core::sink::align::{self, Align};
use threadtap_core::sink::reconify::{Config, Reconify};
use threadtap_core::sink::{Batch, Sink};
use threadtap_core::time::UnixMillis;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::clock::Clock;

/// Serves until dropped with its runtime.
pub(super) struct Backend {
    pub(super) url: String,
    connections: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<Received>>>,
    count: watch::Receiver<usize>,
}

#[derive(Clone, Debug)]
pub(super) struct Received {
    /// Of all the events in it, and their threads.
    pub(super) events: Vec<(usize, String)>,
    /// Of the first event in it.
    pub(super) number: usize,
    pub(super) thread: String,
    pub(super) key: String,
    pub(super) at: UnixMillis,
    /// As it was answered.
    pub(super) status: u16,
    /// Requests under way when it came, itself included.
    pub(super) in_flight: usize,
}

pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: &'static str,
    /// How long the answer takes.
    pub(super) delay: Duration,
}

impl Reply {
    pub(super) fn ok() -> Self {
        Self { body: r#"{"status":"ok"}"#, ..Self::status(200) }
    }

    pub(super) fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: "", delay: Duration::ZERO }
    }
}

impl Backend {
    /// Answers each request as `answer` says, given the request and how many came before.
    pub(super) async fn start(answer: impl Fn(&Received, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/track", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (counted, count) = watch::channel(0);
        let connections = Arc::new(AtomicUsize::new(0));
        let accepted = Arc::clone(&connections);
        let state = Arc::new((answer, Arc::clone(&requests), counted, Clock::start(), AtomicUsize::new(0)));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                accepted.fetch_add(1, Ordering::SeqCst);
                let state = Arc::clone(&state);
                let service = service_fn(move |request: Request<Incoming>| {
                    let state = Arc::clone(&state);
                    async move {
                        let (answer, requests, counted, clock, in_flight) = &*state;
                        let mut received = read(request, clock.now()).await;
                        received.in_flight = in_flight.fetch_add(1, Ordering::SeqCst) + 1;
                        let (reply, count) = {
                            let mut requests = requests.lock().unwrap();
                            let reply = answer(&received, requests.len());
                            received.status = reply.status;
                            requests.push(received);
                            (reply, requests.len())
                        };
                        counted.send_replace(count);
                        tokio::time::sleep(reply.delay).await;
                        in_flight.fetch_sub(1, Ordering::SeqCst);
                        let mut response = Response::builder().status(reply.status);
                        for (name, value) in reply.headers {
                            response = response.header(name, value);
                        }
                        Ok::<_, Infallible>(
                            response.body(Full::new(Bytes::from_static(reply.body.as_bytes()))).unwrap(),
                        )
                    }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Self { url, connections, requests, count }
    }

    /// Until so many requests came in all.
    pub(super) async fn received(&self, at_least: usize) {
        let mut count = self.count.clone();
        let reached = count.wait_for(|count| *count >= at_least);
        tokio::time::timeout(Duration::from_secs(20), reached).await.expect("the requests come").unwrap();
    }

    /// How many connections there were.
    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(super) fn requests(&self) -> Vec<Received> {
        self.requests.lock().unwrap().clone()
    }
}

async fn read(request: Request<Incoming>, at: UnixMillis) -> Received {
    let key = request.headers().get("idempotency-key").map(|key| key.to_str().unwrap().to_owned());
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let events: Vec<(usize, String)> = match &key {
        // Align is told of each message by itself, with the number of its record as the text.
        None => {
            let messages = body["events"].as_array().unwrap().iter();
            let mut events: Vec<(usize, String)> = messages
                .map(|event| &event["properties"]["messageProperties"])
                .map(|message| {
                    (text(&message["messageContent"]).parse().unwrap(), text(&message["sessionId"]))
                })
                .collect();
            events.dedup();
            events
        }
        Some(key) => {
            assert_eq!(body["reconify"]["apiKey"], "APIKEY");
            let number = key.strip_prefix("key_").unwrap().parse().unwrap();
            vec![(number, text(&body["request"]["thread_id"]))]
        }
    };
    let (number, thread) = events[0].clone();
    Received { events, number, thread, key: key.unwrap_or_default(), at, status: 0, in_flight: 0 }
}

/// A sink that takes so many events at once.
pub(super) fn batching(name: &str, backend: &Backend, batch: Batch) -> Arc<Sink> {
    let config = align::Config::new("APIKEY".into(), "project".to_owned());
    let config = align::Config { name: name.into(), host: backend.url.parse().unwrap(), batch, ..config };
    Arc::new(Sink::Align(Align::new(config).unwrap()))
}

pub(super) fn sink(name: &str, backend: &Backend) -> Arc<Sink> {
    sink_at(name, &backend.url)
}

pub(super) fn sink_at(name: &str, url: &str) -> Arc<Sink> {
    let config = Config::new("APPKEY".into(), "APIKEY".into());
    let config = Config { name: name.into(), url: url.parse().unwrap(), ..config };
    Arc::new(Sink::Reconify(Reconify::new(config).unwrap()))
}

/// An interaction as the store keeps it.
pub(super) fn event(number: usize, thread: &str) -> Event {
    event_of(number, thread, 1)
}

/// One with so many messages.
pub(super) fn event_of(number: usize, thread: &str, messages: usize) -> Event {
    let message = json!({
        "id": null, "role": "user", "status": "completed", "created_at": null, "run": null,
        "object": {"role": "user", "content": number.to_string()},
    });
    let event = json!({"interaction": {
        "key": format!("key_{number}"), "conversation": {"upstream": "u", "id": thread}, "run": format!("run_{number}"),
        "status": "completed", "assistant": "asst", "model": "m", "inputs": vec![message; messages], "outputs": [], "tool_calls": [],
        "usage": null, "usage_absent": "not_reported", "error": null, "metadata": null,
        "times": {"created_at": null, "started_at": null, "ended_at": null, "request_at": 1, "first_token_at": null, "end_at": 2},
        "inputs_complete": true, "outputs_complete": true, "assumed": false, "pairing": "exact",
    }});
    serde_json::from_str(&event.to_string()).unwrap()
}
