"""Beyond its limits, the proxy refuses quickly, keeps serving its clients, and answers the operator.

S3CORS_ATTEMPTS sets how many clients connect beyond the limit; the default is 2,000.
"""

import contextlib
import os
import re
import socket
import threading
import time

import pytest

import proxy
import upstreams
from programs import Program

ROOM = 32
# More than the number of refused clients that the proxy waits for.
STUBBORN = 1500
ATTEMPTS = int(os.environ.get("S3CORS_ATTEMPTS", 2000))
GET = b"GET /k HTTP/1.1\r\nHost: photos.example\r\n\r\n"


@pytest.fixture
def edge(folder, descriptors):
    """A proxy with a low limit on connections."""
    descriptors(2 * STUBBORN)
    (folder / "cors.xml").write_text(proxy.policy(proxy.rule(["https://app.example"], ["GET"])))
    with upstreams.Small() as upstream:
        route = proxy.route("photos", ["*"], upstream.url, cors="cors.xml")
        with proxy.S3cors(folder, route, workers=1, limits={"connections": ROOM}) as running:
            yield running


def connect(port):
    return socket.create_connection(("127.0.0.1", port), timeout=30)


def serve(client):
    """One answered request on a connection that stays open."""
    client.sendall(GET)
    answer = b""
    while not answer.endswith(b"\r\n\r\nok"):
        block = client.recv(4096)
        assert block, answer
        answer += block
    assert answer.startswith(b"HTTP/1.1 200 "), answer


def asked(port):
    """What one more client gets for an immediate request."""
    with connect(port) as client:
        client.sendall(GET)
        answer = b""
        while block := client.recv(4096):
            answer += block
        return answer.decode("latin-1").lower()


def test_extra_connections_get_503_and_the_operator_is_answered(edge, figure):
    busy = ROOM - 4
    command = ["wrk", "-t1", f"-c{busy}", "-d600s", edge.url]
    with Program("wrk", command) as load, contextlib.ExitStack() as held:
        while edge.metric("s3cors_connections") < busy:
            assert load.process.poll() is None, load.output
        # One of them may have been wrk's first connection, with which it tests the server.
        while edge.metric("s3cors_connections") < ROOM:
            serve(held.enter_context(connect(edge.port)))
        took = []
        for _ in range(200):
            start = time.monotonic()
            answer = asked(edge.port)
            took.append(time.monotonic() - start)
            assert answer.startswith("http/1.1 503 "), answer
            assert "\r\nretry-after: 1\r\n" in answer
            assert edge.admin("/readyz")[0] == 200
            assert edge.metric("s3cors_connections") <= ROOM
        load.signal(2)
        assert load.wait() == 0, load.output
    answers = int(re.search(r"(\d+) requests in", load.output)[1])
    figure(f"200 refused in {max(took) * 1000:.1f} ms at most, while the others got {answers} answers")
    assert answers > ROOM
    assert "Socket errors" not in load.output and "Non-2xx" not in load.output, load.output
    # There is room again.
    while edge.metric("s3cors_connections") > 0:
        pass
    assert edge.request("GET", "/k")[0] == 200


def test_clients_that_stay_connected_are_refused_in_any_number(edge):
    with contextlib.ExitStack() as held:
        for _ in range(ROOM):
            serve(held.enter_context(connect(edge.port)))
        for _ in range(STUBBORN):
            client = held.enter_context(connect(edge.port))
            client.sendall(GET)
            answer = client.recv(4096)
            assert answer.startswith(b"HTTP/1.1 503 ") and b"\r\nRetry-After: 1\r\n" in answer, answer


def timed(seconds, do, *arguments):
    """Runs it, and records how long it took."""
    start = time.monotonic()
    result = do(*arguments)
    seconds.append(time.monotonic() - start)
    return result


def spread(seconds):
    p99 = sorted(seconds)[len(seconds) * 99 // 100]
    return f"p99 {p99 * 1000:.1f} ms, at most {max(seconds) * 1000:.1f} ms"


def test_many_extra_connections_are_all_refused_and_others_are_served(edge, figure):
    held = [connect(edge.port) for _ in range(ROOM)]
    for each in held:
        serve(each)
    ended = threading.Event()
    answers = []
    refused, operator, served = [], [], []

    def come_again_and_again():
        while not ended.is_set():
            answers.append(timed(refused, asked, edge.port)[:12])

    others = [threading.Thread(target=come_again_and_again) for _ in range(16)]
    for each in others:
        each.start()
    while len(answers) < ATTEMPTS:
        assert timed(operator, edge.admin, "/livez")[0] == 200
        # Existing clients are served as before.
        for each in held:
            timed(served, serve, each)
    ended.set()
    for each in others:
        each.join()
    for each in held:
        each.close()
    figure(
        f"{len(answers)} refused by 16 at a time: {spread(refused)}; the operator answered {len(operator)} times:"
        f" {spread(operator)}; other clients served {len(served)} times: {spread(served)}"
    )
    assert set(answers) == {"http/1.1 503"}
