//! How the fake server behaves as a server. The behaviour of a single run, response or completion
//! is separate.

use std::time::Duration;

/// All server options that a test may want to change. The default is fast and behaves like OpenAI.
#[derive(Clone, Debug)]
pub struct Script {
    /// The seed for ids, paces and split points. The same seed and the same requests give the same
    /// bytes, except for times.
    pub seed: u64,
    /// How fast streams are sent.
    pub pace: Pace,
    /// What advances a run that is not streamed.
    pub progress: Progress,
    /// Sent as `openai-poll-after-ms` with a run that is not over. The SDKs wait that long between
    /// polls.
    pub poll_after: Option<Duration>,
    /// The status of a response that created something: 200 on OpenAI, 201 on some clones.
    pub created_status: u16,
    /// When a run's usage becomes visible.
    pub usage: UsageTiming,
    /// Whether a thread refuses messages and runs while a run is active. OpenAI does, clones do
    /// not.
    pub lock_active_runs: bool,
    /// The wire format of responses.
    pub wire: WireShape,
    /// Whether requests are kept, for
    /// [`Assistants::requests`](super::assistants::Assistants::requests) and
    /// [`Assistants::raw_input`](super::assistants::Assistants::raw_input). The memory use is
    /// unbounded, so do not use it for long runs.
    pub keep_requests: bool,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            seed: 1,
            pace: Pace::None,
            progress: Progress::Polls,
            poll_after: Some(Duration::from_millis(10)),
            created_status: 200,
            usage: UsageTiming::Terminal,
            lock_active_runs: true,
            wire: WireShape::default(),
            keep_requests: false,
        }
    }
}

impl Script {
    /// A server for demos: it streams at a human pace, and its polled runs take their time.
    #[must_use]
    pub fn human() -> Self {
        Self {
            pace: Pace::Human,
            progress: Progress::Time,
            poll_after: Some(Duration::from_millis(300)),
            ..Self::default()
        }
    }
}

/// What goes wrong with one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mishap {
    /// The request is served, but the connection is reset instead of sending a response, so the
    /// client cannot know.
    LoseAnswer,
    /// The request gets this status and is not served.
    Refuse(u16),
}

/// The time between two acts of a run that is streamed or driven by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// The same time between all acts.
    Even(Duration),
    /// The pace of a real model: 20 to 70 ms, depending on the seed.
    Human,
    /// As fast as possible.
    None,
}

/// What advances a run that is not streamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The run is over, or waits for tools, before the response to its creation is sent. Some
    /// servers block like this.
    Immediate,
    /// Only calls to [`Assistants::advance`](super::assistants::Assistants::advance).
    Manual,
    /// Each `GET` of the run advances it to its next status.
    Polls,
    /// Time, at the script's [`Pace`].
    Time,
}

/// When a run's usage becomes visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsageTiming {
    /// The first body or event that shows the run as terminal has no usage yet. Later ones do.
    Late,
    /// Never.
    Never,
    /// As soon as the run is terminal.
    Terminal,
}

/// How chat completions are streamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChatShape {
    /// Where a stream reports the usage, unless [`UsageTiming::Never`].
    pub usage: StreamedUsage,
    /// Whether Azure's content filter sends its results after the text, in separate chunks.
    pub async_filter: bool,
}

impl Default for ChatShape {
    fn default() -> Self {
        Self { usage: StreamedUsage::Asked, async_filter: false }
    }
}

/// Where the stream of a chat completion reports the usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamedUsage {
    /// Only if `include_usage` requests it: in a last chunk without choices, as OpenAI does.
    Asked,
    /// Only if requested, in a last chunk that has a choice, as LiteLLM does.
    AskedWithChoice,
    /// On every chunk, with the usage so far, as vLLM can do.
    Every,
    /// On the chunk that contains the finish reason of the last choice.
    Finish,
}

/// The wire format of responses. All options except compression and `omit_links` affect only event
/// streams.
#[derive(Clone, Debug)]
pub struct WireShape {
    /// Whether responses are compressed if the client accepts it (gzip, deflate, zstd).
    pub compress: bool,
    /// What ends a line.
    pub line_end: LineEnd,
    /// How an event's name is sent.
    pub framing: Framing,
    /// Whether comments (`: ping`) are inserted.
    pub comments: bool,
    /// Whether a final `done` event ends the stream, in APIs that have one.
    pub done: bool,
    /// How much of the last event's line ends is sent.
    pub tail: Tail,
    /// Where the bytes are split into chunks. Each chunk is written to the socket separately.
    pub split: Split,
    /// How the stream breaks off, if it does.
    pub cut: Option<Cut>,
    /// How chat completions are streamed.
    pub chat: ChatShape,
    /// Whether a response omits its `conversation` and `previous_response_id`, as llama-stack does.
    pub omit_links: bool,
}

impl Default for WireShape {
    fn default() -> Self {
        Self {
            compress: false,
            line_end: LineEnd::Lf,
            framing: Framing::Named,
            comments: false,
            done: true,
            tail: Tail::BlankLine,
            split: Split::Events,
            cut: None,
            chat: ChatShape::default(),
            omit_links: false,
        }
    }
}

/// What ends a line of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineEnd {
    /// Carriage return alone. The standard allows it, but it is rare.
    Cr,
    /// As sent by sse-starlette.
    CrLf,
    /// As sent by OpenAI.
    Lf,
}

/// How an event's name is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Not at all. There is only a `data:` line with the object, which names its own type.
    DataOnly,
    /// In an `event:` line, as OpenAI does.
    Named,
    /// In a JSON wrapper `{"data": …, "event": …}`, as LiteLLM does with Assistants. Not at all in
    /// other APIs.
    Wrapped,
}

/// How much of the last event's line ends is sent. Without the blank line, every event is held back
/// until the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// All of it, as the standard requires.
    BlankLine,
    /// The end of its last line, but no blank line.
    Line,
    /// Not even the end of its last line.
    Nothing,
}

/// Where the bytes of a stream are split into chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// After every byte.
    Bytes,
    /// After every event.
    Events,
    /// Anywhere, depending on the seed. No piece is longer than this many bytes.
    Random(usize),
}

/// How a stream breaks off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// How many body bytes are sent before, counted on the wire (after compression).
    pub after_bytes: usize,
    /// How the end looks to the client.
    pub how: CutKind,
}

/// How a broken-off stream looks to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutKind {
    /// A body that ends correctly, but too early.
    CleanEnd,
    /// The connection closes before the end of the body.
    Close,
    /// The connection is reset.
    Reset,
}
