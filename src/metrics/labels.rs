//! The labels of metrics. Their values are from closed sets, or are names out of the configuration.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};

/// How an exchange came out.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ResultLabel {
    /// `1xx` … `5xx` as upstream answered, or `error` for an answer of our own.
    pub result: &'static str,
}

/// A side of a tunnel.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SideLabel {
    /// `client` or `upstream`.
    pub from: &'static str,
}

/// An API, and how an exchange of it came out.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ApiLabel {
    /// `assistants`, `chat` or `responses`; `completions` or `embeddings`, which are not captured.
    pub api: &'static str,
    /// `1xx` … `5xx`, as upstream answered.
    pub result: &'static str,
}

/// Why a capture was lost.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DropLabel {
    /// The reason.
    pub reason: DropReason,
}

/// Why a capture, or part of it, was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "the variants are the label values")]
pub enum DropReason {
    /// A body was longer than what is copied.
    body_too_large,
    /// The bytes that wait for the pipeline reached their limit.
    byte_budget,
    /// The disk refused, or its budget is used up.
    disk,
    /// More exchanges were open at one time than are watched; the oldest was dropped.
    max_exchanges,
    /// The pipeline panicked; the conversation was set aside.
    panic,
    /// The pipeline's queue was full.
    queue_full,
}

impl DropReason {
    pub(super) const ALL: [Self; 6] = [
        Self::body_too_large,
        Self::byte_budget,
        Self::disk,
        Self::max_exchanges,
        Self::panic,
        Self::queue_full,
    ];
}

/// What the app says itself, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct IntakeLabel {
    /// `feedback` or `users`.
    pub endpoint: &'static str,
    /// `recorded`, `held`, `expired`, `unknown`, `refused` or `unavailable`.
    pub outcome: &'static str,
}

/// A listener, and why a request to it was refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct AccessLabel {
    /// `admin` or `proxy`.
    pub listener: &'static str,
    /// `cross_site`, `host`, `key`, `many_keys`, `token` or `no_token`.
    pub reason: &'static str,
}

/// A kind of error or problem, from a closed set.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KindLabel {
    /// The kind.
    pub kind: &'static str,
}

/// An SDK, as a caller names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SdkLabel {
    /// Its language, from a closed set.
    pub sdk: &'static str,
    /// Its version; the number of different ones is bounded.
    pub version: String,
}

/// A status of an interaction.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StatusLabel {
    /// The status.
    pub status: &'static str,
}

/// A sink.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SinkLabel {
    /// The sink's configured name.
    pub sink: String,
}

/// A state the store can be in.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StateLabel {
    /// `ok` or `failing`.
    pub state: &'static str,
}

/// A file of the store.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct FileLabel {
    /// `database` or `log`.
    pub file: &'static str,
}

/// A sink and why deliveries to it were lost.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LossLabel {
    /// The sink's configured name.
    pub sink: String,
    /// `refused`: the store was full or failing. `corrupt` or `vanished`: with the database. `rejected`: the database does not
    /// take it. `closing`: the disk failed to the end.
    pub reason: &'static str,
}

/// A sink and what became of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DeliveryLabel {
    /// The sink's configured name.
    pub sink: String,
    /// `ack`, `retry`, `misconfigured`, `split` or `dead_letter`.
    pub verdict: &'static str,
}

/// A sink and why it was not sent something.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DeadLetterLabel {
    /// The sink's configured name.
    pub sink: String,
    /// The reason, as in the store.
    pub reason: &'static str,
}
