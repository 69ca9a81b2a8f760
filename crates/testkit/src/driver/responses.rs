//! A conversation in Responses. Each response names its predecessor.

use std::io;

use serde_json::{Value, json};

use super::{Line, Stage, Turn, text};

/// Holds one conversation of two streamed responses.
pub(super) async fn play(stage: &mut Stage<impl FnMut(&Line<'_>)>) -> io::Result<()> {
    stage.tell(&Line::Title("a chain of two responses"));
    let first = respond(stage, "What are the store hours?", None).await?;
    respond(stage, "And do you ship to Norway?", Some(&first)).await?;
    Ok(())
}

/// Creates one streamed response. Returns its id.
async fn respond(
    stage: &mut Stage<impl FnMut(&Line<'_>)>,
    question: &str,
    previous: Option<&str>,
) -> io::Result<String> {
    stage.tell(&Line::User { user: USER, text: question });
    let body =
        json!({"model": "fake-shop", "input": question, "previous_response_id": previous, "stream": true});
    let mut answered = stage.client_of(USER).stream("/responses", &body).await?;
    let (mut answer, mut response) = (String::new(), Value::Null);
    while let Some(event) = answered.event().await? {
        let mut data: Value = serde_json::from_str(&event.data).map_err(io::Error::other)?;
        if data["type"] == "response.output_text.delta" {
            let delta = text(&data["delta"])?;
            stage.tell(&Line::Text(delta));
            answer.push_str(delta);
        } else if data["response"].is_object() {
            response = data["response"].take();
        }
    }
    let id = text(&response["id"])?.to_owned();
    stage.settle(Turn {
        user: USER.to_owned(),
        question: question.to_owned(),
        answer,
        conversation: previous.unwrap_or(&id).to_owned(),
        run: id.clone(),
        status: text(&response["status"])?.to_owned(),
        total_tokens: response["usage"]["total_tokens"].as_u64(),
    });
    Ok(id)
}

const USER: &str = "dot";
