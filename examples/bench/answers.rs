//! What the fake upstream answers: rendered once, with the ids patched in for each request.
//!
//! Every id has a fixed length, so a patched answer is as long as its template and its framing stays right. All ids of a turn
//! come from one number, which the client sends along: the upstream keeps nothing.

use memchr::memmem;

/// One turn of one conversation, and the moment of writing.
#[derive(Clone, Copy, Default)]
pub(crate) struct Ids {
    /// Which thread.
    pub(crate) thread: u64,
    /// Which turn; never twice.
    pub(crate) turn: u64,
    /// Nanoseconds since the bench began.
    pub(crate) stamp: u64,
    /// Seconds of Unix time.
    pub(crate) now: u64,
}

/// Bytes with places for ids.
pub(crate) struct Template {
    bytes: Vec<u8>,
    slots: Vec<Slot>,
}

impl Template {
    fn new(bytes: Vec<u8>) -> Self {
        let mut slots = Vec::new();
        for (name, value) in SLOTS {
            let found = memmem::find_iter(&bytes, name);
            slots.extend(found.map(|at| Slot { at, length: name.len(), value }));
        }
        Self { bytes, slots }
    }

    /// Appends the bytes for `ids`.
    pub(crate) fn render(&self, ids: &Ids, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        for Slot { at, length, value } in &self.slots {
            digits(value(ids), &mut out[start + at..start + at + length]);
        }
    }
}

struct Slot {
    at: usize,
    length: usize,
    value: Value,
}

/// All answers.
pub(crate) struct Answers {
    pub(crate) message: Template,
    pub(crate) messages: Template,
    pub(crate) run_queued: Template,
    pub(crate) run_in_progress: Template,
    pub(crate) run_completed: Template,
    /// The head of a stream with all events before the first delta.
    pub(crate) stream_begin: Template,
    pub(crate) delta: Template,
    /// The events after the last delta, each in a chunk of its own, and the end of the body.
    pub(crate) stream_end: Vec<Template>,
}

impl Answers {
    /// For streams of `deltas`.
    pub(crate) fn new(deltas: usize) -> Self {
        let text = "t000000000000000000 ".repeat(deltas);
        let user = message("user", "u", "null", "completed", "How fast is it, and how do you know?");
        let answer =
            |status, text: &str| message("assistant", "a", "\"run_{turn____________}\"", status, text);
        let list = format!(
            r#"{{"object":"list","data":[{},{user}],"first_id":"msg_a{TURN}","last_id":"msg_u{TURN}","has_more":true}}"#,
            answer("completed", "It is as fast as it was measured to be."),
        );
        let begin = [
            event("thread.run.created", &run("queued")),
            event("thread.run.queued", &run("queued")),
            event("thread.run.in_progress", &run("in_progress")),
            event("thread.run.step.created", &step("in_progress")),
            event("thread.run.step.in_progress", &step("in_progress")),
            event("thread.message.created", &answer("in_progress", "")),
            event("thread.message.in_progress", &answer("in_progress", "")),
        ];
        let delta = format!(
            r#"{{"id":"msg_a{TURN}","object":"thread.message.delta","delta":{{"content":[{{"index":0,"type":"text","text":{{"value":"{WORD}"}}}}]}}}}"#
        );
        let end = [
            event("thread.message.completed", &answer("completed", &text)),
            event("thread.run.step.completed", &step("completed")),
            event("thread.run.completed", &run("completed")),
            chunk("event: done\ndata: [DONE]\n\n"),
            "0\r\n\r\n".to_owned(),
        ];
        Self {
            message: document(&user),
            messages: document(&list),
            run_queued: document(&run("queued")),
            run_in_progress: document(&run("in_progress")),
            run_completed: document(&run("completed")),
            stream_begin: Template::new(format!("{STREAM_HEAD}{}", begin.concat()).into_bytes()),
            delta: Template::new(event("thread.message.delta", &delta).into_bytes()),
            stream_end: end.map(|event| Template::new(event.into_bytes())).into(),
        }
    }
}

/// Writes `value` with leading zeros.
pub(crate) fn digits(mut value: u64, out: &mut [u8]) {
    for digit in out.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

fn document(json: &str) -> Template {
    Template::new(
        format!(
            "HTTP/1.1 200 OK\r\n{HEADERS}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{json}",
            json.len()
        )
        .into_bytes(),
    )
}

fn event(name: &str, json: &str) -> String {
    chunk(&format!("event: {name}\ndata: {json}\n\n"))
}

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

fn message(role: &str, kind: &str, run: &str, status: &str, text: &str) -> String {
    let content = if text.is_empty() {
        "[]".to_owned()
    } else {
        format!(r#"[{{"type":"text","text":{{"value":"{text}","annotations":[]}}}}]"#)
    };
    format!(
        r#"{{"id":"msg_{kind}{TURN}","object":"thread.message","created_at":{NOW},"assistant_id":null,"thread_id":"thread_{THREAD}","run_id":{run},"status":"{status}","incomplete_details":null,"incomplete_at":null,"completed_at":{NOW},"role":"{role}","content":{content},"attachments":[],"metadata":{{}}}}"#
    )
}

fn step(status: &str) -> String {
    format!(
        r#"{{"id":"step_{TURN}","object":"thread.run.step","created_at":{NOW},"run_id":"run_{TURN}","assistant_id":"asst_bench","thread_id":"thread_{THREAD}","type":"message_creation","status":"{status}","cancelled_at":null,"completed_at":null,"expires_at":null,"failed_at":null,"last_error":null,"step_details":{{"type":"message_creation","message_creation":{{"message_id":"msg_a{TURN}"}}}},"usage":null}}"#
    )
}

fn run(status: &str) -> String {
    let usage = match status {
        "completed" => r#"{"prompt_tokens":1200,"completion_tokens":200,"total_tokens":1400}"#,
        _ => "null",
    };
    let done = if status == "completed" { NOW } else { "null" };
    format!(
        r#"{{"id":"run_{TURN}","object":"thread.run","created_at":{NOW},"assistant_id":"asst_bench","thread_id":"thread_{THREAD}","status":"{status}","started_at":{NOW},"expires_at":null,"cancelled_at":null,"failed_at":null,"completed_at":{done},"required_action":null,"last_error":null,"model":"gpt-4o","instructions":"You are a careful assistant. Answer briefly, and say where the answer comes from.","tools":[],"tool_resources":{{}},"metadata":{{}},"temperature":1.0,"top_p":1.0,"max_completion_tokens":null,"max_prompt_tokens":null,"truncation_strategy":{{"type":"auto","last_messages":null}},"incomplete_details":null,"usage":{usage},"response_format":"auto","tool_choice":"auto","parallel_tool_calls":true}}"#
    )
}

/// What stands before a delta's stamp, for the client to find it by.
pub(crate) const STAMP_MARK: &[u8] = b"\"value\":\"t";
/// How many digits a stamp has.
pub(crate) const STAMP_BYTES: usize = 18;
/// A delta's text: of the length of a few tokens, and the moment it was written.
const WORD: &str = "t{stamp___________} ";
const TURN: &str = "{turn____________}";
const THREAD: &str = "{thread__________}";
const NOW: &str = "{now_____}";
/// What each place is filled with.
type Value = fn(&Ids) -> u64;
const SLOTS: [(&[u8], Value); 4] = [
    (b"{turn____________}", |ids| ids.turn),
    (b"{thread__________}", |ids| ids.thread),
    (b"{stamp___________}", |ids| ids.stamp),
    (b"{now_____}", |ids| ids.now),
];
const STREAM_HEAD: &str = concat!(
    "HTTP/1.1 200 OK\r\nDate: Fri, 20 Nov 2026 12:00:00 GMT\r\nServer: bench\r\nopenai-version: 2020-10-01\r\n",
    "openai-organization: bench\r\nx-request-id: req_0123456789abcdef0123456789abcdef\r\nopenai-processing-ms: 120\r\n",
    "Cache-Control: no-cache\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
);
const HEADERS: &str = concat!(
    "Date: Fri, 20 Nov 2026 12:00:00 GMT\r\nServer: bench\r\nopenai-version: 2020-10-01\r\n",
    "openai-organization: bench\r\nx-request-id: req_0123456789abcdef0123456789abcdef\r\nopenai-processing-ms: 42\r\n",
    "Strict-Transport-Security: max-age=31536000\r\n"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_patched_and_nothing_else_changes() {
        let answers = Answers::new(3);
        let ids = Ids { thread: 7, turn: 12, stamp: 99, now: 1 };
        let mut out = b"before".to_vec();
        answers.delta.render(&ids, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("before"));
        assert!(text.contains("\"msg_a000000000000000012\""), "{text}");
        assert!(text.contains("\"value\":\"t000000000000000099 \""), "{text}");
        assert!(!text.contains('_') || !text.contains("__"), "{text}");
    }
}
