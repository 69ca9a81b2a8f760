//! Holds the modules of the shell to the direction in which they may import each other, and all files to their length.
//!
//! Every module of the package stands in [`MODULES`] with what it may import, so that where a new one belongs is a
//! conscious choice. Paths are read from the tokens of each source file: comments, strings and code for tests only do not
//! count. What a type or a value brings along without its path being written is not seen.
//!
//! That the other crates are pure is held by what their `Cargo.toml` lists and by `crates/core/clippy.toml`.

use std::fs;
use std::path::Path;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use self::Imports::{AllBut, Only, Top};

/// What a module imports of the others.
#[derive(Clone, Copy)]
enum Imports {
    AllBut(&'static [&'static str]),
    Only(&'static [&'static str]),
    /// Puts it all together: imports anything, and nothing below imports it.
    Top,
}

const MODULES: &[(&str, Imports)] = &[
    ("clock", Only(&[])),
    ("descriptors", Only(&[])),
    ("metrics", Only(&[])),
    ("console", Only(&[])),
    ("names", Only(&[])),
    ("users", Only(&[])),
    ("admission", Only(&["metrics"])),
    ("net", Only(&["clock", "metrics"])),
    ("capture", Only(&["clock", "metrics"])),
    ("proxy", Only(&["capture", "clock", "descriptors", "metrics", "net"])),
    // Data flows one way: what was captured goes to the store, and from there to delivery and the admin listener.
    ("store", Only(&["clock", "metrics"])),
    ("delivery", Only(&["clock", "metrics", "store"])),
    ("intake", Only(&["admission", "clock", "metrics", "store", "users"])),
    ("pipeline", AllBut(&["admin", "delivery", "net", "proxy"])),
    ("operations", Only(&["descriptors", "pipeline", "store", "users"])),
    ("admin", AllBut(&["proxy"])),
    ("app", Top),
    ("cli", Top),
    ("config", Top),
    ("main", Top),
];

/// What the core may depend on: nothing here opens files or sockets, starts threads or reads clocks.
const CORE_DEPENDENCIES: &[&str] = &[
    "brotli-decompressor",
    "bytes",
    "flate2",
    "hashbrown",
    "hmac",
    "http",
    "jiff",
    "memchr",
    "ruzstd",
    "secrecy",
    "serde",
    "serde_json",
    "sha2",
    "subtle",
    "thiserror",
    "zstd",
];

const MAX_LINES_BEFORE_TESTS: usize = 400;

#[test]
fn the_source_tree_keeps_its_layers() {
    let sources = sources("src");
    assert!(sources.len() > MODULES.len() / 2, "the sources were not found");
    let violations: Vec<_> = sources.iter().flat_map(|(path, text)| violations(path, text)).collect();
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

#[test]
fn the_crates_keep_their_form() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates");
    for entry in fs::read_dir(crates).expect("the crates can be listed") {
        let name = entry.expect("the crates can be listed").file_name();
        let sources = sources(&format!("crates/{}/src", name.to_str().expect("names are UTF-8")));
        assert!(!sources.is_empty());
        let violations: Vec<_> = sources.iter().flat_map(|(path, text)| misshapen(path, text)).collect();
        assert!(violations.is_empty(), "{name:?}:\n{}\n", violations.join("\n"));
    }
}

#[test]
fn the_core_depends_on_nothing_that_does_io() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/core/Cargo.toml");
    let manifest: toml::Table =
        fs::read_to_string(path).expect("the manifest can be read").parse().expect("TOML");
    let dependencies = manifest["dependencies"].as_table().expect("a table");
    assert!(dependencies.len() > CORE_DEPENDENCIES.len() / 2);
    let others: Vec<_> =
        dependencies.keys().filter(|name| !CORE_DEPENDENCIES.contains(&name.as_str())).collect();
    assert!(others.is_empty(), "{others:?} stands in no list of tests/layering.rs");
}

#[test]
fn no_two_modules_of_the_correlator_import_each_other() {
    let mut sources = sources("crates/core/src");
    // What is there for tests only may look into everything.
    let is_tested = |path: &str| {
        path.starts_with("correlator") && !path.contains("tests") && !path.contains("invariants")
    };
    sources.retain(|(path, _)| is_tested(path));
    assert!(sources.len() > 20, "the sources were not found");
    assert_eq!(cycles(&sources), Vec::<String>::new());
}

/// The imports that are part of a cycle, or lead to one.
fn cycles(sources: &[(String, String)]) -> Vec<String> {
    let modules: Vec<Vec<&str>> =
        sources.iter().map(|(path, _)| path.trim_end_matches(".rs").split('/').collect()).collect();
    let mut imports: Vec<(&[&str], &[&str])> = Vec::new();
    for ((_, text), file) in sources.iter().zip(&modules) {
        let mut written = Vec::new();
        paths(text.parse().expect("the sources can be read"), &mut written);
        let targets = written.iter().filter_map(|segments| module_of(segments, file, &modules));
        imports.extend(targets.filter(|target| *target != file).map(|target| (&file[..], target)));
    }
    loop {
        let before = imports.len();
        let froms: Vec<&[&str]> = imports.iter().map(|(from, _)| *from).collect();
        imports.retain(|(_, target)| froms.contains(target));
        if imports.len() == before {
            let mut found: Vec<String> = imports
                .iter()
                .map(|(from, target)| format!("{} -> {}", from.join("::"), target.join("::")))
                .collect();
            found.sort();
            found.dedup();
            return found;
        }
    }
}

/// The module whose item a path in a file names, or which it names itself. What only says how far something can be seen names none.
fn module_of<'a>(segments: &[String], file: &[&str], modules: &'a [Vec<&'a str>]) -> Option<&'a [&'a str]> {
    let up = segments.iter().take_while(|segment| *segment == "super").count();
    let (base, rest) = match segments[0].as_str() {
        "crate" => (&file[..0], &segments[1..]),
        "self" => (file, &segments[1..]),
        "super" => (&file[..file.len().checked_sub(up)?], &segments[up..]),
        _ if segments.len() > 1 => (file, segments),
        _ => return None,
    };
    let whole: Vec<&str> = base.iter().copied().chain(rest.iter().map(String::as_str)).collect();
    let longest =
        modules.iter().filter(|module| whole.starts_with(module)).max_by_key(|module| module.len())?;
    let names_ancestor = *longest == whole && file.starts_with(longest);
    // Without a child of its own the path begins with something that was imported.
    let is_local = !matches!(segments[0].as_str(), "crate" | "self" | "super") && *longest == *file;
    (!names_ancestor && !is_local).then_some(&longest[..])
}

/// The source files below a directory, by their paths there.
fn sources(directory: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let mut sources = Vec::new();
    read(&root, &root, &mut sources);
    sources
}

fn read(root: &Path, directory: &Path, sources: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(directory).expect("the sources can be listed") {
        let path = entry.expect("the sources can be listed").path();
        if path.is_dir() {
            read(root, &path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).ok().and_then(Path::to_str).expect("names are UTF-8");
            sources.push((name.to_owned(), fs::read_to_string(&path).expect("the sources can be read")));
        }
    }
}

/// What is wrong with the form of the file at `path`, as seen from `src`.
fn misshapen(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let names: Vec<_> = path.trim_end_matches(".rs").split('/').collect();
    if names.last() == Some(&"mod") {
        found.push(format!("{path}: is a mod.rs; modules are foo.rs and foo/"));
    }
    if names[1..].contains(&"tests") {
        return found;
    }
    let lines = text.lines().take_while(|line| line.trim() != "#[cfg(test)]").count();
    if lines > MAX_LINES_BEFORE_TESTS {
        found.push(format!("{path}: has {lines} lines before its tests"));
    }
    found
}

/// What is wrong with the file of the shell at `path`, as seen from `src`.
fn violations(path: &str, text: &str) -> Vec<String> {
    let mut found = misshapen(path, text);
    let names: Vec<_> = path.trim_end_matches(".rs").split('/').collect();
    if names == ["lib"] || names[1..].contains(&"tests") {
        return found;
    }
    let Some(imports) = imports(names[0]) else {
        found.push(format!("{path}: the module {} stands in no list of tests/layering.rs", names[0]));
        return found;
    };
    let mut written = Vec::new();
    match text.parse::<TokenStream>() {
        Ok(tokens) => paths(tokens, &mut written),
        Err(error) => found.push(format!("{path}: cannot be read: {error}")),
    }
    for segments in &written {
        let shown = segments.join("::");
        if let Some(target) = root_item(&names, segments)
            && is_forbidden(names[0], imports, target)
        {
            found.push(format!("{path}: {} may not import {shown}", names[0]));
        }
    }
    found.dedup();
    found
}

fn imports(module: &str) -> Option<Imports> {
    MODULES.iter().find(|(name, _)| *name == module).map(|&(_, imports)| imports)
}

/// The item of the crate's root that a path goes through, if it goes through the root.
fn root_item<'a>(file: &[&str], segments: &'a [String]) -> Option<&'a str> {
    let up = segments.iter().take_while(|segment| *segment == "super").count();
    let from_root = match segments[0].as_str() {
        "crate" => 1,
        "threadtap" if file == ["main"] => 1,
        // Code for tests apart, `super` counts from the file's own module: inline modules are not used.
        "super" if up >= file.len() => up,
        _ => return None,
    };
    segments.get(from_root).map(String::as_str)
}

fn is_forbidden(module: &str, imports: Imports, target: &str) -> bool {
    // Also what stands in no list: macros and items at the crate's root, and globs.
    let Some(target_imports) = self::imports(target) else { return true };
    if module == target {
        return false;
    }
    match (imports, target_imports) {
        (Top, Top) => module == "config" || target == "main" || (module == "app" && target == "cli"),
        (Top, _) => false,
        (_, Top) => true,
        (AllBut(forbidden), _) => forbidden.contains(&target),
        (Only(allowed), _) => !allowed.contains(&target),
    }
}

/// Gathers the paths that are written in `tokens`, those of `use` spelt out one by one; items for tests only are left
/// out.
fn paths(tokens: TokenStream, found: &mut Vec<Vec<String>>) {
    let tokens = without_test_items(tokens);
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at] {
            // The name behind `as` is new, unless it is the trait of a qualified path.
            TokenTree::Ident(word) if word == "as" && !is_path_separator(&tokens, at + 2) => at += 2,
            TokenTree::Ident(word) => {
                let mut segments = vec![word.to_string()];
                at += 1;
                while is_path_separator(&tokens, at) {
                    at += 2;
                    match tokens.get(at) {
                        Some(TokenTree::Ident(word)) => segments.push(word.to_string()),
                        Some(TokenTree::Punct(star)) if star.as_char() == '*' => {
                            segments.push("*".to_owned())
                        }
                        Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                            let mut below = Vec::new();
                            paths(group.stream(), &mut below);
                            let whole = |below: Vec<String>| segments.iter().cloned().chain(below).collect();
                            found.extend(below.into_iter().map(whole));
                            segments.clear();
                        }
                        _ => break,
                    }
                    at += 1;
                }
                if !segments.is_empty() {
                    found.push(segments);
                }
            }
            TokenTree::Group(group) => {
                paths(group.stream(), found);
                at += 1;
            }
            TokenTree::Punct(star) if star.as_char() == '*' => {
                found.push(vec!["*".to_owned()]);
                at += 1;
            }
            _ => at += 1,
        }
    }
}

fn is_path_separator(tokens: &[TokenTree], at: usize) -> bool {
    let colon = |at| matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == ':');
    colon(at) && colon(at + 1)
}

fn without_test_items(tokens: TokenStream) -> Vec<TokenTree> {
    let mut kept = Vec::new();
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        let hash = matches!(&token, TokenTree::Punct(punct) if punct.as_char() == '#');
        if !(hash && tokens.peek().is_some_and(is_test_condition)) {
            kept.push(token);
            continue;
        }
        // To the end of the item: its body, or a semicolon.
        for token in tokens.by_ref() {
            match token {
                TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => break,
                TokenTree::Punct(punct) if punct.as_char() == ';' => break,
                _ => {}
            }
        }
    }
    kept
}

/// Whether an attribute is `[cfg(test)]`, or `[cfg(any(test, …))]`.
fn is_test_condition(attribute: &TokenTree) -> bool {
    let text = attribute.to_string().replace(' ', "");
    text == "[cfg(test)]" || text.starts_with("[cfg(any(test,")
}

#[track_caller]
fn check(path: &str, text: &str, expected: &[&str]) {
    assert_eq!(violations(path, text), expected, "{path}: {text}");
}

#[test]
fn each_module_imports_what_it_may() {
    check("proxy.rs", "use crate::{capture::Tap, clock, metrics::Metrics, net}; use threadtap_core::x;", &[]);
    check("store/writer.rs", "use super::Store; use crate::store::op::x;", &[]);
    check("pipeline.rs", "use crate::capture::Tap; fn f() { crate::store::g() }", &[]);
    check("app.rs", "use crate::{config::Config, proxy::Proxy, store};", &[]);
    check("cli/serve.rs", "use crate::{app, config};", &[]);
    check("main.rs", "use threadtap::cli;", &[]);
    check("lib.rs", "pub mod anything;", &[]);
}

#[test]
fn an_import_against_the_direction_is_found() {
    check("proxy.rs", "fn f() { crate::store::g(1) }", &["proxy.rs: proxy may not import crate::store::g"]);
    check("capture/tee.rs", "use crate::net;", &["capture/tee.rs: capture may not import crate::net"]);
    check("delivery.rs", "use crate::proxy::X;", &["delivery.rs: delivery may not import crate::proxy::X"]);
    check("pipeline.rs", "use crate::proxy::X;", &["pipeline.rs: pipeline may not import crate::proxy::X"]);
    for top in ["app", "cli", "config"] {
        let import = format!("use crate::{top}::X;");
        check("store.rs", &import, &[&format!("store.rs: store may not import crate::{top}::X")]);
        check("admin.rs", &import, &[&format!("admin.rs: admin may not import crate::{top}::X")]);
    }
    check("config.rs", "use crate::app::X;", &["config.rs: config may not import crate::app::X"]);
    check("app.rs", "use crate::cli::X;", &["app.rs: app may not import crate::cli::X"]);
}

#[test]
fn an_import_is_found_however_it_is_written() {
    let found = &["net.rs: net may not import crate::store::Store"][..];
    check("net.rs", "use crate::{clock::{self, Clock as T}, store::{Store}};", found);
    check("net.rs", "pub(crate) use crate :: store /* why */ :: Store as S;", found);
    check("net.rs", "impl A for B { fn f() -> Vec<crate::store::Store<u8>> { todo!() } }", found);
    check("net.rs", "fn f() { vec![<u8 as crate::store::Store>::X] }", found);
    check("net.rs", "use crate::store::*;", &["net.rs: net may not import crate::store::*"]);
    check("net.rs", "use super::store::Store;", &["net.rs: net may not import super::store::Store"]);
    let found = &["net/tcp.rs: net may not import super::super::store"][..];
    check("net/tcp.rs", "use super::super::store; use super::link;", found);
    check("net.rs", "use crate::*;", &["net.rs: net may not import crate::*"]);
    check("net.rs", "use crate::Root;", &["net.rs: net may not import crate::Root"]);
}

#[test]
fn what_does_not_run_in_production_does_not_count() {
    check("net.rs", "//! See [`crate::store`].\n/// crate::store\n// crate::store\nfn f() {}", &[]);
    check("net.rs", "const A: &str = \"crate::store::X\"; const B: &str = r#\"crate::store\"#;", &[]);
    check("net.rs", "#[cfg(test)] mod tests { use crate::store::X; }", &[]);
    check("net.rs", "#[cfg(any(test, fuzzing))] pub fn f() { crate::store::read(x) } fn g() {}", &[]);
    check("net.rs", "#[cfg(test)] use crate::store::X;", &[]);
    check("net/tests.rs", "use crate::store::X;", &[]);
    let found = &["net.rs: net may not import crate::store::X"][..];
    check("net.rs", "#[cfg(test)] use std::fs; use crate::store::X;", found);
    check("net.rs", "#[cfg(not(test))] use crate::store::X;", found);
}

#[test]
fn a_module_in_no_list_is_found() {
    check("helpers.rs", "", &["helpers.rs: the module helpers stands in no list of tests/layering.rs"]);
    check("utils/x.rs", "", &["utils/x.rs: the module utils stands in no list of tests/layering.rs"]);
}

#[test]
fn a_mod_rs_is_found() {
    check("net/mod.rs", "", &["net/mod.rs: is a mod.rs; modules are foo.rs and foo/"]);
}

#[test]
fn a_long_file_is_found_and_tests_do_not_count() {
    let long = "\n".repeat(MAX_LINES_BEFORE_TESTS + 1);
    check("net.rs", &long, &["net.rs: has 401 lines before its tests"]);
    check("lib.rs", &long, &["lib.rs: has 401 lines before its tests"]);
    check("net.rs", &format!("{}#[cfg(test)]\nmod tests {{\n{long}}}", &long[1..]), &[]);
    check("net/tests.rs", &long, &[]);
}

#[test]
fn a_cycle_of_imports_is_found() {
    let found = |files: &[(&str, &str)]| {
        let files: Vec<_> =
            files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        cycles(&files)
    };
    let (up, down) =
        ("use super::b::B; pub(super) struct A; pub(in crate::m) fn f() {}", "pub(crate) struct B;");
    assert!(found(&[("m.rs", "mod a; mod b; use a::A;"), ("m/a.rs", up), ("m/b.rs", down)]).is_empty());
    assert_eq!(
        found(&[("m.rs", "mod a; mod b;"), ("m/a.rs", up), ("m/b.rs", "fn f() { super::a::f() }")]),
        ["m::a -> m::b", "m::b -> m::a"]
    );
    assert_eq!(
        found(&[("m.rs", "mod a; use a::{self, A}; struct C;"), ("m/a.rs", "use crate::m::C;")]),
        ["m -> m::a", "m::a -> m"]
    );
}
