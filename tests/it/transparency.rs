//! What must not change on the way: one property a row of `docs/transparency.md`, one id a property, and the id in front of the
//! name of each test that proves it. The test here holds the table and the tests against each other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

mod bodies;
mod ends;
mod errors;
mod heads;
mod limits;
mod refusals;
mod streams;
mod upgrade;

#[test]
fn every_property_has_a_test_and_every_test_a_property() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let promised = table(&fs::read_to_string(root.join("docs/transparency.md")).unwrap());
    let mut proven = BTreeMap::<String, BTreeSet<String>>::new();
    for file in sources(&root.join("tests/it/transparency")) {
        for name in test_names(&fs::read_to_string(file).unwrap()) {
            let id = name.split('_').next().unwrap().to_uppercase();
            assert!(proven.entry(id).or_default().insert(name.clone()), "two tests are called {name}");
        }
    }
    for id in promised.keys().chain(proven.keys()) {
        let (promised, proven) = (promised.get(id), proven.get(id));
        assert!(promised.is_some_and(|tests| !tests.is_empty()), "{id} has no row, or a row without a test");
        assert_eq!(promised, proven, "the tests in the row {id}, and those that begin with {id}");
    }
}

/// The ids of the rows of all tables, each with the tests its last cell names.
fn table(document: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut rows = BTreeMap::new();
    for line in document.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let (id, tests) = (cells[0], cells[cells.len() - 1]);
        if !id.ends_with(|char: char| char.is_ascii_digit()) {
            continue;
        }
        assert_eq!(cells.len(), 4, "{id} has a row of {} cells", cells.len());
        assert!(cells.iter().all(|cell| !cell.is_empty()), "{id} has an empty cell");
        let tests = tests.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        assert!(rows.insert(id.to_owned(), tests).is_none(), "two rows are {id}");
    }
    rows
}

fn sources(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
}

/// The names of the functions with a test attribute.
fn test_names(source: &str) -> Vec<String> {
    let lines: Vec<_> = source.lines().collect();
    let functions = lines
        .windows(2)
        .filter(|lines| lines[0].starts_with("#[test") || lines[0].starts_with("#[tokio::test"));
    let names = functions
        .filter_map(|lines| lines[1].trim_start_matches("async ").strip_prefix("fn ")?.split('(').next());
    names.map(str::to_owned).collect()
}
