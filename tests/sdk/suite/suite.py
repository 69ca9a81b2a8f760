"""Runs the openai package's own API tests through threadtap, and those that fail again without it.

The way is SDK, threadtap, mock server. A test that fails also directly against the mock says nothing about threadtap, but it
fails the run all the same: then the pins need a look.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
SDIST = HERE / ".venv-suite/sdist"
THREADTAP = HERE.parent.parent.parent / "target/debug/threadtap"
MOCK = HERE / "node_modules/.bin/steady"
TESTS = [
    "beta/test_assistants.py", "beta/test_threads.py", "beta/threads", "chat", "conversations", "responses",
    "test_conversations.py", "test_responses.py",
]
# As the SDK's own scripts/mock has it.
MOCK_FORMATS = [
    f"--validator-{what}-format=brackets" for what in ("query-array", "form-array", "query-object", "form-object")
]
READY_SECS = 60
EXIT_SECS = 30


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_ready(process, url, log):
    deadline = time.monotonic() + READY_SECS
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                sys.exit(f"{url} is not ready ({error}):\n{log.read_text()}")
        time.sleep(0.1)


def started(command, url, log, environment=None):
    with log.open("w") as output:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
    wait_ready(process, url, log)
    return process


def stopped(process):
    """Ends it; its exit status."""
    process.send_signal(signal.SIGTERM)
    try:
        return process.wait(EXIT_SECS)
    except subprocess.TimeoutExpired:
        process.kill()
        return "none: it had to be killed"


def pytest(base_url, tests):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    environment |= {"TEST_API_BASE_URL": base_url, "DEFER_PYDANTIC_BUILD": "false"}
    command = [
        sys.executable, "-m", "pytest", "--override-ini=addopts=", "-p", "no:cacheprovider", "--quiet", "--tb=short", "-rf",
        "--numprocesses=auto", *tests,
    ]
    done = subprocess.run(command, cwd=SDIST, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.returncode, done.stdout


def requests_counted(admin):
    """How many requests threadtap has had an answer for."""
    with urllib.request.urlopen(f"{admin}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("threadtap_exchanges_total"))


def main():
    with tempfile.TemporaryDirectory() as directory:
        directory = Path(directory)
        document = directory / "openapi.json"
        document.write_bytes(subprocess.check_output([sys.executable, HERE / "openapi.py"]))
        ports = [free_port() for _ in range(3)]
        mock_url, proxy_url, admin_url = (f"http://127.0.0.1:{port}" for port in ports)
        mock = started(
            [MOCK, "--host", "127.0.0.1", "--port", str(ports[0]), "--quiet", *MOCK_FORMATS, document],
            f"{mock_url}/_x-steady/health", directory / "mock.log",
        )
        try:
            environment = {name: value for name, value in os.environ.items() if not name.startswith("THREADTAP_")}
            proxy_log = directory / "threadtap.log"
            proxy = started(
                [
                    THREADTAP, "--listen", f"127.0.0.1:{ports[1]}", "--upstream", mock_url,
                    "--admin-listen", f"127.0.0.1:{ports[2]}", "--data-dir", directory / "data",
                ],
                f"{admin_url}/readyz", proxy_log, environment,
            )
            status, output = pytest(proxy_url, [f"tests/api_resources/{test}" for test in TESTS])
            passed = requests_counted(admin_url)
            proxy_status = stopped(proxy)
            print(output.strip().splitlines()[-1])
            print(f"{passed:.0f} requests passed through threadtap")
            failed = re.findall(r"^FAILED (\S+)", output, re.MULTILINE)
            if failed:
                print(output[-6000:])
                print("--- those that failed, again without threadtap ---")
                print(pytest(mock_url, failed)[1][-3000:])
            if status != 0 or proxy_status != 0:
                print(f"--- threadtap's log, its end ---\n{proxy_log.read_text()[-4000:]}")
            if proxy_status != 0:
                sys.exit(f"threadtap should exit 0 and did: {proxy_status}")
            if passed == 0:
                sys.exit("no request passed through threadtap")
            sys.exit(status)
        finally:
            stopped(mock)


if __name__ == "__main__":
    main()
