//! Writes events as server-sent events, as the script says.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use threadtap_core::observation::Api;
use tokio::sync::mpsc;

use super::encoding::Encoder;
use super::listener::Link;
use super::random::Random;
use super::script::{Cut, CutKind, Framing, LineEnd, Pace, Split, Tail, WireShape};

/// One event of a stream.
#[derive(Clone, Debug)]
pub(super) struct Event {
    /// Empty in APIs whose events have no names.
    pub(super) name: &'static str,
    pub(super) data: Value,
}

impl Event {
    pub(super) fn new(name: &'static str, data: Value) -> Self {
        Self { name, data }
    }

    /// Whether this is an error event, which is the last of its stream.
    pub(super) fn is_error(&self) -> bool {
        self.name == "error"
    }

    /// The event for a server error, in the form that makes the SDKs raise an exception.
    pub(super) fn error() -> Self {
        let error = json!({
            "message": "The server had an error while processing your request.", "type": "server_error",
            "param": null, "code": "server_error",
        });
        let data = json!({ "error": error });
        Self { name: "error", data }
    }
}

/// Encodes events as bytes: framed, and compressed if requested.
pub(super) struct Writer {
    api: Api,
    shape: WireShape,
    /// The number of line ends to send before the next event, or at the end if the script says so.
    held_lines: usize,
    random: Random,
    encoder: Encoder,
}

impl Writer {
    /// Creates a writer for a new stream.
    pub(super) fn new(api: Api, shape: WireShape, random: Random, encoder: Encoder) -> Self {
        Self { api, shape, held_lines: 0, random, encoder }
    }

    /// The bytes of an event. They can be decoded immediately.
    pub(super) fn event(&mut self, event: &Event) -> io::Result<Vec<u8>> {
        let text = frame(self.api, self.shape.framing, event);
        if !self.shape.comments || self.random.below(3) != 0 {
            return self.write(&text);
        }
        let comment = if self.random.below(2) == 0 { ": ping - 2026-11-20\n\n" } else { ":\n\n" };
        self.write(&format!("{comment}{text}"))
    }

    /// The bytes of the end. The final event is included if `done` is set and the script says so.
    pub(super) fn finish(&mut self, done: bool) -> io::Result<Vec<u8>> {
        let text = match (self.api, self.shape.framing) {
            (Api::Responses, _) => "",
            _ if !done || !self.shape.done => "",
            (Api::Assistants, Framing::Named) => "event: done\ndata: [DONE]\n\n",
            (Api::Assistants | Api::Chat, _) => "data: [DONE]\n\n",
        };
        let mut bytes = if text.is_empty() { Vec::new() } else { self.write(text)? };
        let encoder = std::mem::replace(&mut self.encoder, Encoder::identity());
        bytes.extend(encoder.finish()?);
        Ok(bytes)
    }

    fn write(&mut self, text: &str) -> io::Result<Vec<u8>> {
        let held = std::mem::replace(&mut self.held_lines, self.shape.tail.missing_lines());
        let text = format!("{}{}", "\n".repeat(held), &text[..text.len() - self.held_lines]);
        match self.shape.line_end {
            LineEnd::Cr => self.encoder.write(text.replace('\n', "\r").as_bytes()),
            LineEnd::CrLf => self.encoder.write(text.replace('\n', "\r\n").as_bytes()),
            LineEnd::Lf => self.encoder.write(text.as_bytes()),
        }
    }
}

impl Tail {
    /// How many line ends of the last event are not sent.
    fn missing_lines(self) -> usize {
        match self {
            Self::BlankLine => 0,
            Self::Line => 1,
            Self::Nothing => 2,
        }
    }
}

/// Sends a stream to one client.
pub(super) struct Wire {
    writer: Writer,
    split: Split,
    cut: Option<Cut>,
    random: Random,
    chunks: mpsc::Sender<io::Result<Bytes>>,
    link: Link,
    sent_bytes: usize,
}

/// The client has disconnected, or was cut off.
pub(super) struct Gone;

impl Wire {
    /// Creates an empty stream.
    pub(super) fn new(mut writer: Writer, chunks: mpsc::Sender<io::Result<Bytes>>, link: Link) -> Self {
        let WireShape { split, cut, .. } = writer.shape;
        let random = writer.random.split();
        Self { writer, split, cut, random, chunks, link, sent_bytes: 0 }
    }

    /// Sends an event.
    pub(super) async fn tell(&mut self, event: &Event) -> Result<(), Gone> {
        let bytes = self.writer.event(event).map_err(|_| Gone)?;
        self.send(&bytes).await
    }

    /// Waits until the client has disconnected.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    pub(super) async fn closed(&self) {
        self.chunks.closed().await;
    }

    /// Ends the stream. Sends the final event if `done` is set and the script says so.
    pub(super) async fn finish(mut self, done: bool) {
        if let Ok(rest) = self.writer.finish(done) {
            self.send(&rest).await.ok();
        }
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let length = match self.split {
                Split::Bytes => 1,
                Split::Events => rest.len(),
                Split::Random(most) => {
                    let below = self.random.below(u64::try_from(most.max(1)).unwrap_or(u64::MAX));
                    usize::try_from(below).unwrap_or(usize::MAX).saturating_add(1)
                }
            };
            let (mut chunk, after) = rest.split_at(length.min(rest.len()));
            rest = after;
            let cut = self.cut.filter(|cut| self.sent_bytes + chunk.len() > cut.after_bytes);
            if let Some(cut) = cut {
                chunk = &chunk[..cut.after_bytes - self.sent_bytes];
            }
            self.sent_bytes += chunk.len();
            if !chunk.is_empty() {
                self.chunks.send(Ok(Bytes::copy_from_slice(chunk))).await.map_err(|_| Gone)?;
            }
            if let Some(cut) = cut {
                self.break_off(cut).await;
                return Err(Gone);
            }
        }
        Ok(())
    }

    async fn break_off(&self, cut: Cut) {
        if cut.how == CutKind::Reset {
            self.link.reset_at_end();
        }
        if cut.how != CutKind::CleanEnd {
            // A client that has disconnected counts as cut off too.
            self.chunks.send(Err(io::Error::other("cut by the script"))).await.ok();
        }
    }
}

/// The text of an event, with line feeds as line ends.
fn frame(api: Api, framing: Framing, event: &Event) -> String {
    let Event { name, data } = event;
    match (api, framing) {
        (Api::Chat, _) | (_, Framing::DataOnly) => format!("data: {data}\n\n"),
        (_, Framing::Named) => format!("event: {name}\ndata: {data}\n\n"),
        (Api::Responses, Framing::Wrapped) => format!("data: {data}\n\n"),
        (Api::Assistants, Framing::Wrapped) if event.is_error() => format!("data: {data}\n\n"),
        (Api::Assistants, Framing::Wrapped) => {
            format!("data: {{\"data\":{data},\"event\":\"{name}\"}}\n\n")
        }
    }
}

/// Waits as long as a model needs for its next words.
pub(super) async fn pause(pace: Pace, random: &mut Random) {
    match pace {
        Pace::Even(duration) => tokio::time::sleep(duration).await,
        Pace::Human => tokio::time::sleep(Duration::from_millis(20 + random.below(51))).await,
        Pace::None => {}
    }
}
