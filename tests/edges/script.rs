//! The format of `script.http`.
//!
//! ```text
//! # a comment
//! >>> POST /v1/threads/t1/messages       a request: further lines are headers, a blank line, the body
//! x-threadtap-user: u1
//!
//! {"role": "user", "content": "hi"}
//! <<< 200 application/json               its response; words behind the type: crlf, chunked by %% (see below), truncated
//! {"id": "m1", "object": "thread.message"}
//! !!! client_gone                        how it ended, if not well: client_gone, upstream_failed
//! @wait 30s                              time passes
//! ```
//!
//! Each request comes a second after the one before. In an event stream, a line `thread.run.created {…}` or `response.created {…}`
//! stands for an event of that name with that data; any other line is as it is. A line `%%` holds the rest of the response back until `@more`.
//! `@restart` begins a new process, `@finish` shuts one down, `@upstream NAME` names the upstream of what follows.

use std::time::Duration;

/// One step of a script.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Exchange(Exchange),
    Finish,
    More,
    Restart,
    Upstream(String),
    Wait(Duration),
}

/// A request and its response.
#[derive(Clone, Debug, Default)]
pub(crate) struct Exchange {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) request: String,
    pub(crate) status: u16,
    pub(crate) content_type: String,
    /// The response body: what passes at once, and what `@more` brings.
    pub(crate) pieces: Vec<Vec<u8>>,
    pub(crate) ending: String,
    /// Whether the copy was cut short while the body went on.
    pub(crate) truncated: bool,
}

pub(crate) fn parse(text: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(request) = line.strip_prefix(">>> ") {
            let mut block = Vec::new();
            let ends = |line: &str| [">>> ", "# ", "@"].iter().any(|begin| line.starts_with(begin));
            while let Some(line) = lines.next_if(|line| !ends(line)) {
                block.push(line);
            }
            steps.push(Step::Exchange(exchange(request, &block)));
            continue;
        }
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "@finish" => steps.push(Step::Finish),
            "@more" => steps.push(Step::More),
            "@restart" => steps.push(Step::Restart),
            "@upstream" => steps.push(Step::Upstream(rest.to_owned())),
            "@wait" => {
                let seconds = rest.strip_suffix('s').unwrap().parse().unwrap();
                steps.push(Step::Wait(Duration::from_secs(seconds)));
            }
            _ => assert!(line.is_empty() || line.starts_with('#'), "odd line: {line}"),
        }
    }
    steps
}

fn exchange(request: &str, block: &[&str]) -> Exchange {
    let (method, target) = request.split_once(' ').unwrap();
    let split = block.iter().position(|line| line.starts_with("<<< ")).expect("a response");
    let (head, answer) = (&block[..split], &block[split + 1..]);
    let blank = head.iter().position(|line| line.is_empty()).unwrap_or(head.len());
    let header = |line: &&str| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.to_owned(), value.to_owned())
    };
    let mut words = block[split].split(' ').skip(1);
    let mut made = Exchange {
        method: method.to_owned(),
        target: target.to_owned(),
        headers: head[..blank].iter().map(header).collect(),
        request: head[blank..].join("\n").trim().to_owned(),
        status: words.next().unwrap().parse().unwrap(),
        content_type: words.next().unwrap_or_default().to_owned(),
        ..Exchange::default()
    };
    let words: Vec<&str> = words.collect();
    made.truncated = words.contains(&"truncated");
    let (answer, ending) = match answer.iter().position(|line| line.starts_with("!!! ")) {
        Some(at) => (&answer[..at], &answer[at][4..]),
        None => (answer, ""),
    };
    made.ending = ending.to_owned();
    let streamed = made.content_type.contains("event-stream");
    for piece in answer.split(|line| *line == "%%") {
        let body = if streamed { events(piece) } else { piece.join("\n").trim().to_owned() };
        let body = if words.contains(&"crlf") { body.replace('\n', "\r\n") } else { body };
        made.pieces.push(body.into_bytes());
    }
    made
}

/// Writes out what stands for an event; the rest is as it is.
fn events(lines: &[&str]) -> String {
    let mut text = String::new();
    for line in lines {
        match line.split_once(' ') {
            Some((name, data))
                if name.starts_with("thread")
                    || name.starts_with("response.")
                    || matches!(name, "done" | "error") =>
            {
                text.push_str(&format!("event: {name}\ndata: {data}\n\n"));
            }
            _ => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    text
}
