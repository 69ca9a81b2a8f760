"""Tries every change at once: each changed function stands beside its original in one test binary, behind a number.

A build takes longer than the tests, and a build per change takes hours for all of them. Here a function becomes a switch: it
calls the copy whose number the environment names, else it goes on as it is. What does not compile is taken out, and the rest is
built again; then the tests run once per number, and the first panic ends them. What cannot be switched (consts, trait impls,
functions that return `impl Trait`) is built by itself.

Called by scripts/mutants: `mutants.py PACKAGE CHANGES [PATTERN]`, where CHANGES is what `cargo mutants --list --json` says. It ends
with the changes no test noticed; everything is in `outcome.json` beside CHANGES.
"""

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# Run behind the others, for they take longest.
SLOW = ["any_polls_around", "linear_time", "every_input_that_fuzzing_kept", "do_not_depend_on_the_cuts", "even_parts"]
# Many times what all of them take: a change that needs longer never ends.
SECONDS = 20
MEMORY_KIB = 6 << 20
SWITCH = """
#[inline]
pub fn mutant() -> u32 {
    static NUMBER: std::sync::OnceLock<u32> = std::sync::OnceLock::new();
    *NUMBER.get_or_init(|| {
        std::panic::set_hook(Box::new(|info| {
            eprintln!("noticed by {}: {info}", std::thread::current().name().unwrap_or("?"));
            std::process::exit(1)
        }));
        std::env::var("MUTANT").map_or(0, |number| number.parse().unwrap())
    })
}
"""


class Source:
    """A file, and where its lines begin."""

    def __init__(self, path):
        self.path, self.text = path, path.read_text()
        self.starts = [0]
        for line in self.text.split("\n"):
            self.starts.append(self.starts[-1] + len(line) + 1)

    def span(self, span):
        return tuple(self.starts[span[end]["line"] - 1] + span[end]["column"] - 1 for end in ("start", "end"))

    def changed(self, change):
        """The text with one change in it."""
        start, end = self.span(change["span"])
        return self.text[:start] + change["replacement"] + " " + self.text[end:]

    def switched(self, changes):
        """The text with a copy of each change's function behind the original, and the first and last line of each copy."""
        by_function = {}
        for change in changes:
            by_function.setdefault(self.span(change["function"]["span"]), []).append(change)
        text, last, lines = "", 0, []
        for (start, end), group in sorted(by_function.items(), key=lambda item: item[0]):
            function = self.text[start:end]
            head = re.match(r"(?:[ \t]*(?://|#\[)[^\n]*\n)*", function).end()
            name = re.compile(r"\bfn (\w+)").search(function, head)
            at = name.end()
            if function[at] == "<":
                at = closing(function, at) + 1
            parameters = split(function[at + 1 : closing(function, at)])
            body = function.index("{", closing(function, at)) + 1
            own = bool(parameters) and re.fullmatch(r"(&\s*('\w+\s+)?)?(mut\s+)?self", parameters[0])
            path = "self." if own else "Self::" if "::" in group[0]["function"]["function_name"] else ""
            given = ", ".join(pattern(parameter) for parameter in parameters[1 if own else 0 :])
            copy = lambda change: f"{name[1]}_changed_{change['number']}"
            arms = " ".join(f"{change['number']} => return {path}{copy(change)}({given})," for change in group)
            text += self.text[last:start] + function[:body]
            text += f" match crate::mutant() {{ {arms} _ => {{}} }}" + function[body:]
            for change in group:
                from_, to = (place - start for place in self.span(change["span"]))
                text += "\n"
                first = text.count("\n") + 1
                text += function[head : name.start(1)] + copy(change) + function[name.end(1) : from_]
                text += change["replacement"] + " " + function[to:]
                lines.append((first, text.count("\n") + 1, change["number"]))
            last = end
        return text + self.text[last:], lines


def closing(text, at):
    """Where the bracket at a place is closed."""
    depth, pair = 0, {"(": "()", "<": "<>"}[text[at]]
    for place in range(at, len(text)):
        if text[place] == pair[0]:
            depth += 1
        elif text[place] == pair[1] and text[place - 1] not in "-=":
            depth -= 1
            if depth == 0:
                return place
    raise ValueError(text[at:])


def outside(text, sign):
    """The places of a sign that no bracket encloses."""
    depth = 0
    for place, char in enumerate(text):
        if char in "([{<":
            depth += 1
        elif char in ")]}" or (char == ">" and text[place - 1] not in "-="):
            depth -= 1
        elif char == sign and depth == 0:
            yield place


def split(parameters):
    ends = [-1, *outside(parameters, ","), len(parameters)]
    parts = [parameters[start + 1 : end].strip() for start, end in zip(ends, ends[1:])]
    return [part for part in parts if part]


def pattern(parameter):
    """A parameter's pattern, which is an expression of the same value too."""
    return re.sub(r"\bmut ", "", parameter[: next(outside(parameter, ":"))].strip())


def can_be_switched(change):
    function = change["function"]
    return bool(function) and "impl" not in function["return_type"] + function["function_name"]


def build(package):
    """The test binary, and what the compiler complains about: pairs of file and line."""
    command = ["cargo", "test", "--lib", "--no-run", "--message-format=json"]
    done = subprocess.run(command, cwd=package, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    messages = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    binaries = [message["executable"] for message in messages if message.get("executable")]
    errors = [
        (span["file_name"], span["line_start"])
        for message in messages
        if message["reason"] == "compiler-message" and message["message"]["level"].startswith("error")
        for span in message["message"]["spans"]
        if span["is_primary"]
    ]
    if done.returncode != 0 and not errors:
        sys.exit(done.stderr)
    return (binaries[-1] if done.returncode == 0 else None), errors


def build_switched(package, sources, changes):
    """The test binary of all changes that compile, and the numbers of those that do not."""
    left_out = set()
    while True:
        lines = {}
        for file, source in sources.items():
            own = [change for change in changes if change["file"] == file and change["number"] not in left_out]
            text, lines[file] = source.switched(own)
            source.path.write_text(text)
        binary, errors = build(package)
        if binary:
            return binary, left_out
        found = {
            number
            for file, line in errors
            for first, last, number in lines.get(file, [])
            if first <= line <= last
        }
        if not found:
            sys.exit(f"not in a changed function: {errors}")
        left_out |= found


def run(binary, package, number):
    """Who noticed a change; none if nobody did."""
    slow_last = [[argument for name in SLOW for argument in ("--skip", name)], SLOW]
    for names in slow_last:
        tests = [binary, "-q", "--test-threads=1", "--nocapture", *names]
        command = ["sh", "-c", f'ulimit -v {MEMORY_KIB}; exec "$0" "$@"', *tests]
        environment = {**os.environ, "MUTANT": str(number)}
        try:
            done = subprocess.run(command, cwd=package, env=environment, capture_output=True, timeout=SECONDS)
        except subprocess.TimeoutExpired:
            return "never ended"
        if done.returncode != 0:
            noticed = re.search(r"noticed by (\S+):", done.stderr.decode(errors="replace"))
            return noticed[1] if noticed else f"ended with {done.returncode}"
    return None


def main(package, listed, wanted=""):
    package, listed = Path(package).resolve(), Path(listed)
    changes = json.loads(listed.read_text())
    for number, change in enumerate(changes, 1):
        change["number"] = number
    changes = [change for change in changes if re.search(wanted, change["name"])]
    sources = {file: Source(package / file) for file in sorted({change["file"] for change in changes})}
    library = package / "src/lib.rs"
    library.write_text(library.read_text() + SWITCH)

    switched = [change for change in changes if can_be_switched(change)]
    binary, left_out = build_switched(package, sources, switched)
    if noticed := run(binary, package, 0):
        sys.exit(f"without a change: {noticed}")
    numbers = [change["number"] for change in switched if change["number"] not in left_out]
    with ThreadPoolExecutor(2 * os.cpu_count()) as pool:
        outcome = dict(zip(numbers, pool.map(lambda number: run(binary, package, number), numbers)))

    for source in sources.values():
        source.path.write_text(source.text)
    for change in changes:
        if can_be_switched(change):
            continue
        source = sources[change["file"]]
        source.path.write_text(source.changed(change))
        binary, _ = build(package)
        source.path.write_text(source.text)
        if binary:
            outcome[change["number"]] = run(binary, package, 0)

    names = {change["number"]: change["name"] for change in changes}
    by_name = {names[number]: noticed for number, noticed in sorted(outcome.items())}
    listed.with_name("outcome.json").write_text(json.dumps(by_name, indent=1))
    survivors = [name for name, noticed in by_name.items() if noticed is None]
    print(*survivors, sep="\n")
    share = 100 * (1 - len(survivors) / max(len(outcome), 1))
    print(f"{len(changes)} changes, {len(changes) - len(outcome)} do not compile; of {len(outcome)} {share:.1f} % noticed")


main(*sys.argv[1:])
