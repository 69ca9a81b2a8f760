//! Going on where an earlier process stopped: what it knew of users, sessions and settled conversations is restored, and the
//! journal replayed through the same correlator, with the times of then.

use thiserror::Error;
use threadtap_core::attribution::User;
use threadtap_core::correlator::{ConversationState, Effect, Placed, Remembered};
use threadtap_core::session;

use super::Pipeline;
use crate::store::{ReadError, Recovered};

/// Why what an earlier process left could not be read to its end.
#[derive(Debug, Error)]
#[error("cannot read the store")]
pub(super) struct RecoverError(#[from] ReadError);

/// Restores and replays.
///
/// # Errors
/// When cannot read the store; what was read until then counts.
pub(super) fn recover(pipeline: &mut Pipeline, recovered: &Recovered) -> Result<(), RecoverError> {
    for user in recovered.users(pipeline.config.max_users)?.into_iter().rev() {
        if let Some(user) = read::<User>(&user, "what is known of a user") {
            pipeline.emission.restore_user(&user);
        }
    }
    for (key, state) in recovered.sessions()? {
        if let Some(state) = read::<session::SessionState>(&state, "the state of a session") {
            pipeline.emission.restore(key, state);
        }
    }
    for row in recovered.conversations() {
        let (key, state) = row?;
        if let Some(state) = read::<ConversationState>(&state, "the state of a conversation") {
            pipeline.correlator.restore(key, state);
        }
    }
    let mut histories = Vec::new();
    for row in recovered.histories() {
        histories.extend(read::<Remembered>(&row?, "what a conversation added up to"));
    }
    pipeline.correlator.restore_histories(histories.into_iter());
    let mut replayed = 0_u64;
    for row in recovered.journal() {
        let row = row?;
        if let Some(placed) = read::<Placed>(&row.body, "a row of the journal") {
            pipeline.guard("replay", |pipeline| pipeline.correlator.replay(&placed));
            replayed += 1;
        }
        take_effects(pipeline, recovered)?;
        pipeline.commit();
    }
    let mut unread = None;
    pipeline.guard("replay", |pipeline| {
        let is_recorded = |key: &str| {
            recovered.is_known(key).unwrap_or_else(|error| {
                unread = Some(error);
                false
            })
        };
        pipeline.correlator.let_go_where(is_recorded);
    });
    if let Some(error) = unread {
        return Err(error.into());
    }
    take_effects(pipeline, recovered)?;
    // Deadlines that were over when the earlier process still ran.
    pipeline.guard("replay", |pipeline| pipeline.correlator.handle_timeout(pipeline.clock.now()));
    take_effects(pipeline, recovered)?;
    pipeline.tick();
    pipeline.commit();
    if replayed > 0 {
        let open_runs = pipeline.correlator.open_runs();
        tracing::info!(observations = replayed, open_runs, "restored the state of an earlier process");
    }
    Ok(())
}

/// Takes what follows from a replay. What the earlier process already told is told no second time: neither its session nor its
/// user may hear of it again.
fn take_effects(pipeline: &mut Pipeline, recovered: &Recovered) -> Result<(), RecoverError> {
    while let Some(effect) = pipeline.correlator.poll() {
        match effect {
            Effect::Interaction(interaction) => {
                if !recovered.is_known(&interaction.key)? {
                    pipeline.emission.interaction(*interaction);
                }
            }
            // Of what is replayed everything is kept already.
            Effect::Journal(_) | Effect::Note(_) => {}
            Effect::Remembered(remembered) => pipeline.emission.remember(&remembered),
            Effect::Settled(conversation, state) => pipeline.emission.settled(conversation, state.as_deref()),
        }
    }
    Ok(())
}

/// Reads what was stored. What cannot be read is left out, and said.
fn read<T: serde::de::DeserializeOwned>(json: &str, what: &'static str) -> Option<T> {
    match serde_json::from_str(json) {
        Ok(value) => Some(value),
        Err(error) => {
            tracing::warn!(%error, what, "cannot read a row that an earlier process stored");
            None
        }
    }
}
