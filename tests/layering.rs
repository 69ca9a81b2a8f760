//! Holds the modules to the direction in which they may import each other, and the pure ones to their purity.
//!
//! Every module of the crate stands in [`MODULES`] with its layer, so that where a new one belongs is a conscious
//! choice. Paths are read from the tokens of each source file: comments, strings and code for tests only do not count.
//! What a type or a value brings along without its path being written is not seen.

use std::fs;
use std::path::Path;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use self::Layer::{Pure, Shell, Top, Vocabulary};

/// Where a module stands.
#[derive(Clone, Copy)]
enum Layer {
    /// Plain data: imports vocabulary.
    Vocabulary,
    /// Values in, values out: imports vocabulary and pure.
    Pure,
    /// tokio, files, sockets: imports vocabulary, and of the rest what is said.
    Shell(Imports),
    /// Puts it all together: imports anything, and nothing below imports it.
    Top,
}

/// What a module of the shell imports beside vocabulary.
#[derive(Clone, Copy)]
enum Imports {
    AllBut(&'static [&'static str]),
    Only(&'static [&'static str]),
}

const MODULES: &[(&str, Layer)] = &[
    ("attribution", Vocabulary),
    ("budget", Vocabulary),
    ("event", Vocabulary),
    ("exchange", Vocabulary),
    ("head", Vocabulary),
    ("interaction", Vocabulary),
    ("message", Vocabulary),
    ("observation", Vocabulary),
    ("payload", Vocabulary),
    ("printable", Vocabulary),
    ("time", Vocabulary),
    ("content", Pure),
    ("correlator", Pure),
    ("dialect", Pure),
    ("redact", Pure),
    ("session", Pure),
    ("sink", Pure),
    ("sse", Pure),
    ("user", Pure),
    ("clock", Shell(Imports::Only(&[]))),
    ("admission", Shell(Imports::Only(&["metrics"]))),
    ("descriptors", Shell(Imports::Only(&[]))),
    ("metrics", Shell(Imports::Only(&[]))),
    ("console", Shell(Imports::Only(&[]))),
    ("users", Shell(Imports::Only(&["user"]))),
    ("names", Shell(Imports::Only(&["dialect"]))),
    ("http1", Shell(Imports::Only(&[]))),
    ("net", Shell(Imports::Only(&["clock", "http1", "metrics"]))),
    ("capture", Shell(Imports::Only(&["clock", "metrics", "sse"]))),
    (
        "proxy",
        Shell(Imports::Only(&["capture", "clock", "descriptors", "dialect", "http1", "metrics", "net"])),
    ),
    // The way is one: what was captured goes to the store, and from there to delivery and the admin listener.
    ("store", Shell(Imports::Only(&["clock", "metrics"]))),
    ("delivery", Shell(Imports::Only(&["clock", "metrics", "sink", "store"]))),
    ("intake", Shell(Imports::Only(&["admission", "clock", "metrics", "sink", "store", "users"]))),
    ("pipeline", Shell(Imports::AllBut(&["admin", "delivery", "demo", "net", "proxy"]))),
    ("operations", Shell(Imports::Only(&["descriptors", "pipeline", "sink", "store", "users"]))),
    ("admin", Shell(Imports::AllBut(&["correlator", "demo", "dialect", "proxy", "redact", "session"]))),
    ("demo", Shell(Imports::Only(&["clock", "metrics", "net", "sse"]))),
    ("app", Top),
    ("cli", Top),
    ("config", Top),
    ("main", Top),
];

/// What vocabulary and pure modules may not name: IO, threads, clocks, chance, and the crates that bring them.
const IMPURE: &[&[&str]] = &[
    &["axum"],
    &["getrandom"],
    &["hyper"],
    &["hyper_rustls"],
    &["hyper_util"],
    &["moka"],
    &["prometheus_client"],
    &["rand"],
    &["rusqlite"],
    &["rustls"],
    &["socket2"],
    &["std", "env"],
    &["std", "fs"],
    &["std", "io", "stderr"],
    &["std", "io", "stdin"],
    &["std", "io", "stdout"],
    &["std", "net"],
    &["std", "os"],
    &["std", "process"],
    &["std", "sync", "Barrier"],
    &["std", "sync", "Condvar"],
    &["std", "sync", "LazyLock"],
    &["std", "sync", "Mutex"],
    &["std", "sync", "OnceLock"],
    &["std", "sync", "RwLock"],
    &["std", "sync", "atomic"],
    &["std", "sync", "mpsc"],
    &["std", "thread"],
    &["std", "time", "Instant"],
    &["std", "time", "SystemTime"],
    &["tokio"],
    &["tracing"],
    &["tracing_subscriber"],
];

const MAX_LINES_BEFORE_TESTS: usize = 400;

#[test]
fn the_source_tree_keeps_its_layers() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    read(&root, &root, &mut sources);
    assert!(sources.len() > MODULES.len() / 2, "the sources were not found");
    let violations: Vec<_> = sources.iter().flat_map(|(path, text)| violations(path, text)).collect();
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
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

/// What is wrong with the file at `path`, as seen from `src`.
fn violations(path: &str, text: &str) -> Vec<String> {
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
    if names == ["lib"] {
        return found;
    }
    let Some(layer) = layer(names[0]) else {
        found.push(format!("{path}: the module {} stands in no layer of tests/layering.rs", names[0]));
        return found;
    };
    let mut written = Vec::new();
    match text.parse::<TokenStream>() {
        Ok(tokens) => paths(tokens, &mut written),
        Err(error) => found.push(format!("{path}: cannot be read: {error}")),
    }
    for segments in &written {
        let shown = segments.join("::");
        if let Some(target) = root_item(&names, segments) {
            if layer_of_target_forbids(names[0], layer, target) {
                found.push(format!("{path}: {} may not import {shown}", names[0]));
            }
        } else if matches!(layer, Vocabulary | Pure) && is_impure(segments) {
            found.push(format!("{path}: {} is pure and may not use {shown}", names[0]));
        }
    }
    found.dedup();
    found
}

fn layer(module: &str) -> Option<Layer> {
    MODULES.iter().find(|(name, _)| *name == module).map(|&(_, layer)| layer)
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

fn layer_of_target_forbids(module: &str, layer: Layer, target: &str) -> bool {
    // Also what stands in no layer: macros and items at the crate's root, and globs.
    let Some(target_layer) = self::layer(target) else { return true };
    if module == target {
        return false;
    }
    match (layer, target_layer) {
        (Top, Top) => module == "config" || target == "main" || (module == "app" && target == "cli"),
        (Top, _) | (Pure, Pure) | (_, Vocabulary) => false,
        (Vocabulary | Pure, _) | (Shell(_), Top) => true,
        (Shell(Imports::AllBut(forbidden)), _) => forbidden.contains(&target),
        (Shell(Imports::Only(allowed)), _) => !allowed.contains(&target),
    }
}

fn is_impure(segments: &[String]) -> bool {
    // `use std::sync;` or `use std::sync::*;` would let the rest in by another name.
    let opens = |banned: &[&str]| {
        let whole: Vec<_> =
            segments.iter().map(String::as_str).filter(|s| !["*", "self"].contains(s)).collect();
        segments[0] == "std"
            && (segments.len() > whole.len() || whole.len() == 2)
            && banned.starts_with(&whole)
    };
    IMPURE.iter().any(|banned| {
        let within =
            segments.len() >= banned.len().max(2) && banned.iter().zip(segments).all(|(a, b)| a == b);
        within || opens(banned)
    })
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
fn each_layer_imports_what_it_may() {
    check("event.rs", "use crate::interaction::Interaction;", &[]);
    check("sse.rs", "use crate::{content::Decoder, time::UnixMillis};", &[]);
    check("dialect/assistants.rs", "use super::Observer; use crate::dialect::assistants::x;", &[]);
    check("proxy.rs", "use crate::{capture::Tap, clock, dialect::Interest, metrics::Metrics, net};", &[]);
    check("pipeline.rs", "use crate::correlator::Correlator; fn f() { crate::store::g() }", &[]);
    check("app.rs", "use crate::{config::Config, proxy::Proxy, store};", &[]);
    check("cli/serve.rs", "use crate::{app, config};", &[]);
    check("main.rs", "use threadtap::cli;", &[]);
    check("lib.rs", "pub mod anything;", &[]);
}

#[test]
fn an_import_against_the_direction_is_found() {
    check("event.rs", "use crate::sse::Event;", &["event.rs: event may not import crate::sse::Event"]);
    check("sse.rs", "use crate::metrics::Metrics;", &["sse.rs: sse may not import crate::metrics::Metrics"]);
    check("proxy.rs", "fn f() { crate::store::g(1) }", &["proxy.rs: proxy may not import crate::store::g"]);
    check("capture/tee.rs", "use crate::net;", &["capture/tee.rs: capture may not import crate::net"]);
    check("store.rs", "use crate::dialect::X;", &["store.rs: store may not import crate::dialect::X"]);
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
    let found = &["sse.rs: sse may not import crate::store::Store"][..];
    check("sse.rs", "use crate::{time::{self, UnixMillis as T}, store::{Store}};", found);
    check("sse.rs", "pub(crate) use crate :: store /* why */ :: Store as S;", found);
    check("sse.rs", "impl A for B { fn f() -> Vec<crate::store::Store<u8>> { todo!() } }", found);
    check("sse.rs", "fn f() { vec![<u8 as crate::store::Store>::X] }", found);
    check("sse.rs", "use crate::store::*;", &["sse.rs: sse may not import crate::store::*"]);
    check("sse.rs", "use super::store::Store;", &["sse.rs: sse may not import super::store::Store"]);
    let found = &["sink/align.rs: sink may not import super::super::store"][..];
    check("sink/align.rs", "use super::super::store; use super::encode;", found);
    check("sse.rs", "use crate::*;", &["sse.rs: sse may not import crate::*"]);
    check("sse.rs", "use crate::Root;", &["sse.rs: sse may not import crate::Root"]);
}

#[test]
fn what_does_not_run_in_production_does_not_count() {
    check("sse.rs", "//! See [`crate::store`].\n/// crate::store\n// crate::store\nfn f() {}", &[]);
    check("sse.rs", "const A: &str = \"crate::store::X\"; const B: &str = r#\"tokio::spawn\"#;", &[]);
    check("sse.rs", "#[cfg(test)] mod tests { use crate::store::X; use std::time::Instant; }", &[]);
    check("sse.rs", "#[cfg(any(test, fuzzing))] pub fn f() { std::fs::read(x) } fn g() {}", &[]);
    check("sse.rs", "#[cfg(test)] use crate::store::X;", &[]);
    check("sse/tests.rs", "use crate::store::X;", &[]);
    let found = &["sse.rs: sse may not import crate::store::X"][..];
    check("sse.rs", "#[cfg(test)] use std::fs; use crate::store::X;", found);
    check("sse.rs", "#[cfg(not(test))] use crate::store::X;", found);
}

#[test]
fn what_is_impure_is_found_in_pure_modules_only() {
    for path in [
        "tokio::sync::mpsc",
        "std::fs",
        "std::fs::File",
        "std::net::TcpStream",
        "std::thread::spawn",
        "std::sync::Mutex",
        "std::time::Instant",
        "std::time::SystemTime::now",
        "tracing::warn",
        "rusqlite::Connection",
        // These open the door to the rest.
        "std::sync",
        "std::time::*",
    ] {
        let import = format!("use {path};");
        let found = |file: &str, module: &str| format!("{file}: {module} is pure and may not use {path}");
        check("sse.rs", &import, &[&found("sse.rs", "sse")]);
        check("sink/otlp.rs", &import, &[&found("sink/otlp.rs", "sink")]);
        check("time.rs", &import, &[&found("time.rs", "time")]);
        check("store.rs", &import, &[]);
    }
    let nested = "use std::{collections::HashMap, time::{Duration, Instant}};";
    check("sse.rs", nested, &["sse.rs: sse is pure and may not use std::time::Instant"]);
    check(
        "sse.rs",
        "use std::{io::Write, mem, sync::Arc, time::Duration}; fn f() { std::mem::take(x) }",
        &[],
    );
    check("sse.rs", "fn f(rand: u8) { let tokio = rand * 2; }", &[]);
}

#[test]
fn a_module_without_a_layer_is_found() {
    check("helpers.rs", "", &["helpers.rs: the module helpers stands in no layer of tests/layering.rs"]);
    check("utils/x.rs", "", &["utils/x.rs: the module utils stands in no layer of tests/layering.rs"]);
}

#[test]
fn a_mod_rs_is_found() {
    check("sink/mod.rs", "", &["sink/mod.rs: is a mod.rs; modules are foo.rs and foo/"]);
}

#[test]
fn a_long_file_is_found_and_tests_do_not_count() {
    let long = "\n".repeat(MAX_LINES_BEFORE_TESTS + 1);
    check("sse.rs", &long, &["sse.rs: has 401 lines before its tests"]);
    check("lib.rs", &long, &["lib.rs: has 401 lines before its tests"]);
    check("sse.rs", &format!("{}#[cfg(test)]\nmod tests {{\n{long}}}", &long[1..]), &[]);
    check("sse/tests.rs", &long, &[]);
}
