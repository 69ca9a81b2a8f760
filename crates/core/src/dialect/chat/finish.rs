//! The meaning of a `finish_reason`.
//!
//! The API has five (API reference, "The chat completion object"). Providers have many more. A
//! reason that is not known to mean a good end is kept verbatim, and never makes a completed
//! record.

/// How a choice ended, according to its reason. The worst variant is last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Finish {
    /// Unknown. Some servers send such a value in each chunk, and a known one at the end.
    Unknown,
    /// The model finished normally.
    Good,
    /// The model, or its server, ended it before it was complete.
    CutShort,
    /// The server failed.
    Failed,
}

impl Finish {
    /// Reads a reason, ignoring case.
    pub(super) fn of(reason: &str) -> Self {
        let reason = reason.to_ascii_lowercase();
        if GOOD.contains(&&*reason) {
            Self::Good
        } else if CUT_SHORT.contains(&&*reason) {
            Self::CutShort
        } else if FAILED.contains(&&*reason) || reason.ends_with("error") || reason.starts_with("error") {
            Self::Failed
        } else {
            Self::Unknown
        }
    }

    /// Whether the choice may be incomplete.
    pub(super) fn is_incomplete(self) -> bool {
        matches!(self, Self::CutShort | Self::Unknown)
    }
}

/// The API's own; `eos…` and `stop_sequence` of Text Generation Inference; `end_turn`,
/// `stop_sequence` and `tool_use` of Anthropic and `complete`, `stop_sequence` and `tool_call` of
/// Cohere, as gateways pass them on.
const GOOD: [&str; 11] = [
    "complete",
    "completed",
    "end_turn",
    "eos",
    "eos_token",
    "function_call",
    "stop",
    "stop_sequence",
    "tool_call",
    "tool_calls",
    "tool_use",
];
/// The API's `length` and `content_filter`, and the equivalents of Mistral, Anthropic, Gemini, GLM
/// and Cohere.
const CUT_SHORT: [&str; 8] = [
    "content_filter",
    "length",
    "max_output_tokens",
    "max_tokens",
    "model_context_window_exceeded",
    "model_length",
    "safety",
    "sensitive",
];
/// `abort` of vLLM and SGLang, `insufficient_system_resource` of DeepSeek. The others are
/// self-explanatory. `error` (OpenRouter, Mistral) and `network_error` (GLM) are recognised by
/// their suffix.
const FAILED: [&str; 5] = ["abort", "aborted", "failed", "failure", "insufficient_system_resource"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_reasons_that_are_known_to_be_good_are() {
        for reason in ["stop", "STOP", "tool_calls", "function_call", "eos_token", "end_turn", "COMPLETE"] {
            assert_eq!(Finish::of(reason), Finish::Good, "{reason}");
        }
        for reason in ["error", "ERROR", "network_error", "insufficient_system_resource", "abort"] {
            assert_eq!(Finish::of(reason), Finish::Failed, "{reason}");
        }
        for reason in ["length", "model_length", "content_filter", "MAX_TOKENS", "sensitive"] {
            assert_eq!(Finish::of(reason), Finish::CutShort, "{reason}");
        }
        for reason in ["x", "stopped?", "in_progress", "terror of the deep"] {
            assert_eq!(Finish::of(reason), Finish::Unknown, "{reason}");
        }
    }
}
