"""Bodies far larger than the proxy's memory arrive complete, in both directions."""

import hashlib

import pytest

import proxy
import upstreams

MIB = 1024 * 1024
GIB = 1024 * MIB
PEAK_BYTES = 32 * MIB
# How much of an unread response sockets and the proxy may hold: buffers, not the body.
UNREAD_BYTES = 64 * MIB


@pytest.fixture
def bulk(folder):
    """A separate proxy, so that its peak memory belongs to this test."""
    (folder / "cors.xml").write_text(proxy.policy(proxy.rule(["*"], ["GET", "PUT"])))
    with upstreams.Bulk(block_timeout=1) as upstream:
        route = proxy.route("bulk", ["*"], upstream.url, cors="cors.xml")
        with proxy.S3cors(folder, route) as running:
            running.upstream = upstream
            yield running


@pytest.fixture
def judge(figure):
    """Compares the proxy's peak memory with the limit."""

    def judge(running):
        figure(f"peak {running.peak_memory() / MIB:.1f} MiB")
        assert running.peak_memory() < PEAK_BYTES

    return judge


def test_a_download_of_a_gibibyte_is_complete_and_takes_little_memory(bulk, judge):
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
def test_an_upload_of_a_gibibyte_is_complete_and_takes_little_memory(bulk, judge, expect):
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


def test_an_unread_response_stops_the_upstream_and_takes_little_memory(bulk, judge):
    connection = bulk.connect()
    connection.request("GET", f"/{GIB}")
    assert bulk.upstream.stalled.wait(60), "the upstream was never slowed down"
    assert bulk.upstream.sent < UNREAD_BYTES
    judge(bulk)
    connection.close()
