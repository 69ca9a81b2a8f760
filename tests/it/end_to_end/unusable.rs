use std::fs;
use std::path::Path;

use serde_json::Value;

use super::disk::{Faults, Mount, fill};
use super::launch::{Launch, Threadtap};
use super::talk::Talk;
use super::world::World;

/// What keeps a data directory from being used.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    FullDisk,
    IoErrors,
    Locked,
    NewerSchema,
    NotADirectory,
    /// As root nothing is refused; that writes are does as well.
    PermissionDenied,
    ReadOnlyDisk,
}

const TROUBLES: [Trouble; 7] = [
    Trouble::FullDisk,
    Trouble::IoErrors,
    Trouble::Locked,
    Trouble::NewerSchema,
    Trouble::NotADirectory,
    Trouble::PermissionDenied,
    Trouble::ReadOnlyDisk,
];

/// A world whose data directory is in trouble.
struct Site {
    world: World,
    faults: Faults,
    _holder: Option<Threadtap>,
    _mount: Option<Mount>,
}

impl Site {
    async fn with(trouble: Trouble) -> Self {
        let world = World::new().await;
        let data = world.data_dir();
        let mut site = Self { world, faults: Faults::new(), _holder: None, _mount: None };
        match trouble {
            Trouble::FullDisk => {
                site._mount = Some(Mount::tmpfs(&data));
                fill(&data.join("ballast"));
            }
            Trouble::IoErrors => site.faults.fail(5),
            Trouble::Locked => site._holder = Some(site.world.launch_without_sink().start().await),
            Trouble::NewerSchema => newer_schema(&data),
            Trouble::NotADirectory => fs::write(&data, "in the way").unwrap(),
            Trouble::PermissionDenied => site.faults.fail(13),
            Trouble::ReadOnlyDisk => site._mount = Some(Mount::tmpfs_with(&data, "ro")),
        }
        site
    }

    fn launch(&self, setting: &str) -> Launch {
        let launch = self.world.launch_with(&format!("[store]\n{setting}\nSINK"));
        self.faults.below(&self.world.data_dir(), launch)
    }
}

fn newer_schema(data: &Path) {
    fs::create_dir(data).unwrap();
    let database = rusqlite::Connection::open(data.join("threadtap.db")).unwrap();
    database.pragma_update(None, "user_version", 1_000_000).unwrap();
}

#[tokio::test]
async fn a_named_directory_that_cannot_be_used_is_refused_unless_records_are_not_required() {
    for trouble in TROUBLES {
        let site = Site::with(trouble).await;
        for setting in ["", "required = true"] {
            let refusal = site.launch(setting).refusal().await;
            let expected = format!("data_dir is `{}`: it cannot be used", site.world.data_dir().display());
            assert!(refusal.contains(&expected), "{trouble:?} {setting}: {refusal}");
        }
        let mut threadtap = site.launch("required = false").start().await;
        let warned =
            threadtap.stderr.wait_for(|lines| lines.iter().any(|line| line.contains("in memory"))).await;
        assert!(
            warned.iter().any(|line| line.contains("\"WARN\"") && line.contains("in memory")),
            "{warned:?}"
        );
        threadtap.wait_for_metric("threadtap_store_in_memory", 1.0).await;
        assert_eq!(threadtap.ask("/readyz").await.0, 200);
        Talk::begin(threadtap.client(), &["kept in memory"]).await.stream("asst_echo").await;
        threadtap.records(1).await;
        site.world.delivered(1).await;

        let (_, status) = threadtap.ask("/api/v1/status").await;
        let status: Value = serde_json::from_str(&status).unwrap();
        assert!(status["store"]["instead_of"].is_string(), "{trouble:?}: {status}");
        let command = site.world.command().flag("--admin-listen", threadtap.admin.to_string());
        let (code, lines, errors) = command.command("status").run().await;
        assert_eq!(code, Some(0), "{trouble:?}: {errors:?}");
        assert!(lines.iter().any(|line| line.contains("NOT ON DISK")), "{trouble:?}: {lines:?}");
    }
}

#[tokio::test]
async fn a_corrupt_database_is_set_aside_whether_records_are_required_or_not() {
    for setting in ["", "required = true", "required = false"] {
        let world = World::new().await;
        fs::create_dir(world.data_dir()).unwrap();
        fs::write(world.data_dir().join("threadtap.db"), "no database, but long enough to be looked at")
            .unwrap();
        let threadtap = world.launch_with(&format!("[store]\n{setting}\nSINK")).start().await;
        threadtap.wait_for_metric("threadtap_store_recreated_total{kind=\"corrupt\"}", 1.0).await;
        threadtap.wait_for_metric("threadtap_store_in_memory", 0.0).await;
        Talk::begin(threadtap.client(), &["kept on disk"]).await.stream("asst_echo").await;
        threadtap.records(1).await;
    }
}

#[tokio::test]
async fn a_defaulted_directory_that_cannot_be_used_is_refused_where_records_are_required() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("threadtap"), "a file is in the way").unwrap();
    let settings = home.path().join("settings.toml");
    fs::write(&settings, "[store]\nrequired = true").unwrap();
    let launch = Launch::on_free_ports(home.path()).flag("--config", &settings);
    let refusal = launch.variable("XDG_DATA_HOME", home.path()).refusal().await;
    assert!(refusal.contains("it cannot be used"), "{refusal}");
}
