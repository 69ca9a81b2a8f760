//! What the figures were measured on.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::others::Other;

/// A list of machine and versions, as Markdown.
pub(crate) fn describe(binary: &Path, other: Option<&Path>) -> String {
    let cpu_info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu_info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = cpu_info.lines().filter(|line| line.starts_with("processor")).count();
    let mut lines = vec![
        format!(
            "- machine: {}, {cores} cores: load, upstream and collector on one, the proxy on the other",
            cpu.map_or("unknown", |cpu| cpu.1)
        ),
        format!("- kernel: {}", said("uname", &["-sr"])),
        format!("- nginx: {}", said("nginx", &["-v"])),
        format!(
            "- threadtap: {}, commit {}",
            version(binary),
            said("git", &["rev-parse", "--short", "HEAD"])
        ),
        format!("- Rust: {}", said("rustc", &["--version"])),
        format!("- date: {}", said("date", &["-u", "+%Y-%m-%d %H:%M UTC"])),
    ];
    lines.extend(
        Other::ALL.into_iter().filter_map(|other| Some(format!("- {}: {}", other.name(), other.version()?))),
    );
    lines.extend(other.map(|other| format!("- other build: {}", version(other))));
    lines.join("\n")
}

fn version(binary: &Path) -> String {
    said(&binary.display().to_string(), &["--version"])
}

/// What a command says on either stream.
fn said(command: &str, arguments: &[&str]) -> String {
    let Ok(output) = Command::new(command).args(arguments).output() else { return "unknown".to_owned() };
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).trim().to_owned()
}
