//! One client connection from its first byte to its last.

use std::error::Error;
use std::future::{pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, ready};

use hyper::server::conn::http2 as hyper_http2;
use hyper_util::rt::TokioExecutor;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use threadtap_http::http1::{Input, Parser};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::accept::Arrival;
use super::http1::Session;
use super::io::{ClientStream, Protocol};
use super::link::{Link, Phase};
use super::places::{Exchanges, Place, Waiting};
use super::room::Room;
use super::{Config, Handler, MIN_HEAD_BYTES, http2, tcp};

/// State shared by all connections of a listener.
pub(super) struct Server<H> {
    pub(super) config: Config,
    /// Parses the heads of HTTP/1 requests.
    pub(super) parser: Parser,
    http2: hyper_http2::Builder<TokioExecutor>,
    pub(super) handler: H,
    room: Arc<Room>,
    counts: Counts,
}

/// The metrics of connections.
#[derive(Clone)]
pub(super) struct Counts {
    /// Open connections.
    pub(super) open: Gauge,
    /// Response header lines that HTTP/2 cannot carry.
    pub(super) left_out: Counter,
    /// HTTP/2 requests for which there was no room.
    pub(super) refused: Counter,
}

impl<H: Handler> Server<H> {
    pub(super) fn new(config: Config, handler: H, room: Arc<Room>, counts: Counts) -> Self {
        let parser = Parser::new(config.max_headers, config.max_head_bytes.max(MIN_HEAD_BYTES));
        Self { http2: http2::builder(&config), parser, config, handler, room, counts }
    }

    /// Serves one connection until it is over, drained or cut off.
    pub(super) async fn run(self: Arc<Self>, arrival: Arrival, phase: watch::Receiver<Phase>) {
        let peer = arrival.peer;
        if let Err(error) = self.serve(arrival, phase).await {
            tracing::debug!(%peer, error, "a client connection failed");
        }
    }

    async fn serve(
        self: Arc<Self>,
        arrival: Arrival,
        mut phase: watch::Receiver<Phase>,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        let Arrival { mut stream, peer, place, mut waiting } = arrival;
        self.config.tcp.apply(&stream);
        let link = Arc::new(Link::new(peer, self.counts.open.clone(), place, phase.clone()));
        let mut input = Input::default();
        // Cancel safe: whatever ends the wait also ends the connection.
        let protocol = tokio::select! {
            biased;
            protocol = protocol(&mut stream, &mut input, &mut waiting, link.place()) => match protocol? {
                Some(protocol) => protocol,
                None => return Ok(()),
            },
            _ = phase.wait_for(|phase| *phase != Phase::Serving) => return Ok(()),
            () = tokio::time::sleep(self.config.first_byte_timeout) => return Ok(()),
        };
        match protocol {
            Protocol::Http1 => {
                let draining = AtomicBool::new(false);
                let session = Session::new(&self, stream, input, link, waiting, &draining);
                let drain = |_: Pin<&mut _>| draining.store(true, Ordering::Relaxed);
                // It notices by itself when it should leave.
                drive(pin!(session.serve()), drain, phase, pending()).await?;
            }
            Protocol::Http2 => {
                let stream = ClientStream::new(stream, Arc::clone(&link), input.bytes());
                let exchanges = Exchanges::default();
                let (handler, begun) = (self.handler.clone(), exchanges.clone());
                let (room, counts) = (&self.room, self.counts.clone());
                let connection =
                    http2::connection(&self.http2, stream, handler, Arc::clone(&link), begun, room, counts);
                let asked = exchanges.asked_to_leave(link.place(), waiting);
                drive(pin!(connection), |connection| connection.graceful_shutdown(), phase, asked).await?;
            }
        }
        Ok(())
    }
}

/// Drives a connection until it is over or cut off, or until it is `asked` to leave its place.
/// `drain` makes it finish what is in progress.
pub(crate) async fn drive<C: Future<Output = Result<(), E>>, E>(
    mut connection: Pin<&mut C>,
    drain: impl Fn(Pin<&mut C>),
    mut phase: watch::Receiver<Phase>,
    asked: impl Future<Output = ()>,
) -> Result<(), E> {
    let mut asked = pin!(asked);
    loop {
        // Cancel safe: both are polled in place, and `changed` loses nothing when dropped.
        tokio::select! {
            biased;
            result = connection.as_mut() => return result,
            changed = phase.changed() => match (changed, *phase.borrow_and_update()) {
                (Ok(()), Phase::Serving) => {}
                (Ok(()), Phase::Draining) => drain(connection.as_mut()),
                (Err(_), _) | (Ok(()), Phase::Cut) => return Ok(()),
            },
            () = asked.as_mut() => {
                drain(connection.as_mut());
                // Sends what `drain` produced, but does not wait for this client, because another
                // one is waiting.
                let polled = poll_fn(|cx| Poll::Ready(connection.as_mut().poll(cx))).await;
                return match polled {
                    Poll::Ready(result) => result,
                    Poll::Pending => Ok(()),
                };
            }
        }
    }
}

/// Reads until it is clear which protocol the client speaks. Returns none if the connection must
/// leave its place first.
async fn protocol(
    stream: &mut TcpStream,
    input: &mut Input,
    waiting: &mut Waiting,
    place: &Place,
) -> std::io::Result<Option<Protocol>> {
    poll_fn(|cx| {
        loop {
            if let Some(protocol) = Protocol::of(input.bytes()) {
                return Ok(Some(protocol)).into();
            }
            match input.poll_fill(stream, cx)? {
                Poll::Ready(0) => return Ok(Some(Protocol::Http1)).into(),
                Poll::Ready(_) => {}
                Poll::Pending => {
                    ready!(waiting.poll_asked(cx));
                    if !tcp::has_input(stream) {
                        return Ok(None).into();
                    }
                    // It stays, because the runtime only has not reported the input yet.
                    waiting.stay(place);
                    return Poll::Pending;
                }
            }
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::task::{Context, Waker};

    use prometheus_client::metrics::counter::Counter;
    use tokio::net::TcpListener;

    use super::super::places::{Places, Standing};
    use super::*;

    #[tokio::test]
    async fn a_client_whose_request_was_not_reported_yet_keeps_its_place() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        let places = Places::new(1, Counter::default());
        let place = places.take().await;
        let (mut waiting, mut input) = (place.wait(Standing::New), Input::default());
        let mut reading = pin!(protocol(&mut stream, &mut input, &mut waiting, &place));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(reading.as_mut().poll(&mut cx).is_pending());

        // Nothing is awaited meanwhile, so the runtime learns nothing of it.
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let mut other = pin!(places.take());
        assert!(other.as_mut().poll(&mut cx).is_pending());
        assert!(reading.as_mut().poll(&mut cx).is_pending(), "its place is not taken");
        assert_eq!(reading.await.unwrap(), Some(Protocol::Http1));
    }
}
