//! An app that talks to an assistant: a few conversations at a human pace, over HTTP alone.

use std::io;

use http::Method;
use serde_json::{Value, json};

use super::client::{Answered, Client};

/// Plays the conversations against an API's base URL (`http://127.0.0.1:8080/v1`), one after the other, and tells each
/// line as it is known. With the server of
/// [`Script::human`](super::assistants::Script::human) it takes some 3 s.
///
/// # Errors
///
/// When a request fails or is refused, or an answer is not what the API promises.
pub async fn play(base_url: &str, mut on_line: impl FnMut(&Line<'_>)) -> io::Result<Report> {
    let client = Client::new(base_url);
    let mut report = Report { turns: Vec::new() };
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
        on_line(&Line::Title(talk.title));
        on_line(&Line::User { user: talk.user, text: talk.question });
        let turn = talk.hold(&client, &mut on_line).await?;
        on_line(&Line::Outcome { run: &turn.run, status: &turn.status });
        report.turns.push(turn);
    }
    Ok(report)
}

/// Reads one JSON document at `url`.
///
/// # Errors
///
/// When it cannot be had, or is not JSON.
pub async fn get(url: &str) -> io::Result<Value> {
    Client::new(url).json(Method::GET, "", &Value::Null).await
}

/// Something to show while the conversations go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// A run is over.
    Outcome {
        /// The run's id.
        run: &'a str,
        /// Its status, in the API's words.
        status: &'a str,
    },
    /// The next words of the assistant's answer: a token of a stream, or the whole of a polled message.
    Text(&'a str),
    /// A conversation begins.
    Title(&'a str),
    /// The assistant wants a tool called.
    Tool {
        /// The function's name.
        name: &'a str,
        /// Its arguments, JSON.
        arguments: &'a str,
        /// What the app returns.
        output: &'a str,
    },
    /// A user speaks.
    User {
        /// The user's id.
        user: &'a str,
        /// What is asked.
        text: &'a str,
    },
}

/// What the app saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The runs, in order.
    pub turns: Vec<Turn>,
}

/// One run, as the app saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The user who asked.
    pub user: String,
    /// What was asked.
    pub question: String,
    /// What was answered, as far as it came.
    pub answer: String,
    /// The thread's id.
    pub thread: String,
    /// The run's id.
    pub run: String,
    /// The run's status, in the API's words.
    pub status: String,
    /// Tokens used in all, if the API said so.
    pub total_tokens: Option<u64>,
}

/// A conversation to be held.
struct Talk {
    title: &'static str,
    user: &'static str,
    assistant: &'static str,
    streamed: bool,
    question: &'static str,
}

impl Talk {
    async fn hold(&self, client: &Client, on_line: &mut impl FnMut(&Line<'_>)) -> io::Result<Turn> {
        let client = client.clone().with_header("x-threadtap-user", self.user);
        let thread = client.json(Method::POST, "/threads", &json!({})).await?;
        let thread = text(&thread["id"])?.to_owned();
        let at = format!("/threads/{thread}");
        let message = json!({"role": "user", "content": self.question});
        client.json(Method::POST, &format!("{at}/messages"), &message).await?;
        let (run, answer) = if self.streamed {
            self.stream(&client, &at, on_line).await?
        } else {
            self.poll(&client, &at, on_line).await?
        };
        Ok(Turn {
            user: self.user.to_owned(),
            question: self.question.to_owned(),
            answer,
            thread,
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
            let answered = client.send(Method::POST, &path, &body).await?;
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

/// Reads a stream to its end; the run as it was last.
async fn read_stream(
    mut answered: Answered,
    answer: &mut String,
    on_line: &mut impl FnMut(&Line<'_>),
) -> io::Result<Value> {
    if !answered.status.is_success() {
        return Err(io::Error::other(format!("the run was refused: {}", answered.status)));
    }
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

/// Calls the tools a run waits for, in the app's way: they always say the same.
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

fn text(value: &Value) -> io::Result<&str> {
    value.as_str().ok_or_else(|| io::Error::other(format!("text expected, not {value}")))
}

const TOOL_OUTPUT: &str = "light rain, 12 °C";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::assistants::{Assistants, Script};

    #[tokio::test]
    async fn sees_what_the_server_says_happened() {
        let fake = Assistants::start(Script::default()).await.unwrap();
        let mut shown = String::new();
        let report = play(&fake.base_url(), |line| {
            if let Line::Text(text) = line {
                shown.push_str(text);
            }
        })
        .await
        .unwrap();
        let truth = fake.snapshot();
        assert_eq!(report.turns.len(), truth.len());
        for (turn, truth) in report.turns.iter().zip(&truth) {
            let answer: Vec<&str> = truth.outputs.iter().map(|output| output.text.as_str()).collect();
            assert_eq!((&turn.run, &turn.status, &turn.thread), (&truth.run, &truth.status, &truth.thread));
            assert_eq!((&turn.question, &turn.answer), (&truth.inputs[0].text, &answer.join("\n")));
        }
        let statuses: Vec<&str> = report.turns.iter().map(|turn| turn.status.as_str()).collect();
        assert_eq!(statuses, ["completed", "completed", "completed", "failed"]);
        assert!(
            shown.contains("The tools said: light rain, 12 °C. You said: Shall I take an umbrella?"),
            "{shown}"
        );
    }

    #[tokio::test]
    async fn an_unreachable_server_is_an_error_that_says_why() {
        let addr = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = play(&format!("http://{addr}/v1"), |_| ()).await.unwrap_err().to_string();
        assert!(error.contains("refused"), "{error}");
    }
}
