//! What goes on after an upgrade: bytes both ways, until both sides are done or one fails.

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;

use super::body::Progress;
use super::frames::Counted;
use crate::metrics::{Metrics, SideLabel};

/// Joins the two sides of an exchange that was answered with 101. A side that closes its sending half is passed on as such, so
/// closing handshakes come through; a slow reader holds up its peer and nothing else. Frames are counted as they pass.
pub(super) async fn run(client: OnUpgrade, upstream: OnUpgrade, metrics: Metrics, progress: Progress) {
    let joined = async {
        let (client, upstream) = tokio::try_join!(client, upstream)?;
        let [from_client, from_upstream] =
            ["client", "upstream"].map(|from| metrics.frames.get_or_create_owned(&SideLabel { from }));
        let mut client = Counted::new(TokioIo::new(client), from_client, from_upstream);
        let mut upstream = TokioIo::new(upstream);
        copy_bidirectional(&mut client, &mut upstream).await?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
    };
    if let Err(error) = joined.await {
        tracing::debug!(error, "a tunnel failed");
    }
    drop(progress);
}
