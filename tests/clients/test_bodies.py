"""Bodies far larger than the proxy's memory pass whole, in both directions."""

import hashlib

import pytest

import proxy
import upstreams

MIB = 1024 * 1024
GIB = 1024 * MIB
PEAK_BYTES = 32 * MIB
# What sockets and the proxy may hold of an answer that nobody reads: buffers, not the body.
UNREAD_BYTES = 64 * MIB


@pytest.fixture
def bulk(folder):
    """A proxy of its own, so that its peak is this test's."""
    (folder / "cors.xml").write_text(proxy.policy(proxy.rule(["*"], ["GET", "PUT"])))
    with upstreams.Bulk(block_timeout=1) as upstream:
        route = proxy.route("bulk", ["*"], upstream.url, cors="cors.xml")
        with proxy.S3cors(folder, route) as running:
            running.upstream = upstream
            yield running


@pytest.fixture
def judge(figure):
    """Holds the proxy's peak against the limit."""

    def judge(running):
        figure(f"peak {running.peak_memory() / MIB:.1f} MiB")
        assert running.peak_memory() < PEAK_BYTES

    return judge


def test_a_gibibyte_down_is_whole_and_takes_little_memory(bulk, judge):
    connection = bulk.connect()
    connection.request("GET", f"/{GIB}", headers={"Origin": "https://app.example"})
    response = connection.getresponse()
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    digest = hashlib.sha256()
    size = 0
    while block := response.read1(MIB):
        digest.update(block)
        size += len(block)
    connection.close()
    assert size == GIB
    assert digest.hexdigest() == upstreams.hash_of(GIB)
    judge(bulk)


@pytest.mark.parametrize("expect", [False, True], ids=["at once", "after 100 Continue"])
def test_a_gibibyte_up_is_whole_and_takes_little_memory(bulk, judge, expect):
    size = MIB * 64 if expect else GIB
    connection = bulk.connect()
    connection.putrequest("PUT", "/object")
    connection.putheader("Content-Length", str(size))
    connection.putheader("Origin", "https://app.example")
    if expect:
        connection.putheader("Expect", "100-continue")
    connection.endheaders()
    if expect:
        interim = b""
        while not interim.endswith(b"\r\n\r\n"):
            interim += connection.sock.recv(1)
        assert interim.startswith(b"HTTP/1.1 100 ")
    for block in upstreams.blocks(size):
        connection.send(block)
    response = connection.getresponse()
    assert (response.status, response.read().decode()) == (200, upstreams.hash_of(size))
    connection.close()
    judge(bulk)


def test_an_answer_that_nobody_reads_stops_the_upstream_and_fills_no_memory(bulk, judge):
    connection = bulk.connect()
    connection.request("GET", f"/{GIB}")
    assert bulk.upstream.stalled.wait(60), "the upstream could send without end"
    assert bulk.upstream.sent < UNREAD_BYTES
    judge(bulk)
    connection.close()
