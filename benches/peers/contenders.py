"""The measured proxies: how each is configured and started, and what it supports.

All do the same job: rule `https://*.example.com` for five methods and two request headers; preflights
answered by the proxy, with 403 if refused; anything else forwarded over kept-alive connections and marked;
no access log unless the scenario needs it.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

import install
import process
from client import wait_until_served
from testbed import HERE, render

CONFIGS = HERE / "configs"
# What scenarios need: small requests, CORS, large bodies, TLS, HTTP/2, client certificates, an
# access log, idle connections, and a single process that valgrind can run.
EVERYTHING = frozenset({"small", "cors", "bulk", "tls", "http2", "client_ca", "log", "idle", "counted"})


@dataclass(frozen=True)
class Contender:
    """`command` fills in configs and returns the command line."""

    program: str
    command: Callable
    does: frozenset = EVERYTHING
    # Whether it can route `/upload` to the sink; otherwise the sink is its only upstream in that
    # scenario.
    routes_uploads: bool = False
    binary: Path | None = None

    def path(self):
        return self.binary or install.path(self.program)


# The configuration of an edge proxy: it forwards the client's address and logs in JSON.
NGINX_EDGE = """log_format edge escape=json '{"time":"$time_iso8601","client":"$remote_addr",'
        '"method":"$request_method","host":"$http_host","target":"$request_uri","status":$status,'
        '"bytes":$body_bytes_sent,"duration_seconds":$request_time,"upstream":"$upstream_addr",'
        '"origin":"$http_origin","user_agent":"$http_user_agent"}';
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_set_header X-Forwarded-Proto $scheme;
    proxy_set_header X-Forwarded-Host $http_host;
    """
HAPROXY_LOG = """log-format "{\\"time\\":\\"%T\\",\\"client\\":\\"%ci\\",\\"method\\":\\"%HM\\",\\"target\\":\\"%HU\\",\\"status\\":%ST,\\"bytes\\":%B,\\"ms\\":%Tr,\\"upstream\\":\\"%s\\"}\""""
# The rules are in the frontend, because HAProxy refuses them in an unnamed `defaults` section.
HAPROXY_FORWARDED = """option forwardfor
    http-request set-header X-Forwarded-Proto http
    http-request set-header X-Forwarded-Host %[req.fhdr(host)]"""
ENVOY_EDGE = """log_format: { json_format: { time: "%START_TIME%", client: "%DOWNSTREAM_REMOTE_ADDRESS%", \
method: "%REQ(:METHOD)%", target: "%REQ(:PATH)%", status: "%RESPONSE_CODE%", bytes: "%BYTES_SENT%", \
duration: "%DURATION%", upstream: "%UPSTREAM_HOST%", origin: "%REQ(ORIGIN)%" } }, """


def nginx(place):
    log = f"access_log {place.folder}/access.log;" if place.has_log else "access_log off;"
    if place.is_edge:
        log = f"{NGINX_EDGE}access_log {place.folder}/access.log edge;"
    # Valgrind counts only one process.
    alone = "master_process off;" if place.workers == 1 else ""
    verify = "ssl_verify_client on; ssl_client_certificate"
    client_ca = f"{verify} {place.testbed.certificate};" if place.has_client_ca else ""
    config = place.write("nginx.conf", LOG=log, PROCESS=alone, CLIENT_CA=client_ca)
    return ["-p", place.folder, "-c", config]


def haproxy(place, splice=""):
    log = ("log global\n    option httplog", "log stdout format raw local0") if place.has_log else ("", "")
    if place.is_edge:
        log = (log[0].replace("option httplog", HAPROXY_LOG), log[1])
    forwarded = HAPROXY_FORWARDED if place.is_edge else ""
    client_ca = f"verify required ca-file {place.testbed.certificate}" if place.has_client_ca else ""
    config = place.write("haproxy.cfg", LOG=log[0], GLOBAL_LOG=log[1], SPLICE=splice, FORWARDED=forwarded,
                         CLIENT_CA=client_ca)
    return ["-q", "-f", config]


def haproxy_splice(place):
    return haproxy(place, "option splice-request\n    option splice-response")


def envoy(place):
    log = f"""access_log: [ {{ name: f, typed_config: {{ "@type": "type.googleapis.com/\
envoy.extensions.access_loggers.file.v3.FileAccessLog", {ENVOY_EDGE if place.is_edge else ""}path: \
"{place.folder}/access.log" }} }} ]"""
    config = place.write("envoy.yaml", LOG=log if place.has_log else "")
    return ["-c", config, "--concurrency", place.workers, "--disable-hot-restart", "--log-level", "error"]


def caddy(place):
    log = f"log {{\n\t\toutput file {place.folder}/access.log\n\t}}" if place.has_log else ""
    return ["run", "--adapter", "caddyfile", "--config", place.write("Caddyfile", LOG=log)]


def s3cors(place, policy="cors = \"cors.xml\""):
    (place.configs / "cors.xml").write_text((CONFIGS / "cors.xml").read_text())
    form = "json" if place.is_edge else "combined"
    log = f'[access_log]\nformat = "{form}"\npath = "{place.folder}/access.log"' if place.has_log else ""
    if place.is_edge:
        policy += '\nforwarded = "x-forwarded"'
    trusted = 'trusted_proxies = ["127.0.0.1"]' if place.is_edge else ""
    client_ca = f'client_ca = "{place.testbed.certificate}"' if place.has_client_ca else ""
    config = place.write("s3cors.toml", LOG=log, CORS=policy, TRUSTED=trusted, CLIENT_CA=client_ca,
                         ADMIN_PORT=process.free_port())
    return ["run", "--config", config]


def s3cors_bare(place):
    return s3cors(place, "via = false")


def reference(place, *more):
    return ["--listen", f"127.0.0.1:{place.port}", "--tls-listen", f"127.0.0.1:{place.tls_port}",
            "--upstream", f"127.0.0.1:{place.upstream_port}", "--cert", place.testbed.certificate,
            "--key", place.testbed.key, "--threads", place.workers, *more]


def reference_splice(place):
    return reference(place, "--splice")


CONTENDERS = {
    "nginx": Contender("nginx", nginx, routes_uploads=True),
    "haproxy": Contender("haproxy", haproxy, routes_uploads=True),
    "haproxy-splice": Contender("haproxy", haproxy_splice, frozenset({"cors", "bulk"}), routes_uploads=True),
    "envoy": Contender("envoy", envoy, EVERYTHING - {"counted", "client_ca"}, routes_uploads=True),
    "caddy": Contender("caddy", caddy, EVERYTHING - {"counted", "client_ca"}, routes_uploads=True),
    "pingora": Contender("pingora-cors", reference, EVERYTHING - {"log", "counted", "client_ca"}),
    "hyper": Contender("hyper-forwarder", reference, EVERYTHING - {"log", "client_ca"}),
    "raw-http": Contender("raw-http", reference, EVERYTHING - {"log", "http2", "client_ca"}),
    "raw-splice": Contender("raw-http", reference_splice, frozenset({"cors", "bulk"})),
    "raw-relay": Contender("raw-relay", reference, frozenset({"small", "bulk", "counted"})),
}
# «The best peer» is the best of these.
PEERS = ["nginx", "haproxy", "envoy", "caddy", "pingora"]


def add_s3cors(name, binary):
    CONTENDERS[name] = Contender("s3cors", s3cors, binary=binary)
    # Transparent, without a policy: the cost of the proxy without CORS.
    CONTENDERS[f"{name}-bare"] = Contender("s3cors", s3cors_bare, frozenset({"counted"}), binary=binary)


@dataclass
class Place:
    """The environment of an instance: its folder, ports and upstream."""

    testbed: object
    folder: Path
    workers: int
    has_log: bool
    is_edge: bool
    has_client_ca: bool
    upstream_port: int
    port: int = field(default_factory=process.free_port)
    tls_port: int = field(default_factory=process.free_port)

    @property
    def configs(self):
        """Logs are elsewhere: s3cors watches this folder and would be notified of each line."""
        return self.folder / "configs"

    def write(self, template, **more):
        config = self.configs / template
        config.write_text(render(CONFIGS / template, {
            **more, "DIR": self.folder, "PORT": self.port, "TLS_PORT": self.tls_port,
            "UPSTREAM_PORT": self.upstream_port, "SINK_PORT": self.testbed.sink_port,
            "CERT": self.testbed.certificate, "KEY": self.testbed.key, "PEM": self.testbed.pem,
            "WORKERS": self.workers}))
        return config


class Instance:
    """A running contender that has answered once."""

    count = 0

    def __init__(self, testbed, name, variant="plain", workers=2, under=()):
        Instance.count += 1
        contender = CONTENDERS[name]
        self.testbed, self.does = testbed, contender.does
        self.folder = testbed.folder / f"{Instance.count}-{name}-{variant}"
        (self.folder / "configs").mkdir(parents=True)
        self.folder.chmod(0o777)
        has_sink = variant == "uploads" and not contender.routes_uploads
        place = Place(testbed, self.folder, workers, variant in ("log", "edge"), variant == "edge",
                      variant == "client-ca",
                      testbed.sink_port if has_sink else testbed.upstream_port)
        self.port, self.tls_port = place.port, place.tls_port
        command = [*under, contender.path(), *contender.command(place)]
        log = self.folder / "log"
        self.process = process.start(command, log, cwd=self.folder)
        try:
            path = "/upload" if has_sink else "/1k"
            wait_until_served(self.port, path, self.process, 60 if under else 20)
        except Exception as error:
            process.stop(self.process)
            words = " ".join(map(str, command))
            raise RuntimeError(f"{words}: {error}\n{log.read_text(errors='replace')[-2000:]}") from error

    def pids(self):
        return process.tree(self.process.pid)

    def stop(self):
        process.stop(self.process)
