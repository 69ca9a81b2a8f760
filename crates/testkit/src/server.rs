//! Handles requests: reads them, passes them to the state, and writes the response.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE};
use http::request::Parts;
use http::response::Builder;
use http::{Request, Response};
use http_body_util::{BodyExt, Either, Full};
use hyper::body::Incoming;
use serde_json::Value;
use threadtap_core::observation::Api;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::assistants;
use super::call::{Call, Routed, Source, api_of};
use super::chat;
use super::encoding::Encoder;
use super::fault::Fault;
use super::listener::{Answer, Chunks, Link, Reply};
use super::random::Random;
use super::responses;
use super::script::{Mishap, Script, WireShape};
use super::stream::{Wire, Writer};
use super::vendor::Vendor;

/// The state shared by all connections.
pub(super) struct Server {
    pub(super) script: Script,
    pub(super) wire: Mutex<WireShape>,
    pub(super) mishaps: Mutex<VecDeque<Mishap>>,
    /// Notified when a client has changed the plan of a run or response, or when a response has
    /// advanced.
    pub(super) changed: Notify,
    pub(super) request_count: AtomicU64,
    pub(super) requests: Mutex<Vec<RecordedRequest>>,
    assistants: Mutex<assistants::State>,
    chat: Mutex<chat::State>,
    responses: Mutex<responses::State>,
    /// The tasks of the streams, and of the runs and responses driven by time.
    players: Mutex<JoinSet<()>>,
}

impl Server {
    /// Creates a server without any state.
    pub(super) fn new(script: Script) -> Self {
        Self {
            wire: Mutex::new(script.wire.clone()),
            assistants: Mutex::new(assistants::State::new(&script)),
            chat: Mutex::new(chat::State::new(&script)),
            responses: Mutex::new(responses::State::new(&script)),
            script,
            mishaps: Mutex::default(),
            changed: Notify::new(),
            request_count: AtomicU64::new(0),
            requests: Mutex::default(),
            players: Mutex::default(),
        }
    }

    /// The state of Assistants. Like the other states, it is locked for one request or act, and
    /// never across an await.
    pub(super) fn assistants(&self) -> MutexGuard<'_, assistants::State> {
        self.assistants.lock().expect("no holder panics")
    }

    /// The state of Chat Completions.
    pub(super) fn chat(&self) -> MutexGuard<'_, chat::State> {
        self.chat.lock().expect("no holder panics")
    }

    /// The state of Responses and Conversations.
    pub(super) fn responses(&self) -> MutexGuard<'_, responses::State> {
        self.responses.lock().expect("no holder panics")
    }

    /// Seconds since the epoch.
    #[expect(clippy::disallowed_methods, reason = "a server has a clock of its own")]
    pub(super) fn now_secs(&self) -> u64 {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        since_epoch.map_or(0, |time| time.as_secs())
    }

    /// Creates a separate random generator.
    pub(super) fn split_random(&self) -> Random {
        self.assistants().random.split()
    }

    /// Ends every run driven by time.
    pub(super) fn stop(&self) {
        self.players().abort_all();
    }

    /// Advances a run that is not streamed, as the script says. Call this whenever a client has
    /// acted on the run.
    pub(super) fn release(self: &Arc<Self>, run: &str) {
        self.assistants().release(run, self.now_secs());
        self.drive_released();
    }

    /// Starts the tasks that drive the released runs and responses, and notifies all others that
    /// something may have changed.
    fn drive_released(self: &Arc<Self>) {
        let released = std::mem::take(&mut self.assistants().released);
        for run in released {
            self.spawn(Source::Run { run, first: Vec::new() }, None);
        }
        let released = std::mem::take(&mut self.responses().released);
        for response in released {
            self.spawn(Source::Response { response, from: usize::MAX, drives: true }, None);
        }
        self.changed.notify_waiters();
    }

    /// Advances a response that has no driver, as the script says.
    pub(super) fn release_response(self: &Arc<Self>, response: &str) {
        self.responses().release(response, self.now_secs());
        self.drive_released();
    }

    fn wire(&self) -> WireShape {
        self.wire.lock().expect("no holder panics").clone()
    }

    fn players(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.players.lock().expect("no holder panics")
    }

    fn spawn(self: &Arc<Self>, source: Source, wire: Option<Wire>) {
        let mut players = self.players();
        while players.try_join_next().is_some() {}
        let server = Arc::clone(self);
        match source {
            Source::Chat { completion, chunks, stalls } => {
                players.spawn(chat::tell(server, completion, chunks, stalls, wire))
            }
            Source::Response { response, from, drives } => {
                players.spawn(responses::follow(server, response, from, drives, wire))
            }
            Source::Run { run, first } => players.spawn(assistants::play(server, run, first, wire)),
        };
    }

    fn record(&self, parts: &Parts, body: &Bytes) {
        if !self.script.keep_requests {
            return;
        }
        let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers = parts.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
        self.requests.lock().expect("no holder panics").push(RecordedRequest {
            method: parts.method.to_string(),
            target: parts.uri.to_string(),
            headers,
            body: body.clone(),
        });
    }

    fn head(&self, status: u16, caller: &Caller) -> Builder {
        let id = self.assistants().random.id("req");
        let headers = caller.vendor.headers(id).into_iter();
        headers.fold(Response::builder().status(status), |head, (name, value)| head.header(name, value))
    }

    fn encoder(&self, caller: &Caller) -> io::Result<Encoder> {
        if self.wire().compress {
            Encoder::accepted(&caller.accept_encoding)
        } else {
            Ok(Encoder::identity())
        }
    }

    fn json(&self, status: u16, body: &Value, caller: &Caller) -> io::Result<Response<Reply>> {
        let mut encoder = self.encoder(caller)?;
        let mut head = self.head(status, caller).header(CONTENT_TYPE, "application/json");
        if let Some(name) = encoder.name() {
            head = head.header(CONTENT_ENCODING, name);
        }
        let waits = matches!(body["status"].as_str(), Some("queued" | "in_progress" | "cancelling"));
        let polled = matches!(body["object"].as_str(), Some("response" | "thread.run"));
        if let Some(after) = self.script.poll_after.filter(|_| waits && polled) {
            head = head.header("openai-poll-after-ms", after.as_millis().to_string());
        }
        let mut bytes = encoder.write(body.to_string().as_bytes())?;
        bytes.extend(encoder.finish()?);
        head.body(Either::Left(Full::from(bytes))).map_err(io::Error::other)
    }

    fn event_stream(
        self: &Arc<Self>,
        api: Api,
        source: Source,
        caller: &Caller,
        link: Link,
    ) -> io::Result<Response<Reply>> {
        let encoder = self.encoder(caller)?;
        let mut head = self.head(200, caller).header(CONTENT_TYPE, "text/event-stream; charset=utf-8");
        if let Some(name) = encoder.name() {
            head = head.header(CONTENT_ENCODING, name);
        }
        let (sender, chunks) = Chunks::new();
        let writer = Writer::new(api, self.wire(), self.split_random(), encoder);
        let wire = Wire::new(writer, sender, link);
        self.spawn(source, Some(wire));
        head.body(Either::Right(chunks)).map_err(io::Error::other)
    }

    fn route(&self, api: Api, call: &Call<'_>) -> Result<Routed, Fault> {
        match api {
            Api::Assistants => assistants::route(&mut self.assistants(), call),
            Api::Chat => chat::route(&mut self.chat(), call, self.wire().chat),
            Api::Responses => responses::route(&mut self.responses(), call, self.wire().omit_links),
        }
    }
}

/// What a response must match.
struct Caller {
    accept_encoding: String,
    vendor: Vendor,
}

impl Answer for Server {
    async fn answer(self: Arc<Self>, request: Request<Incoming>, link: Link) -> io::Result<Response<Reply>> {
        self.request_count.fetch_add(1, Ordering::Relaxed);
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let accept =
            parts.headers.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (method, target) = (parts.method.as_str().to_owned(), parts.uri.clone());
        let caller = Caller { accept_encoding: accept.to_owned(), vendor: Vendor::of(target.path()) };
        self.record(&parts, &body);
        let (api, _) = api_of(target.path());
        let mishap = self.mishaps.lock().expect("no holder panics").pop_front();
        let parsed = if body.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(&body) };
        let routed = match (mishap, parsed) {
            (Some(Mishap::Refuse(status)), _) => Err(Fault::trouble(status)),
            (_, Ok(body)) => {
                let (path, query) = (target.path(), target.query().unwrap_or_default());
                let call = Call { method: &method, path, query, body: &body, now: self.now_secs() };
                self.route(api, &call)
            }
            (_, Err(_)) => Err(Fault::refused("We could not parse the JSON body of your request.")),
        };
        self.drive_released();
        if mishap == Some(Mishap::LoseAnswer) {
            if let Ok(Routed::Stream(source)) = routed {
                // Nobody sees the stream, but the run or response still plays.
                self.spawn(source, None);
            }
            link.reset_at_end();
            return Err(io::Error::other("lost by the script"));
        }
        match routed {
            Ok(Routed::Created(object)) => self.json(self.script.created_status, &object, &caller),
            Ok(Routed::Found(object)) => self.json(200, &object, &caller),
            Ok(Routed::Never) => std::future::pending().await,
            Ok(Routed::Stream(source)) => self.event_stream(api, source, &caller, link),
            Err(fault) => self.json(fault.status, &caller.vendor.refusal(&fault), &caller),
        }
    }
}

/// A request as parsed by the server's HTTP library. Its headers include its credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedRequest {
    /// The method.
    pub method: String,
    /// The request target: path and query.
    pub target: String,
    /// The headers, with names in lower case, in the order received.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}
