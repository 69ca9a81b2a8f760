//! How the fake server behaves as a server. What a single run, response or completion does is its behaviour.

use std::time::Duration;

/// Everything about the server that a test may want to be otherwise. The default is a quick, polite OpenAI.
#[derive(Clone, Debug)]
pub struct Script {
    /// Where ids, paces and split points come from. The same seed and the same requests give the same bytes, save times.
    pub seed: u64,
    /// How fast streams go.
    pub pace: Pace,
    /// What makes a run go on that nobody streams.
    pub progress: Progress,
    /// Sent as `openai-poll-after-ms` with a run that is not over; the SDKs wait that long between polls.
    pub poll_after: Option<Duration>,
    /// The status of an answer that created something: 200 on OpenAI, 201 on some clones.
    pub created_status: u16,
    /// When a run's usage can be seen.
    pub usage: UsageTiming,
    /// Whether a thread refuses messages and runs while a run is active, as OpenAI does and clones do not.
    pub lock_active_runs: bool,
    /// What answers look like on the wire.
    pub wire: WireShape,
    /// Whether requests are kept, for [`Assistants::requests`](super::assistants::Assistants::requests) and
    /// [`Assistants::raw_input`](super::assistants::Assistants::raw_input). Unbounded, so not for long runs.
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
    /// The server a person watches: streams at a human pace, and runs that take their time when polled.
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
    /// It is served, but the connection is reset instead of answered: the client cannot know.
    LoseAnswer,
    /// It is answered with this status and not served.
    Refuse(u16),
}

/// The time between two acts of a run that is streamed or goes on by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// The same time between any two.
    Even(Duration),
    /// As a model talks: 20 to 70 ms, by the seed.
    Human,
    /// As fast as it goes.
    None,
}

/// What makes a run go on that nobody streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It is over, or waits for tools, before its creation is answered: as on servers that block.
    Immediate,
    /// Only [`Assistants::advance`](super::assistants::Assistants::advance).
    Manual,
    /// Each `GET` of the run moves it to its next status.
    Polls,
    /// Time, at the script's [`Pace`].
    Time,
}

/// When a run's usage can be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsageTiming {
    /// The first body or event that shows the run terminal has none yet; later ones do.
    Late,
    /// Nobody ever sees it.
    Never,
    /// As soon as the run is terminal.
    Terminal,
}

/// How chat completions are streamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChatShape {
    /// Where a stream tells the usage, unless [`UsageTiming::Never`].
    pub usage: StreamedUsage,
    /// Whether Azure's filter tells its results after the text, in chunks of their own.
    pub async_filter: bool,
}

impl Default for ChatShape {
    fn default() -> Self {
        Self { usage: StreamedUsage::Asked, async_filter: false }
    }
}

/// Where the stream of a chat completion tells the usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamedUsage {
    /// Only when `include_usage` asks for it: in a last chunk without choices, as OpenAI does.
    Asked,
    /// Only when asked for, in a last chunk that has a choice, as LiteLLM does.
    AskedWithChoice,
    /// On every chunk, as far as it has come, as vLLM can.
    Every,
    /// On the chunk that tells why the last choice finished.
    Finish,
}

/// What answers look like on the wire; all but compression and `omit_links` concerns event streams alone.
#[derive(Clone, Debug)]
pub struct WireShape {
    /// Whether answers are compressed when the client accepts it (gzip, deflate, zstd).
    pub compress: bool,
    /// What ends a line.
    pub line_end: LineEnd,
    /// How an event carries its name.
    pub framing: Framing,
    /// Whether comments (`: ping`) are strewn in.
    pub comments: bool,
    /// Whether a final `done` event says that the stream is over, in APIs that have one.
    pub done: bool,
    /// How much of the last event's end is sent.
    pub tail: Tail,
    /// Where the bytes are cut into chunks. Each chunk is written to the socket by itself.
    pub split: Split,
    /// How the stream breaks off, if it does.
    pub cut: Option<Cut>,
    /// How chat completions are streamed.
    pub chat: ChatShape,
    /// Whether a response leaves out its `conversation` and `previous_response_id`, as llama-stack's do.
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
    /// Carriage return alone: allowed by the standard, seen by few.
    Cr,
    /// As sse-starlette sends it.
    CrLf,
    /// As OpenAI sends it.
    Lf,
}

/// How an event carries its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Not at all: only `data:` with the object, which says what it is.
    DataOnly,
    /// In an `event:` line, as OpenAI does.
    Named,
    /// In a JSON wrapper `{"data": …, "event": …}`, as LiteLLM does with Assistants; not at all in other APIs.
    Wrapped,
}

/// How much of the last event's end is sent. All but the blank line make every event wait for the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// All, as the standard wants it.
    BlankLine,
    /// The end of its last line, and no blank line.
    Line,
    /// Not even the end of its last line.
    Nothing,
}

/// Where the bytes of a stream are cut into chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// After every byte.
    Bytes,
    /// After every event.
    Events,
    /// Anywhere, by the seed; no piece is longer than this many bytes.
    Random(usize),
}

/// How a stream breaks off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// How many body bytes are sent before, as they are on the wire (compressed, if so).
    pub after_bytes: usize,
    /// What the client sees then.
    pub how: CutKind,
}

/// What a client sees when a stream breaks off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutKind {
    /// A body that ends well-formed, but too early.
    CleanEnd,
    /// The connection closes with the body unfinished.
    Close,
    /// The connection is reset.
    Reset,
}
