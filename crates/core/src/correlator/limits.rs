//! Memory limits of the correlator, and how it handles the excess.

/// Limits on memory. Data beyond a limit is never lost silently: see [`Note`].
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Conversations in memory. Beyond the limit one is evicted, in this order: the longest idle of
    /// those with nothing pending; one whose run is over and only waits for more outputs, which is
    /// recorded; the longest idle with unclaimed messages; the one whose run has the nearest
    /// deadline, which is recorded with what is known.
    pub conversations: usize,
    /// Bytes that all conversations use together: texts, ids, and their containers. Beyond the
    /// limit, conversations are evicted in the same order. Up to a quarter more is lost to
    /// fragmentation, as measured (`tests/edges/memory.rs`).
    pub text_bytes: usize,
    /// Messages of one conversation: unclaimed ones, and those of unsettled runs. Messages beyond
    /// the limit are omitted, and the record is marked as incomplete.
    pub conversation_messages: usize,
    /// Unsettled runs of one conversation. Beyond the limit the oldest is recorded with what is
    /// known.
    pub conversation_runs: usize,
    /// Bytes of messages and tool calls of one conversation. Data beyond the limit is omitted.
    pub conversation_text_bytes: usize,
    /// Completions whose conversation is remembered, about 200 bytes each. The oldest is forgotten
    /// first; a request that continues it begins a new conversation. 0 disables this.
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

/// An event to count: the effect of a limit, or something that arrived too late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// A conversation was forgotten early, because there were too many.
    ConversationEvicted,
    /// A request repeats text that occurs in several conversations. It was matched to none of them.
    HistoryShared,
    /// An output of a run that was already recorded. The record does not change.
    LateOutput,
    /// A message was omitted, because the conversation has too many.
    MessagesFull,
    /// A run was recorded early, because the conversation has too many.
    RunsFull,
    /// A message, step or tool call was omitted, because the conversation has too much text.
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
