//! What the pipeline can be told from outside, between two captures.

use std::fmt;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use threadtap_core::observation::ConversationKey;
use tokio::sync::oneshot;

use super::Pipeline;

/// Tells the pipeline. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Handle(SyncSender<Command>);

/// Where the pipeline hears it.
#[derive(Debug)]
pub(super) struct Commands(Receiver<Command>);

/// A handle and its other end.
pub(super) fn channel() -> (Handle, Commands) {
    let (sender, receiver) = sync_channel(WAITING_COMMANDS);
    (Handle(sender), Commands(receiver))
}

impl Handle {
    /// Has the conversations forgotten that `which` names, with whatever is pending in them, and waits until that is handed to
    /// the store. A pipeline that has ended remembers nothing.
    ///
    /// # Errors
    /// When too much is asked of it at one time.
    pub async fn forget(
        &self,
        which: impl Fn(&ConversationKey) -> bool + Send + 'static,
    ) -> Result<(), TooBusy> {
        let (done, heard) = oneshot::channel();
        match self.0.try_send(Command::Forget { which: Box::new(which), done }) {
            Ok(()) => {
                // An error means that it ended.
                heard.await.ok();
                Ok(())
            }
            Err(std::sync::mpsc::TrySendError::Disconnected(_)) => Ok(()),
            Err(std::sync::mpsc::TrySendError::Full(_)) => Err(TooBusy),
        }
    }
}

/// Too many commands wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many requests to the pipeline at one time; try again")]
pub struct TooBusy;

enum Command {
    Forget { which: Box<dyn Fn(&ConversationKey) -> bool + Send>, done: oneshot::Sender<()> },
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Command")
    }
}

impl Pipeline {
    /// Does what it was told since the last time.
    pub(super) fn handle_commands(&mut self) {
        while let Ok(Command::Forget { which, done }) = self.commands.0.try_recv() {
            self.guard("forget", |pipeline| {
                pipeline.correlator.forget_where(&which);
                pipeline.emission.forget_where(&which);
            });
            self.take_effects();
            self.commit();
            // Who no longer waits need not be told.
            let _ = done.send(());
        }
    }
}

const WAITING_COMMANDS: usize = 16;
