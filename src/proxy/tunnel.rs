//! What follows an upgrade: bytes in both directions, until both sides are done or one fails.

use threadtap_http::http1::Input;
use tokio::io::{AsyncWriteExt, copy_bidirectional};

use super::body::Progress;
use super::connect::Stream;
use super::frames::Counted;
use crate::metrics::{Metrics, SideLabel};
use crate::net::ClientStream;

/// Joins the two sides of an exchange that was answered with 101. `input` is what was read from
/// upstream after its response. When one side closes its sending half, so does the tunnel on the
/// other side; therefore closing handshakes get through. A slow reader only holds up its peer.
/// Frames are counted as they pass.
pub(super) async fn run(
    client: ClientStream,
    mut upstream: Stream,
    mut input: Input,
    metrics: Metrics,
    progress: Progress,
) {
    let [from_client, from_upstream] =
        ["client", "upstream"].map(|from| metrics.frames.get_or_create_owned(&SideLabel { from }));
    let mut client = Counted::new(client, from_client, from_upstream);
    let joined = async {
        client.write_all(&input.take_all()).await?;
        copy_bidirectional(&mut client, &mut upstream).await
    };
    if let Err(error) = joined.await {
        tracing::debug!(%error, "a tunnel failed");
    }
    drop(progress);
}
