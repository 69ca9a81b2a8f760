use http::Method;
use serde_json::{Value, json};
use threadtap_testkit::client::Client;

use super::launch::Threadtap;
use super::talk::Talk;
use super::world::World;

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

    std::fs::write(world.settings(), AFTER.replace("[MORE]\n", "[capture]\nmax_body = \"1MiB\"\n")).unwrap();
    reload(&mut threadtap, "other settings changed too").await;
    assert_eq!(doors(&threadtap, "old-key", "old-token").await, (401, 401));
    assert_eq!(doors(&threadtap, "new-key", "new-token").await, (200, 200));
    talk(&threadtap).await;
    let lines = threadtap.stderr.lines();
    let named = lines.iter().find(|line| line.contains("other settings changed too")).unwrap();
    assert!(named.contains("[capture]") && !named.contains("intake") && !named.starts_with('{'), "{named}");

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

/// Has the settings read again, and waits until that is logged.
async fn reload(threadtap: &mut Threadtap, logged: &str) {
    threadtap.hang_up();
    threadtap.stderr.wait_for(|lines| lines.iter().any(|line| line.contains(logged))).await;
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
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
