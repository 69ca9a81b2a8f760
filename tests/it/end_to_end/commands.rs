//! The operator's commands, on an instance that runs and on what a stopped one left.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use threadtap_testkit::assistants::Script;
use threadtap_testkit::collector::Reaction;

use super::launch::Threadtap;
use super::talk::{Talk, read_deltas};
use super::world::{World, accepted};
use crate::support::soon;

/// Whether the instance goes on while it is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    Stopped,
}

const STATES: [State; 2] = [State::Running, State::Stopped];

/// A world whose instance goes on, or is told to stop.
struct Instance {
    world: World,
    threadtap: Option<Threadtap>,
}

impl Instance {
    async fn with(reactions: Vec<Reaction>) -> Self {
        let world = World::with(Script::default(), reactions).await;
        // However long a test takes while its backend fails, what is due is tried again soon.
        std::fs::write(world.settings(), "[delivery]\nmax_backoff = \"1s\"\n").unwrap();
        let mut instance = Self { world, threadtap: None };
        instance.go_on().await;
        instance
    }

    fn threadtap(&self) -> &Threadtap {
        self.threadtap.as_ref().unwrap()
    }

    async fn ask(&self, user: &str, question: &str) {
        let client = self.threadtap().client().with_header("x-threadtap-user", user);
        Talk::begin(client, &[question]).await.stream("asst_echo").await;
    }

    async fn be(&mut self, state: State) {
        if state == State::Stopped {
            let mut threadtap = self.threadtap.take().unwrap();
            threadtap.terminate();
            assert_eq!(threadtap.ended().await.code(), Some(0));
        }
    }

    /// So that deliveries are made that a command made due.
    async fn go_on(&mut self) {
        if self.threadtap.is_none() {
            let launch = self.world.launch().flag("--config", self.world.settings());
            self.threadtap = Some(launch.start().await);
        }
    }

    /// Runs a command that must succeed: what it wrote.
    async fn run(&self, arguments: &[&str]) -> Vec<String> {
        let (code, stdout, stderr) = self.outcome(arguments).await;
        assert_eq!((code, &stderr[..]), (Some(0), &[][..]), "{arguments:?}: {stdout:?}");
        stdout
    }

    /// Runs a command with `--json`: the one object it wrote.
    async fn json(&self, arguments: &[&str]) -> Value {
        let stdout = self.run(&[arguments, &["--json"]].concat()).await;
        assert_eq!(stdout.len(), 1, "{stdout:?}");
        serde_json::from_str(&stdout[0]).unwrap()
    }

    async fn outcome(&self, arguments: &[&str]) -> (Option<i32>, Vec<String>, Vec<String>) {
        let launch = arguments.iter().fold(self.world.command(), |launch, argument| launch.command(argument));
        launch.run().await
    }

    async fn wait_for_dead_letters(&self, count: f64) {
        self.threadtap().wait_for_metric("threadtap_dead_letters{sink=\"reconify\"}", count).await;
    }
}

#[tokio::test]
async fn status_says_whether_it_runs_and_what_waits() {
    for state in STATES {
        let mut instance = Instance::with(Reaction::Status(503, None).times(10_000)).await;
        instance.ask("ada", "what waits?").await;
        instance.threadtap().records(1).await;
        let process = instance.threadtap().pid();
        instance.be(state).await;
        let status = instance.json(&["status"]).await;
        let expected = if state == State::Running { json!(process) } else { Value::Null };
        assert_eq!(status["process"], expected);
        assert_eq!(status["store"]["backlog"]["sinks"]["reconify"]["deliveries"], 1, "{status}");
        assert_eq!(status["store"]["failing"], false);
        let lines = instance.run(&["status"]).await;
        let runs = if state == State::Running {
            format!("runs as process {process}")
        } else {
            "is not running".to_owned()
        };
        assert!(lines[0].ends_with(&runs), "{lines:?}");
        assert!(
            lines.iter().any(|line| line.contains("reconify: 1 waiting, the oldest since 20")),
            "{lines:?}"
        );
    }
}

#[tokio::test]
async fn dead_letters_are_listed_shown_exported_dropped_and_retried_with_the_same_bytes() {
    for state in STATES {
        let mut instance = Instance::with(Reaction::Status(400, None).times(2)).await;
        instance.ask("ada", "the first").await;
        instance.wait_for_dead_letters(1.0).await;
        instance.ask("ada", "the second").await;
        instance.wait_for_dead_letters(2.0).await;
        instance.be(state).await;
        let list = instance.run(&["dead-letters", "list", "--json"]).await;
        let letters: Vec<Value> = list.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(letters.len(), 2);
        assert!(letters[0]["answer"].as_str().unwrap().starts_with("400"), "{letters:?}");
        let ids: Vec<String> = letters.iter().map(|letter| letter["id"].to_string()).collect();
        let shown = instance.run(&["dead-letters", "show", &ids[0]]).await.join("\n");
        assert!(shown.contains("the first") && shown.contains("interaction for reconify"), "{shown}");
        let exported = instance.run(&["dead-letters", "export", "--sink", "reconify"]).await;
        assert!(exported[0].contains("the first") && exported[1].contains("the second"), "{exported:?}");
        assert!(instance.run(&["dead-letters", "export", "--sink", "other"]).await.is_empty());
        assert_eq!(instance.json(&["dead-letters", "drop", &ids[1]]).await, json!({"changed": 1}));
        let again = instance.outcome(&["dead-letters", "drop", &ids[1]]).await;
        assert_eq!(again.0, Some(1), "{again:?}");
        assert_eq!(instance.json(&["dead-letters", "retry", "--all"]).await, json!({"changed": 1}));
        assert!(instance.run(&["dead-letters", "list"]).await[0].contains("no dead letters"));
        instance.go_on().await;
        instance.world.delivered(1).await;
        let received = instance.world.collector.received();
        assert_eq!(received.len(), 3, "{state:?}");
        assert_eq!(received[0].headers["idempotency-key"], received[2].headers["idempotency-key"]);
        assert_eq!(received[0].bytes, received[2].bytes);
    }
}

#[tokio::test]
async fn export_writes_the_records_of_a_period() {
    for state in STATES {
        let mut instance = Instance::with(vec![]).await;
        for number in 0..3 {
            instance.ask("ada", &format!("question {number}")).await;
        }
        let records = instance.threadtap().records(3).await;
        instance.be(state).await;
        let exported: Vec<Value> =
            instance.run(&["export"]).await.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        let exported: Vec<&Value> = exported.iter().map(|event| &event["interaction"]).collect();
        assert_eq!(exported, records.iter().collect::<Vec<_>>());
        assert_eq!(instance.run(&["export", "--since", "1h"]).await.len(), 3);
        assert!(instance.run(&["export", "--since", "1h", "--until", "30m"]).await.is_empty());
        assert!(instance.run(&["export", "--until", "2020-01-01T00:00:00Z"]).await.is_empty());
        let (code, stdout, stderr) = instance.outcome(&["export", "--since", "yesterday"]).await;
        assert_eq!((code, stdout.len(), stderr.len()), (Some(2), 0, 1), "{stderr:?}");
        assert!(stderr[0].contains("--since is `yesterday`: use a time such as"), "{stderr:?}");
    }
}

#[tokio::test]
async fn resend_delivers_the_same_bytes_under_the_same_keys_once_more() {
    for state in STATES {
        let mut instance = Instance::with(vec![]).await;
        instance.ask("ada", "once").await;
        instance.ask("ada", "and again").await;
        // The sink's filter holds for what is sent again as well.
        let client = instance.threadtap().client();
        Talk::begin(client, &["this fails"]).await.stream("asst_fail").await;
        instance.threadtap().records(3).await;
        instance.world.delivered(2).await;
        instance.threadtap().wait_for_metric("threadtap_delivery_queue_depth{sink=\"reconify\"}", 0.0).await;
        instance.be(state).await;
        let (code, _, stderr) = instance.outcome(&["resend", "--sink", "other", "--since", "1h"]).await;
        assert_eq!(code, Some(1));
        assert!(stderr[0].ends_with("there is no sink `other`; there are: reconify"), "{stderr:?}");
        assert_eq!(
            instance.json(&["resend", "--sink", "reconify", "--since", "1h", "--until", "30m"]).await["made_due"],
            0
        );
        assert_eq!(instance.json(&["resend", "--sink", "reconify", "--since", "1h"]).await["made_due"], 2);
        instance.go_on().await;
        let received = soon("all to come again", instance.world.collector.wait_for(4)).await;
        // Also holds each repeated payload to the bytes it had.
        assert_eq!(accepted(&received).len(), 2);
        assert!(instance.world.deliveries().values().all(|count| *count == 2));
    }
}

#[tokio::test]
async fn forget_leaves_nothing_of_a_user_in_any_file_and_nothing_is_delivered_of_it() {
    for state in STATES {
        let mut instance = Instance::with(Reaction::Status(503, None).times(10_000)).await;
        instance.ask("eve", "the secret of eve, zyxwvut").await;
        instance.ask("adam", "what adam may keep").await;
        instance.threadtap().records(2).await;
        instance.be(state).await;
        assert!(holds(&instance.world.data_dir(), "zyxwvut"));
        let erased = instance.json(&["forget", "--user", "eve"]).await;
        assert_eq!(erased["conversations"], 1, "{erased}");
        assert_eq!((&erased["events"], &erased["deliveries"]), (&json!(1), &json!(1)), "{erased}");
        assert!(!holds(&instance.world.data_dir(), "zyxwvut"), "{state:?}");
        assert!(holds(&instance.world.data_dir(), "what adam may keep"));
        instance.go_on().await;
        instance.world.collector.recover();
        instance.threadtap().wait_for_metric("threadtap_delivery_queue_depth{sink=\"reconify\"}", 0.0).await;
        assert!(accepted(&instance.world.collector.received()).len() == 1);
        assert_eq!(instance.threadtap().records(1).await[0]["attribution"]["user"]["userId"], "adam");
    }
}

#[tokio::test]
async fn forget_reaches_the_memory_of_a_conversation_that_goes_on() {
    let mut instance = Instance::with(vec![]).await;
    let talk = Talk::begin(instance.threadtap().client(), &["a secret to be, zyxwvut"]).await;
    let mut stream = talk.open_stream("asst_stall").await;
    read_deltas(&mut stream, 1).await;
    instance.threadtap().wait_for_metric("threadtap_open_runs", 1.0).await;
    soon("the journal to be written", async {
        while !holds(&instance.world.data_dir(), "zyxwvut") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let text = instance.run(&["forget", "--conversation", &talk.thread]).await;
    assert!(text[0].starts_with("erased from 1 conversations: 0 events"), "{text:?}");
    instance.threadtap().wait_for_metric("threadtap_open_runs", 0.0).await;
    drop(stream);
    instance.be(State::Stopped).await;
    assert!(!holds(&instance.world.data_dir(), "zyxwvut"));
    assert!(instance.run(&["export"]).await.iter().all(|line| !line.contains("zyxwvut")));
}

#[tokio::test]
async fn a_corrupt_database_that_was_set_aside_is_named_as_not_covered() {
    let mut instance = Instance::with(vec![]).await;
    instance.be(State::Stopped).await;
    std::fs::write(instance.world.data_dir().join("threadtap.db"), "no database ".repeat(1000)).unwrap();
    instance.go_on().await;
    let erased = instance.json(&["forget", "--user", "anybody"]).await;
    let named = erased["not_covered"].as_array().unwrap();
    assert!(named.len() == 1 && named[0].as_str().unwrap().contains("threadtap.db.corrupt-"), "{erased}");
    assert_eq!(instance.json(&["status"]).await["store"]["set_aside"], erased["not_covered"]);
}

#[tokio::test]
async fn a_command_carries_the_token_the_instance_asks_for() {
    let world = World::new().await;
    let threadtap = world.launch_with("[admin]\ntoken = \"only with this\"\nSINK").start().await;
    assert_eq!(threadtap.ask("/api/v1/status").await.0, 401);
    let (code, _, stderr) = world.command().command("status").run().await;
    assert_eq!(code, Some(1));
    assert!(stderr[0].contains("401"), "{stderr:?}");
    let with_token = world.command().variable("THREADTAP_ADMIN_TOKEN", "only with this").command("status");
    assert_eq!(with_token.run().await.0, Some(0));
    let with_file = world.command().flag("--config", world.settings()).command("status");
    assert_eq!(with_file.run().await.0, Some(0));
}

#[tokio::test]
async fn what_cannot_be_done_is_one_line_and_what_cannot_be_meant_exit_code_2() {
    let instance = Instance { world: World::new().await, threadtap: None };
    let (code, stdout, stderr) = instance.outcome(&["status"]).await;
    assert_eq!((code, stdout.len(), stderr.len()), (Some(1), 0, 1), "{stderr:?}");
    assert!(stderr[0].contains("there is no threadtap data in "), "{stderr:?}");
    assert!(!instance.world.data_dir().exists(), "looking leaves nothing behind");
    for wrong in [
        &["forget"][..],
        &["forget", "--user", "a", "--conversation", "b"],
        &["forget", "--user", ""],
        &["resend", "--since", "1h"],
        &["resend", "--sink", "reconify"],
        &["dead-letters", "retry"],
        &["dead-letters", "drop", "1", "--all"],
        &["dead-letters", "show", "first"],
        &["export", "--since", "5 parsecs"],
        &["status", "--admin-listen", "nowhere"],
    ] {
        let (code, stdout, stderr) = instance.outcome(wrong).await;
        assert_eq!((code, stdout.len()), (Some(2), 0), "{wrong:?}: {stderr:?}");
        assert!(!stderr.is_empty(), "{wrong:?}");
    }
}

fn holds(directory: &Path, text: &str) -> bool {
    std::fs::read_dir(directory).unwrap().any(|entry| {
        // A file may go while the others are read.
        let bytes = std::fs::read(entry.unwrap().path()).unwrap_or_default();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    })
}
