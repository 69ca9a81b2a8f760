//! A server: what its responses are, and how it writes them.

use serde_json::{Value, json};

use super::case::{Answer, Style};

/// A response as the server knows it.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) id: String,
    pub(crate) conversation: Option<String>,
    pub(crate) previous: Option<String>,
    pub(crate) background: bool,
    pub(crate) created_at: u64,
    pub(crate) ended_at: Option<u64>,
    pub(crate) status: &'static str,
    pub(crate) output: Vec<Value>,
}

/// An event of a stream: what it is about, and its bytes.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    /// The piece of text it brings, of which message, and whether it refuses.
    pub(crate) text: Option<(usize, String, bool)>,
    /// The call it tells of.
    pub(crate) call: Option<String>,
    pub(crate) is_state: bool,
    pub(crate) is_end: bool,
    pub(crate) bytes: Vec<u8>,
    /// How many of the bytes are enough to read it.
    pub(crate) enough: usize,
}

impl Response {
    pub(crate) fn is_over(&self) -> bool {
        self.ended_at.is_some()
    }

    /// Ends with an answer.
    pub(crate) fn answer(&mut self, answer: Answer, second: u64) {
        let id = self.id.clone();
        let message = |n: usize, part: Value| json!({"type": "message", "id": format!("msg_{n}_{id}"), "role": "assistant", "status": "completed", "content": [part]});
        let text = |text: String| json!({"type": "output_text", "text": text, "annotations": []});
        let said = |n: usize| message(n, text(format!("part {n} of the \"answer\" {id}")));
        self.ended_at = Some(second);
        (self.status, self.output) = match answer {
            Answer::Failed => ("failed", vec![]),
            Answer::Incomplete => ("incomplete", vec![said(0)]),
            Answer::Reasoned => {
                let summary = json!([{"type": "summary_text", "text": format!("thought of {id}")}]);
                let reasoning = json!({"type": "reasoning", "id": format!("rs_{id}"), "summary": summary});
                ("completed", vec![reasoning, said(1)])
            }
            Answer::Refused => ("completed", vec![message(0, json!({"type": "refusal", "refusal": "no"}))]),
            Answer::Text => ("completed", vec![said(0)]),
            Answer::Tools(count) => {
                let call = |n| {
                    json!({"type": "function_call", "id": format!("fc_{n}_{id}"),
                                      "call_id": format!("call_{n}_{id}"), "name": "f", "arguments": "{}"})
                };
                ("completed", (0..count).map(call).collect())
            }
            Answer::Two => ("completed", vec![said(0), said(1)]),
        };
    }

    /// The calls it waits for.
    pub(crate) fn calls(&self) -> Vec<String> {
        let ids = self.output.iter().filter_map(|item| item["call_id"].as_str());
        ids.map(str::to_owned).collect()
    }

    /// The object; `over` says whether as it is at the end.
    pub(crate) fn object(&self, style: Style, over: bool) -> Value {
        let mut object = json!({"id": self.id, "object": "response", "created_at": self.created_at,
            "status": if over { self.status } else if self.background { "queued" } else { "in_progress" },
            "model": "m", "output": if over { json!(self.output) } else { json!([]) },
            "background": self.background, "usage": null});
        if over && self.status == "completed" {
            object["usage"] = json!({"input_tokens": 3, "output_tokens": 4, "total_tokens": 7});
        }
        if let Some(ended) = self.ended_at.filter(|_| over) {
            object["completed_at"] = json!(ended);
        }
        if !style.omits {
            object["conversation"] = self.conversation.as_ref().map_or(Value::Null, |id| json!({ "id": id }));
            object["previous_response_id"] = json!(self.previous);
        }
        object
    }

    /// Its stream; from the number of an event on.
    pub(crate) fn stream(&self, style: Style, from: usize) -> Vec<Event> {
        let mut events = Vec::new();
        let mut push = |kind: &str, fields: Value, text: Option<(usize, String, bool)>| {
            let mut data = json!({"type": kind, "sequence_number": events.len()});
            data.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            let end = if style.crlf { "\r\n" } else { "\n" };
            let name = if style.names { format!("event: {kind}{end}") } else { String::new() };
            let line = format!("{name}data: {data}");
            let enough = line.len();
            let is_end = matches!(
                kind,
                "response.cancelled" | "response.completed" | "response.failed" | "response.incomplete"
            );
            let call =
                data["item"]["call_id"].as_str().map(str::to_owned).filter(|_| kind.ends_with("added"));
            let is_state = is_end || kind == "response.created";
            let bytes = format!("{line}{end}{end}").into_bytes();
            events.push(Event { text, call, is_state, is_end, bytes, enough });
        };
        push("response.created", json!({"response": self.object(style, false)}), None);
        let mut message = 0;
        for (place, item) in self.output.iter().enumerate() {
            let mut begun = item.clone();
            for name in ["content", "summary"] {
                if begun.get(name).is_some() {
                    begun[name] = json!([]);
                }
            }
            begun["status"] = json!("in_progress");
            push("response.output_item.added", json!({"output_index": place, "item": begun}), None);
            let of = json!({"item_id": item["id"], "output_index": place, "content_index": 0});
            let with = |name: &str, value: &str| {
                let mut fields = of.clone();
                fields[name] = json!(value);
                fields["obfuscation"] = json!("x");
                fields
            };
            if item["type"] == "message" {
                let part = &item["content"][0];
                let (kind, name) = match part["text"].as_str() {
                    Some(_) => ("output_text", "text"),
                    None => ("refusal", "refusal"),
                };
                let text = part[name].as_str().unwrap();
                let (first, second) = text.split_at(text.len() / 2);
                for piece in [first, second] {
                    let told = Some((message, piece.to_owned(), kind == "refusal"));
                    push(&format!("response.{kind}.delta"), with("delta", piece), told);
                }
                if style.repeats {
                    push(&format!("response.{kind}.done"), with(name, text), None);
                }
                message += 1;
            }
            // Of what comes in no pieces, the item has to be told.
            if style.repeats || item["type"] != "message" {
                push("response.output_item.done", json!({"output_index": place, "item": item}), None);
            }
        }
        let mut last = self.object(style, true);
        if style.bare {
            last["output"] = json!([]);
        }
        push(&format!("response.{}", self.status), json!({ "response": last }), None);
        events.split_off(from.min(events.len() - 1))
    }
}
