//! Holds `docs/edge-cases.md` to the tests: each case names at least one, and each that it names exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use threadtap_core::observation::Api;

#[test]
fn every_edge_case_has_a_test_and_every_named_test_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let list = fs::read_to_string(root.join("docs/edge-cases.md")).unwrap();
    let mut sources = String::new();
    for directory in ["crates", "src", "tests"] {
        read(&root.join(directory), &mut sources);
    }
    let tests: BTreeSet<&str> = names(&sources).collect();
    let cases = include_str!("cases.rs");
    let fixtures: BTreeSet<&str> = cases.lines().filter_map(|line| line.strip_prefix("    ")).collect();
    let mut listed = BTreeSet::new();
    let mut named = BTreeSet::new();
    for line in list.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| id")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [id, behaviour, _setting, of] = cells[..] else { panic!("four cells are needed: {line}") };
        assert!(listed.insert(id), "{id} is listed twice");
        assert!(!behaviour.is_empty(), "{id} says nothing");
        let of: Vec<&str> = of.split(' ').map(|name| name.trim_matches('`')).collect();
        for name in &of {
            assert!(tests.contains(name) || fixtures.contains(name), "{id} names {name}, which is no test");
        }
        named.extend(of);
    }
    for id in ids() {
        assert!(listed.contains(id.as_str()), "{id} is not listed");
    }
    for fixture in fixtures.iter().filter(|name| name.contains('_')) {
        assert!(named.contains(fixture), "{fixture} is not listed");
        let has_fixture = |api: &Api| root.join("tests/fixtures").join(api.as_str()).join(fixture).is_dir();
        assert_eq!(
            Api::ALL.into_iter().filter(has_fixture).count(),
            1,
            "{fixture} has no fixture of its own"
        );
    }
    for api in Api::ALL {
        let directory = root.join("tests/fixtures").join(api.as_str());
        for entry in fs::read_dir(directory).expect("each API has fixtures") {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(fixtures.contains(name.as_str()), "{name} is run by no test");
        }
    }
}

/// The ids of the sections A to G, and of H as far as it is told here.
fn ids() -> Vec<String> {
    let sections = [('A', 4), ('B', 12), ('C', 14), ('D', 12), ('E', 11), ('F', 9), ('G', 9), ('H', 7)];
    let mut ids: Vec<String> = sections
        .iter()
        .flat_map(|(letter, count)| (1..=*count).map(move |n| format!("{letter}{n}")))
        .collect();
    ids.push("D4b".to_owned());
    ids
}

/// The names of functions behind `#[test]`, `#[tokio::test]` or within `proptest!`.
fn names(sources: &str) -> impl Iterator<Item = &str> {
    sources.lines().filter_map(|line| {
        let line = line.trim_start();
        let rest = line.strip_prefix("fn ").or_else(|| line.strip_prefix("async fn "))?;
        rest.split(['(', '<']).next()
    })
}

fn read(directory: &Path, sources: &mut String) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}
