"""A million refused origins do not change the number of series or the memory."""

import random
import selectors
import socket

import proxy
import upstreams

MIB = 1024 * 1024
ORIGINS = 1_000_000
# One request in a hundred comes from this one, hidden among the rest.
PLANTED = "https://planted.example"
CONNECTIONS = 16
BATCH = 250
# Exported refused origins of a route, including `other`; the README documents the number.
DENIED_SERIES = 21
GROWTH_BYTES = 5 * MIB


def origins(count, seed):
    """Distinct origins of many lengths, some as unusual as a client can send."""
    chance = random.Random(seed)
    for number in range(count):
        if chance.random() < 0.01:
            yield PLANTED.encode()
            continue
        shape = chance.randrange(8)
        if shape == 0:
            yield b"http://" + b"x" * chance.randrange(2000) + b"%d.example:8443" % number
        elif shape == 1:
            yield b"\xc3\xbc\xff\"\\{}%d\t\xf0" % number
        else:
            yield b"https://site-%d-%x.example" % (number, chance.getrandbits(32))


def preflight(origin):
    return b"OPTIONS /k HTTP/1.1\r\nHost: p.example\r\nOrigin: %s\r\nAccess-Control-Request-Method: PUT\r\n\r\n" % origin


def simple(origin):
    return b"GET /k HTTP/1.1\r\nHost: p.example\r\nOrigin: %s\r\n\r\n" % origin


class Pipeline:
    """One kept-alive connection: sends a batch of requests, and reads as many responses."""

    def __init__(self, port, requests, status):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setblocking(False)
        self.requests = requests
        self.mark = b"HTTP/1.1 %d " % status
        self.answers = 0
        self.waiting = 0
        self.out = b""
        self.tail = b""

    def turn(self, ready):
        """Sends and receives as much as possible; false when everything was answered."""
        if ready & selectors.EVENT_READ:
            data = self.socket.recv(MIB)
            assert data, "the proxy closed a kept-alive connection"
            text = self.tail + data
            count = text.count(self.mark)
            self.tail = text[-(len(self.mark) - 1) :]
            assert self.mark not in self.tail
            self.answers += count
            self.waiting -= count
            # A response with another status, or an extra one, keeps the count from reaching zero.
            assert self.waiting >= 0
        if not self.waiting and not self.out:
            batch = [request for _, request in zip(range(BATCH), self.requests)]
            if not batch:
                return False
            self.out = b"".join(batch)
            self.waiting = len(batch)
        if self.out and ready & selectors.EVENT_WRITE:
            self.out = self.out[self.socket.send(self.out) :]
        return True

    def wants(self):
        return selectors.EVENT_READ | (selectors.EVENT_WRITE if self.out or not self.waiting else 0)


def pump(port, requests, status):
    """Sends all `requests` over a few connections; returns how many were answered with `status`."""
    pipelines = [Pipeline(port, requests, status) for _ in range(CONNECTIONS)]
    with selectors.DefaultSelector() as selector:
        for pipeline in pipelines:
            selector.register(pipeline.socket, pipeline.wants(), pipeline)
        while selector.get_map():
            events = selector.select(timeout=30)
            assert events, "no answer for 30 s"
            for key, ready in events:
                if key.data.turn(ready):
                    selector.modify(key.fileobj, key.data.wants(), key.data)
                else:
                    selector.unregister(key.fileobj)
                    key.fileobj.close()
    return sum(pipeline.answers for pipeline in pipelines)


def is_denied_origin(series):
    return series.startswith("s3cors_denied_origins_total{")


def test_a_million_distinct_origins_change_neither_metrics_nor_memory(folder, figure):
    (folder / "cors.xml").write_text(proxy.policy(proxy.rule(["https://app.example"], ["GET", "PUT"])))
    with upstreams.Small() as upstream:
        route = proxy.route("photos", ["*"], upstream.url, cors="cors.xml")
        with proxy.S3cors(folder, route) as running:
            # What a busy proxy holds in any case: connections, buffers, the first full sketch.
            warm = 20_000
            assert pump(running.port, map(preflight, origins(warm, seed=1)), 403) == warm
            # A request that is not a preflight has its own series.
            assert pump(running.port, map(simple, origins(1, seed=4)), 200) == 1
            others = {name for name in running.series() if not is_denied_origin(name)}
            before = running.memory()
            assert pump(running.port, map(preflight, origins(ORIGINS, seed=2)), 403) == ORIGINS
            growth = running.memory() - before
            actual = 20_000
            assert pump(running.port, map(simple, origins(actual, seed=3)), 200) == actual

            series = running.series()
            denied = {name: value for name, value in series.items() if is_denied_origin(name)}
            figure(f"growth {growth / MIB:.2f} MiB; {len(denied)} of {len(series)} series name a refused origin")
            assert growth < GROWTH_BYTES
            assert len(denied) == DENIED_SERIES
            # It created no other series.
            assert set(series) - set(denied) == others
            planted = running.metric("s3cors_denied_origins_total", origin=PLANTED)
            sent = warm + 1 + ORIGINS + actual
            assert planted >= 0.009 * sent, sorted(denied)
            assert sum(denied.values()) == sent
            refused = running.metric("s3cors_cors_decisions_total", outcome="denied", route="photos")
            assert refused == sent
            assert all(len(name) < 512 for name in denied), "an origin was not cut"
