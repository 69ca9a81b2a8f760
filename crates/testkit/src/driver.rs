//! An app that talks to models. It holds a few conversations at a human pace, using only HTTP.

mod assistants;
mod chat;
mod responses;

use std::io;

use http::Method;
use serde_json::Value;

use super::client::Client;

/// Plays the conversations one after the other against an API's base URL
/// (`http://127.0.0.1:8080/v1`), and reports each line as soon as it is known. With the server of
/// [`Script::human`](super::assistants::Script::human) this takes about 5 s.
///
/// # Errors
///
/// If a request fails or is refused, or a response does not follow the API.
pub async fn play(base_url: &str, on_line: impl FnMut(&Line<'_>)) -> io::Result<Report> {
    let mut stage = Stage { client: Client::new(base_url), on_line, turns: Vec::new() };
    assistants::play(&mut stage).await?;
    responses::play(&mut stage).await?;
    chat::play(&mut stage).await?;
    Ok(Report { turns: stage.turns })
}

/// Fetches one JSON document from `url`.
///
/// # Errors
///
/// If the document cannot be fetched, or is not JSON.
pub async fn get(url: &str) -> io::Result<Value> {
    Client::new(url).json(Method::GET, "", &Value::Null).await
}

/// Progress to display during the conversations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// A run, response or completion has ended.
    Outcome {
        /// Its id.
        run: &'a str,
        /// Its status, in the API's words.
        status: &'a str,
    },
    /// The next words of the assistant's answer: a token of a stream, or a complete polled message.
    Text(&'a str),
    /// A conversation begins.
    Title(&'a str),
    /// The assistant wants to call a tool.
    Tool {
        /// The function's name.
        name: &'a str,
        /// Its arguments, as JSON.
        arguments: &'a str,
        /// What the app returns to the model.
        output: &'a str,
    },
    /// A user says something.
    User {
        /// The user's id.
        user: &'a str,
        /// The question.
        text: &'a str,
    },
}

/// What the app saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The runs, responses and completions, in order.
    pub turns: Vec<Turn>,
}

/// One run, response or completion, as seen by the app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The user who asked.
    pub user: String,
    /// The question, or the output of a tool.
    pub question: String,
    /// The answer, as far as it arrived.
    pub answer: String,
    /// The thread, or the first response or completion of the conversation.
    pub conversation: String,
    /// Its id.
    pub run: String,
    /// Its status in the API's terms, for APIs that have one.
    pub status: String,
    /// The total number of tokens used, if the API reported it.
    pub total_tokens: Option<u64>,
}

/// What a conversation needs to run.
struct Stage<F> {
    client: Client,
    on_line: F,
    turns: Vec<Turn>,
}

impl<F: FnMut(&Line<'_>)> Stage<F> {
    /// A user's client.
    fn client_of(&self, user: &str) -> Client {
        self.client.clone().with_header("x-threadtap-user", user)
    }

    fn tell(&mut self, line: &Line<'_>) {
        (self.on_line)(line);
    }

    /// Records the end of a turn.
    fn settle(&mut self, turn: Turn) {
        self.tell(&Line::Outcome { run: &turn.run, status: &turn.status });
        self.turns.push(turn);
    }
}

fn text(value: &Value) -> io::Result<&str> {
    value.as_str().ok_or_else(|| io::Error::other(format!("text expected, not {value}")))
}

const TOOL_OUTPUT: &str = "light rain, 12 °C";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assistants::{Assistants, Script};

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
        let mut turns = report.turns.clone();
        let users: Vec<String> = turns.iter_mut().map(|turn| std::mem::take(&mut turn.user)).collect();
        assert_eq!(turns, truths(&fake));
        assert_eq!(users, ["ada", "ben", "ada", "cy", "dot", "dot", "eve", "eve"]);
        let statuses: Vec<&str> = report.turns.iter().map(|turn| turn.status.as_str()).collect();
        let completed = "completed";
        assert_eq!(
            statuses,
            [completed, completed, completed, "failed", completed, completed, completed, completed]
        );
        assert!(
            shown.contains("The tools said: light rain, 12 °C. You said: Shall I take an umbrella?"),
            "{shown}"
        );
    }

    /// What the server knows about all APIs, in the form of a report. Users are missing, because
    /// the server does not know them.
    fn truths(fake: &Assistants) -> Vec<Turn> {
        let joined = |texts: Vec<&str>| texts.join("\n");
        let runs = fake.snapshot().into_iter().map(|truth| Turn {
            question: truth.inputs[0].text.clone(),
            answer: joined(truth.outputs.iter().map(|output| &*output.text).collect()),
            conversation: truth.thread,
            run: truth.run,
            status: truth.status,
            total_tokens: truth.usage.map(|usage| usage.prompt_tokens + usage.completion_tokens),
            user: String::new(),
        });
        let responses = fake.responses().into_iter().map(|truth| Turn {
            question: truth.inputs[0].text.clone(),
            answer: joined(truth.outputs.iter().map(|output| &*output.text).collect()),
            conversation: truth.root,
            run: truth.response,
            status: truth.status,
            total_tokens: truth.usage.map(|usage| usage.input_tokens + usage.output_tokens),
            user: String::new(),
        });
        let completions = fake.completions().into_iter().map(|truth| Turn {
            question: truth.inputs[0]["content"].as_str().unwrap().to_owned(),
            answer: truth.choices[0].content.clone().unwrap_or_default(),
            conversation: truth.turn,
            run: truth.completion,
            status: "completed".to_owned(),
            total_tokens: truth.usage.map(|usage| usage.prompt_tokens + usage.completion_tokens),
            user: String::new(),
        });
        runs.chain(responses).chain(completions).collect()
    }

    #[tokio::test]
    async fn an_unreachable_server_is_an_error_that_says_why() {
        let addr = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = play(&format!("http://{addr}/v1"), |_| ()).await.unwrap_err().to_string();
        assert!(error.contains("refused"), "{error}");
    }
}
