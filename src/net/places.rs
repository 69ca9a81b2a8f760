//! Limits the number of connections, and chooses which one to close when the limit is reached.
//!
//! A listener has a fixed number of places. When all are taken and another client connects, the
//! connection that has waited longest for a request from its client is closed. Connections that
//! never sent a request are closed first, then those that are kept alive. So clients that connect
//! and stay silent only take places from each other, never from a client that is being served.
//! Requests in progress are never touched: if every connection has one, new clients wait.
//!
//! Each worker keeps a list of its own waiting connections. Other workers read it only when they
//! need room.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use prometheus_client::metrics::counter::Counter;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::time::Instant;

/// The places of a listener, as seen by one worker.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    shared: Arc<Shared>,
    /// The connections of this worker that wait.
    waiting: Arc<List>,
}

#[derive(Debug)]
struct Shared {
    free: Arc<Semaphore>,
    /// How many clients wait for a place.
    wanted: AtomicUsize,
    /// The lists of all workers.
    lists: Mutex<Vec<Arc<List>>>,
    /// Connections that were closed to make room.
    closed: Counter,
}

/// Connections that wait for their client, with a channel to ask each to leave.
type List = Mutex<BTreeMap<Turn, oneshot::Sender<()>>>;

/// The order in which connections are closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    standing: Standing,
    since: Instant,
    /// Distinguishes connections that began to wait at the same time.
    number: usize,
}

/// What a connection has done before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// It has not sent a request.
    New,
    /// It has sent one.
    Known,
}

impl Places {
    /// Creates this many places. `closed` counts the connections that were closed to make room.
    pub(crate) fn new(count: usize, closed: Counter) -> Self {
        let waiting = Arc::<List>::default();
        let shared = Shared {
            free: Arc::new(Semaphore::new(count.min(Semaphore::MAX_PERMITS))),
            wanted: AtomicUsize::new(0),
            lists: Mutex::new(vec![Arc::clone(&waiting)]),
            closed,
        };
        Self { shared: Arc::new(shared), waiting }
    }

    /// The same places for another worker.
    pub(crate) fn for_worker(&self) -> Self {
        let waiting = Arc::<List>::default();
        lock(&self.shared.lists).push(Arc::clone(&waiting));
        Self { shared: Arc::clone(&self.shared), waiting }
    }

    /// Takes a place for a client that has connected, and makes room if there is none.
    ///
    /// # Cancel safety
    /// If the future is dropped, no place is taken, neither for this client nor from another one.
    pub(crate) async fn take(&self) -> Place {
        let free = &self.shared.free;
        let permit = match Arc::clone(free).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                let _wanted = Wanted::new(&self.shared.wanted);
                let mut acquired = pin!(Arc::clone(free).acquire_owned());
                // Joins the queue before it asks for room. Otherwise another client could take the
                // freed place.
                match poll_fn(|cx| Poll::Ready(acquired.as_mut().poll(cx))).await {
                    Poll::Ready(permit) => permit,
                    Poll::Pending => {
                        self.shared.make_room();
                        acquired.await
                    }
                }
                .expect("the semaphore is never closed")
            }
        };
        Place { places: self.clone(), _permit: permit }
    }
}

impl Shared {
    fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::SeqCst) > 0
    }

    /// Asks the connection that is next in order to leave, if any is waiting.
    fn make_room(&self) {
        let lists = lock(&self.lists);
        loop {
            let next = lists.iter().filter_map(|list| Some((*lock(list).first_key_value()?.0, list)));
            let Some((turn, list)) = next.min_by_key(|(turn, _)| *turn) else { return };
            // Its request may have arrived meanwhile.
            if let Some(leave) = lock(list).remove(&turn) {
                self.closed.inc();
                // If it is gone, it has already left its place.
                let _ = leave.send(());
                return;
            }
        }
    }
}

/// Counts a client that waits.
struct Wanted<'a>(&'a AtomicUsize);

impl<'a> Wanted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A place that is taken. Dropping it frees the place.
#[derive(Debug)]
pub(crate) struct Place {
    places: Places,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    /// Marks the connection as waiting for its client. It may be asked to leave until the returned
    /// value is dropped.
    pub(crate) fn wait(&self, standing: Standing) -> Waiting {
        let Places { shared, waiting } = &self.places;
        let (leave, asked) = oneshot::channel();
        let mut turn = Turn { standing, since: now(), number: 0 };
        let mut list = lock(waiting);
        while list.contains_key(&turn) {
            turn.number += 1;
        }
        list.insert(turn, leave);
        drop(list);
        // A client that wanted a place earlier found no connection to ask.
        if shared.is_wanted() {
            shared.make_room();
        }
        Waiting { places: self.places.clone(), turn, asked }
    }

    /// Whether another client needs this place as soon as its exchange is over: a client is
    /// waiting, and no other connection could be closed instead.
    pub(crate) fn is_needed(&self) -> bool {
        let shared = &self.places.shared;
        shared.is_wanted() && lock(&shared.lists).iter().all(|list| lock(list).is_empty())
    }
}

/// A connection that waits for its client.
#[derive(Debug)]
pub(crate) struct Waiting {
    places: Places,
    turn: Turn,
    asked: oneshot::Receiver<()>,
}

impl Waiting {
    /// Ready when the connection should leave.
    pub(crate) fn poll_asked(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.asked).poll(cx).map(|_| ())
    }

    /// The connection waits on in its place, although it was asked to leave. Another one is asked instead.
    pub(crate) fn stay(&mut self, place: &Place) {
        let waiting = place.wait(self.turn.standing);
        std::mem::replace(self, waiting).end();
    }

    /// A request has arrived, so the connection stays. If this one was already asked to leave,
    /// another one is asked instead.
    pub(crate) fn end(mut self) {
        let was_asked = !self.leave_list();
        let shared = &self.places.shared;
        if was_asked && shared.is_wanted() {
            shared.make_room();
        }
    }

    /// Returns whether the connection was still in the list, which means nobody asked it to leave.
    fn leave_list(&mut self) -> bool {
        // Otherwise dropping the other side wakes the connection for nothing on each of its
        // requests.
        self.asked.close();
        lock(&self.places.waiting).remove(&self.turn).is_some()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.leave_list();
    }
}

/// The exchanges of a connection that another library drives. While there are none, the connection
/// waits for its client.
#[derive(Clone, Debug, Default)]
pub(crate) struct Exchanges(watch::Sender<Count>);

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    begun: u64,
    open: usize,
}

impl Exchanges {
    /// Begins an exchange, which ends when the returned value is dropped.
    pub(crate) fn begin(&self) -> Exchange {
        self.0.send_modify(|count| {
            count.begun += 1;
            count.open += 1;
        });
        Exchange(self.clone())
    }

    /// Waits until the connection should leave its place, which never happens while an exchange is
    /// open. `first` is the connection's wait for its first request, already in progress.
    pub(crate) async fn asked_to_leave(&self, place: &Place, first: Waiting) {
        let mut counts = self.0.subscribe();
        let (mut waiting, mut seen) = (Some(first), 0);
        loop {
            let Count { begun, open } = *counts.borrow_and_update();
            if begun != seen {
                seen = begun;
                if let Some(waiting) = waiting.take() {
                    waiting.end();
                }
            }
            if open == 0 {
                waiting.get_or_insert_with(|| place.wait(Standing::Known));
            }
            let asked =
                poll_fn(|cx| waiting.as_mut().map_or(Poll::Pending, |waiting| waiting.poll_asked(cx)));
            // Both are cancel safe: one loses nothing when dropped, and the other is polled again.
            tokio::select! {
                biased;
                _ = counts.changed() => {}
                () = asked => return,
            }
        }
    }
}

/// An exchange that is open.
#[derive(Debug)]
pub(crate) struct Exchange(Exchanges);

impl Drop for Exchange {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| count.open -= 1);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[expect(clippy::disallowed_methods, reason = "it is for how long a connection has waited")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn is_asked(waiting: &mut Waiting) -> bool {
        poll_fn(|cx| Poll::Ready(waiting.poll_asked(cx).is_ready())).await
    }

    async fn pass() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_one_that_has_waited_longest_goes_and_one_that_sent_a_request_last() {
        let closed = Counter::default();
        let places = Places::new(3, closed.clone());
        let (known, old, young) =
            (places.take().await, places.for_worker().take().await, places.take().await);
        let mut known_waits = known.wait(Standing::Known);
        pass().await;
        let mut old_waits = old.wait(Standing::New);
        pass().await;
        let mut young_waits = young.wait(Standing::New);
        for (waiting, place) in
            [(&mut old_waits, Some(old)), (&mut young_waits, Some(young)), (&mut known_waits, Some(known))]
        {
            assert!(!is_asked(waiting).await);
            let newcomer = tokio::spawn({
                let places = places.clone();
                async move { places.take().await }
            });
            pass().await;
            assert!(is_asked(waiting).await);
            drop(place);
            std::mem::forget(newcomer.await.unwrap());
        }
        assert_eq!(closed.get(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn who_found_nobody_to_ask_gets_the_first_place_whose_connection_waits() {
        let places = Places::new(1, Counter::default());
        let place = places.take().await;
        assert!(!place.is_needed());
        let newcomer = tokio::spawn({
            let places = places.clone();
            async move { places.take().await }
        });
        pass().await;
        assert!(place.is_needed() && !newcomer.is_finished());
        let mut waiting = place.wait(Standing::Known);
        assert!(is_asked(&mut waiting).await);
        drop((waiting, place));
        assert!(!newcomer.await.unwrap().is_needed());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_goes_on_is_not_woken_by_it() {
        #[derive(Default)]
        struct Wakes(AtomicUsize);
        impl std::task::Wake for Wakes {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let place = Places::new(1, Counter::default()).take().await;
        let wakes = Arc::new(Wakes::default());
        let waker = Arc::clone(&wakes).into();
        for is_dropped in [false, true] {
            let mut waiting = place.wait(Standing::Known);
            assert!(waiting.poll_asked(&mut Context::from_waker(&waker)).is_pending());
            if is_dropped { drop(waiting) } else { waiting.end() }
        }
        assert_eq!(wakes.0.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_stays_because_its_request_came_passes_the_wish_on() {
        let places = Places::new(2, Counter::default());
        let (first, second) = (places.take().await, places.take().await);
        let first_waits = first.wait(Standing::New);
        let mut second_waits = second.wait(Standing::New);
        let newcomer = tokio::spawn({
            let places = places.clone();
            async move { places.take().await }
        });
        pass().await;
        assert!(!second.is_needed(), "the other one is to go");
        first_waits.end();
        assert!(is_asked(&mut second_waits).await);
        drop((second_waits, second));
        newcomer.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn exchanges_keep_their_place_and_what_waits_without_any_leaves() {
        let places = Places::new(1, Counter::default());
        let place = places.take().await;
        let exchanges = Exchanges::default();
        let exchange = exchanges.begin();
        let newcomer = tokio::spawn({
            let places = places.clone();
            async move { places.take().await }
        });
        {
            let first = place.wait(Standing::New);
            let mut asked = pin!(exchanges.asked_to_leave(&place, first));
            let long = Duration::from_secs(3600);
            assert!(tokio::time::timeout(long, asked.as_mut()).await.is_err());
            drop(exchange);
            asked.await;
        }
        drop(place);
        newcomer.await.unwrap();
    }
}
