"""Runs the commands of the guides in deploy/ in a fresh folder, and compares their output with the guides."""

import contextlib
import http.server
import os
import re
import shutil
import subprocess
import threading
import time

import pytest

from places import DEPLOY, ROOT, binary
from programs import Program, free_ports
from proxy import environment

GUIDES = ["sidecar", "minio", "legacy", "edge"]
# A server that the guides assume listens here; the others are s3cors' own.
UPSTREAM_PORT = "9000"
PORTS = ["8080", "8443", "9901"]


class Upstream(http.server.BaseHTTPRequestHandler):
    """A server with CORS fields that browsers refuse."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        for _ in range(2):
            self.send_header("Access-Control-Allow-Origin", "*")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_OPTIONS(self):
        self.send_error(500, "a preflight came through")

    def log_message(self, *_):
        pass


@pytest.fixture
def upstream():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def steps(text):
    """The commands in console blocks, each with the lines shown below it."""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return found


def pattern(line):
    """`…` stands for any text."""
    return ".*".join(map(re.escape, line.split("…")))


def shows(output, expected):
    """Whether these lines occur in this order, with any lines in between."""
    lines = iter(output.splitlines())
    return all(any(re.fullmatch(pattern(wanted), line.strip()) for line in lines) for wanted in expected)


def type_in(command, expected, **options):
    """Runs a command to its end, and repeats it for a while if a change is not in force yet."""
    deadline = time.monotonic() + 20
    while True:
        done = subprocess.run(
            ["bash", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **options
        )
        if shows(done.stdout, expected):
            return
        assert time.monotonic() < deadline, f"$ {command}\nexpected: {expected}\n{done.stdout}"


@pytest.mark.parametrize("name", GUIDES)
def test_the_commands_of_a_guide_work(name, upstream, folder):
    home = folder / name
    shutil.copytree(DEPLOY / name, home)
    ports = dict(zip(PORTS, map(str, free_ports(len(PORTS))))) | {UPSTREAM_PORT: str(upstream)}
    for path in home.rglob("*"):
        if path.is_file():
            path.write_text(re.sub(r"(?<=:)(\d{4})\b", lambda port: ports.get(port[1], port[1]), path.read_text()))
    (folder / "s3cors").symlink_to(binary())
    variables = environment() | {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "S3CORS_ADMIN": f"127.0.0.1:{ports['9901']}",
        "NO_PROXY": "*",
    }
    if not (home / "s3cors.toml").exists():
        variables["S3CORS_LISTEN"] = f"127.0.0.1:{ports['8080']}"
    commands = steps((home / "README.md").read_text())
    assert len(commands) >= 4
    with contextlib.ExitStack() as running:
        for command, expected in commands:
            if command.endswith(" &"):
                line = ["bash", "-c", f"exec {command[:-2]}"]
                server = running.enter_context(Program("s3cors", line, cwd=home, env=variables))
                for wanted in expected:
                    server.wait_for(pattern(wanted))
            else:
                type_in(command, expected, cwd=home, env=variables)


PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "config").rglob("*.md"), *DEPLOY.rglob("*.md")])


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_of_a_page_have_targets(path):
    for link in re.findall(r"\]\(([^)#]+)", path.read_text()):
        assert link.startswith("http") or (path.parent / link).exists(), link


def test_every_folder_is_mentioned():
    text = (DEPLOY / "README.md").read_text()
    told = set(re.findall(r"\]\(([\w-]+)/README\.md\)", text))
    assert told == {path.parent.name for path in DEPLOY.glob("*/README.md")}
