//! The two ends: an upstream that does with each request what its exchange says, and a client.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::case::{Case, Course, Exchange, Leave, Version};
use super::wire::{Framed, Message, Reader, Side, Writer, split};

/// What both ends saw of one exchange.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// What upstream received: once, unless something was sent again.
    pub(crate) requests: Vec<Message>,
    /// Whether upstream saw the client leave in the middle of the answer.
    pub(crate) client_left: bool,
    /// The informational answers.
    pub(crate) interim: Vec<Message>,
    pub(crate) answer: Option<Message>,
    /// Whether more bytes followed where the connection should have ended.
    pub(crate) stray: bool,
}

impl Seen {
    /// All of it as lines of text.
    pub(crate) fn transcript(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let groups = [("request", &self.requests), ("interim", &self.interim)];
        for (what, messages) in groups {
            messages.iter().for_each(|message| message.write(what, &mut lines));
        }
        match &self.answer {
            Some(answer) => answer.write("answer", &mut lines),
            None => lines.push("answer: none".to_owned()),
        }
        lines
            .push(format!("the client was seen to leave: {}, stray bytes: {}", self.client_left, self.stray));
        lines
    }
}

/// How far a message has come: `None` before its head.
type Progress = watch::Sender<Option<usize>>;

/// An exchange, while it is played.
pub(crate) struct Script {
    pub(crate) id: u64,
    pub(crate) exchange: Exchange,
    pub(crate) upload: Progress,
    pub(crate) download: Progress,
    /// Whether the client has been told to send its body.
    pub(crate) invited: watch::Sender<bool>,
    seen: Mutex<Seen>,
    /// How often upstream was done with it.
    done: watch::Sender<usize>,
}

impl Script {
    pub(crate) fn note(&self, what: impl FnOnce(&mut Seen)) {
        what(&mut self.seen.lock().unwrap());
    }

    fn finished(&self, request: Message) {
        self.note(|seen| seen.requests.push(request));
        self.done.send_modify(|done| *done += 1);
    }
}

pub(crate) async fn reached(progress: &Progress, count: usize) {
    let far_enough = |progress: &Option<usize>| progress.is_some_and(|now| now >= count);
    progress.subscribe().wait_for(far_enough).await.unwrap();
}

/// An upstream for many exchanges at once, told apart by the numbers in their requests.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) address: SocketAddr,
    scripts: Arc<Mutex<HashMap<u64, Arc<Script>>>>,
    next: Arc<AtomicU64>,
}

impl World {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let world =
            Self { address: listener.local_addr().unwrap(), scripts: Arc::default(), next: Arc::default() };
        let server = world.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let world = server.clone();
                tokio::spawn(async move { world.serve(stream).await });
            }
        });
        world
    }

    /// Prepares upstream for a case.
    pub(crate) fn expect(&self, case: &Case) -> Vec<Arc<Script>> {
        let script = |exchange: &Exchange| {
            let script = Arc::new(Script {
                id: self.next.fetch_add(1, Ordering::Relaxed),
                exchange: exchange.clone(),
                upload: Progress::default(),
                download: Progress::default(),
                invited: watch::Sender::default(),
                seen: Mutex::default(),
                done: watch::Sender::default(),
            });
            self.scripts.lock().unwrap().insert(script.id, Arc::clone(&script));
            script
        };
        case.exchanges.iter().map(script).collect()
    }

    /// Waits until upstream has done its part; what was seen.
    pub(crate) async fn outcome(&self, scripts: &[Arc<Script>]) -> Vec<Seen> {
        let mut outcome = Vec::new();
        for script in scripts {
            script.done.subscribe().wait_for(|done| *done > 0).await.unwrap();
            self.scripts.lock().unwrap().remove(&script.id);
            outcome.push(script.seen.lock().unwrap().clone());
        }
        outcome
    }

    /// What was seen so far, for an exchange that got stuck.
    pub(crate) fn give_up(&self, scripts: &[Arc<Script>]) -> Vec<Seen> {
        let stop = |script: &Arc<Script>| {
            self.scripts.lock().unwrap().remove(&script.id);
            script.seen.lock().unwrap().clone()
        };
        scripts.iter().map(stop).collect()
    }

    async fn serve(&self, stream: TcpStream) {
        let (mut reader, mut writer) = split(stream);
        loop {
            let Some(mut request) = reader.head(Side::Request).await else { return };
            let script = request.take_id().and_then(|id| self.scripts.lock().unwrap().get(&id).cloned());
            let Some(script) = script else { return };
            match respond(&mut reader, &mut writer, &mut request, &script).await {
                After::Next => script.finished(request),
                After::Leave(how) => {
                    script.finished(request);
                    return writer.leave(how, reader);
                }
            }
        }
    }
}

/// What upstream does with a connection after an exchange.
enum After {
    Leave(Leave),
    Next,
}

async fn respond(reader: &mut Reader, writer: &mut Writer, request: &mut Message, script: &Script) -> After {
    let exchange = &script.exchange;
    let answer = &exchange.answer;
    let method = exchange.request.method.as_str();
    let course = exchange.course();
    let whole = [answer.head(method), answer.wire_body(method, None)].concat();
    let upto = |at| {
        let count = answer.body.upto(at);
        (count, [answer.head(method), answer.wire_body(method, Some(count))].concat())
    };
    if !matches!(course, Course::Invited | Course::Refused) {
        for status in &answer.interim {
            writer.send(format!("HTTP/1.1 {status} Wait\r\nLink: </a>\r\n\r\n").as_bytes(), 0).await;
        }
    }
    match course {
        Course::Plain | Course::Invited => {
            if course == Course::Invited {
                writer.send(b"HTTP/1.1 100 Continue\r\n\r\n", 0).await;
            }
            reader.body(request, &script.upload).await;
            writer.send(&whole, answer.stride).await;
        }
        Course::Early { at } => {
            let answering = async {
                reached(&script.upload, exchange.request.body.upto(at)).await;
                writer.send(&whole, answer.stride).await;
            };
            tokio::join!(reader.body(request, &script.upload), answering);
        }
        Course::Refused => {
            writer.send(&whole, answer.stride).await;
            return After::Leave(Leave::Close);
        }
        Course::UploadBreaks { .. } => reader.body(request, &script.upload).await,
        Course::NoAnswer { at, how } => {
            reader.body(request, &script.upload).await;
            let head = answer.head(method);
            writer.send(&head[..(head.len() - 1) * at / 1000], 0).await;
            return After::Leave(how);
        }
        Course::AnswerBreaks { at, how } => {
            reader.body(request, &script.upload).await;
            let (count, part) = upto(at);
            writer.send(&part, answer.stride).await;
            reached(&script.download, count).await;
            return After::Leave(how);
        }
        Course::ClientLeaves { at, .. } => {
            reader.body(request, &script.upload).await;
            let (_, part) = upto(at);
            writer.send(&part, answer.stride).await;
            let left = reader.end().await;
            script.note(|seen| seen.client_left = left);
            return After::Leave(Leave::Close);
        }
    }
    let closes = !request.complete
        || answer.close
        || answer.version == Version::Http10
        || (answer.may_have_body(method) && matches!(answer.framing, super::case::Framing::Close))
        || request.start[2] == Version::Http10.text()
        || request.names("connection", "close");
    if closes { After::Leave(Leave::Close) } else { After::Next }
}

/// Plays the client's part over HTTP/1.
pub(crate) async fn client(case: &Case, scripts: &[Arc<Script>], address: SocketAddr) {
    let plain = scripts.iter().all(|script| script.exchange.course() == Course::Plain);
    let (last, others) = scripts.split_last().expect("a case has exchanges");
    if case.pipelined && plain && !others.iter().any(|script| script.exchange.ends_connection()) {
        let (mut reader, mut writer) = connect(address).await;
        let requests: Vec<u8> = scripts.iter().flat_map(|script| whole_request(script)).collect();
        let reading = async {
            for script in scripts {
                receive(&mut reader, script).await;
            }
        };
        tokio::join!(writer.send(&requests, last.exchange.request.stride), reading);
        return;
    }
    let mut connection = None;
    for script in scripts {
        let (reader, writer) = match connection.take() {
            Some(connection) => connection,
            None => connect(address).await,
        };
        connection = exchange(script, reader, writer).await;
    }
}

async fn connect(address: SocketAddr) -> (Reader, Writer) {
    split(TcpStream::connect(address).await.unwrap())
}

/// Plays one exchange; the connection if another can follow on it.
async fn exchange(script: &Script, mut reader: Reader, mut writer: Writer) -> Option<(Reader, Writer)> {
    let exchange = &script.exchange;
    let request = &exchange.request;
    let course = exchange.course();
    match course {
        Course::UploadBreaks { at, how } => {
            let count = request.body.upto(at);
            let part = [request.head(script.id, course), request.wire_body(Some(count))].concat();
            writer.send(&part, request.stride).await;
            reached(&script.upload, count).await;
            writer.leave(how, reader);
            return None;
        }
        Course::ClientLeaves { at, how } => {
            writer.send(&whole_request(script), request.stride).await;
            let count = exchange.answer.body.upto(at);
            if let Some(mut answer) = receive_head(&mut reader, script).await {
                tokio::select! {
                    () = reader.body(&mut answer, &script.download) => {}
                    () = reached(&script.download, count) => {}
                }
                script.note(|seen| seen.answer = Some(answer));
            }
            writer.leave(how, reader);
            return None;
        }
        _ => {}
    }
    let sending = async {
        match course {
            Course::Refused => writer.send(&request.head(script.id, course), request.stride).await,
            Course::Invited => {
                writer.send(&request.head(script.id, course), request.stride).await;
                script.invited.subscribe().wait_for(|invited| *invited).await.unwrap();
                writer.send(&request.wire_body(None), request.stride).await;
            }
            Course::Early { at } => {
                let whole = whole_request(script);
                let part = request.wire_body(Some(request.body.upto(at)));
                let (part, rest) = whole.split_at(request.head(script.id, course).len() + part.len());
                writer.send(part, request.stride).await;
                reached(&script.download, 0).await;
                writer.send(rest, request.stride).await;
            }
            _ => writer.send(&whole_request(script), request.stride).await,
        }
    };
    tokio::join!(sending, receive(&mut reader, script));
    let reusable = script.seen.lock().unwrap().answer.as_ref().is_some_and(|answer| {
        answer.complete
            && answer.framing != Framed::Close
            && answer.start[0] == Version::Http11.text()
            && !answer.names("connection", "close")
    });
    if reusable && !exchange.ends_connection() {
        return Some((reader, writer));
    }
    if request.close && request.version == Version::Http11 && course == Course::Plain {
        let clean = reader.end().await;
        script.note(|seen| seen.stray = !clean);
    }
    None
}

/// Reads an answer and notes it.
async fn receive(reader: &mut Reader, script: &Script) {
    if let Some(mut answer) = receive_head(reader, script).await {
        reader.body(&mut answer, &script.download).await;
        script.note(|seen| seen.answer = Some(answer));
    }
}

/// Reads the head of the final answer, and notes the informational ones before it.
async fn receive_head(reader: &mut Reader, script: &Script) -> Option<Message> {
    let side = Side::Answer { to_head: script.exchange.request.method == "HEAD" };
    loop {
        let Some(answer) = reader.head(side).await else {
            // Whoever waits for an answer waits no longer.
            script.invited.send_replace(true);
            script.download.send_replace(Some(usize::MAX));
            return None;
        };
        if answer.status() == 100 || !(100..200).contains(&answer.status()) {
            script.invited.send_replace(true);
        }
        if !(100..200).contains(&answer.status()) {
            return Some(answer);
        }
        script.note(|seen| seen.interim.push(answer));
    }
}

fn whole_request(script: &Script) -> Vec<u8> {
    let request = &script.exchange.request;
    [request.head(script.id, script.exchange.course()), request.wire_body(None)].concat()
}
