//! `threadtap forget`: erases a conversation or a user.

use super::target::Target;
use super::{Failure, print, print_json};
use crate::config::Flags;
use crate::store::{Erased, Subject};

/// Erase a conversation, or all conversations of a user, permanently
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Erase every conversation that names the user with this id, as a whole
    #[arg(
        long,
        value_name = "ID",
        required_unless_present = "conversation",
        conflicts_with = "conversation"
    )]
    user: Option<String>,
    /// Erase the conversation with this id
    #[arg(long, value_name = "ID")]
    conversation: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(arguments: Arguments, flags: &Flags) -> Result<(), Failure> {
    let Arguments { user, conversation, json } = arguments;
    let subject = match (user, conversation) {
        (Some(user), _) if !user.is_empty() => Subject::User(user),
        (None, Some(conversation)) if !conversation.is_empty() => Subject::Conversation(conversation),
        _ => return Err(Failure::unusable(anyhow::anyhow!("name a user or a conversation"))),
    };
    let erased = Target::find(flags)?.forget(&subject).await?;
    if json {
        return print_json(&erased);
    }
    let Erased {
        conversations,
        events,
        deliveries,
        dead_letters,
        observations,
        states,
        feedback,
        not_covered,
    } = &erased;
    print(&format!(
        "erased from {conversations} conversations: {events} events, {deliveries} waiting deliveries, {dead_letters} dead letters, \
         {observations} observations, {states} states, {feedback} feedback; free pages and the log were emptied"
    ))?;
    if !not_covered.is_empty() {
        print("not erased, because these databases are corrupt and were set aside; delete them yourself:")?;
    }
    not_covered.iter().try_for_each(|path| print(&format!("  {}", path.display())))
}
