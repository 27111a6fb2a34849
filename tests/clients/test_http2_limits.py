"""Limits that end HTTP/2 connections or streams of idle, slow or hostile clients."""

import signal

import pytest

import proxy
import upstreams
from frames import *

SHORT = 0.3
LONG = 600
MIB = 1024 * 1024

GET = request()


@pytest.fixture
def started(folder):
    """Starts a proxy with these limits in front of an upstream; both are stopped when the test ends."""
    (folder / "cors.xml").write_text(proxy.policy(proxy.rule(["*"], ["GET", "PUT"])))
    running = []

    def start(upstream, timeouts=None, **limits):
        running.append(upstream)
        route = proxy.route("photos", ["*"], upstream.url, cors="cors.xml", timeouts=timeouts or {})
        running.append(proxy.S3cors(folder, route, limits=limits))
        return running[-1]

    yield start
    for each in reversed(running):
        each.__exit__()


@pytest.mark.parametrize(
    "begin",
    [
        b"",
        PREFACE[:10],
        PREFACE,
        PREFACE + settings(),
        PREFACE + settings() + frame(HEADERS, END_STREAM, 1, block(GET)),
    ],
    ids=["nothing", "half a preface", "no settings", "no request", "a request without its end"],
)
def test_a_connection_without_a_request_ends_at_the_heads_limit(started, begin):
    running = started(upstreams.Small(), head_read_seconds=SHORT, keep_alive_idle_seconds=LONG)
    with Connection(running.port, start=False) as client:
        assert client.send(begin).is_closed()


def test_an_idle_connection_gets_a_goaway_and_ends(started):
    running = started(upstreams.Small(), keep_alive_idle_seconds=SHORT)
    with Connection(running.port) as client:
        assert client.get(1) == "200"
        assert client.until(GOAWAY).error == "NO_ERROR"
        client.send(ping(client.until(PING).payload, ACK))
        assert client.is_closed()


def test_an_idle_connection_of_an_unresponsive_client_ends_too(started):
    running = started(upstreams.Small(), keep_alive_idle_seconds=SHORT)
    with Connection(running.port) as client:
        assert client.get(1) == "200"
        # Reads, but acknowledges no PING: the connection is cut.
        assert client.is_closed()
    assert not [received for received in client.seen if received.kind == PING and received.flags & ACK]


def test_a_connection_with_occasional_requests_stays_open(started):
    running = started(upstreams.Small(), keep_alive_idle_seconds=2, head_read_seconds=1)
    with Connection(running.port) as client:
        for stream in range(1, 401, 2):
            assert client.get(stream) == "200"


def test_an_unread_response_is_reset_and_the_others_continue(started):
    running = started(upstreams.Bulk(), timeouts={"body_idle_seconds": SHORT})
    # Empty windows, except for the stream that is read.
    with Connection(running.port, (INITIAL_WINDOW_SIZE, 0)) as client:
        client.send(headers(1, request("GET", f"/{MIB}")), headers(3, request("GET", "/8")))
        client.send(window_update(3, 8))
        assert client.outcome(3) == "200"
        assert client.outcome(1) == "reset CANCEL"
        client.send(headers(5, request("GET", "/8")), window_update(5, 8))
        assert client.outcome(5) == "200"


def test_a_slowly_read_response_is_not_reset(started):
    running = started(upstreams.Bulk(), timeouts={"body_idle_seconds": 1})
    size = 8 * MIB
    with Connection(running.port) as client:
        client.send(headers(1, request("GET", f"/{size}")))
        received = 0
        while received < size:
            piece = client.until(DATA, 1)
            received += len(piece.payload)
            # The proxy waits for the client most of the time, but never for long.
            client.send(window_update(0, len(piece.payload)), window_update(1, len(piece.payload)))
        assert received == size


def test_a_client_that_resets_its_requests_is_cut(started):
    running = started(upstreams.Silent(), http2_resets=20)
    with Connection(running.port) as client:
        taken_back = 0
        for stream in range(1, 4001, 2):
            client.send(headers(stream, GET), ping())
            try:
                # The request is in progress when it is reset.
                client.until(PING, 0, ACK)
            except Closed:
                break
            client.send(reset(stream))
            taken_back += 1
        assert client.is_closed()
        assert 20 <= taken_back <= 25


def test_a_client_may_reset_as_many_requests_as_it_lets_finish(started):
    running = started(upstreams.Small(), http2_resets=20)
    with Connection(running.port) as client:
        for stream in range(1, 401, 4):
            client.send(headers(stream, GET), reset(stream))
            assert client.get(stream + 2) == "200"


def test_resets_provoked_by_a_client_are_counted_too(started):
    running = started(upstreams.Silent(), http2_resets=20)
    with Connection(running.port) as client:
        for stream in range(1, 101, 2):
            client.send(headers(stream, GET), window_update(stream, MAX_WINDOW))
        resets = 0
        while (received := client.next()).kind != GOAWAY:
            resets += received.kind == RST_STREAM
        assert received.error == "ENHANCE_YOUR_CALM"
        assert client.is_closed()
        assert resets <= 20


def test_requests_reset_at_once_use_no_upstream_connection(started):
    upstream = upstreams.Small()
    running = started(upstream)
    # At its start, the proxy checks whether the upstream is up and whether it uses TLS.
    upstream.await_connections(2)

    def taken_back(stream):
        # A window that is too large makes the proxy reset the stream.
        return headers(stream, GET) + window_update(stream, MAX_WINDOW)

    with Connection(running.port) as client:
        # From now on, it is known as a client that resets its requests.
        client.send(taken_back(1))
        client.until(RST_STREAM, 1)
        before = upstream.connections
        client.send(*(taken_back(stream) for stream in range(3, 43, 2)))
        assert client.get(43) == "200"
    # The upstream had accepted what came before the last request.
    assert upstream.connections <= before + 2


def test_a_client_that_stays_connected_does_not_delay_a_stop(started):
    running = started(upstreams.Small())
    with Connection(running.port) as client:
        assert client.get(1) == "200"
        assert running.stop() == 0, running.output
        assert "were cut" not in running.output
        assert client.is_closed()


# A whole response that h2 takes at once, but a client without room does not.
SMALL_BULK = 10_000
WITHOUT_ROOM = (INITIAL_WINDOW_SIZE, 0)


def test_a_whole_response_that_the_client_does_not_take_is_reset(started):
    running = started(upstreams.Bulk(), timeouts={"body_idle_seconds": 1})
    with Connection(running.port, WITHOUT_ROOM) as client:
        client.send(headers(1, request("GET", f"/{SMALL_BULK}")))
        client.until(HEADERS, 1)
        assert client.until(RST_STREAM, 1).error == "CANCEL"
        # The connection goes on.
        client.send(headers(3, request("GET", "/0")))
        assert client.outcome(3) == "200"


def test_a_client_that_takes_some_of_a_response_gets_more_time(started):
    running = started(upstreams.Bulk(), timeouts={"body_idle_seconds": 2})
    with Connection(running.port, WITHOUT_ROOM, timeout=1) as client:
        client.send(headers(1, request("GET", f"/{SMALL_BULK}")))
        client.until(HEADERS, 1)
        received = 0
        while received < SMALL_BULK:
            # In all, it takes longer than the limit.
            with pytest.raises(TimeoutError):
                client.next()
            client.send(window_update(1, 2500))
            received += len(client.until(DATA, 1).payload)


def test_a_drain_waits_for_a_response_that_the_client_takes_late(started):
    running = started(upstreams.Bulk())
    with Connection(running.port, WITHOUT_ROOM, timeout=5) as client:
        client.send(headers(1, request("GET", f"/{SMALL_BULK}")))
        client.until(HEADERS, 1)
        running.signal(signal.SIGTERM)
        client.send(ping(client.until(PING).payload, ACK))
        # An idle connection would be closed after 2 seconds.
        with pytest.raises(TimeoutError):
            while True:
                client.next()
        client.send(window_update(1, SMALL_BULK))
        received = 0
        while received < SMALL_BULK:
            received += len(client.until(DATA, 1).payload)
        assert client.is_closed()
        assert running.wait() == 0


def test_a_response_that_the_client_takes_late_outlasts_the_idle_limit(started):
    running = started(upstreams.Bulk(), keep_alive_idle_seconds=SHORT)
    with Connection(running.port, WITHOUT_ROOM, timeout=4) as client:
        client.send(headers(1, request("GET", f"/{SMALL_BULK}")))
        client.until(HEADERS, 1)
        with pytest.raises(TimeoutError):
            while True:
                client.next()
        client.send(window_update(1, SMALL_BULK))
        assert client.until(DATA, 1).payload
