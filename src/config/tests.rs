//! Settings from flags, environment and file.

use std::collections::HashMap;

use threadtap_core::event::Event;

use super::*;

struct Variables<'a>(&'a HashMap<&'static str, &'static str>);

impl Environment for Variables<'_> {
    fn variable(&self, name: &str) -> Option<String> {
        self.0.get(name).map(|value| (*value).to_owned())
    }

    fn text_of(&self, file: &Path) -> io::Result<String> {
        std::fs::read_to_string(file)
    }
}

const EXAMPLE: &str = include_str!("../../config.example.toml");

pub(super) fn load(
    toml: &str,
    environment: &HashMap<&'static str, &'static str>,
) -> Result<Config, ConfigError> {
    Config::build(parse(toml, Path::new("c.toml"))?, &Flags::default(), &Variables(environment))
}

fn check_error(toml: &str, expected: &str) {
    let error = load(toml, &HashMap::new()).unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
    assert!(!error.contains('\n'), "{error}");
}

/// The example with its commented settings switched on.
pub(super) fn uncommented() -> String {
    let is_setting = |line: &str| {
        let Some(rest) = line.strip_prefix("# ") else { return false };
        rest == "[[sinks]]"
            || rest
                .split_once(" = ")
                .is_some_and(|(key, _)| key.chars().all(|char| char.is_ascii_lowercase() || char == '_'))
    };
    let lines = EXAMPLE.lines().map(|line| if is_setting(line) { &line[2..] } else { line });
    let text: String =
        lines.filter(|line| !line.contains("_file =")).map(|line| format!("{line}\n")).collect();
    text.replace("\"...\"", "\"secret\"")
}

#[test]
fn the_example_says_the_defaults() {
    let nothing = HashMap::new();
    let (example, default) = (load(EXAMPLE, &nothing).unwrap(), load("", &nothing).unwrap());
    assert_eq!(format!("{example:?}"), format!("{default:?}"));
}

#[test]
fn the_example_shows_every_setting() {
    let config = load(&uncommented(), &HashMap::new()).unwrap();
    assert_eq!(config.sinks.len(), 2);
    // Every key a section knows is named by serde when it meets one it does not know.
    for section in [
        "",
        "server",
        "proxy",
        "drain",
        "capture",
        "correlation",
        "attribution",
        "chat",
        "sessions",
        "intake",
        "store",
        "delivery",
        "admin",
        "log",
        "[sinks",
    ] {
        let text = match section {
            "" => "unknown_ = 1".to_owned(),
            "[sinks" => "[[sinks]]\ntype = \"reconify\"\nunknown_ = 1".to_owned(),
            section => format!("[{section}]\nunknown_ = 1"),
        };
        let error = load(&text, &HashMap::new()).unwrap_err().to_string();
        let (_, expected) = error.split_once("expected").unwrap();
        let names: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "{error}");
        for name in names {
            let shown = EXAMPLE.lines().any(|line| {
                let line = line.trim_start_matches("# ");
                line.starts_with(&format!("{name} ="))
                    || line.starts_with(&format!("[{name}]"))
                    || line.starts_with(&format!("[[{name}]]"))
            });
            assert!(
                shown || EXAMPLE.contains(&format!("or {name}")),
                "{section}.{name} is not in the example"
            );
        }
    }
}

#[test]
fn with_nothing_it_works() {
    let config = load("", &HashMap::from([("HOME", "/home/ada")])).unwrap();
    assert_eq!(config.net.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.proxy.upstream.to_string(), "https://api.openai.com");
    assert_eq!(config.admin_listen, Choice::Default("127.0.0.1:9090".parse().unwrap()));
    let Some(Choice::Default(data_dir)) = config.data_dir else { panic!("{:?}", config.data_dir) };
    assert!(data_dir.starts_with("/home/ada") && data_dir.ends_with("threadtap"));
    assert!(config.sinks.is_empty());
    let config = load("", &HashMap::new()).unwrap();
    assert_eq!(config.data_dir, Some(Choice::Default(PathBuf::from("threadtap-data"))));
}

#[test]
fn a_flag_goes_before_the_file() {
    let flags = Flags { listen: Some("[::1]:1".to_owned()), data_dir: Some("d".into()), ..Flags::default() };
    let file =
        parse("listen = \"127.0.0.1:2\"\nadmin_listen = \"localhost:3\"", Path::new("c.toml")).unwrap();
    let config = Config::build(file, &flags, &Variables(&HashMap::new())).unwrap();
    assert_eq!(config.net.listen.to_string(), "[::1]:1");
    assert_eq!(config.admin_listen, Choice::Explicit("127.0.0.1:3".parse().unwrap()));
    assert_eq!(config.data_dir, Some(Choice::Explicit("d".into())));
}

#[test]
fn keys_in_the_environment_switch_reconify_on_and_fill_the_files_sink() {
    let environment = HashMap::from([
        ("RECONIFY_APP_KEY", "app"),
        ("RECONIFY_API_KEY", "api"),
        ("RECONIFY_URL", "http://127.0.0.1:9/track"),
    ]);
    let file = "[[sinks]]\ntype = \"reconify\"\nname = \"mine\"\nfilter = { statuses = [\"failed\"] }";
    for (toml, name) in [("", "reconify"), (file, "mine")] {
        let config = load(toml, &environment).unwrap();
        let [sink] = &config.sinks[..] else { panic!("{:?}", config.sinks) };
        assert_eq!(&**sink.name(), name);
        assert!(format!("{sink:?}").contains("127.0.0.1:9"));
        assert!(!format!("{config:?}").contains("\"api\""));
    }
    let half = HashMap::from([("RECONIFY_APP_KEY", "app")]);
    assert!(load("", &half).unwrap().sinks.is_empty());
    let _: fn(&Sink, &Event) -> bool = Sink::accepts;
}

#[test]
fn keys_in_the_environment_switch_align_on_and_fill_the_files_sink() {
    let environment = HashMap::from([
        ("ALIGNAI_API_KEY", "hush"),
        ("ALIGNAI_PROJECT_ID", "project"),
        ("ALIGNAI_HOST", "http://127.0.0.1:9"),
    ]);
    let file = "[[sinks]]\ntype = \"align\"\nname = \"mine\"\nproject_id = \"other\"";
    for (toml, name) in [("", "align"), (file, "mine")] {
        let config = load(toml, &environment).unwrap();
        let [sink] = &config.sinks[..] else { panic!("{:?}", config.sinks) };
        assert_eq!(&**sink.name(), name);
        let shown = format!("{sink:?}");
        assert!(shown.contains("127.0.0.1:9/ingestion") && shown.contains("\"project\""), "{shown}");
        assert!(!format!("{config:?}").contains("hush"));
    }
    let half = HashMap::from([("ALIGNAI_API_KEY", "hush")]);
    assert!(load("", &half).unwrap().sinks.is_empty());
}

#[test]
fn an_error_is_one_line_with_key_value_and_what_is_allowed() {
    check_error("listen = \"8080\"", "listen is `8080`: use an IP address and a port");
    check_error(
        "upstream = \"api.openai.com\"",
        "upstream is `api.openai.com`: an upstream starts with http://",
    );
    check_error("lisen = 1", "c.toml line 1: `lisen = 1`: unknown field `lisen`, expected one of `listen`");
    check_error("\n[drain]\ngrace = \"5 parsecs\"", "c.toml line 3: `grace = \"5 parsecs\"`: invalid value");
    check_error("[drain]\ngrace = 5", "expected a duration such as \"250ms\"");
    check_error("[server]\nworkers = 0", "server.workers is `0`: use at least 1");
    check_error("[server]\nmax_connections = 0", "server.max_connections is `0`: use at least 1");
    for section in ["server", "proxy"] {
        let expected = format!("{section}.max_head is `4096 bytes`: use at least 8KiB");
        check_error(&format!("[{section}]\nmax_head = \"4KiB\""), &expected);
    }
    check_error("[capture]\nbudget = \"lots\"", "expected a size such as");
    check_error("[store]\nretain = \"1h\"", "use at least 24h");
    check_error(
        "[correlation]\nmax_conversations = 0",
        "correlation.max_conversations is `0`: use at least 1",
    );
    check_error(
        "[attribution]\nuser = [\"Authorization\"]",
        "attribution.user is `Authorization`: `authorization` carries",
    );
    check_error("[attribution]\nsession = [\"body:\"]", "needs a name behind the colon");
    check_error("[delivery]\nmin_backoff = \"1h\"", "delivery.min_backoff is `3600s`");
    check_error(
        "[[sinks]]\ntype = \"reconify\"",
        "sinks[0].app_key is ``: set sinks[0].app_key, sinks[0].app_key_file or RECONIFY_APP_KEY",
    );
    check_error("[[sinks]]\ntype = \"kafka\"", "unknown variant `kafka`, expected `align` or `reconify`");
    let sink = "[[sinks]]\ntype = \"reconify\"\napp_key = \"a\"\napi_key = \"b\"\n";
    check_error(&format!("{sink}filter = {{ statuses = [\"done\"] }}"), "use any of cancelled");
    check_error(
        &format!("{sink}filter = {{ sample = 1.5 }}"),
        "sinks[0].filter.sample is `1.5`: use a share",
    );
    check_error(&format!("{sink}statuses = [\"failed\"]"), "unknown field `statuses`");
    let align = "[[sinks]]\ntype = \"align\"\napi_key = \"a\"\n";
    check_error(align, "sinks[0].project_id is ``: set sinks[0].project_id or ALIGNAI_PROJECT_ID");
    let align = format!("{align}project_id = \"p\"\n");
    check_error(&format!("{align}batch = 0"), "sinks[0].batch is `0`: use at least 1");
    check_error(&format!("{align}host = \"/x\""), "sinks[0].host is `/x`: the host /x is not");
    check_error(&format!("{align}properties = {{ \"1a\" = \"x\" }}"), "the property 1a is not a letter");
    check_error(&format!("{sink}url = \"ftp://x\""), "sinks[0].url is `ftp://x");
    check_error(
        &format!("{sink}responses = \"chat\""),
        "sinks[0].responses is `chat`: use \"assistant\" or \"universal\"",
    );
    check_error(&format!("{sink}{sink}"), "give each sink a name of its own");
    check_error(
        "[admin]\ntoken_file = \"missing-file\"",
        "admin.token_file is `missing-file`: name a file that can be read",
    );
}

#[test]
fn an_error_does_not_show_a_secret() {
    let error = load("[[sinks]]\ntype = \"reconify\"\napp_key = [\"hush\"]", &HashMap::new()).unwrap_err();
    assert!(!error.to_string().contains("hush"), "{error}");
    let error = load("[admin]\ntoken = hush", &HashMap::new()).unwrap_err();
    assert!(!error.to_string().contains("hush"), "{error}");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let flags = Flags { config: Some("missing.toml".into()), ..Flags::default() };
    let error = Config::load(&flags, &Variables(&HashMap::new())).unwrap_err().to_string();
    assert!(error.starts_with("the settings file missing.toml cannot be read:"), "{error}");
}
