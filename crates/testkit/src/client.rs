//! A small HTTP client for JSON and event streams. It plays the app in a fake conversation.
//!
//! It is independent of threadtap's own parsers, so that tests can check those against it. Use it
//! only with the fake servers: it does not retry, decode or redirect.

use std::error::Error;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

/// Talks to one server over pooled HTTP/1.1 connections.
#[derive(Clone, Debug)]
pub struct Client {
    http: legacy::Client<HttpConnector, Full<Bytes>>,
    base_url: String,
    headers: HeaderMap,
}

/// A response whose body was not read yet.
#[derive(Debug)]
pub struct Answered {
    /// The status, including error statuses.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    body: Incoming,
    buffer: Vec<u8>,
}

/// One event of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SseEvent {
    /// The name in its `event:` line. Empty if it has none.
    pub name: String,
    /// Its `data:` line.
    pub data: String,
}

impl Client {
    /// Creates a client that appends paths to `base_url` and sends the headers of an OpenAI SDK.
    #[must_use]
    pub fn new(base_url: &str) -> Self {
        let headers = HeaderMap::from_iter([
            (AUTHORIZATION, http::HeaderValue::from_static("Bearer sk-demo")),
            (http::HeaderName::from_static("openai-beta"), http::HeaderValue::from_static("assistants=v2")),
        ]);
        Self {
            http: legacy::Client::builder(TokioExecutor::new()).build_http(),
            base_url: base_url.trim_end_matches('/').to_owned(),
            headers,
        }
    }

    /// Returns the same client with one more header on every request.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: &str) -> Self {
        if let Ok(value) = http::HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    /// Sends a request. A null body means no body.
    ///
    /// # Errors
    ///
    /// If no response head arrives.
    pub async fn send(&self, method: Method, path: &str, body: &Value) -> io::Result<Answered> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base_url));
        let mut bytes = Bytes::new();
        if !body.is_null() {
            request = request.header(CONTENT_TYPE, "application/json");
            bytes = body.to_string().into();
        }
        let mut request = request.body(Full::from(bytes)).map_err(io::Error::other)?;
        request.headers_mut().extend(self.headers.clone());
        let response = self.http.request(request).await.map_err(with_cause)?;
        let (parts, body) = response.into_parts();
        Ok(Answered { status: parts.status, headers: parts.headers, body, buffer: Vec::new() })
    }

    /// Sends a request and reads its JSON response. A refusal is an error.
    ///
    /// # Errors
    ///
    /// If no response arrives, or it is not 2xx with JSON.
    pub async fn json(&self, method: Method, path: &str, body: &Value) -> io::Result<Value> {
        let answered = self.send(method, path, body).await?;
        let status = answered.status;
        let bytes = answered.bytes().await?;
        if !status.is_success() {
            return Err(io::Error::other(format!("{status}: {}", String::from_utf8_lossy(&bytes))));
        }
        serde_json::from_slice(&bytes).map_err(io::Error::other)
    }

    /// Posts a request for an event stream. A refusal is an error.
    ///
    /// # Errors
    ///
    /// If no response head arrives, or the status is not 2xx.
    pub async fn stream(&self, path: &str, body: &Value) -> io::Result<Answered> {
        let answered = self.send(Method::POST, path, body).await?;
        if answered.status.is_success() {
            Ok(answered)
        } else {
            Err(io::Error::other(format!("refused: {}", answered.status)))
        }
    }

    /// Polls a run until it is over or waits for tool outputs, as the SDKs do. Waits between polls
    /// as long as the server says.
    ///
    /// # Errors
    ///
    /// If a response does not arrive, or is not JSON.
    pub async fn poll(&self, path: &str) -> io::Result<Value> {
        loop {
            let answered = self.send(Method::GET, path, &Value::Null).await?;
            let after = answered.headers.get("openai-poll-after-ms").and_then(|value| value.to_str().ok());
            let after =
                after.and_then(|value| value.parse().ok()).map_or(POLL_DEFAULT, Duration::from_millis);
            let run: Value = serde_json::from_slice(&answered.bytes().await?).map_err(io::Error::other)?;
            if !matches!(run["status"].as_str(), Some("queued" | "in_progress" | "cancelling")) {
                return Ok(run);
            }
            tokio::time::sleep(after).await;
        }
    }
}

impl Answered {
    /// Reads the whole body.
    ///
    /// # Errors
    ///
    /// If the body ends early.
    pub async fn bytes(self) -> io::Result<Bytes> {
        Ok(self.body.collect().await.map_err(with_cause)?.to_bytes())
    }

    /// The next chunk of the body. `None` at its end.
    ///
    /// # Errors
    ///
    /// If the body ends early.
    pub async fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        while let Some(frame) = self.body.frame().await {
            if let Ok(data) = frame.map_err(with_cause)?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// The next event of the body, or `None` at its end. The body must be a stream with line feeds.
    ///
    /// # Errors
    ///
    /// If the body ends early.
    pub async fn event(&mut self) -> io::Result<Option<SseEvent>> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
                let block = String::from_utf8_lossy(&block);
                let field =
                    |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
                if let Some(data) = field("data: ") {
                    return Ok(Some(SseEvent { name: field("event: ").unwrap_or_default(), data }));
                }
                continue;
            }
            match self.chunk().await? {
                Some(chunk) => self.buffer.extend_from_slice(&chunk),
                None => return Ok(None),
            }
        }
    }
}

/// The client's own error message only says that a request failed.
fn with_cause(error: impl Error + Send + Sync + 'static) -> io::Error {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        message = format!("{message}: {error}");
        cause = error.source();
    }
    io::Error::other(message)
}

/// The same as the Python SDK.
const POLL_DEFAULT: Duration = Duration::from_secs(1);
