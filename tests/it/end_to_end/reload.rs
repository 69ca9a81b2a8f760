use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use threadtap_testkit::assistants::Script;
use threadtap_testkit::client::Client;
use threadtap_testkit::collector::Reaction;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::launch::Threadtap;
use super::talk::Talk;
use super::world::World;
use crate::support::soon;

const BEFORE: &str = "[intake]\nkey = \"old-key\"\n[admin]\ntoken = \"old-token\"\n";
const AFTER: &str = "[intake]\nkey = \"new-key\"\n[admin]\ntoken = \"new-token\"\n[attribution]\n\
                     hash_credentials = true\nhash_key = \"secret\"\n[log]\nformat = \"text\"\n[MORE]\n";

#[tokio::test]
async fn a_reload_applies_keys_tokens_and_the_format_of_logs_and_names_what_it_cannot() {
    let world = World::new().await;
    let mut threadtap = world.launch_with(BEFORE).start().await;
    assert_eq!(doors(&threadtap, "old-key", "old-token").await, (200, 200));
    assert_eq!(doors(&threadtap, "new-key", "new-token").await, (401, 401));
    talk(&threadtap).await;

    let more = "[capture]\nmax_body = \"1MiB\"\n[store]\nmax_size = \"1GiB\"\n";
    let (applied, needs_restart) = reload(&mut threadtap, &world, &AFTER.replace("[MORE]\n", more)).await;
    assert_eq!(doors(&threadtap, "old-key", "old-token").await, (401, 401));
    assert_eq!(doors(&threadtap, "new-key", "new-token").await, (200, 200));
    talk(&threadtap).await;
    let keys = "attribution.hash_credentials, intake.key, admin.token, log.format";
    assert!(applied.contains(&format!("applied={keys:?}")) && !applied.starts_with('{'), "{applied}");
    let named = needs_restart.unwrap();
    assert!(named.contains("settings=\"capture.max_body, store.max_size\""), "{named}");
    let lines = threadtap.stderr.lines();
    let shown =
        lines.iter().find(|line| ["-key", "-token", "secret"].iter().any(|secret| line.contains(secret)));
    assert_eq!(shown, None);

    // What was applied is not news any more; what was not still is.
    let (applied, needs_restart) = reload(&mut threadtap, &world, &AFTER.replace("[MORE]\n", more)).await;
    assert!(applied.contains("applied=\"nothing\""), "{applied}");
    assert!(needs_restart.is_some());

    let admin =
        Client::new(&format!("http://{}", threadtap.admin)).with_header("authorization", "Bearer new-token");
    let records = two_records(&admin).await;
    let apps: Vec<&Value> = records.iter().map(|record| &record["attribution"]["app"]).collect();
    assert!(
        apps[1].is_null() && apps[0].as_str().is_some_and(|app| app.len() == 16),
        "newest first: {apps:?}"
    );
}

#[tokio::test]
async fn the_key_of_intake_comes_and_goes_with_a_reload_and_so_does_intake() {
    let world = World::new().await;
    let token = "[admin]\ntoken = \"token\"\n[intake]\n";
    let mut threadtap = world.launch_with(token).start().await;
    assert_eq!(doors(&threadtap, "any", "token").await, (200, 200));
    for (settings, with_any, with_key) in [
        ("key = \"key\"\n", 401, 200),
        ("key = \"key\"\non_proxy = false\n", 404, 404),
        ("key = \"key\"\non_proxy = true\n", 401, 200),
        ("", 200, 200),
    ] {
        let (_, needs_restart) = reload(&mut threadtap, &world, &format!("{token}{settings}")).await;
        assert_eq!(needs_restart, None);
        assert_eq!(doors(&threadtap, "any", "token").await, (with_any, 200), "{settings}");
        assert_eq!(doors(&threadtap, "key", "token").await, (with_key, 200), "{settings}");
    }
}

#[tokio::test]
async fn a_reload_that_cannot_be_used_changes_nothing() {
    let world = World::new().await;
    let mut threadtap = world.launch_with(BEFORE).start().await;
    for (times, (from, to)) in (1..).zip([("[MORE]", "[nonsense]"), ("[MORE]", "level = \"no=such=level\"")])
    {
        std::fs::write(world.settings(), AFTER.replace(from, to)).unwrap();
        threadtap.hang_up();
        let refused =
            |lines: &[String]| lines.iter().filter(|line| line.contains("nothing was changed")).count();
        threadtap.stderr.wait_for(|lines| refused(lines) == times).await;
        assert_eq!(doors(&threadtap, "old-key", "old-token").await, (200, 200));
    }
}

#[tokio::test]
async fn a_reload_applies_how_it_is_delivered() {
    let world = World::with(Script::default(), [Reaction::Status(500, None)]).await;
    let sink = "SINK[delivery]\nmin_backoff = \"10000h\"\nmax_backoff = \"10000h\"\n";
    let mut threadtap = world.launch_with(sink).start().await;
    let settings = std::fs::read_to_string(world.settings()).unwrap();
    talk(&threadtap).await;
    soon("the first attempt", async {
        while world.collector.received().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let (applied, needs_restart) = reload(&mut threadtap, &world, &settings.replace("10000h", "10ms")).await;
    assert!(applied.contains("delivery.min_backoff, delivery.max_backoff"), "{applied}");
    assert_eq!(needs_restart, None);
    soon("the second attempt", world.collector.wait_for(1)).await;
}

#[tokio::test]
async fn a_reload_applies_where_records_are_shown_and_how_it_ends() {
    let world = World::new().await;
    let mut threadtap = world.launch_with("[drain]\ngrace = \"10000h\"\n").start().await;
    talk(&threadtap).await;
    threadtap.records(1).await;
    let after = "[drain]\ngrace = \"0s\"\n[log]\ninteractions = \"always\"\n";
    let (applied, _) = reload(&mut threadtap, &world, after).await;
    assert!(applied.contains("drain.grace, log.interactions"), "{applied}");
    talk(&threadtap).await;
    threadtap.stdout.wait_for(|lines| lines.len() == 1).await;

    let mut client = TcpStream::connect(threadtap.listen).await.unwrap();
    client.write_all(b"POST /v1/threads HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n{").await.unwrap();
    threadtap.wait_for_metric("threadtap_exchanges_in_progress", 1.0).await;
    threadtap.terminate();
    assert!(threadtap.ended().await.success());
}

/// Has settings read, and waits until that is logged: what was applied, and what needs a restart.
async fn reload(threadtap: &mut Threadtap, world: &World, settings: &str) -> (String, Option<String>) {
    let before = threadtap.stderr.lines().len();
    let told = "reloaded the settings";
    let find =
        |lines: &[String], text: &str| lines.iter().skip(before).find(|line| line.contains(text)).cloned();
    std::fs::write(world.settings(), settings).unwrap();
    threadtap.hang_up();
    threadtap.stderr.wait_for(|lines| find(lines, told).is_some()).await;
    // The warning comes before it.
    let lines = threadtap.stderr.lines();
    (find(&lines, told).unwrap(), find(&lines, "need a restart"))
}

/// What the doors say to a key and to a token.
async fn doors(threadtap: &Threadtap, key: &str, token: &str) -> (u16, u16) {
    let proxy = Client::new(&format!("http://{}", threadtap.listen)).with_header("x-threadtap-key", key);
    let user = json!({"id": "u1"});
    let told = proxy.send(Method::POST, "/_threadtap/users", &user).await.unwrap();
    let admin = Client::new(&format!("http://{}", threadtap.admin))
        .with_header("authorization", &format!("Bearer {token}"));
    let asked = admin.send(Method::GET, "/api/v1/status", &Value::Null).await.unwrap();
    (told.status.as_u16(), asked.status.as_u16())
}

async fn talk(threadtap: &Threadtap) {
    Talk::begin(threadtap.client(), &["hello"]).await.stream("asst_echo").await;
}

async fn two_records(admin: &Client) -> Vec<Value> {
    loop {
        let page = admin.json(Method::GET, "/api/v1/interactions", &Value::Null).await.unwrap();
        let rows = page["data"].as_array().unwrap();
        if rows.len() == 2 {
            return rows.iter().map(|row| row["interaction"].clone()).collect();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
