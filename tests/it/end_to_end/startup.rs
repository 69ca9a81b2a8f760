use std::net::{SocketAddr, TcpListener};

use super::launch::Launch;
use super::world::World;

#[tokio::test]
async fn a_second_start_on_the_same_data_directory_is_refused_and_names_the_holder() {
    let world = World::new().await;
    let first = world.start().await;
    let refusal = world.launch().refusal().await;
    let directory = world.data_dir().display().to_string();
    assert!(
        refusal.starts_with(&format!("threadtap: data_dir is `{directory}`: it cannot be used")),
        "{refusal}"
    );
    assert!(refusal.contains(&format!("in use by process {} since ", first.pid())), "{refusal}");
    assert!(refusal.ends_with(&format!(", listening on {}", first.listen)), "{refusal}");
    assert_eq!(first.ask("/readyz").await.0, 200);
}

#[tokio::test]
async fn a_defaulted_data_directory_that_is_locked_gives_way_to_memory() {
    let home = tempfile::tempdir().unwrap();
    let world = World::new().await;
    let launch = || {
        Launch::on_free_ports(home.path())
            .flag("--upstream", world.upstream())
            .variable("XDG_DATA_HOME", home.path())
    };
    let first = launch().start().await;
    assert!(home.path().join("threadtap").is_dir());
    let mut second = launch().start().await;
    let warned = |lines: &[String]| lines.iter().any(|line| line.contains("records are kept in memory"));
    let lines = second.stderr.wait_for(warned).await;
    let warning = lines.iter().find(|line| line.contains("in memory")).unwrap();
    assert!(warning.contains("\"level\":\"WARN\""), "{warning}");
    assert!(warning.contains(&format!("process {}", first.pid())), "{warning}");
    super::talk::Talk::begin(second.client(), &["remember this"]).await.stream("asst_echo").await;
    second.records(1).await;
    first.records(0).await;
}

#[tokio::test]
async fn a_defaulted_data_directory_that_cannot_be_made_gives_way_to_memory() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("threadtap"), "a file is in the way").unwrap();
    let mut threadtap =
        Launch::on_free_ports(home.path()).variable("XDG_DATA_HOME", home.path()).start().await;
    threadtap.stderr.wait_for(|lines| lines.iter().any(|line| line.contains("kept in memory"))).await;
    assert_eq!(threadtap.ask("/readyz").await.0, 200);
}

#[tokio::test]
async fn an_address_that_was_asked_for_and_is_taken_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let refusal = Launch::new(home.path()).flag("--listen", "127.0.0.1:0").flag("--admin-listen", &taken);
    let refusal = refusal.refusal().await;
    assert!(
        refusal.starts_with(&format!("threadtap: admin_listen is `{taken}`: cannot listen there")),
        "{refusal}"
    );
    let refusal = Launch::new(home.path()).flag("--listen", &taken).flag("--admin-listen", "127.0.0.1:0");
    let refusal = refusal.refusal().await;
    assert!(
        refusal.starts_with(&format!("threadtap: listen is `{taken}`: cannot listen there")),
        "{refusal}"
    );
}

#[tokio::test]
async fn the_default_admin_port_gives_way_to_the_next_free_one() {
    let default: SocketAddr = ([127, 0, 0, 1], 9090).into();
    // Whoever has it, it is taken.
    let _taken = TcpListener::bind(default);
    let home = tempfile::tempdir().unwrap();
    let launch = Launch::new(home.path()).flag("--listen", "127.0.0.1:0");
    let mut threadtap = launch.start().await;
    assert!(threadtap.admin.port() > default.port());
    assert_eq!(threadtap.ask("/healthz").await.0, 200);
    threadtap.stderr.wait_for(|lines| lines.iter().any(|line| line.contains("port 9090 is in use"))).await;
}

#[tokio::test]
async fn a_mistake_in_the_settings_is_one_line_and_exit_code_2() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("threadtap.toml");
    let check = async |settings: &str, expected: &str| {
        std::fs::write(&file, settings).unwrap();
        let refusal = Launch::on_free_ports(home.path()).flag("--config", &file).refusal().await;
        assert!(refusal.starts_with("threadtap: ") && refusal.contains(expected), "{refusal}");
    };
    check("lisen = \"127.0.0.1:1\"", "line 1: `lisen = \"127.0.0.1:1\"`: unknown field `lisen`").await;
    check("[drain]\ngrace = \"soon\"", "line 2: `grace = \"soon\"`").await;
    check("[server]\nmax_connections = 0", "server.max_connections is `0`: use at least 1").await;
    check("upstream = \"example.org\"", "upstream is `example.org`").await;
    check("listen = ", "line 1").await;
    check("[[sinks]]\ntype = \"reconify\"", "sinks[0].app_key").await;
    check("[log]\nlevel = \"=loud=\"", "log.level is `=loud=`").await;

    let flagged = Launch::new(home.path()).flag("--listen", "8080").refusal().await;
    assert!(flagged.contains("listen is `8080`: use an IP address and a port"), "{flagged}");
    let named = Launch::new(home.path()).variable("THREADTAP_CONFIG", "missing.toml").refusal().await;
    assert!(named.contains("the settings file missing.toml cannot be read"), "{named}");
    let unusable = Launch::on_free_ports(home.path()).flag("--data-dir", "/dev/null/data").refusal().await;
    assert!(unusable.contains("data_dir is `/dev/null/data`: it cannot be used"), "{unusable}");
}

#[tokio::test]
async fn an_upstream_that_is_our_own_listener_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let upstream = format!("http://localhost:{}/v1", address.port());
    let refusal = Launch::new(home.path())
        .flag("--listen", address.to_string())
        .flag("--admin-listen", "127.0.0.1:0")
        .flag("--upstream", &upstream)
        .refusal()
        .await;
    assert!(
        refusal.contains(&format!("upstream is `{upstream}`: that is threadtap's own listener")),
        "{refusal}"
    );
}

#[tokio::test]
async fn the_demo_plays_to_its_end_by_itself() {
    let home = tempfile::tempdir().unwrap();
    let (code, stdout, stderr) = Launch::new(home.path()).command("demo").run().await;
    assert_eq!((code, &stderr[..]), (Some(0), &[][..]), "{stdout:?}");
    let last = stdout.last().unwrap();
    assert!(last.starts_with("8 turns sent, 8 recorded, 7 delivered"), "{last}");
}
