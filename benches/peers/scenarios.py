"""The scenarios: the load of each, who can take part, and its figures."""

from dataclasses import dataclass
from typing import Callable

import counting
import load

REQUESTS = ["cpu_us", "rps", "p50_us", "p99_us", "kernel", "switches", "cores", "noise"]
BODIES = ["cpu_s_gib", "mib_s", "peak_mib", "kernel", "noise"]


@dataclass(frozen=True)
class Scenario:
    """A load on a running contender; the first figure is the one to rank by."""

    means: str
    run: Callable
    needs: frozenset = frozenset({"small"})
    figures: tuple = tuple(REQUESTS)
    # The variant that the instance is started with.
    variant: str = "plain"


@dataclass(frozen=True)
class OfItsOwn:
    """A measurement that starts the contender itself."""

    means: str
    run: Callable
    needs: frozenset
    figures: tuple
    most_rounds: int


def tls(instance, seconds):
    return load.get(instance, seconds, tls=True)


def tls_new(instance, seconds):
    return load.tls_connections(instance, seconds)


def tls_client_ca(instance, seconds):
    return load.tls_connections(instance, seconds, authenticated=True)


def tls_resumed(instance, seconds):
    return load.tls_connections(instance, seconds, resumed=True)


def get100k(instance, seconds):
    return load.get(instance, seconds, "/100k")


SMALL, CORS, BULK = frozenset({"small"}), frozenset({"small", "cors"}), frozenset({"bulk"})
SCENARIOS = {
    "preflight": Scenario("allowed preflight, 64 connections", load.allowed, CORS),
    "preflight-refused": Scenario("refused preflight, 64 connections", load.refused, CORS),
    "get1k": Scenario("GET 1 KiB, 64 connections", load.get),
    "get1k-no-origin": Scenario("GET 1 KiB without Origin, 64 connections", load.without_origin),
    "get1k-rate": Scenario("GET 1 KiB, 16 connections, 4,000 requests/s in all", load.at_a_rate),
    "get1k-log": Scenario("GET 1 KiB, access log on", load.get, SMALL | {"log"}, variant="log"),
    "get1k-edge": Scenario("GET 1 KiB, X-Forwarded-* and a JSON access log; s3cors trusts the client",
                           load.get, SMALL | {"log"}, variant="edge"),
    "get100k": Scenario("GET 100 KiB, 64 connections", get100k),
    "tls1k-h1": Scenario("GET 1 KiB over TLS, HTTP/1.1, 64 connections", tls, SMALL | {"tls"}),
    "tls1k-h2": Scenario("GET 1 KiB over TLS, HTTP/2, 8 connections of 8 streams", load.http2,
                         SMALL | {"http2"}),
    "tls-new": Scenario("new TLS 1.3 connection with one GET 1 KiB", tls_new, SMALL | {"tls"}),
    "tls-client-ca": Scenario("the same with a client's certificate, which is asked for", tls_client_ca,
                              SMALL | {"client_ca"}, variant="client-ca"),
    "tls-resumed": Scenario("resumed TLS 1.3 connection with one GET 1 KiB", tls_resumed, SMALL | {"tls"}),
    "get1g": Scenario("GET 1 GiB", load.download, BULK, tuple(BODIES)),
    "put64m": Scenario("PUT 64 MiB, eight times", load.upload, BULK, tuple(BODIES), "uploads"),
    "put-h2": Scenario("PUT 896 MiB over TLS, HTTP/2", load.upload_http2, BULK | {"http2"}, tuple(BODIES),
                       "uploads"),
    "memory": OfItsOwn("fresh, and with 10,000 idle connections", load.memory, frozenset({"idle"}),
                       ("kib_connection", "fresh_mib", "full_mib"), most_rounds=1),
    "start": OfItsOwn("start to first answer", load.start, frozenset({"idle"}),
                      ("start_ms", "start_cpu_ms"), most_rounds=5),
    "instructions": OfItsOwn("user-space instructions of a request", counting.instructions,
                             frozenset({"counted"}), tuple(counting.REQUESTS), most_rounds=1),
}
