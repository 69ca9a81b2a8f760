//! Plays runs by time, and writes what happens as server-sent events.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::encoding::Encoder;
use super::play::{Event, Played};
use super::script::{Cut, CutKind, Framing, LineEnd, Pace, Progress, Split, WireShape};
use super::server::Server;
use crate::demo::listener::Link;
use crate::demo::random::Random;

/// Plays a run until it rests. The run goes on when the client of its stream is gone.
pub(super) async fn play(server: Arc<Server>, run: String, first: Vec<Event>, wire: Option<Wire>) {
    let mut random = server.split_random();
    let mut wire = wire;
    tell(&mut wire, &first).await;
    loop {
        let changed = server.changed.notified();
        tokio::pin!(changed);
        // From here on no change is missed.
        changed.as_mut().enable();
        let played = server.state().advance(&run, server.now_secs());
        match played {
            Played::Act { events, took_time } => {
                tell(&mut wire, &events).await;
                if events.iter().any(Event::is_error) {
                    if let Some(wire) = wire.take() {
                        wire.finish(false).await;
                    }
                    if server.script.progress != Progress::Time {
                        server.state().stop_driving(&run);
                        return;
                    }
                }
                if took_time {
                    pause(server.script.pace, &mut random).await;
                }
            }
            Played::Over => break,
            Played::Stalled => changed.await,
        }
    }
    if let Some(wire) = wire {
        wire.finish(true).await;
    }
}

/// Writes events as bytes: framed, and compressed if need be.
pub(super) struct Writer {
    shape: WireShape,
    random: Random,
    encoder: Encoder,
}

impl Writer {
    /// A stream that nothing was written to.
    pub(super) fn new(shape: WireShape, random: Random, encoder: Encoder) -> Self {
        Self { shape, random, encoder }
    }

    /// The bytes of an event; they can be decoded at once.
    pub(super) fn event(&mut self, event: &Event) -> io::Result<Vec<u8>> {
        let text = frame(self.shape.framing, event);
        if !self.shape.comments || self.random.below(3) != 0 {
            return self.write(&text);
        }
        let comment = if self.random.below(2) == 0 { ": ping - 2026-11-20\n\n" } else { ":\n\n" };
        self.write(&format!("{comment}{text}"))
    }

    /// The bytes of the end, with the final event if `done` and the script say so.
    pub(super) fn finish(&mut self, done: bool) -> io::Result<Vec<u8>> {
        let text = match self.shape.framing {
            _ if !done || !self.shape.done => "",
            Framing::DataOnly | Framing::Wrapped => "data: [DONE]\n\n",
            Framing::Named => "event: done\ndata: [DONE]\n\n",
        };
        let mut bytes = if text.is_empty() { Vec::new() } else { self.write(text)? };
        let encoder = std::mem::replace(&mut self.encoder, Encoder::identity());
        bytes.extend(encoder.finish()?);
        Ok(bytes)
    }

    fn write(&mut self, text: &str) -> io::Result<Vec<u8>> {
        match self.shape.line_end {
            LineEnd::Cr => self.encoder.write(text.replace('\n', "\r").as_bytes()),
            LineEnd::CrLf => self.encoder.write(text.replace('\n', "\r\n").as_bytes()),
            LineEnd::Lf => self.encoder.write(text.as_bytes()),
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

/// The client has gone, or was cut off.
struct Gone;

impl Wire {
    /// A stream that nothing was written to.
    pub(super) fn new(mut writer: Writer, chunks: mpsc::Sender<io::Result<Bytes>>, link: Link) -> Self {
        let WireShape { split, cut, .. } = writer.shape;
        let random = writer.random.split();
        Self { writer, split, cut, random, chunks, link, sent_bytes: 0 }
    }

    async fn tell(&mut self, event: &Event) -> Result<(), Gone> {
        let bytes = self.writer.event(event).map_err(|_| Gone)?;
        self.send(&bytes).await
    }

    /// Ends the stream, with the final event if `done` and the script say so.
    async fn finish(mut self, done: bool) {
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
            // A client that has gone is cut off as well.
            self.chunks.send(Err(io::Error::other("cut by the script"))).await.ok();
        }
    }
}

/// Tells the client, if there still is one.
async fn tell(wire: &mut Option<Wire>, events: &[Event]) {
    let Some(open) = wire else { return };
    for event in events {
        if open.tell(event).await.is_err() {
            *wire = None;
            return;
        }
    }
}

/// The text of an event, with line feeds.
fn frame(framing: Framing, event: &Event) -> String {
    let Event { name, data } = event;
    match framing {
        Framing::DataOnly => format!("data: {data}\n\n"),
        Framing::Named => format!("event: {name}\ndata: {data}\n\n"),
        Framing::Wrapped if event.is_error() => format!("data: {data}\n\n"),
        Framing::Wrapped => format!("data: {{\"data\":{data},\"event\":\"{name}\"}}\n\n"),
    }
}

async fn pause(pace: Pace, random: &mut Random) {
    match pace {
        Pace::Even(duration) => tokio::time::sleep(duration).await,
        Pace::Human => tokio::time::sleep(Duration::from_millis(20 + random.below(51))).await,
        Pace::None => {}
    }
}
