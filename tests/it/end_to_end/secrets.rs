use std::fs;
use std::path::Path;

use http::Method;
use serde_json::{Value, json};
use threadtap_testkit::assistants::Script;
use threadtap_testkit::client::Client;
use threadtap_testkit::collector::{Collector, Reaction};

use super::launch::{Launch, Threadtap};
use super::talk::{Talk, read_deltas};
use super::world::World;
use crate::support::{Raw, Upstream, soon};

/// Credentials that requests, answers or settings carry, each told nowhere else.
const AUTHORIZATION: &str = "sk-planted/in+authorization~1";
const API_KEY_HEADER: &str = "planted-in-the-api-key-header-2";
const COOKIE: &str = "planted-in-a-cookie-3";
const PROXY_PASSWORD: &str = "planted+proxy/password-4";
const QUERY_KEY: &str = "planted-in-the-query-5";
const QUERY_SIGNATURE: &str = "planted/signature+of=a?url-6";
const SET_COOKIE: &str = "planted-in-set-cookie-7";
const ECHOED: &str = "sk-planted-and-echoed-by-a-refusal-8";
const RECONIFY_APP_KEY: &str = "planted-reconify-app-key-9";
const RECONIFY_API_KEY: &str = "planted-reconify-api-key-10";
const ALIGN_API_KEY: &str = "planted-align-api-key-11";
const ADMIN_TOKEN: &str = "planted-admin-token-12";
const WRONG_ADMIN_TOKEN: &str = "planted-wrong-admin-token-13";
const INTAKE_KEY: &str = "planted-intake-key-14";
const WRONG_INTAKE_KEY: &str = "planted-wrong-intake-key-15";
const HASH_KEY: &str = "planted-hash-key-16";

const PLANTED: [&str; 16] = [
    AUTHORIZATION,
    API_KEY_HEADER,
    COOKIE,
    PROXY_PASSWORD,
    QUERY_KEY,
    QUERY_SIGNATURE,
    SET_COOKIE,
    ECHOED,
    RECONIFY_APP_KEY,
    RECONIFY_API_KEY,
    ALIGN_API_KEY,
    ADMIN_TOKEN,
    WRONG_ADMIN_TOKEN,
    INTAKE_KEY,
    WRONG_INTAKE_KEY,
    HASH_KEY,
];

/// Credentials within bodies that must be masked: a path, a body to be posted there, and the secret in it.
const IN_BODIES: &[(&str, &str, &str)] = &[
    (
        "/v1/chat/completions",
        r#"{"model": "m", "messages": [{"role": "user", "content": "hi"}], "data_sources": [{"type": "azure_search", "parameters": {"authentication": {"type": "api_key", "key": "BODY-search-key-8b1f0c"}}}]}"#,
        "BODY-search-key-8b1f0c",
    ),
    (
        "/v1/chat/completions",
        r#"{"model": "m", "api_key": "BODY-api-key-5d2e9a", "messages": [{"role": "user", "content": "hi"}]}"#,
        "BODY-api-key-5d2e9a",
    ),
    (
        "/v1/chat/completions",
        r#"{"model": "m", "extra_headers": {"Authorization": "Bearer BODY-extra-header-77c3d1"}, "messages": [{"role": "user", "content": "hi"}]}"#,
        "BODY-extra-header-77c3d1",
    ),
    (
        "/v1/chat/completions",
        r#"{"model": "m", "aws_secret_access_key": "BODY-aws-secret-0e44b7", "messages": [{"role": "user", "content": "hi"}]}"#,
        "BODY-aws-secret-0e44b7",
    ),
    (
        "/v1/chat/completions",
        r#"{"model": "m", "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://h/a.png?sv=1&sig=BODY-signature-91aa20"}}]}]}"#,
        "BODY-signature-91aa20",
    ),
    (
        "/v1/responses",
        r#"{"model": "m", "input": "hi", "tools": [{"type": "mcp", "server_label": "s", "server_url": "https://mcp", "authorization": "BODY-mcp-token-c6f8e2"}]}"#,
        "BODY-mcp-token-c6f8e2",
    ),
    (
        "/v1/threads",
        r#"{"messages": [{"role": "user", "content": "hi", "metadata": {"password": "BODY-password-3b9d54"}}], "metadata": {"connection_string": "Endpoint=x"}}"#,
        "BODY-password-3b9d54",
    ),
];

/// What is said, and must be found where records are: a search that finds nothing proves nothing.
const CONTENT: &str = "said aloud: 4711, for all to find";

#[tokio::test]
async fn no_credential_is_found_in_any_file_log_metric_line_export_or_page() {
    // One payload is refused, so that there is a dead letter.
    let world = World::with(Script::default(), Reaction::Status(400, None).times(1)).await;
    let align = Collector::start([]).await.unwrap();
    let settings = format!(
        "[log]\nlevel = \"trace\"\ninteractions = \"always\"\n[admin]\ntoken = \"{ADMIN_TOKEN}\"\n\
         [intake]\nkey = \"{INTAKE_KEY}\"\n[attribution]\nhash_credentials = true\nhash_key = \"{HASH_KEY}\"\n\
         [[sinks]]\ntype = \"reconify\"\nurl = \"{}\"\napp_key = \"{RECONIFY_APP_KEY}\"\napi_key = \"{RECONIFY_API_KEY}\"\n\
         [[sinks]]\ntype = \"align\"\nhost = \"{}\"\napi_key = \"{ALIGN_API_KEY}\"\nproject_id = \"p\"\nlinger = \"10ms\"\n",
        world.collector.url("/track"),
        align.url(""),
    );
    fs::write(world.settings(), settings).unwrap();
    let launch = |upstream: String| {
        let home = world.settings().parent().unwrap().to_owned();
        let launch = Launch::on_free_ports(&home).flag("--config", world.settings());
        launch.flag("--data-dir", world.data_dir()).flag("--upstream", upstream)
    };
    let mut found = Found::default();

    let mut threadtap = launch(world.upstream()).start().await;
    converse(&threadtap).await;
    soon("payloads", world.collector.wait_for(2)).await;
    soon("events", align.wait_for(1)).await;
    found.look_at(&threadtap, &world, &launch).await;
    end(&mut threadtap, &mut found).await;

    let mut upstream = Upstream::bind().await;
    let mut threadtap = launch(format!("http://{}", upstream.address)).start().await;
    refuse(&threadtap, &mut upstream).await;
    found.look_at(&threadtap, &world, &launch).await;
    end(&mut threadtap, &mut found).await;

    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut threadtap = launch(format!("http://{nowhere}")).start().await;
    let answered = client(&threadtap).send(Method::POST, &chat(), &question()).await.unwrap();
    assert_eq!(answered.status, 502);
    found.add("the error of our own", &answered.bytes().await.unwrap());
    end(&mut threadtap, &mut found).await;
    found.files(&world.data_dir());

    for place in ["interactions", "export", "standard output", "threadtap.db"] {
        assert!(found.holds(place, CONTENT), "{place} does not hold what was said");
    }
    for place in ["standard error", "metrics", "status"] {
        assert!(!found.holds(place, CONTENT), "{place} holds what was said");
    }
    let in_bodies = IN_BODIES.iter().map(|(_, _, secret)| *secret);
    for secret in PLANTED.into_iter().chain(in_bodies) {
        for (place, bytes) in &found.places {
            let form = forms(secret).into_iter().find(|form| contains(bytes, form));
            assert!(form.is_none(), "{secret} is in {place}, as {form:?}");
        }
    }
}

fn client(threadtap: &Threadtap) -> Client {
    threadtap
        .client()
        .with_header("authorization", &format!("Bearer {AUTHORIZATION}"))
        .with_header("api-key", API_KEY_HEADER)
        .with_header("cookie", &format!("session={COOKIE}; theme=dark"))
        .with_header("proxy-authorization", &format!("Basic {}", base64(&format!("me:{PROXY_PASSWORD}"))))
        .with_header("x-threadtap-user", "ada")
}

fn with_query(path: &str) -> String {
    format!("{path}?api-key={QUERY_KEY}&sig={}&api-version=2024-05-01-preview", percent(QUERY_SIGNATURE))
}

fn chat() -> String {
    with_query("/chat/completions")
}

fn question() -> Value {
    json!({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": CONTENT}]})
}

/// A chat, runs of an assistant, and what goes wrong beside them.
async fn converse(threadtap: &Threadtap) {
    let client = client(threadtap);
    client.json(Method::POST, &chat(), &question()).await.unwrap();
    for (path, body, _) in IN_BODIES {
        let body: Value = serde_json::from_str(body).unwrap();
        client.json(Method::POST, path, &body).await.unwrap();
    }
    let talk = Talk::begin(client.clone(), &[CONTENT]).await;
    let run = json!({"assistant_id": "asst_echo"});
    let run = client.json(Method::POST, &with_query(&talk.path("/runs")), &run).await.unwrap();
    let run = run["id"].as_str().unwrap();
    talk.poll(run).await;
    client.json(Method::GET, &with_query(&talk.path(&format!("/runs/{run}"))), &Value::Null).await.unwrap();
    client.json(Method::GET, &with_query(&talk.path("/messages")), &Value::Null).await.unwrap();
    talk.stream("asst_fail").await;
    let missing = json!({"assistant_id": "asst_missing"});
    client.json(Method::POST, &with_query(&talk.path("/runs")), &missing).await.unwrap_err();
    // A client that leaves.
    let mut stream = talk.open_stream("asst_stall").await;
    read_deltas(&mut stream, 1).await;
    drop(stream);
    // Heads that are refused, and one that ends too early.
    let authorization = format!("Authorization: Bearer {AUTHORIZATION}\r\n");
    for (head, whole) in [
        (format!("POST {} HTTP/1.1\r\nHost: a\r\nHost: b\r\n{authorization}\r\n", chat()), true),
        (format!("POST {} HTTP/1.1\r\nHost: a\r\n{authorization}x y: z\r\n\r\n", chat()), true),
        (format!("POST {} HTTP/1.1\r\nHost: a\r\n{authorization}", chat()), false),
    ] {
        let mut odd = Raw::connect(threadtap.listen).await;
        odd.send(head).await;
        if whole {
            odd.head().await;
        }
    }
    // What the app says itself, with the right key and a wrong one.
    for (key, is_right) in [(INTAKE_KEY, true), (WRONG_INTAKE_KEY, false)] {
        let base = Client::new(&format!("http://{}", threadtap.listen)).with_header("x-threadtap-key", key);
        let user = json!({"id": "ada", "email": "ada@example.org"});
        let answered = base.send(Method::POST, &with_query("/_threadtap/users"), &user).await.unwrap();
        assert_eq!(answered.status.is_success(), is_right, "{}", answered.status);
    }
}

/// An upstream that sets cookies, and refuses with the key it was sent.
async fn refuse(threadtap: &Threadtap, upstream: &mut Upstream) {
    for (path, status) in
        [("/v1/chat/completions", "401 Unauthorized"), ("/v1/threads/thread_1/runs", "403 Forbidden")]
    {
        let mut app = Raw::connect(threadtap.listen).await;
        let path = with_query(path);
        app.send(format!(
            "POST {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nAuthorization: Bearer {ECHOED}\r\nContent-Length: 2\r\n\r\n{{}}"
        ))
        .await;
        let mut api = upstream.accept().await;
        api.until("\r\n\r\n{}").await;
        let body = json!({"error": {"message": format!("Incorrect API key provided: {ECHOED}."), "code": "invalid_api_key"}});
        let body = body.to_string();
        api.send(format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nSet-Cookie: id={SET_COOKIE}; HttpOnly\r\n\
             WWW-Authenticate: Bearer realm=\"{SET_COOKIE}\"\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        ))
        .await;
        let answer = app.rest().await.unwrap();
        assert!(contains(&answer, ECHOED.as_bytes()));
    }
}

async fn end(threadtap: &mut Threadtap, found: &mut Found) {
    threadtap.terminate();
    assert_eq!(threadtap.ended().await.code(), Some(0));
    found.add("standard error", threadtap.stderr.lines().join("\n").as_bytes());
    found.add("standard output", threadtap.stdout.lines().join("\n").as_bytes());
}

/// What was found, by where.
#[derive(Default)]
struct Found {
    places: Vec<(String, Vec<u8>)>,
}

impl Found {
    fn add(&mut self, place: &str, bytes: &[u8]) {
        self.places.push((place.to_owned(), bytes.to_owned()));
    }

    fn holds(&self, place: &str, text: &str) -> bool {
        self.places.iter().any(|(name, bytes)| name.contains(place) && contains(bytes, text.as_bytes()))
    }

    /// Pages, commands and files of an instance that runs.
    async fn look_at(&mut self, threadtap: &Threadtap, world: &World, launch: &impl Fn(String) -> Launch) {
        let admin = Client::new(&format!("http://{}", threadtap.admin));
        let told = admin.clone().with_header("authorization", &format!("Bearer {ADMIN_TOKEN}"));
        let wrong = admin.with_header("authorization", &format!("Bearer {WRONG_ADMIN_TOKEN}"));
        let refused = wrong.send(Method::GET, "/api/v1/status", &Value::Null).await.unwrap();
        assert_eq!(refused.status, 401);
        self.add("the refusal", &refused.bytes().await.unwrap());
        for page in [
            "/metrics",
            "/",
            "/readyz",
            "/api/v1/interactions?limit=500",
            "/api/v1/status",
            "/api/v1/deliveries",
            "/api/v1/dead-letters?events=true",
            "/api/v1/export?since=0&until=99999999999999",
        ] {
            let answered = told.send(Method::GET, page, &Value::Null).await.unwrap();
            assert_eq!(answered.status, 200, "{page}");
            self.add(page, &answered.bytes().await.unwrap());
        }
        for arguments in [
            &["export"][..],
            &["status"],
            &["status", "--json"],
            &["dead-letters", "list"],
            &["dead-letters", "export"],
            &["dead-letters", "show", "1"],
            &["resend", "--sink", "nobody", "--since", "1h"],
        ] {
            // The address is the lock file's.
            let command = Launch::new(world.settings().parent().unwrap())
                .flag("--config", world.settings())
                .flag("--data-dir", world.data_dir());
            let command = arguments.iter().fold(command, |command, argument| command.command(argument));
            let (_, stdout, stderr) = command.run().await;
            assert!(!stdout.is_empty() || !stderr.is_empty() || arguments[0] == "dead-letters");
            self.add(&arguments.join(" "), [stdout, stderr].concat().join("\n").as_bytes());
        }
        // One that cannot start says why.
        let (code, stdout, stderr) = launch("http://127.0.0.1:9".to_owned()).run().await;
        assert_eq!((code, stdout.len()), (Some(2), 0));
        self.add("a refusal to start", stderr.join("\n").as_bytes());
        self.files(&world.data_dir());
    }

    fn files(&mut self, directory: &Path) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            assert!(path.is_file(), "{}: a directory is not looked into", path.display());
            self.add(&path.display().to_string(), &fs::read(&path).unwrap());
        }
    }
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    memchr::memmem::find(bytes, text).is_some()
}

/// A secret as it may be written: as it is, percent-encoded, in hex, in base64 wherever it begins, as a string of JSON.
fn forms(secret: &str) -> Vec<Vec<u8>> {
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    let json = Value::from(secret).to_string();
    let mut forms = vec![
        secret.to_owned(),
        percent(secret),
        percent(secret).to_lowercase(),
        hex,
        json.trim_matches('"').to_owned(),
    ];
    for offset in 0..3 {
        let encoded = base64(&format!("{}{secret}", " ".repeat(offset)));
        // What depends on neighbours is left out.
        let inner = &encoded[if offset == 0 { 0 } else { 4 }..encoded.len() - 4];
        forms.push(inner.to_owned());
        forms.push(inner.replace('+', "-").replace('/', "_"));
    }
    forms.into_iter().map(String::into_bytes).collect()
}

fn percent(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

fn base64(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |bytes: &[u8]| {
        let bits =
            bytes.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - bytes.len()));
        (0..4)
            .map(|digit| match digit <= bytes.len() {
                true => char::from(DIGITS[(bits >> (18 - 6 * digit) & 63) as usize]),
                false => '=',
            })
            .collect::<String>()
    };
    text.as_bytes().chunks(3).map(group).collect()
}

#[test]
fn a_secret_is_found_in_each_form_it_may_be_written_in() {
    assert_eq!(base64("me:secret"), "bWU6c2VjcmV0");
    assert_eq!((base64("a"), base64("ab")), ("YQ==".to_owned(), "YWI=".to_owned()));
    assert_eq!(percent("a/b+c="), "a%2Fb%2Bc%3D");
    for prefix in ["", "u:", "me:", "you:"] {
        let written = base64(&format!("{prefix}{PROXY_PASSWORD}, and more"));
        let found = forms(PROXY_PASSWORD).iter().any(|form| contains(written.as_bytes(), form));
        assert!(found, "{prefix}");
    }
}
