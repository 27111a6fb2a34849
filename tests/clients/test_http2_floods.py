"""HTTP/2 attacks: memory stays bounded, and other clients are served.

The attackers have their own address (`attacks.ADDRESS`), so that a client's share of upstream
connections keeps its default. Other clients are served by a separate upstream, and by the one
that is attacked. Their speed is shown but not judged, because machines differ and this one may be busy. `chrt --fifo 10 pytest …` excludes other load.
"""

import subprocess
import sys

import pytest

import attacks
import held
import load
import proxy
from frames import Connection, headers, request
from objects import Objects
from programs import Program

MIB = 1024 * 1024
GROWTH_BYTES = 20 * MIB
BEFORE_SECONDS = 1
ATTACK_SECONDS = 2


@pytest.fixture(scope="module")
def edge(tmp_path_factory):
    folder = tmp_path_factory.mktemp("floods")
    (folder / "cors.xml").write_text(proxy.policy(proxy.rule(["https://app.example"], ["GET", "PUT"])))
    with Program("held.py", [sys.executable, held.__file__], stdin=subprocess.PIPE) as attacked, Objects() as others:
        url = attacked.wait_for(r"listening on (\S+)")[1]
        routes = [
            proxy.route("photos", ["photos.example"], url, cors="cors.xml"),
            proxy.route("others", ["others.example"], others.url, cors="cors.xml"),
        ]
        with proxy.S3cors(folder, *routes) as running:
            yield running


def serve(client, count=10):
    """Some sequential requests to the attacked upstream."""
    for stream in range(1, 2 * count, 2):
        client.send(headers(stream, request("GET", "/2")))
        assert client.outcome(stream) == "200"


@pytest.mark.parametrize("name", attacks.ATTACKS)
def test_an_attack_takes_little_memory_and_leaves_the_others_served(edge, name, figure):
    before = load.for_a_while(edge.url, BEFORE_SECONDS)
    memory = edge.memory()
    command = [sys.executable, attacks.__file__, edge.port, name]
    with Program("attacks.py", command, stdin=subprocess.PIPE) as attack:
        attack.wait_for("attacking")
        during = load.for_a_while(edge.url, ATTACK_SECONDS)
        with Connection(edge.port) as client:
            serve(client)
        grown = edge.memory() - memory
        attack.process.stdin.close()
        stopped = attack.wait_for("stopped .* times")[0]
    figure(f"{stopped}, {grown / MIB:+.1f} MiB; p99 of others {before} before, {during} meanwhile")
    assert grown < GROWTH_BYTES
