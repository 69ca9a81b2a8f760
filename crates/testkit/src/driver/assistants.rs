//! Conversations with assistants, each in its own thread.

use std::io;

use http::Method;
use serde_json::{Value, json};

use super::{Line, Stage, TOOL_OUTPUT, Turn, text};
use crate::client::{Answered, Client};

/// Holds four conversations: a streamed one, a polled one, one with a tool, and one that fails.
pub(super) async fn play(stage: &mut Stage<impl FnMut(&Line<'_>)>) -> io::Result<()> {
    let talks = [
        Talk {
            title: "a streamed run",
            user: "ada",
            assistant: "asst_shop",
            streamed: true,
            question: "What are the store hours?",
        },
        Talk {
            title: "a polled run",
            user: "ben",
            assistant: "asst_shop",
            streamed: false,
            question: "Do you ship to Norway?",
        },
        Talk {
            title: "a tool call",
            user: "ada",
            assistant: "asst_tool",
            streamed: true,
            question: "Shall I take an umbrella?",
        },
        Talk {
            title: "a run that fails",
            user: "cy",
            assistant: "asst_fail",
            streamed: true,
            question: "Tell me a very long story.",
        },
    ];
    for talk in talks {
        stage.tell(&Line::Title(talk.title));
        stage.tell(&Line::User { user: talk.user, text: talk.question });
        let client = stage.client_of(talk.user);
        let turn = talk.hold(&client, &mut stage.on_line).await?;
        stage.settle(turn);
    }
    Ok(())
}

/// A conversation to hold.
struct Talk {
    title: &'static str,
    user: &'static str,
    assistant: &'static str,
    streamed: bool,
    question: &'static str,
}

impl Talk {
    async fn hold(&self, client: &Client, on_line: &mut impl FnMut(&Line<'_>)) -> io::Result<Turn> {
        let thread = client.json(Method::POST, "/threads", &json!({})).await?;
        let thread = text(&thread["id"])?.to_owned();
        let at = format!("/threads/{thread}");
        let message = json!({"role": "user", "content": self.question});
        client.json(Method::POST, &format!("{at}/messages"), &message).await?;
        let (run, answer) = if self.streamed {
            self.stream(client, &at, on_line).await?
        } else {
            self.poll(client, &at, on_line).await?
        };
        Ok(Turn {
            user: self.user.to_owned(),
            question: self.question.to_owned(),
            answer,
            conversation: thread,
            run: text(&run["id"])?.to_owned(),
            status: text(&run["status"])?.to_owned(),
            total_tokens: run["usage"]["total_tokens"].as_u64(),
        })
    }

    async fn stream(
        &self,
        client: &Client,
        at: &str,
        on_line: &mut impl FnMut(&Line<'_>),
    ) -> io::Result<(Value, String)> {
        let mut answer = String::new();
        let mut path = format!("{at}/runs");
        let mut body = json!({"assistant_id": self.assistant, "stream": true});
        loop {
            let answered = client.stream(&path, &body).await?;
            let run = read_stream(answered, &mut answer, on_line).await?;
            if run["status"] != "requires_action" {
                return Ok((run, answer));
            }
            body = json!({"tool_outputs": call_tools(&run, on_line)?, "stream": true});
            path = format!("{at}/runs/{}/submit_tool_outputs", text(&run["id"])?);
        }
    }

    async fn poll(
        &self,
        client: &Client,
        at: &str,
        on_line: &mut impl FnMut(&Line<'_>),
    ) -> io::Result<(Value, String)> {
        let body = json!({"assistant_id": self.assistant});
        let run = client.json(Method::POST, &format!("{at}/runs"), &body).await?;
        let run = client.poll(&format!("{at}/runs/{}", text(&run["id"])?)).await?;
        let list = format!("{at}/messages?order=asc&run_id={}", text(&run["id"])?);
        let list = client.json(Method::GET, &list, &Value::Null).await?;
        let mut answer = String::new();
        for message in list["data"].as_array().into_iter().flatten() {
            let value = text(&message["content"][0]["text"]["value"])?;
            on_line(&Line::Text(value));
            if !answer.is_empty() {
                answer.push('\n');
            }
            answer.push_str(value);
        }
        Ok((run, answer))
    }
}

/// Reads a stream to its end. Returns the last state of the run.
async fn read_stream(
    mut answered: Answered,
    answer: &mut String,
    on_line: &mut impl FnMut(&Line<'_>),
) -> io::Result<Value> {
    let mut run = Value::Null;
    while let Some(event) = answered.event().await? {
        if event.name == "done" {
            return Ok(run);
        }
        let data: Value = serde_json::from_str(&event.data).map_err(io::Error::other)?;
        if data["object"] == "thread.run" {
            run = data;
        } else if event.name == "thread.message.delta" {
            let value = text(&data["delta"]["content"][0]["text"]["value"])?;
            on_line(&Line::Text(value));
            answer.push_str(value);
        }
    }
    Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the stream ended without a done event"))
}

/// Calls the tools a run waits for. The app's tools always return the same output.
fn call_tools(run: &Value, on_line: &mut impl FnMut(&Line<'_>)) -> io::Result<Vec<Value>> {
    let calls = run["required_action"]["submit_tool_outputs"]["tool_calls"].as_array();
    let mut outputs = Vec::new();
    for call in calls.into_iter().flatten() {
        let (name, arguments) = (text(&call["function"]["name"])?, text(&call["function"]["arguments"])?);
        on_line(&Line::Tool { name, arguments, output: TOOL_OUTPUT });
        outputs.push(json!({"tool_call_id": call["id"], "output": TOOL_OUTPUT}));
    }
    Ok(outputs)
}
