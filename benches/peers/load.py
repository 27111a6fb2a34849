"""Loads, and the resources that a contender uses under them."""

import os
import re
import socket
import ssl
import struct
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import process
from client import Client
from contenders import Instance
from testbed import GIB, MIB, OTHER_PAGE, PAGE, preflight

UPLOADS, UPLOAD_BYTES = 8, 64 * MIB
LARGE_UPLOAD_BYTES = 896 * MIB
IDLE_CONNECTIONS = 10_000


class Window:
    """What a contender uses between two points in time, and what else the machine did in between."""

    def __init__(self, instance):
        self.pids = instance.pids()
        self.upstreams = instance.testbed.pids()
        self.before = self._now()

    def _now(self):
        return {
            "cpu": process.cpu_seconds(self.pids),
            "ticks": process.user_and_system(self.pids),
            "switches": process.context_switches(self.pids),
            "known": process.cpu_seconds(self.upstreams) + process.own_seconds(),
            "machine": process.machine_seconds(),
            "wall": time.monotonic(),
        }

    def end(self, requests):
        before, now = self.before, self._now()
        took = {key: now[key] - before[key] for key in now if key != "ticks"}
        requests = max(requests, 1)
        other = took["machine"] - took["cpu"] - took["known"]
        return {
            "requests": requests,
            "seconds": took["wall"],
            "cpu_s": took["cpu"],
            "cpu_us": took["cpu"] * 1e6 / requests,
            "kernel": process.kernel_share(before["ticks"], now["ticks"]),
            "switches": took["switches"] / requests,
            "cores": took["cpu"] / took["wall"],
            "noise": max(0.0, other) / took["wall"],
        }


def wrk(instance, seconds, path="/1k", method="GET", fields=(), tls=False, status="2xx"):
    """As many requests as possible, on 64 connections."""
    script = instance.testbed.wrk_script("request", method, fields)
    command = ["wrk", "-t1", "-c64", f"-d{seconds}s", "--latency", "-s", script,
               url(instance, path, tls)]
    window = Window(instance)
    output = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=seconds + 30).stdout
    return window.end(wrk_requests(output)) | read_wrk(output, status)


def wrk_requests(output):
    found = re.search(r"(\d+) requests in", output)
    return int(found.group(1)) if found else 0


def read_wrk(output, status):
    """Requests per second, latencies, and the number of responses that are not of the expected kind: `status` is 2xx or not."""
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    not_2xx = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    not_2xx = int(not_2xx.group(1)) if not_2xx else 0
    wrong = not_2xx if status == "2xx" else wrk_requests(output) - not_2xx
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", output)
    result = {"rps": float(rate.group(1)) if rate else 0.0,
              "errors": wrong + (sum(map(int, broken.groups())) if broken else 0) + (rate is None)}
    for percent in (50, 99):
        found = re.search(rf"^\s+{percent}%\s+([\d.]+)(us|ms|s|m)$", output, re.M)
        units = {"us": 1, "ms": 1e3, "s": 1e6, "m": 6e7}
        result[f"p{percent}_us"] = float(found.group(1)) * units[found.group(2)] if found else None
    return result


def h2load(instance, seconds, connections, streams=1, rate=0, tls=False):
    """HTTP/2 over TLS, or HTTP/1.1 at a fixed rate per connection."""
    log = instance.folder / "h2load.log"
    log.unlink(missing_ok=True)
    command = ["h2load", "-t1", f"-c{connections}", f"-m{streams}", f"-D{seconds}", f"--log-file={log}",
               "-H", f"Origin: {PAGE}"]
    command += ["--h1", f"--rps={rate}"] if rate else []
    window = Window(instance)
    output = subprocess.run([*command, url(instance, "/1k", tls)], capture_output=True, text=True,
                            timeout=seconds + 30).stdout
    found = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", output)
    good, *bad = map(int, found.groups()) if found else (0, 1)
    result = window.end(good) | {"rps": good / seconds, "errors": sum(bad) if good else 1}
    if tls and "Application protocol: h2" not in output:
        result["errors"] += 1
    latencies = sorted(int(line.split("\t")[2]) for line in log.read_text().splitlines()) if log.exists() else []
    for percent in (50, 99):
        result[f"p{percent}_us"] = quantile(latencies, percent)
    return result


def quantile(ordered, percent):
    if not ordered:
        return None
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


def url(instance, path, tls):
    return f"https://127.0.0.1:{instance.tls_port}{path}" if tls else f"http://127.0.0.1:{instance.port}{path}"


def allowed(instance, seconds):
    return wrk(instance, seconds, method="OPTIONS", fields=preflight(PAGE))


def refused(instance, seconds):
    return wrk(instance, seconds, method="OPTIONS", fields=preflight(OTHER_PAGE), status="not 2xx")


def get(instance, seconds, path="/1k", **how):
    return wrk(instance, seconds, path, fields=[("Origin", PAGE)], **how)


def without_origin(instance, seconds):
    return wrk(instance, seconds)


def at_a_rate(instance, seconds):
    return h2load(instance, seconds, connections=16, rate=250)


def http2(instance, seconds):
    return h2load(instance, seconds, connections=8, streams=8, tls=True)


def tls_connections(instance, seconds, resumed=False, authenticated=False):
    """New TLS 1.3 connections with one GET each, by four clients at once."""
    testbed = instance.testbed
    certificate = (testbed.client_certificate, testbed.client_key) if authenticated else None
    until = time.monotonic() + seconds
    window = Window(instance)
    with ThreadPoolExecutor(4) as pool:
        clients = [pool.submit(tls_client, instance.tls_port, until, resumed, certificate) for _ in range(4)]
        latencies, errors = zip(*(client.result() for client in clients))
    latencies = sorted(one for client in latencies for one in client)
    took = window.end(len(latencies))
    return took | {"rps": len(latencies) / took["seconds"], "errors": sum(errors),
                   "p50_us": quantile(latencies, 50), "p99_us": quantile(latencies, 99)}


def tls_client(port, until, resumed, certificate):
    """Connects repeatedly; returns the microseconds of each connection and the number of failures."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if certificate:
        context.load_cert_chain(*certificate)
    request = f"GET /1k HTTP/1.1\r\nHost: localhost\r\nOrigin: {PAGE}\r\nConnection: close\r\n\r\n"
    session, latencies, errors = None, [], 0
    while time.monotonic() < until:
        begun = time.monotonic()
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=20) as plain:
                # curl and browsers do the same: with a server that sends no ticket, there is
                # nothing to acknowledge.
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with context.wrap_socket(plain, session=session) as tls:
                    tls.sendall(request.encode())
                    response = b""
                    while piece := tls.recv(1 << 16):
                        response += piece
                    is_good = (response.startswith(b"HTTP/1.1 200 ")
                               and tls.session_reused == bool(session))
                    if resumed:
                        session = tls.session
        except OSError:
            is_good = False
        latencies.append(int((time.monotonic() - begun) * 1e6))
        errors += not is_good
    return latencies, errors


def download(instance, _seconds):
    """One GET of 1 GiB; the client discards the bytes in the kernel."""
    instance.testbed.file_of("1g", GIB)
    process.forget_peak(instance.pids())
    buffer = bytearray(4 * MIB)
    with Client(instance.port, timeout=60) as client:
        window = Window(instance)
        client.send("GET", "/1g", [("Origin", PAGE)])
        status, fields, rest = client.head()
        left = int(fields["content-length"]) - len(rest)
        while left > 0:
            got = client.socket.recv_into(buffer, min(left, len(buffer)), socket.MSG_TRUNC)
            if got <= 0:
                raise OSError("the body ends early")
            left -= got
        took = window.end(1)
    return bulk(instance, took, 1.0, status == 200)


def upload(instance, _seconds):
    """PUTs of 64 MiB, one after the other on one connection."""
    file = instance.testbed.file_of("64m", UPLOAD_BYTES)
    process.forget_peak(instance.pids())
    is_good = True
    with Client(instance.port) as client, open(file, "rb") as body:
        # sendfile(2) needs a blocking socket; the kernel's limits bound each call.
        client.socket.settimeout(None)
        for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
            client.socket.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", 60, 0))
        window = Window(instance)
        for _ in range(UPLOADS):
            client.send("PUT", "/upload", [("Origin", PAGE), ("Content-Length", UPLOAD_BYTES)])
            sent = 0
            while sent < UPLOAD_BYTES:
                sent += os.sendfile(client.socket.fileno(), body.fileno(), sent, UPLOAD_BYTES - sent)
            status, fields, rest = client.head()
            client.body(fields, rest)
            is_good &= status == 204
        took = window.end(UPLOADS)
    return bulk(instance, took, UPLOADS * UPLOAD_BYTES / GIB, is_good)


def upload_http2(instance, _seconds):
    """One PUT of 896 MiB over TLS and HTTP/2, by curl."""
    file = instance.testbed.file_of("896m", LARGE_UPLOAD_BYTES)
    process.forget_peak(instance.pids())
    command = ["curl", "--silent", "--insecure", "--http2", "--max-time", "120", "--upload-file", file,
               "--header", f"Origin: {PAGE}", "--output", "/dev/null", "--write-out",
               "%{http_code} %{http_version}", url(instance, "/upload", tls=True)]
    window = Window(instance)
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    took = window.end(1)
    return bulk(instance, took, LARGE_UPLOAD_BYTES / GIB, answer == "204 2")


def bulk(instance, took, gib, is_good):
    return {"cpu_s_gib": took["cpu_s"] / gib, "mib_s": gib * 1024 / took["seconds"],
            "peak_mib": process.memory_kib(instance.pids(), "VmHWM") / 1024,
            "kernel": took["kernel"], "noise": took["noise"], "errors": 0 if is_good else 1}


def memory(testbed, name):
    """A fresh process, and one with idle connections, each after one GET."""
    instance = Instance(testbed, name)
    clients = []
    try:
        time.sleep(1)
        fresh = {key: process.memory_kib(instance.pids(), key) for key in ("VmRSS", "Pss")}
        for _ in range(IDLE_CONNECTIONS):
            client = Client(instance.port)
            clients.append(client)
            client.ask("GET", "/1k", [("Origin", PAGE)])
        time.sleep(1.5)
        full = {key: process.memory_kib(instance.pids(), key) for key in ("VmRSS", "Pss")}
        return {"fresh_mib": fresh["VmRSS"] / 1024, "full_mib": full["VmRSS"] / 1024,
                "kib_connection": (full["Pss"] - fresh["Pss"]) / len(clients),
                "errors": sum(map(is_closed, clients))}
    finally:
        for client in clients:
            client.socket.close()
        instance.stop()


def is_closed(client):
    client.socket.setblocking(False)
    try:
        return client.socket.recv(1) == b""
    except BlockingIOError:
        return False


def start(testbed, name):
    """Time from the start of the program to its first response, in steps of 2 ms."""
    before = time.monotonic()
    instance = Instance(testbed, name)
    took = time.monotonic() - before
    cpu = process.cpu_seconds(instance.pids())
    instance.stop()
    return {"start_ms": took * 1e3, "start_cpu_ms": cpu * 1e3, "errors": 0}
