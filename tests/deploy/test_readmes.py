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

from pages import PAGES, anchors, links, name
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


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_leads_somewhere(page):
    """Files and anchors are there. Of other sites, only the form is checked: there is no network in the tests."""
    for link in links(page.read_text()):
        target, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link):
            assert re.fullmatch(r"https?://[a-z0-9.:-]+(/\S*)?", link), link
            continue
        file = (page.parent / target).resolve() if target else page
        assert file.exists() and file.is_relative_to(ROOT), link
        if anchor:
            assert anchor in anchors(file.read_text()), link


def test_links_that_lead_nowhere_are_found():
    assert links("[a](b.md#c) `[no](link)` <img src=\"p.png\"> [d][e]\n\n[e]: https://e.example\n") == ["b.md#c", "p.png", "https://e.example"]
    assert anchors("# S3's API\n## `cors` and [links](a.md), 502\n") == {"s3s-api", "cors-and-links-502"}
    with pytest.raises(AssertionError):
        links("[a][missing]")


def test_modules_of_the_map_exist():
    """CONTRIBUTING.md names modules of src, most with their file."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = re.findall(r"`([a-z0-9_]+)::([a-z0-9_]+)`", text)
    assert len(named) >= 8
    for room, file in named:
        folder = ROOT / "src" / room
        assert (folder / f"{file}.rs").exists() or (folder / file).is_dir(), f"{room}::{file}"
    rows = re.findall(r"^\| (`[a-z0-9_`, ]+`) \|", text.partition("A map of the source")[2], re.MULTILINE)
    rooms = {room for row in rows for room in re.findall(r"`(\w+)`", row)}
    assert rooms == {path.name for path in (ROOT / "src").iterdir() if path.is_dir()}


def test_the_index_lists_every_guide():
    text = (DEPLOY / "README.md").read_text()
    listed = set(re.findall(r"\]\(([\w-]+)/README\.md\)", text))
    assert listed == {path.parent.name for path in DEPLOY.glob("*/README.md")}
