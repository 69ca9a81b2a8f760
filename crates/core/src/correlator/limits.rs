//! What the correlator may hold, and what becomes of the rest.

/// Bounds on memory. What is beyond them is never lost in silence: see [`Note`].
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Conversations in memory. Beyond it one goes: the longest idle of those with nothing pending; else one whose run is over
    /// and only waits for more outputs, which is recorded; else the longest idle with unclaimed messages; else the one whose
    /// run's deadline is nearest, which is recorded with what is known.
    pub conversations: usize,
    /// Bytes that conversations take in memory, all together: texts, ids, and what holds them. Beyond it as above. Up to a
    /// quarter is lost to fragmentation, as measured (`tests/edges/memory.rs`).
    pub text_bytes: usize,
    /// Messages of one conversation: unclaimed, and of runs that are not settled. Further ones are left out, and the record
    /// says that it is not complete.
    pub conversation_messages: usize,
    /// Runs of one conversation that are not settled. Beyond it the oldest is recorded with what is known.
    pub conversation_runs: usize,
    /// Bytes of messages and tool calls of one conversation. Further ones are left out.
    pub conversation_text_bytes: usize,
    /// Completions that are remembered by what their conversation added up to, about 200 bytes each. The oldest goes first; who goes
    /// on with it begins a conversation of its own. 0: none is.
    pub remembered_turns: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            conversations: 100_000,
            text_bytes: 128 << 20,
            conversation_messages: 1000,
            conversation_runs: 64,
            conversation_text_bytes: 16 << 20,
            remembered_turns: 50_000,
        }
    }
}

/// Something to be counted: what a limit cost, or what came too late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// A conversation was forgotten before its time, for there were too many.
    ConversationEvicted,
    /// A request repeats what was said in several conversations: it was joined to none of them.
    HistoryShared,
    /// An output of a run that was recorded already. The record stays as it is.
    LateOutput,
    /// A message was left out: the conversation has too many.
    MessagesFull,
    /// A run was recorded before its time: the conversation has too many.
    RunsFull,
    /// A message, step or tool call was left out: the conversation has too much text.
    TextFull,
}

impl Note {
    /// The name in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConversationEvicted => "conversation_evicted",
            Self::HistoryShared => "history_shared",
            Self::LateOutput => "late_output",
            Self::MessagesFull => "messages_full",
            Self::RunsFull => "runs_full",
            Self::TextFull => "text_full",
        }
    }
}
