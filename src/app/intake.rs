//! Intake at the proxy's listener, of which neither knows the other.

use std::net::SocketAddr;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::intake::{Answer, Intake, Listener};
use crate::proxy::{OwnAnswer, OwnRequest, OwnRequests};

/// What works for intake.
#[derive(Debug)]
pub(super) struct IntakeService {
    tasks: JoinSet<()>,
}

impl IntakeService {
    /// Starts it on the current runtime: it takes the requests that the proxy is to hand over, and pairs held feedback.
    pub(super) fn start(intake: &Intake, listen: SocketAddr) -> (Self, OwnRequests) {
        let (queue, requests) = mpsc::channel(QUEUE);
        let mut tasks = JoinSet::new();
        tasks.spawn(answer(intake.clone(), requests));
        let resolver = intake.clone();
        tasks.spawn(async move { resolver.resolve().await });
        let listener = Listener::Proxy { on_loopback: listen.ip().is_loopback() };
        let (open, door) = (intake.clone(), intake.clone());
        let own = OwnRequests::new(
            move || open.is_on_proxy(),
            move |head| door.admit(listener, head).map_err(own_answer),
            queue,
        );
        (Self { tasks }, own)
    }

    /// Ends it. The proxy, which alone sends to it, is gone by then; what is held stays in the store.
    pub(super) async fn shutdown(mut self) {
        self.tasks.shutdown().await;
    }
}

/// Answers one request after the other: what they cost is bounded however many come.
async fn answer(intake: Intake, mut requests: mpsc::Receiver<OwnRequest>) {
    while let Some(OwnRequest { head, body, answer }) = requests.recv().await {
        let answered = intake.answer(&head, &body).await;
        // A client that went away needs no answer.
        let _ = answer.send(own_answer(answered));
    }
}

fn own_answer(Answer { status, body }: Answer) -> OwnAnswer {
    OwnAnswer { status, body }
}

/// Requests that may wait.
const QUEUE: usize = 256;
