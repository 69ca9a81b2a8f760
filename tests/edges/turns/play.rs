//! Plays a case: what the server answers goes through capture, and the ledger is told what that was shown.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use serde_json::{Value, json};

use super::case::{Answer, Case, Fate, How, Link, Step, Style};
use super::ledger::{Asked, GRACE, Ledger};
use super::server::{Event, Response};
use crate::harness::{Settings, World};
use crate::script::{Exchange, Step as Run};

/// Plays a case to its end. Tells what is wrong, if anything is.
pub(crate) fn play(case: &Case, cells: &mut BTreeMap<String, u32>) -> Result<(), String> {
    let mut settings = Settings::default();
    if case.merges {
        settings.correlator.continuation_grace = Duration::from_millis(GRACE);
    }
    let mut play = Play {
        style: case.style,
        world: World::without_cuts(settings),
        ledger: Ledger::new(case.merges),
        responses: Vec::new(),
        questions: Vec::new(),
        conversations: Vec::new(),
        held: VecDeque::new(),
        whole: BTreeSet::new(),
        nameless: BTreeSet::new(),
        serial: 0,
        tools: 0,
    };
    for step in &case.steps {
        play.step(step);
    }
    play.finish();
    if !play.world.repeated.is_empty() {
        return Err(format!("recorded twice: {:?}", play.world.repeated));
    }
    play.ledger.judge(&play.world.records, cells)
}

struct Play {
    style: Style,
    world: World,
    ledger: Ledger,
    responses: Vec<Response>,
    /// What was asked in each.
    questions: Vec<String>,
    conversations: Vec<Conversation>,
    /// Streams that are held back, oldest first.
    held: VecDeque<Held>,
    /// Responses whose request said all that was said before.
    whole: BTreeSet<usize>,
    /// Responses whose id nobody was told.
    nameless: BTreeSet<usize>,
    serial: usize,
    tools: usize,
}

struct Conversation {
    id: String,
    /// Items that can be deleted: their ids.
    items: Vec<String>,
    deleted: bool,
}

/// What of a stream is still to come.
struct Held {
    response: usize,
    events: Vec<Event>,
}

impl Play {
    fn step(&mut self, step: &Step) {
        match step {
            Step::AddItem { conversation, lost } => self.add_item(*conversation, *lost),
            Step::Advance { response, answer } => {
                let answer = self.affordable(*answer);
                let second = self.second();
                if let Some(at) = self.pick(*response, |response| !response.is_over()) {
                    self.responses[at].answer(answer, second);
                }
            }
            Step::Ask { link, how, answer, fate } => self.ask(*link, *how, *answer, *fate),
            Step::Cancel { response } => {
                if let Some(at) = self.pick(*response, |response| !response.is_over()) {
                    let second = self.second() + 1;
                    let response = &mut self.responses[at];
                    (response.status, response.ended_at) = ("cancelled", Some(second));
                    let target = format!("/v1/responses/{}/cancel", response.id);
                    self.look(at, "POST", target);
                }
            }
            Step::CreateConversation { items, lost } => self.create_conversation(*items, *lost),
            Step::DeleteConversation { conversation } => {
                let Some(at) = self.conversation(*conversation) else { return };
                self.conversations[at].deleted = true;
                let id = self.conversations[at].id.clone();
                let answer = json!({"id": id, "object": "conversation.deleted", "deleted": true});
                self.exchange("DELETE", format!("/v1/conversations/{id}"), Value::Null, &answer);
                self.ledger.conversation_deleted(&id);
            }
            Step::DeleteItem { conversation } => {
                let Some(at) = self.conversation(*conversation) else { return };
                let conversation = &mut self.conversations[at];
                let Some(item) = conversation.items.pop() else { return };
                let id = conversation.id.clone();
                let answer = json!({"id": id, "object": "conversation"});
                self.exchange("DELETE", format!("/v1/conversations/{id}/items/{item}"), Value::Null, &answer);
                self.ledger.item_deleted(&id, &item);
            }
            Step::HandIn { response, way, how, answer } => self.hand_in(*response, *way, *how, *answer),
            Step::More => self.more(),
            Step::Poll { response } => {
                if let Some(at) = self.pick(*response, |_| true) {
                    let target = format!("/v1/responses/{}", self.responses[at].id);
                    self.look(at, "GET", target);
                }
            }
            Step::Restart => self.world.restart(),
            Step::Resume { response } => self.resume(*response),
            Step::Wait { seconds } => {
                // Nobody waits for long in the middle of a stream.
                while *seconds > 10 && !self.held.is_empty() {
                    self.more();
                }
                self.world.wait(Duration::from_secs(*seconds));
                self.ledger.tick(self.world.now.0);
            }
        }
    }

    /// All that is held back comes, and whatever is still waited for is over.
    fn finish(&mut self) {
        while !self.held.is_empty() {
            self.more();
        }
        for _ in 0..3 {
            self.world.wait(Duration::from_secs(1000));
            self.ledger.tick(self.world.now.0);
        }
    }

    fn ask(&mut self, link: Link, how: How, answer: Answer, fate: Fate) {
        self.serial += 1;
        let question = format!("question {}", self.serial);
        let said = json!({"role": "user", "content": question});
        let mut asked = Asked { inputs: vec![question.clone()], asks: true, ..Asked::default() };
        let mut input = json!([said]);
        match link {
            Link::Nothing => input = json!(question),
            Link::Conversation(n) => {
                asked.conversation = self.conversation(n).map(|at| self.conversations[at].id.clone());
            }
            Link::Previous(n) => {
                let before = self.pick(n, Response::is_over);
                asked.previous = before.map(|at| self.responses[at].id.clone());
            }
            Link::Resent(n) => {
                if let Some(at) = self.pick(n, Response::is_over) {
                    let before = &self.questions[at];
                    if self.responses[at].output.is_empty() {
                        // Nothing in the request says that it was answered.
                        asked.inputs.insert(0, before.clone());
                    }
                    let mut items = vec![json!({"role": "user", "content": before})];
                    items.extend(self.responses[at].output.clone());
                    items.push(said);
                    asked.repeats = Some(self.responses[at].id.clone());
                    input = json!(items);
                }
            }
        }
        if asked.conversation.is_none() && asked.previous.is_none() {
            self.whole.insert(self.responses.len());
        }
        self.questions.push(question);
        self.create(asked, input, how, answer, fate);
    }

    fn hand_in(&mut self, response: usize, way: usize, how: How, answer: Answer) {
        let Some(at) = self.pick(response, |response| response.is_over() && !response.calls().is_empty())
        else {
            return;
        };
        self.serial += 1;
        let result = format!("result {}", self.serial);
        let caller = &self.responses[at];
        let answers = caller.calls();
        let output =
            |call: &String| json!({"type": "function_call_output", "call_id": call, "output": result});
        let outputs: Vec<Value> = answers.iter().map(output).collect();
        let inputs = vec![format!("Tool: {result}"); outputs.len()];
        let mut asked = Asked { inputs, answers, ..Asked::default() };
        let lives = |id: &String| self.conversations.iter().any(|known| known.id == *id && !known.deleted);
        let conversation = caller.conversation.clone().filter(lives);
        let mut input = outputs.clone();
        match (way, conversation) {
            (0, _) => asked.previous = Some(caller.id.clone()),
            (1, Some(id)) => asked.conversation = Some(id),
            _ => {
                input = vec![json!({"role": "user", "content": self.questions[at]})];
                input.extend(caller.output.clone());
                input.extend(outputs);
            }
        }
        self.questions.push(result);
        self.create(asked, json!(input), how, answer, Fate::Seen);
    }

    fn create(&mut self, asked: Asked, input: Value, how: How, answer: Answer, fate: Fate) {
        let answer = self.affordable(answer);
        let second = self.second() + 1;
        let background = matches!(how, How::Background | How::BackgroundStream);
        let streamed = matches!(how, How::Stream | How::BackgroundStream);
        let mut response = Response {
            id: format!("resp_{}", self.serial),
            conversation: asked.conversation.clone(),
            previous: asked.previous.clone(),
            background,
            created_at: second,
            ended_at: None,
            status: "in_progress",
            output: Vec::new(),
        };
        if how != How::Background {
            response.answer(answer, second);
        }
        self.responses.push(response.clone());
        let mut request = json!({"model": "m", "input": input, "stream": streamed, "background": background});
        if let Some(id) = &asked.conversation {
            request["conversation"] =
                if self.serial.is_multiple_of(2) { json!(id) } else { json!({ "id": id }) };
        }
        if let Some(id) = &asked.previous {
            request["previous_response_id"] = json!(id);
        }
        if let Fate::Lost = fate {
            return;
        }
        let target = "/v1/responses".to_owned();
        if !streamed {
            let answer = response.object(self.style, response.is_over());
            self.exchange("POST", target, request, &answer);
            let over = response.is_over();
            if over && self.whole.contains(&(self.responses.len() - 1)) {
                self.ledger.remember(&response);
            }
            return self.ledger.state(&response, Some(&asked), (over, over), (self.at(), self.style));
        }
        let events = response.stream(self.style, 0);
        self.stream(self.responses.len() - 1, "POST", target, &request, events, fate, Some(asked));
    }

    /// A stream passes, as far as its fate lets it.
    #[expect(clippy::too_many_arguments, reason = "each is a part of the exchange")]
    fn stream(
        &mut self,
        at: usize,
        method: &str,
        target: String,
        request: &Value,
        mut events: Vec<Event>,
        fate: Fate,
        asked: Option<Asked>,
    ) {
        let bytes: Vec<u8> = events.iter().flat_map(|event| event.bytes.clone()).collect();
        let share = |share: u8, of: usize| of * usize::from(share) / 256;
        let mut exchange = self.prepare(method, target, request);
        exchange.content_type = "text/event-stream".to_owned();
        match fate {
            Fate::Held(part) => {
                let later = events.split_off(1 + share(part, events.len() - 1));
                exchange.pieces = vec![concat(&events), concat(&later)];
                self.run(exchange);
                self.show(at, &events, asked.as_ref(), true);
                self.held.push_back(Held { response: at, events: later });
            }
            Fate::Leaves(part) | Fate::Breaks(part) => {
                let left = matches!(fate, Fate::Leaves(_));
                let cut = share(part, bytes.len());
                exchange.pieces = vec![bytes[..cut].to_vec()];
                exchange.ending = if left { "client_gone" } else { "upstream_failed" }.to_owned();
                self.run(exchange);
                let mut begin = 0;
                events.retain(|event| {
                    let heard = begin + event.enough <= cut;
                    begin += event.bytes.len();
                    heard
                });
                if events.is_empty() {
                    let asked = asked.expect("only what is asked is cut");
                    self.nameless.insert(at);
                    return self.ledger.nameless(&asked, left, self.at());
                }
                self.show(at, &events, asked.as_ref(), true);
                if !events.last().is_some_and(|event| event.is_end) {
                    let told = told(&events);
                    self.ledger.stream_ended(&self.responses[at], told, left, self.at());
                }
            }
            Fate::Lost | Fate::Seen => {
                exchange.pieces = vec![bytes];
                self.run(exchange);
                self.show(at, &events, asked.as_ref(), true);
            }
        }
    }

    /// Tells the ledger what these events show; without `asked`, of a stream that was begun before.
    fn show(&mut self, at: usize, events: &[Event], mut asked: Option<&Asked>, from_beginning: bool) {
        let (now, response) = (self.at(), self.responses[at].clone());
        for event in events.iter().filter(|event| event.is_state) {
            // The last word may leave out what was streamed before; and then only the whole stream shows all of it.
            let has_output = !self.style.bare && !response.output.is_empty();
            let whole = event.is_end && (from_beginning || has_output);
            self.ledger.state(&response, asked.take(), (event.is_end, whole), (now, self.style));
            if event.is_end && from_beginning && self.whole.contains(&at) {
                self.ledger.remember(&response);
            }
        }
    }

    fn more(&mut self) {
        let Some(Held { response, events }) = self.held.pop_front() else { return };
        self.world.run(&[Run::More]);
        self.ledger.tick(self.at());
        self.show(response, &events, None, true);
    }

    /// Somebody asks for the stream of a background response again, from its second event on.
    fn resume(&mut self, response: usize) {
        let Some(at) = self.pick(response, |response| response.background && response.is_over()) else {
            return;
        };
        let response = &self.responses[at];
        let target = format!("/v1/responses/{}?stream=true&starting_after=0", response.id);
        let events = response.stream(self.style, 1);
        let mut exchange = self.prepare("GET", target, &Value::Null);
        exchange.content_type = "text/event-stream".to_owned();
        exchange.pieces = vec![concat(&events)];
        self.run(exchange);
        self.show(at, &events, None, false);
    }

    /// Somebody looks at a response, or cancels it.
    fn look(&mut self, at: usize, method: &str, target: String) {
        let response = self.responses[at].clone();
        let over = response.is_over();
        self.exchange(method, target, Value::Null, &response.object(self.style, over));
        self.ledger.state(&response, None, (over, over), (self.at(), self.style));
    }

    fn create_conversation(&mut self, items: usize, lost: bool) {
        self.serial += 1;
        let id = format!("conv_{}", self.serial);
        let texts: Vec<String> = (0..items).map(|n| format!("item {n} of {id}")).collect();
        self.conversations.push(Conversation { id: id.clone(), items: Vec::new(), deleted: false });
        if !lost {
            let items: Vec<Value> =
                texts.iter().map(|text| json!({"role": "user", "content": text})).collect();
            let answer = json!({"id": id, "object": "conversation", "metadata": {}});
            self.exchange("POST", "/v1/conversations".to_owned(), json!({ "items": items }), &answer);
            self.ledger.conversation_created(&id, texts);
        }
    }

    fn add_item(&mut self, conversation: usize, lost: bool) {
        let Some(at) = self.conversation(conversation) else { return };
        self.serial += 1;
        let (id, text) = (format!("msg_{}", self.serial), format!("added {}", self.serial));
        let conversation = self.conversations[at].id.clone();
        self.conversations[at].items.push(id.clone());
        if !lost {
            let part = json!({"type": "input_text", "text": text});
            let item = json!({"type": "message", "id": id, "role": "user", "status": "completed", "content": [part]});
            let request = json!({"items": [{"role": "user", "content": text}]});
            let target = format!("/v1/conversations/{conversation}/items");
            self.exchange("POST", target, request, &json!({"object": "list", "data": [item]}));
            self.ledger.item_added(&conversation, &id, &text);
        }
    }

    /// A conversation that is not deleted.
    fn conversation(&self, n: usize) -> Option<usize> {
        let there: Vec<usize> =
            (0..self.conversations.len()).filter(|at| !self.conversations[*at].deleted).collect();
        there.get(n % there.len().max(1)).copied()
    }

    /// A response whose id somebody was told, and that is not being streamed.
    fn pick(&self, n: usize, which: impl Fn(&Response) -> bool) -> Option<usize> {
        let there = |at: &usize| {
            which(&self.responses[*at])
                && !self.nameless.contains(at)
                && self.held.iter().all(|held| held.response != *at)
        };
        let there: Vec<usize> = (0..self.responses.len()).filter(there).collect();
        there.get(n % there.len().max(1)).copied()
    }

    /// A conversation remembers the last eight that called tools: no case has more.
    fn affordable(&mut self, answer: Answer) -> Answer {
        match answer {
            Answer::Tools(_) if self.tools >= 8 => Answer::Text,
            Answer::Tools(_) => {
                self.tools += 1;
                answer
            }
            answer => answer,
        }
    }

    fn exchange(&mut self, method: &str, target: String, request: Value, answer: &Value) {
        let mut exchange = self.prepare(method, target, &request);
        exchange.content_type = "application/json".to_owned();
        exchange.pieces = vec![answer.to_string().into_bytes()];
        self.run(exchange);
    }

    fn prepare(&self, method: &str, target: String, request: &Value) -> Exchange {
        let request = if request.is_null() { String::new() } else { request.to_string() };
        Exchange { method: method.to_owned(), target, request, status: 200, ..Exchange::default() }
    }

    /// An exchange takes a second to come, and a moment to be answered.
    fn run(&mut self, exchange: Exchange) {
        self.ledger.tick(self.world.now.0 + 1000);
        self.world.run(&[Run::Exchange(exchange)]);
        self.ledger.tick(self.at());
    }

    /// When the last answer passed.
    fn at(&self) -> u64 {
        self.world.now.0 + 200
    }

    fn second(&self) -> u64 {
        self.world.now.0 / 1000
    }
}

fn concat(events: &[Event]) -> Vec<u8> {
    events.iter().flat_map(|event| event.bytes.clone()).collect()
}

/// The texts of messages and the calls of tools that events tell in pieces.
fn told(events: &[Event]) -> (Vec<String>, Vec<String>) {
    let mut texts: BTreeMap<usize, (bool, String)> = BTreeMap::new();
    for (message, piece, refuses) in events.iter().filter_map(|event| event.text.as_ref()) {
        let known = texts.entry(*message).or_default();
        known.0 = *refuses;
        known.1.push_str(piece);
    }
    let text = |(refuses, text): (bool, String)| if refuses { format!("[refusal: {text}]") } else { text };
    let calls = events.iter().filter_map(|event| event.call.clone()).collect();
    (texts.into_values().map(text).collect(), calls)
}
