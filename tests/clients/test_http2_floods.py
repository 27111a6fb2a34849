"""Clients of HTTP/2 that attack: memory stays bounded, and the others are served.

How fast the others are served is shown, and not judged: machines differ, and the attack takes as
much of this one as the proxy does.
"""

import statistics
import subprocess
import sys
import threading
import time

import pytest

import attacks
import proxy
import upstreams
from frames import Connection, headers, request
from programs import Program

MIB = 1024 * 1024
GROWTH_BYTES = 20 * MIB
SECONDS = 1


class Held(upstreams.Bulk):
    """Sends what is asked for, and reads no body."""

    def __init__(self):
        self.ended = threading.Event()
        super().__init__()

    def answer(self, connection, method, target, fields):
        if method == "PUT":
            self.ended.wait()
            # What comes next on it is a body.
            raise ConnectionError
        else:
            super().answer(connection, method, target.replace("/k", "/2"), fields)

    def __exit__(self, *_):
        self.ended.set()
        super().__exit__()


@pytest.fixture(scope="module")
def edge(tmp_path_factory):
    folder = tmp_path_factory.mktemp("floods")
    (folder / "cors.xml").write_text(proxy.policy(proxy.rule(["https://app.example"], ["GET", "PUT"])))
    with Held() as upstream:
        route = proxy.route("photos", ["photos.example"], upstream.url, cors="cors.xml")
        with proxy.S3cors(folder, route) as running:
            yield running


class Other:
    """A client that wants nothing but an answer, one after the other."""

    def __init__(self, port):
        self.client = Connection(port)
        self.stream = 1

    def seconds(self, duration):
        """How long each answer took, for a while, and for a few in any case."""
        took = []
        end = time.monotonic() + duration
        while (start := time.monotonic()) < end or len(took) < 10:
            self.client.send(headers(self.stream, request("GET", "/2")))
            assert self.client.outcome(self.stream) == "200"
            took.append(time.monotonic() - start)
            self.stream += 2
        return took


def p99(took):
    return statistics.quantiles(took, n=100)[98] * 1000


@pytest.mark.parametrize("name", attacks.ATTACKS)
def test_an_attack_takes_little_memory_and_leaves_the_others_served(edge, name, figure):
    other = Other(edge.port)
    before = other.seconds(SECONDS)
    memory = edge.memory()
    command = [sys.executable, attacks.__file__, edge.port, name]
    with Program("attacks.py", command, stdin=subprocess.PIPE) as attack:
        attack.wait_for("attacking")
        during = other.seconds(SECONDS)
        grown = edge.memory() - memory
        attack.process.stdin.close()
        stopped = attack.wait_for("stopped .* times")[0]
    other.client.close()
    figure(
        f"{stopped}, {grown / MIB:+.1f} MiB; another's p99 {p99(before):.1f} ms before,"
        f" {p99(during):.1f} ms meanwhile ({len(during)})"
    )
    assert grown < GROWTH_BYTES
