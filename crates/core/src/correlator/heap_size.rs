//! Estimates of memory use: texts, and the allocator's overhead.

use serde_json::value::RawValue;

use crate::message::Message;
use crate::observation::ToolCall;

/// The size of a separate allocation in glibc: a multiple of 16 bytes, including 8 bytes of
/// overhead.
pub(super) fn allocation(bytes: usize) -> usize {
    if bytes == 0 { 0 } else { (bytes + 8).next_multiple_of(16).max(32) }
}

pub(super) fn list<T>(list: &Vec<T>) -> usize {
    allocation(list.capacity() * size_of::<T>())
}

pub(super) fn messages(messages: &Vec<Message>) -> usize {
    list(messages) + messages.iter().map(message).sum::<usize>()
}

/// How much memory a message uses besides its list entry.
pub(super) fn message(message: &Message) -> usize {
    let Message { id, role: _, status: _, created_at: _, run, object } = message;
    optional(id) + optional(run) + allocation(object.get().len())
}

/// How much memory a tool call uses besides its list entry.
pub(super) fn tool_call(call: &ToolCall) -> usize {
    let ToolCall { id, kind, server, name, arguments, output } = call;
    text(id) + text(kind) + optional(server) + optional(name) + optional(arguments) + optional(output)
}

pub(super) fn optional(text: &Option<String>) -> usize {
    text.as_deref().map_or(0, self::text)
}

pub(super) fn raw(raw: &Option<Box<RawValue>>) -> usize {
    raw.as_ref().map_or(0, |raw| allocation(raw.get().len()))
}

pub(super) fn text(text: &str) -> usize {
    allocation(text.len())
}

#[cfg(test)]
mod tests {
    use crate::message::{MessageStatus, Role};

    use super::*;

    #[test]
    fn an_allocation_takes_what_glibc_deals_out() {
        for (bytes, taken) in [(0, 0), (1, 32), (24, 32), (25, 48), (40, 48), (41, 64), (1000, 1008)] {
            assert_eq!(allocation(bytes), taken, "{bytes}");
        }
    }

    #[test]
    fn everything_that_is_held_counts() {
        let long = "x".repeat(100);
        let call = ToolCall {
            id: long.clone(),
            kind: long.clone(),
            server: Some(long.clone()),
            name: Some(long.clone()),
            arguments: Some(long.clone()),
            output: Some(long.clone()),
        };
        assert_eq!(tool_call(&call), 6 * 112);
        let object = RawValue::from_string(format!("\"{}\"", "x".repeat(98))).unwrap();
        let message = Message {
            id: Some(long.clone()),
            role: Role::User,
            status: MessageStatus::Completed,
            created_at: None,
            run: Some(long.clone()),
            object: object.clone(),
        };
        assert_eq!(super::message(&message), 3 * 112);
        let mut messages = Vec::with_capacity(4);
        messages.push(message);
        assert_eq!(super::messages(&messages), allocation(4 * size_of::<Message>()) + 3 * 112);
        assert_eq!((raw(&Some(object)), raw(&None), optional(&None)), (112, 0, 0));
    }
}
