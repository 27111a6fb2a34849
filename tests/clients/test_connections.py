"""Many connections that ask nothing, or ask slowly: the others are served, and memory is used again.

They come three times. What the allocator keeps of the first is for the next: memory does not add up.

S3CORS_CONNECTIONS says how many there are; 2,000 unless it does.
"""

import asyncio
import contextlib
import os
import resource
import statistics
import time

import pytest

import proxy
import upstreams

CONNECTIONS = int(os.environ.get("S3CORS_CONNECTIONS", 2000))
MIB = 1024 * 1024
CROWDS = 3
# More than a connection takes whose client asks nothing, or little; less than three of them, so
# that crowds whose memory adds up are noticed.
EACH_BYTES = 12 * 1024
# Long enough for all to be there before the first is cut.
HEAD_READ_SECONDS = max(3, CONNECTIONS // 400)
PATIENCE_SECONDS = 300
REQUEST = b"GET /k HTTP/1.1\r\nHost: photos.example\r\n\r\n"


@pytest.fixture(autouse=True)
def descriptors():
    """Two for each connection: this process has its end, and the proxy, which inherits the limit, the other."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS + 1000
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"{wanted} open files are more than the system allows ({hard})")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def edge(folder):
    (folder / "cors.xml").write_text(proxy.policy(proxy.rule(["https://app.example"], ["GET"])))
    limits = {
        "head_read_seconds": HEAD_READ_SECONDS,
        "keep_alive_idle_seconds": PATIENCE_SECONDS,
        # All of them come from one address.
        "connections_per_client": 20_000,
    }
    with upstreams.Small() as upstream:
        route = proxy.route("photos", ["*"], upstream.url, cors="cors.xml")
        with proxy.S3cors(folder, route, limits=limits) as running:
            # What serving takes anyhow is no connection's.
            took(running, 200)
            yield running


def took(running, count=500):
    """How long each of some requests takes, one after the other, each on a connection of its own."""
    seconds = []
    for _ in range(count):
        start = time.monotonic()
        assert running.request("GET", "/k", {"Host": "photos.example"})[0] == 200
        seconds.append(time.monotonic() - start)
    return seconds


def p99(seconds):
    return statistics.quantiles(seconds, n=100)[98] * 1000


class Crowd:
    """Connections that are opened and held."""

    def __init__(self, port):
        self.port = port
        self.streams = []
        self.dripping = []
        self.cut = 0

    async def open(self, count, answered):
        """Opens them, a hundred at a time; `answered`: each asks once, and reads the answer; else its head drips in."""
        for start in range(0, count, 100):
            await asyncio.gather(*(self._one(answered) for _ in range(start, min(start + 100, count))))

    async def _one(self, answered):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=4096)
        self.streams.append((reader, writer))
        if answered:
            writer.write(REQUEST)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 "), head
            assert await reader.readexactly(2) == b"ok"
        else:
            self.dripping.append(asyncio.create_task(self._drip(reader, writer)))

    async def _drip(self, reader, writer):
        """A byte of a head each second, until the connection is cut."""
        for byte in REQUEST[:-2]:
            writer.write(bytes([byte]))
            ended = asyncio.create_task(reader.read())
            done, _ = await asyncio.wait([ended], timeout=1)
            if done:
                self.cut += 1
                with contextlib.suppress(ConnectionError):
                    await ended
                return
            ended.cancel()

    def close(self):
        for _, writer in self.streams:
            writer.transport.abort()


def meanwhile(running):
    """The other client, beside whatever the loop does."""
    return asyncio.to_thread(took, running)


async def until(condition):
    """Waits for what the proxy does as soon as it comes to it."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < end
        await asyncio.sleep(0.1)


def connections(running):
    return running.metric("s3cors_connections")


def visit(running, answered, drips):
    """A crowd, held while the other client is served; how long that took, and the memory at its height."""

    async def crowd():
        crowd = Crowd(running.port)
        await crowd.open(CONNECTIONS, answered)
        if not drips:
            await until(lambda: connections(running) >= CONNECTIONS)
        during = await meanwhile(running)
        most = running.memory()
        if drips:
            await asyncio.wait_for(asyncio.gather(*crowd.dripping), PATIENCE_SECONDS)
            assert crowd.cut == CONNECTIONS
        crowd.close()
        await until(lambda: connections(running) == 0)
        return during, most

    return asyncio.run(crowd())


@pytest.mark.parametrize("drips", [False, True], ids=["idle", "slow heads"])
def test_a_crowd_costs_little_and_holds_up_nobody_and_slow_heads_are_cut(edge, figure, drips):
    before = took(edge)
    start = edge.memory()
    visits = [visit(edge, answered=not drips, drips=drips) for _ in range(CROWDS)]
    during = visits[-1][0]
    each = (max(most for _, most in visits) - start) / CONNECTIONS
    figure(
        f"{CONNECTIONS} connections, {each:.0f} bytes each at most; memory {start / MIB:.0f} MiB at the start, then"
        f" {', '.join(f'{most / MIB:.0f}' for _, most in visits)}, afterwards {edge.memory() / MIB:.0f}; another's p99"
        f" {p99(before):.1f} ms before, {p99(during):.1f} ms meanwhile"
    )
    assert each < EACH_BYTES
