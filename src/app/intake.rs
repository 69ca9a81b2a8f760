//! Connects intake to the proxy's listener. Neither module depends on the other.

use std::net::SocketAddr;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::intake::{Intake, Listener, Response as IntakeResponse};
use crate::proxy::{LocalEndpoints, LocalRequest, LocalResponse};

/// The tasks of intake.
#[derive(Debug)]
pub(super) struct IntakeService {
    tasks: JoinSet<()>,
}

impl IntakeService {
    /// Starts the tasks on the current runtime. They answer the requests that the proxy hands over,
    /// and pair held feedback with its records.
    pub(super) fn start(intake: &Intake, listen: SocketAddr) -> (Self, LocalEndpoints) {
        let (queue, requests) = mpsc::channel(QUEUE);
        let mut tasks = JoinSet::new();
        tasks.spawn(answer(intake.clone(), requests));
        let resolver = intake.clone();
        tasks.spawn(async move { resolver.resolve().await });
        let listener = Listener::Proxy { on_loopback: listen.ip().is_loopback() };
        let (open, door) = (intake.clone(), intake.clone());
        let own = LocalEndpoints::new(
            move || open.is_on_proxy(),
            move |head| door.admit(listener, head).map_err(local_response),
            queue,
        );
        (Self { tasks }, own)
    }

    /// Stops the tasks. The proxy is the only sender and has stopped by then. Held feedback stays
    /// in the store.
    pub(super) async fn shutdown(mut self) {
        self.tasks.shutdown().await;
    }
}

/// Answers one request at a time, so that the cost is bounded however many arrive.
async fn answer(intake: Intake, mut requests: mpsc::Receiver<LocalRequest>) {
    while let Some(LocalRequest { head, body, response }) = requests.recv().await {
        let sent = intake.answer(&head, &body).await;
        // A client that went away needs no response.
        let _ = response.send(local_response(sent));
    }
}

fn local_response(IntakeResponse { status, body }: IntakeResponse) -> LocalResponse {
    LocalResponse { status, body }
}

/// How many requests may wait.
const QUEUE: usize = 256;
