"""A long run at half load, with a reload every second and a failing upstream: `soak.py [--minutes 30]`.

wrk keeps the proxy at half of its maximum load. In parallel, clients send requests over HTTP/1.1, HTTP/2 and TLS, on
kept-alive and new connections, for small and large objects (large enough for splice(2)), send bodies,
use another protocol through an upgrade, leave in the middle, and request faults from the upstream: a cut, late,
garbled or missing response. The policy is swapped every second, and a certificate every ten. Memory is
sampled, and descriptors are counted at the end.

It fails if a response is wrong without a requested fault, if memory leaves a band of 2 MiB in
the last third of the time (ten minutes of thirty), or if descriptors are left at the end. The last
line is a summary in JSON, the exit code 0 or 1. It is not part of pytest: run it by hand, with wrk
and the packages of requirements.txt. S3CORS_BIN sets the binary; the default is the release build.
"""

import argparse
import collections
import hashlib
import http.client
import json
import pathlib
import random
import re
import socket
import ssl
import sys
import tempfile
import threading
import time

import certificates
import generations
import load
import proxy
from frames import FRAME_SIZE, INITIAL_WINDOW_SIZE, MAX_WINDOW, Connection, data, headers, request, window_update
from objects import Objects, content

HOST = "photos.example"
ORIGIN = generations.ORIGIN

CALIBRATION_SECONDS = 5
LOAD = 0.5
LOAD_CONNECTIONS = 32
REST_SECONDS = 0.05
SIZES = [0, 2, 1000, 20_000, 300_000, 3_000_000]
FAULTS = {"cut": "cut", "late": "504", "garbage": "502", "close": "502"}
FAULT_SHARE = 0.1
# What HTTP/2 allows to send before a window update.
WINDOW_BYTES = 60_000
# Long enough for a busy machine.
RESPONSE_HEAD_SECONDS = 5

SAMPLE_SECONDS = 2
BAND_BYTES = 2 * 1024 * 1024
# Idle connections to the upstream are kept for a while.
DESCRIPTORS_SECONDS = 180
MIB = 1024 * 1024


# The clients: the first two return the result of a request, as its status or as "cut".


class Http1:
    """On a kept-alive connection, or on new ones."""

    most_bytes = SIZES[-1]

    def __init__(self, connect, kept):
        self.connect, self.kept = connect, kept
        self.connection = None

    def ask(self, method, target, body):
        self.connection = self.connection or self.connect()
        try:
            self.connection.request(method, target, body, {"Host": HOST, "Origin": ORIGIN})
            response = self.connection.getresponse()
            answer = str(response.status), response.headers["Access-Control-Allow-Origin"], response.read()
            ends = response.will_close
        except http.client.IncompleteRead:
            answer, ends = ("cut", ORIGIN, b""), True
        if ends or not self.kept:
            self.close()
        return answer

    def close(self):
        if self.connection:
            self.connection.close()
        self.connection = None


class Http2:
    """On a connection that is kept for some time."""

    most_bytes = WINDOW_BYTES

    def __init__(self, connect):
        self.connect = connect
        self.connection = None

    def ask(self, method, target, body):
        if not self.connection or self.stream > 400:
            self.close()
            self.connection, self.stream = self.connect(), 1
        client, stream = self.connection, self.stream
        self.stream += 2
        length = [("content-length", str(len(body)))] if body else []
        client.seen.clear()
        client.send(headers(stream, request(method, target, HOST, ("origin", ORIGIN), *length), end=not body))
        for piece in range(0, len(body or b""), FRAME_SIZE):
            client.send(data(stream, body[piece : piece + FRAME_SIZE], end=piece + FRAME_SIZE >= len(body)))
        outcome = client.outcome(stream)
        fields, received = {}, b""
        for frame in client.seen:
            if frame.stream == stream and hasattr(frame, "fields"):
                fields = dict(frame.fields)
            elif frame.stream == stream and frame.kind == 0:
                received += frame.payload
        outcome = "cut" if outcome.startswith("reset") and fields else outcome
        return outcome, fields.get("access-control-allow-origin"), received

    def close(self):
        if self.connection:
            self.connection.close()
        self.connection = None


def upgraded(port):
    """Another protocol through the proxy: data is echoed."""
    lines = ["GET /0 HTTP/1.1", f"Host: {HOST}", "Connection: upgrade", "Upgrade: echo", "", ""]
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client, client.makefile("rb") as answer:
        client.sendall("\r\n".join(lines).encode())
        status = answer.readline()
        assert status.startswith(b"HTTP/1.1 101 "), status
        while answer.readline() != b"\r\n":
            pass
        for size in SIZES[:4]:
            client.sendall(content(size))
            assert answer.read(size) == content(size), "the echo differs"


def leaves(port):
    """A download and an upload that are aborted in the middle."""
    size = SIZES[-1]
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(f"GET /{size} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        assert client.recv(20_000), "no answer"
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(f"PUT /{size} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {size}\r\n\r\n".encode())
        client.sendall(content(size // 2))


class Soak:
    """A run and its findings."""

    def __init__(self, running, minutes):
        self.running = running
        self.seconds = minutes * 60
        self.ended = threading.Event()
        self.unexpected = []
        self.counts = collections.Counter()
        self.samples = []

    def client(self, asker, seed):
        """Sends requests until the end, and records unexpected results."""
        chosen = random.Random(seed)
        while not self.ended.wait(REST_SECONDS):
            try:
                self.ask(asker, chosen)
            except Exception as error:
                # Whatever it was, no fault was requested.
                self.wrong(f"{type(error).__name__}: {error}")
                asker.close()
        asker.close()

    def visitor(self, visit, port):
        """Connects repeatedly until the end."""
        while not self.ended.wait(REST_SECONDS):
            try:
                visit(port)
                self.counts[visit.__name__] += 1
            except Exception as error:
                self.wrong(f"{visit.__name__}: {type(error).__name__}: {error}")

    def ask(self, asker, chosen):
        size = chosen.choice(SIZES)
        kind = chosen.choice(list(FAULTS)) if chosen.random() < FAULT_SHARE else chosen.choice(["get", "put"])
        if kind == "put":
            body = content(min(size, asker.most_bytes))
            method, target, expected = "PUT", f"/{size}", ("200", hashlib.sha256(body).hexdigest().encode())
        elif kind == "get":
            method, target, body, expected = "GET", f"/{size}", None, ("200", content(size))
        else:
            method, target, body, expected = "GET", f"/{size}?{kind}", None, (FAULTS[kind], None)
        status, origin, received = asker.ask(method, target, body)
        self.counts[kind] += 1
        wanted, object = expected
        if status != wanted or origin != ORIGIN or object is not None and received != object:
            self.wrong(f"{type(asker).__name__} {method} {target}: {status}, {origin}, {len(received)} bytes")

    def wrong(self, what):
        self.counts["wrong"] += 1
        self.unexpected.append(what)
        if len(self.unexpected) <= 20:
            print("wrong:", what, flush=True)

    def swap(self, folder, mounted):
        """Swaps the policy every second, and a certificate every ten."""
        number = generations.FIRST
        while not self.ended.wait(1):
            number += 1
            mounted.swap(cors=generations.text(number))
            if number % 10 == 0:
                certificates.write(folder)
            self.counts["swaps"] += 1

    def sample(self):
        self.samples.append((time.monotonic(), self.running.memory()))

    def band(self):
        """The range of memory in the last third."""
        start, end = self.samples[0][0], self.samples[-1][0]
        last = [memory for at, memory in self.samples if at >= end - (end - start) / 3]
        return max(last) - min(last)


def descriptors(running):
    return len(list(pathlib.Path(f"/proc/{running.process.pid}/fd").iterdir()))


def calibrated(url):
    """The pause between two requests of a connection that gives half the load, in milliseconds."""
    most = load.for_a_while(url, CALIBRATION_SECONDS, LOAD_CONNECTIONS, rest=0).answers / CALIBRATION_SECONDS
    busy = LOAD_CONNECTIONS / most
    rest = LOAD_CONNECTIONS / (LOAD * most) - busy
    print(f"{most:.0f} responses a second at full load", flush=True)
    return max(1, round(rest * 1000))


def start(folder, upstream):
    """Starts the proxy with a plain and a TLS listener; returns it and the latter's port."""
    certificates.write(folder)
    mounted = generations.ConfigMap(folder / "mounted", cors=generations.text(generations.FIRST))
    timeouts = {"response_head_seconds": RESPONSE_HEAD_SECONDS}
    route = proxy.route("photos", ["*"], upstream, cors="mounted/cors.xml", timeouts=timeouts)
    secure = '[[listen]]\naddress = "127.0.0.1:0"\ntls = [{ certificate = "site.pem", key = "site.pem" }]\n'
    (folder / "s3cors.toml").write_text(proxy.config() + "\n" + secure + route)
    running = proxy.S3cors(folder)
    ports = re.findall(proxy.LISTENING_SAID, running.output)
    return running, mounted, int(ports[-1])


def clients(running, secure):
    """The clients that check every response."""
    trusting = ssl.create_default_context()
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE

    def tls():
        return http.client.HTTPSConnection("127.0.0.1", secure, timeout=30, context=trusting)

    def http2(port, tls):
        # Windows for all requests on one connection.
        connection = Connection(port, (INITIAL_WINDOW_SIZE, MAX_WINDOW), tls=tls)
        return connection.send(window_update(0, MAX_WINDOW - 65535))

    return [
        Http1(running.connect, kept=True),
        Http1(running.connect, kept=False),
        Http1(tls, kept=False),
        Http2(lambda: http2(running.port, tls=False)),
        Http2(lambda: http2(secure, tls=True)),
    ]


def soak(minutes):
    with tempfile.TemporaryDirectory(prefix="s3cors-soak-") as path:
        folder = pathlib.Path(path)
        with Objects() as upstream:
            running, mounted, secure = start(folder, upstream.url)
            with running:
                return run(Soak(running, minutes), folder, mounted, secure)


def run(soak, folder, mounted, secure):
    running = soak.running
    # After the first reload, all memory that stays in use is allocated.
    mounted.swap(cors=generations.text(generations.FIRST - 1))
    running.wait_for("config reloaded")
    before = descriptors(running)
    rest = calibrated(running.url)
    askers = clients(running, secure)
    threads = [threading.Thread(target=soak.client, args=(asker, seed)) for seed, asker in enumerate(askers)]
    visits = [upgraded, leaves]
    threads += [threading.Thread(target=soak.visitor, args=(visit, running.port)) for visit in visits]
    threads.append(threading.Thread(target=soak.swap, args=(folder, mounted)))
    began = time.monotonic()
    with load.start(running.url, LOAD_CONNECTIONS, rest) as wrk:
        for each in threads:
            each.start()
        try:
            while time.monotonic() - began < soak.seconds:
                soak.sample()
                if wrk.process.poll() is not None or running.process.poll() is not None:
                    soak.wrong("wrk or the proxy ended")
                    break
                time.sleep(SAMPLE_SECONDS)
        finally:
            soak.ended.set()
            for each in threads:
                each.join()
        counted = load.stopped(wrk)
    series = running.series()
    waited = time.monotonic()
    while descriptors(running) > before and time.monotonic() - waited < DESCRIPTORS_SECONDS:
        time.sleep(1)
    left = descriptors(running) - before
    rejected = series.get('s3cors_config_reloads_total{result="rejected"}', 0)
    errors = [line for line in running.lines if " ERROR " in line or "panicked" in line]
    failures = {
        "answers that were wrong": len(soak.unexpected),
        "failed in wrk": counted.failed,
        "panics": int(series.get("s3cors_panics_total", 0)),
        "reloads rejected": int(rejected),
        "errors logged": len(errors),
        "descriptors left": max(0, left),
        "memory out of its band": int(soak.band() > BAND_BYTES),
    }
    memory = [each for _, each in soak.samples]
    return {
        "ok": not any(failures.values()),
        "seconds": round(time.monotonic() - began),
        "failures": failures,
        "first_failures": (soak.unexpected + errors)[:10],
        "load": {"answers": counted.answers, "p99_ms": counted.p99_milliseconds},
        "looked_at": dict(soak.counts),
        "reloads": int(series.get('s3cors_config_reloads_total{result="applied"}', 0)),
        "memory_mib": {
            "first": round(memory[0] / MIB, 1),
            "last": round(memory[-1] / MIB, 1),
            "most": round(max(memory) / MIB, 1),
            "band_of_the_last_third": round(soak.band() / MIB, 2),
        },
        "descriptors": {"before": before, "after": before + left},
    }


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--minutes", type=float, default=30)
    chosen = arguments.parse_args()
    summary = soak(chosen.minutes)
    print(json.dumps(summary))
    return int(not summary["ok"])


if __name__ == "__main__":
    sys.exit(main())
