"""Many idle or slow connections: other clients are served, and the memory is freed.

S3CORS_CONNECTIONS sets their number; the default is 2,000. How fast the others are served is
shown but not judged, because machines differ and this one may be busy. `chrt --fifo 10 pytest …` excludes other load.
"""

import os
import re
import subprocess
import sys
import time

import pytest

import certificates
import crowds
import load
import proxy
from objects import Objects
from programs import Program

CONNECTIONS = int(os.environ.get("S3CORS_CONNECTIONS", 2000))
MIB = 1024 * 1024
# More than an idle or slow connection takes.
EACH_BYTES = {"idle": 4 * 1024, "slow heads": 4 * 1024, "idle, TLS": 40 * 1024, "idle, HTTP/2": 40 * 1024}
# How much more memory may remain afterwards.
KEPT_BYTES = 5 * MIB
# Long enough for all to connect before the first is cut, and shorter than a slow head.
HEAD_READ_SECONDS = max(5, CONNECTIONS // 400)
LOAD_SECONDS = 3
PATIENCE_SECONDS = 300


@pytest.fixture
def edge(folder, descriptors):
    # One for each connection, in both programs.
    descriptors(CONNECTIONS + 1000)
    certificates.write(folder)
    (folder / "cors.xml").write_text(proxy.policy(proxy.rule(["https://app.example"], ["GET", "PUT"])))
    limits = {
        "head_read_seconds": HEAD_READ_SECONDS,
        "keep_alive_idle_seconds": PATIENCE_SECONDS,
        # All of them come from one address.
        "connections_per_client": 20_000,
    }
    secure = '[[listen]]\naddress = "127.0.0.1:0"\ntls = [{ certificate = "site.pem", key = "site.pem" }]\n'
    with Objects() as upstream:
        route = proxy.route("photos", ["*"], upstream.url, cors="cors.xml")
        (folder / "s3cors.toml").write_text(proxy.config(limits=limits) + "\n" + secure + route)
        with proxy.S3cors(folder) as running:
            yield running


def visit(running, kind, count):
    """Starts the connections in a program; the caller waits for its output and stops it."""
    tls_port = re.findall(proxy.LISTENING_SAID, running.output)[-1]
    command = [sys.executable, crowds.__file__, running.port, tls_port, kind, count]
    return Program("crowds.py", command, stdin=subprocess.PIPE)


def leave(running, crowd):
    crowd.process.stdin.close()
    assert crowd.wait(PATIENCE_SECONDS) == 0, crowd.output
    until(lambda: running.metric("s3cors_connections") == 0)


def until(condition):
    """Waits for something that the proxy does soon."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end, f"not in {PATIENCE_SECONDS} s"
        time.sleep(0.1)


@pytest.mark.parametrize("kind", crowds.KINDS)
def test_many_connections_take_little_memory_and_delay_no_one(edge, figure, kind):
    # Memory that serving takes in any case does not count.
    with visit(edge, kind, 100) as few:
        few.wait_for("all were cut" if kind == "slow heads" else "all are there", PATIENCE_SECONDS)
        leave(edge, few)
    before = load.for_a_while(edge.url, LOAD_SECONDS)
    until(lambda: edge.metric("s3cors_connections") == 0)
    start = edge.memory()
    with visit(edge, kind, CONNECTIONS) as crowd:
        crowd.wait_for("all are there", PATIENCE_SECONDS)
        during = load.for_a_while(edge.url, LOAD_SECONDS)
        most = edge.memory()
        if kind == "slow heads":
            crowd.wait_for("all were cut", PATIENCE_SECONDS)
        else:
            assert edge.metric("s3cors_connections") >= CONNECTIONS
        leave(edge, crowd)
    each = (most - start) / CONNECTIONS
    assert each < EACH_BYTES[kind]
    left = time.monotonic()
    until(lambda: edge.memory() - start < KEPT_BYTES)
    figure(
        f"{CONNECTIONS} connections, {each:.0f} bytes each; memory {start / MIB:.1f} MiB before, {most / MIB:.1f}"
        f" meanwhile, {edge.memory() / MIB:.1f} {time.monotonic() - left:.0f} s afterwards; p99 of others {before}"
        f" before, {during} meanwhile"
    )
