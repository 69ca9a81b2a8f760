//! Cases that one script cannot tell: keys, replicas, credentials, limits on text.

use threadtap_core::dialect::Source;
use threadtap_core::exchange::CAPTURED_HEADERS;

use crate::harness::{Settings, World};
use crate::script;

const ASK: &str = r#"
>>> POST /v1/threads/t1/messages

{"role": "user", "content": "a question"}
<<< 200 application/json
{"id": "m1", "object": "thread.message", "thread_id": "t1", "role": "user", "created_at": 1001, "content": "a question"}
>>> POST /v1/threads/t1/runs

{"assistant_id": "a1"}
<<< 200 application/json
{"id": "r1", "object": "thread.run", "thread_id": "t1", "status": "queued", "created_at": 1002}
"#;
const POLL: &str = r#"
>>> GET /v1/threads/t1/runs/r1
<<< 200 application/json
{"id": "r1", "object": "thread.run", "thread_id": "t1", "status": "completed", "created_at": 1002, "completed_at": 1003}
"#;

#[test]
fn f9_no_credential_is_captured_or_a_source() {
    for credential in ["authorization", "api-key", "x-api-key", "cookie", "proxy-authorization"] {
        assert!(!CAPTURED_HEADERS.contains(&credential));
        assert!(credential.parse::<Source>().is_err(), "{credential}");
    }
}

#[test]
fn g4_the_key_is_a_hash_of_upstream_thread_and_run() {
    let mut world = World::new(Settings::default());
    world.run(&script::parse(&format!("{ASK}{POLL}@wait 31s\n")));
    assert_eq!(world.records[0].key, "971c06cdfb69ad4d43a94d3ec1e4a5f5");
}

#[test]
fn g5_two_replicas_that_see_parts_of_a_run_give_one_key() {
    let (mut first, mut second) = (World::new(Settings::default()), World::new(Settings::default()));
    first.run(&script::parse(&format!("{ASK}@wait 700s\n")));
    second.run(&script::parse(&format!("{POLL}@wait 31s\n")));
    let (first, second) = (&first.records[0], &second.records[0]);
    assert_eq!(first.key, second.key);
    assert!(first.assumed && !first.outputs_complete, "the one that saw the question did not see the end");
    assert!(!second.assumed && !second.inputs_complete, "and the other way round");
}

#[test]
fn g7_the_limit_on_text_records_waiting_runs_first() {
    let mut settings = Settings::default();
    settings.correlator.limits.text_bytes = 40_000;
    let mut world = World::new(settings);
    world.run(&script::parse(&format!("{ASK}{POLL}")));
    for thread in 2..60 {
        let text = ASK.replace("t1", &format!("t{thread}")).replace("a question", &"long ".repeat(100));
        world.run(&script::parse(&text));
        assert!(world.correlator().text_bytes() <= 40_000);
    }
    assert_eq!((&*world.records[0].conversation.id, world.records[0].assumed), ("t1", false));
    assert!(world.records.len() > 20, "evicted runs are recorded, not lost: {}", world.records.len());
    assert!(world.records[1..].iter().all(|record| record.assumed && record.inputs.len() == 1));
}
