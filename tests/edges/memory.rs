//! What live conversations take in memory.

use std::sync::Arc;

use serde_json::json;
use threadtap::correlator::{Config, Correlator};
use threadtap::dialect::{self, Observed, Observer};
use threadtap::exchange::{End, Ending, RequestBody, Segment, Start};
use threadtap::time::UnixMillis;

/// Prints the resident memory: `cargo test --release --test edges -- --ignored --nocapture memory`.
#[test]
#[ignore = "a measurement; of use in release builds"]
fn memory_of_a_hundred_thousand_live_conversations_is_under_512_mb() {
    let mut correlator = Correlator::new(Config::default());
    let before = resident_kib();
    let upstream: Arc<str> = Arc::from("api.openai.com:443");
    let question = "What are the opening hours of the shop in Bern on public holidays? ".repeat(6);
    for n in 0..LIVE {
        let (thread, run) = (format!("thread_{n:024}"), format!("run_{n:024}"));
        let at = UnixMillis(1_800_000_000_000 + n);
        let mut tell = |method: &str, path: String, request: serde_json::Value, answer: serde_json::Value| {
            let start = Start {
                upstream: upstream.clone(),
                caller: None,
                method: method.parse().unwrap(),
                path,
                query: String::new(),
                request_headers: Vec::new(),
                request_body: RequestBody { bytes: request.to_string().into_bytes(), complete: true },
                request_at: at,
                status: 200,
                content_type: Some(http::HeaderValue::from_static("application/json")),
                content_encoding: None,
                response_at: at,
            };
            let mut observed = Observed::default();
            let mut observer = Observer::start(&start, &dialect::Config::default(), &mut observed).unwrap();
            let bytes = answer.to_string().into_bytes();
            observer.feed(&Segment { seq: 0, at, bytes }, &mut observed);
            let end = End { segments: 1, at, ending: Ending::Complete };
            observer.end(&end, &mut observed);
            for observation in &observed.observations {
                assert!(correlator.handle(observation));
            }
        };
        let user = json!({"user_id": format!("user_{n}")});
        tell(
            "POST",
            format!("/v1/threads/{thread}/messages"),
            json!({"role": "user", "content": question}),
            json!({"id": format!("msg_{n:024}"), "object": "thread.message", "created_at": 1_800_000_000, "thread_id": thread,
                   "role": "user", "content": [{"type": "text", "text": {"value": question, "annotations": []}}],
                   "assistant_id": null, "run_id": null, "attachments": [], "metadata": {}}),
        );
        tell(
            "POST",
            format!("/v1/threads/{thread}/runs"),
            json!({"assistant_id": "asst_abcdefghijklmnopqrstuvwx", "metadata": user}),
            json!({"id": run, "object": "thread.run", "created_at": 1_800_000_001, "thread_id": thread, "status": "queued",
                   "assistant_id": "asst_abcdefghijklmnopqrstuvwx", "model": "gpt-4o-mini", "expires_at": 1_800_000_601,
                   "metadata": user, "usage": null}),
        );
        while correlator.poll().is_some() {}
    }
    assert_eq!((correlator.conversations(), correlator.open_runs()), (LIVE as usize, LIVE as usize));
    let taken = resident_kib() - before;
    println!(
        "{LIVE} live conversations with an open run and a question of {} bytes: {} MiB resident, {} bytes each, {} MiB of them counted",
        question.len(),
        taken / 1024,
        taken * 1024 / LIVE,
        correlator.text_bytes() >> 20
    );
    assert!(taken < 512 * 1024, "{taken} KiB");
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

const LIVE: u64 = 100_000;
