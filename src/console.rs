//! One readable line per interaction, for a person at a terminal.
//!
//! This is the only place that shows content. Logs never do.

use std::io::{self, IsTerminal, Write};

use threadtap_core::interaction::{Interaction, Status, Tokens};
use threadtap_core::message::Message;
use threadtap_core::printable::printable;

/// Whether, and how, interactions are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Console {
    /// Nothing is shown.
    Off,
    /// Lines with colours, on standard output.
    Coloured,
    /// Plain lines, on standard output.
    Plain,
}

impl Console {
    /// Shows interactions if standard output is a terminal.
    #[must_use]
    pub fn on_terminal() -> Self {
        if io::stdout().is_terminal() { Self::Coloured } else { Self::Off }
    }

    /// Shows an interaction. Ignores errors, because the terminal may be gone.
    pub fn interaction(self, interaction: &Interaction) {
        if self == Self::Off {
            return;
        }
        let mut line = line(interaction, self == Self::Coloured);
        line.push('\n');
        io::stdout().write_all(line.as_bytes()).ok();
    }
}

/// Formats the line: status, time, tokens, the user and its messages, the assistant and its
/// messages.
fn line(interaction: &Interaction, coloured: bool) -> String {
    let Interaction {
        status,
        assistant,
        assistant_name,
        model,
        attribution,
        inputs,
        outputs,
        usage,
        times,
        ..
    } = interaction;
    let paint = |code: &str, text: &str| {
        if coloured { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    };
    let colour = match status {
        Status::Completed => "32",
        Status::Cancelled | Status::ClientDisconnected | Status::Incomplete => "33",
        _ => "31",
    };
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of one run are far below 2^52")]
    let seconds = times.end_at.since(times.request_at).as_millis() as f64 / 1000.0;
    // Records of earlier versions have only the usage, not the counts.
    let tokens = interaction.tokens.or_else(|| usage.as_deref().and_then(Tokens::of));
    let tokens = tokens.and_then(|tokens| Some(format!("{}+{} tokens", tokens.input?, tokens.output?)));
    let who = attribution.user.as_ref().and_then(|user| user.id()).unwrap_or("user");
    let by = assistant_name.as_deref().or(model.as_deref()).or(assistant.as_deref()).unwrap_or("assistant");
    format!(
        "{} {} {}  {} {}  {} {}",
        paint(colour, status.as_str()),
        paint("2", &format!("{seconds:.1}s")),
        paint("2", &tokens.unwrap_or_else(|| "no usage".to_owned())),
        paint("36", &format!("{}:", excerpt(who, 40))),
        said(inputs),
        paint("35", &format!("{}:", excerpt(by, 40))),
        said(outputs),
    )
}

fn said(messages: &[Message]) -> String {
    let text: Vec<String> = messages.iter().map(Message::text).collect();
    if text.is_empty() { "(nothing)".to_owned() } else { excerpt(&text.join(" / "), EXCERPT_CHARS) }
}

/// Puts text on one line, makes it safe for a terminal, and cuts it to a length.
fn excerpt(text: &str, chars: usize) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(chars) {
        Some((end, _)) => format!("{}…", printable(&words[..end])),
        None => printable(&words).into_owned(),
    }
}

const EXCERPT_CHARS: usize = 160;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_cannot_drive_the_terminal_or_break_the_line() {
        assert_eq!(excerpt("a\n\tb\x1b[2J\u{9b}c\u{2028}d", 40), "a b�[2J�c d");
        assert_eq!(excerpt("pay \u{202e}lla", 40), "pay �lla");
        assert_eq!(excerpt("ab\u{200b}cdef", 3), "ab�…");
        assert_eq!(excerpt("äbc", 3), "äbc");
    }
}
