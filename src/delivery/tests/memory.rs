use std::sync::Mutex;

use threadtap_core::event::Event;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::backend::event;
use super::*;

#[tokio::test]
async fn all_sinks_together_hold_no_more_than_the_budget_and_a_dead_one_none_of_another() {
    let (dead, well) = (Hostile::start(Answer::None).await, Hostile::start(Answer::Ok).await);
    let world = World::new(None);
    let both = ["dead", "well"];
    world.add_large(&both, (0..60).map(|number| (number, 200 << 10)));
    let hour = Duration::from_secs(3600);
    let config = Config { budget_bytes: 4 << 20, attempt_timeout: hour, ..quick() };
    let sinks = [dead.sink("dead"), well.sink("well")];
    let _delivery = world.start_with(config, &sinks);
    // As many as its share has room for, and half of its lanes at least.
    dead.held(4 * (200 << 10)).await;
    well.taken(60).await;
    // A record larger than the whole budget.
    world.add_large(&["well"], [(60, 6 << 20)]);
    well.taken(61).await;
    for backend in [&dead, &well] {
        let most = backend.most_held();
        assert!(most <= (2 << 20) + (64 << 10) || most >= 6 << 20, "{most} bytes of a share of 2 MiB");
    }
    assert!(dead.most_held() <= 2 << 20);
    assert_eq!(world.waiting("dead").await.deliveries, 60);

    dead.answer(Answer::Ok);
    world.settled().await;
    for (backend, count) in [(&dead, 60), (&well, 61)] {
        let keys = backend.taken(count).await;
        for thread in 0..THREADS {
            let of: Vec<usize> = keys.iter().copied().filter(|number| number % THREADS == thread).collect();
            assert!(of.is_sorted(), "{of:?}");
        }
    }
}

#[tokio::test]
async fn records_larger_than_any_share_leave_one_after_the_other_at_each_sink() {
    let backend = Hostile::start(Answer::Ok).await;
    let world = World::new(None);
    let names = ["a", "b", "c"];
    world.add_large(&names, (0..24).map(|number| (number, 300 << 10)));
    let config = Config { budget_bytes: 64 << 10, ..quick() };
    let sinks = names.map(|name| backend.sink(name));
    let _delivery = world.start_with(Config { attempt_timeout: Duration::from_secs(3600), ..config }, &sinks);
    world.settled().await;
    backend.taken(72).await;
    assert!(backend.most_held() <= 3 * (301 << 10), "{}", backend.most_held());
}

#[tokio::test]
async fn a_backend_that_fails_and_fails_lets_all_bytes_go_between_attempts() {
    let backend = Hostile::start(Answer::Unavailable).await;
    let world = World::new(None);
    world.add_large(&["s"], (0..40).map(|number| (number, 100 << 10)));
    let hour = Duration::from_secs(3600);
    let config = Config { budget_bytes: 1 << 20, backoff: Backoff::new(hour, hour).unwrap(), ..quick() };
    let _delivery = world.start_with(config.clone(), &[backend.sink("s")]);
    // All lanes have had their turn, and none waits for bytes that another one keeps in its pause.
    backend.taken(8).await;
    assert!(world.count("s", "ack") == 0);
}

#[tokio::test]
async fn what_backends_send_without_end_is_not_taken_in() {
    for answer in [Answer::EndlessBody, Answer::EndlessHead, Answer::EndlessLine, Answer::EndlessHints] {
        let backend = Hostile::start(answer).await;
        let world = World::new(None);
        world.add(&["s"], 0..1);
        let config = Config { attempt_timeout: Duration::from_millis(300), ..quick() };
        let _delivery = world.start_with(config, &[backend.sink("s")]);
        let sent = backend.left().await;
        // The buffers of two sockets hold some megabytes.
        assert!(sent < LONGEST_ANSWER, "{answer:?}: {sent} bytes");
        backend.answer(Answer::Ok);
        world.settled().await;
    }
}

impl World {
    fn add_large(&self, sinks: &[&str], records: impl IntoIterator<Item = (usize, usize)>) {
        for (number, bytes) in records {
            let Event::Interaction(mut interaction) = event(number, &format!("thread_{}", number % THREADS))
            else {
                unreachable!()
            };
            interaction.model = Some("m".repeat(bytes));
            let sinks = sinks.iter().map(|sink| Arc::from(*sink)).collect();
            let op = store::Op::event(&Event::Interaction(interaction), self.clock.now(), sinks);
            self.store.commit(vec![op], Duration::from_secs(60)).unwrap();
        }
    }
}

/// What a backend says, once it has the whole request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    EndlessBody,
    EndlessHead,
    EndlessHints,
    EndlessLine,
    None,
    Ok,
    Unavailable,
}

impl Answer {
    /// What it begins with, and what it repeats.
    fn parts(self) -> (&'static str, String) {
        let line = format!("x-{}: {}\r\n", "n".repeat(100), "v".repeat(1000));
        match self {
            Self::EndlessBody => ("HTTP/1.1 200 OK\r\n\r\n{\"status\":\"", "x".repeat(64 << 10)),
            Self::EndlessHead => ("HTTP/1.1 200 OK\r\n", line.repeat(50)),
            Self::EndlessHints => ("", "HTTP/1.1 103 Early Hints\r\n\r\n".to_owned()),
            Self::EndlessLine => ("HTTP/1.1 200 OK\r\nx: ", "x".repeat(64 << 10)),
            Self::None => ("", String::new()),
            Self::Ok => ("HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{\"status\":\"ok\"}", String::new()),
            Self::Unavailable => ("HTTP/1.1 503 S\r\nContent-Length: 0\r\n\r\n", String::new()),
        }
    }
}

/// A backend in bare bytes. It holds what it was sent until it has answered.
struct Hostile {
    url: String,
    answer: watch::Sender<Answer>,
    ledger: watch::Sender<Ledger>,
    _tasks: Mutex<JoinSet<()>>,
}

/// What a backend was sent, and what it sent.
#[derive(Clone, Debug, Default)]
struct Ledger {
    held: usize,
    most_held: usize,
    taken: Vec<usize>,
    /// Bytes of answers that were broken off by who reads them.
    left: Option<usize>,
}

impl Hostile {
    async fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/track", listener.local_addr().unwrap());
        let (answer, answers) = watch::channel(answer);
        let ledger = watch::Sender::new(Ledger::default());
        let mut tasks = JoinSet::new();
        tasks.spawn({
            let ledger = ledger.clone();
            async move {
                let mut connections = JoinSet::new();
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    connections.spawn(serve(stream, answers.clone(), ledger.clone()));
                }
            }
        });
        Self { url, answer, ledger, _tasks: Mutex::new(tasks) }
    }

    fn sink(&self, name: &str) -> Arc<Sink> {
        backend::sink_at(name, &self.url)
    }

    fn answer(&self, answer: Answer) {
        self.answer.send_replace(answer);
    }

    async fn until(&self, fact: impl FnMut(&Ledger) -> bool) -> Ledger {
        let mut ledger = self.ledger.subscribe();
        let found = tokio::time::timeout(Duration::from_secs(60), ledger.wait_for(fact)).await;
        found.unwrap_or_else(|_| panic!("waited in vain: {:?}", self.ledger.borrow())).unwrap().clone()
    }

    async fn held(&self, bytes: usize) {
        self.until(|ledger| ledger.held >= bytes).await;
    }

    async fn taken(&self, count: usize) -> Vec<usize> {
        self.until(|ledger| ledger.taken.len() >= count).await.taken
    }

    async fn left(&self) -> usize {
        self.until(|ledger| ledger.left.is_some()).await.left.unwrap()
    }

    fn most_held(&self) -> usize {
        self.ledger.borrow().most_held
    }
}

async fn serve(mut stream: TcpStream, mut answers: watch::Receiver<Answer>, ledger: watch::Sender<Ledger>) {
    while let Some((number, bytes)) = request(&mut stream).await {
        ledger.send_modify(|ledger| {
            ledger.held += bytes;
            ledger.most_held = ledger.most_held.max(ledger.held);
        });
        let answer = *answers.wait_for(|answer| *answer != Answer::None).await.unwrap();
        let (begin, more) = answer.parts();
        ledger.send_modify(|ledger| {
            ledger.held -= bytes;
            ledger.taken.push(number);
        });
        let mut sent = begin.len();
        let mut end = stream.write_all(begin.as_bytes()).await;
        while !more.is_empty() && sent < LONGEST_ANSWER && end.is_ok() {
            end = stream.write_all(more.as_bytes()).await;
            sent += more.len();
        }
        if !more.is_empty() {
            ledger.send_modify(|ledger| ledger.left = Some(sent));
            return;
        }
    }
}

/// A whole request: its number and the length of its body.
async fn request(stream: &mut TcpStream) -> Option<(usize, usize)> {
    let mut read = Vec::new();
    let head = loop {
        if let Some(at) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            break String::from_utf8(read[..at].to_ascii_lowercase()).unwrap();
        }
        if stream.read_buf(&mut read).await.ok()? == 0 {
            return None;
        }
    };
    let header =
        |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    let length: usize = header("content-length:").parse().unwrap();
    let mut left = (head.len() + 4 + length).saturating_sub(read.len());
    let mut piece = vec![0; 64 << 10];
    while left > 0 {
        let most = left.min(piece.len());
        let count = stream.read(&mut piece[..most]).await.ok()?;
        if count == 0 {
            return None;
        }
        left -= count;
    }
    Some((header("idempotency-key: key_").parse().unwrap(), length))
}

/// Far more than buffers hold, and far less than without end.
const LONGEST_ANSWER: usize = 128 << 20;
