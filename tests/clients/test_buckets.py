"""No store serves an object of one bucket with another bucket's policy, in any spelling of its path or host.

`S3CORS_S3S_FS` is the path of s3s-fs, which takes minutes to build
(`cargo install s3s-fs --features binary`); if it is set, that store is tested, too.
"""

import contextlib
import dataclasses
import itertools
import os
import pathlib

import pytest

import proxy
import raw_client
import seaweedfs
import stores

APP = "https://app.example"
# Allowed by bucket `open` and by requests without their own policy, but not by `secret`.
FOREIGN = "https://foreign.example"

# `D` stands for the store's domain.
HOSTS = [
    *("D", "D.", "D:80", "D.:80", "D:"),
    *("open.D", "open.D.", "open.D:80", "open.D.:80", "open.D:080", "open.D:", "Open.D", "OPEN.D."),
    *("open..D", "other..D", "other.D", "other.D.", "secret.D", "secret.D.", "Secret.D", "secret..D"),
]

SLASHES = ["/", "//", "%2f", "%2F", "%5c", "\\", "%252f", "/./", "/%2e/"]
UP = ["/../", "/%2e%2e/", "/.%2E/", "/..%2f", "%2f..%2f", "/..\\", "%5c..%5c", "/%252e%252e/", "/..;/", "/..%00/", "//../"]


def paths():
    """Spellings of the object in `secret`, many of which only some stores accept."""
    for first, second in itertools.product(["/", "//", "/%2f", "/./", "/%2e/", "/\\", "/%5c", "///"], SLASHES):
        yield f"{first}secret{second}s.txt"
    for before, up in itertools.product(["/open", "/other", "//open", "/open/a", "/open%2fa", "/op%65n"], UP):
        yield f"{before}{up}secret/s.txt"
        yield f"{before}{up}secret%2fs.txt"
        yield f"{before}{up}{up.lstrip('/')}secret/s.txt"
    for name in ["se%63ret", "secret%00", "secret;a", "secret%3b", "secret.", "secret%20", "SECRET", "%73ecret%2f."]:
        yield f"/{name}/s.txt"
        yield f"/open/../{name}/s.txt"
    for path in ["/s.txt", "//s.txt", "/./s.txt", "/a/../s.txt", "/../secret/s.txt", "/..%2fsecret/s.txt", "/%2e%2e/secret/s.txt"]:
        yield path
    yield from ["//secret.D/s.txt", "/secret/s.txt?x", "/secret/./s.txt", "/secret//s.txt", "/secret/a/../s.txt"]


PLAIN = ["/open/o.txt", "/op%65n/o.txt", "/open/a%2Fb", "/open/a//b", "/open/..a/b..", "/open/a%2eb", "/open/100%25", "/open/"]


@dataclasses.dataclass
class Case:
    """A store behind the proxy, and where both find buckets."""

    name: str
    port: int
    address: str
    domain: str

    @property
    def hosts(self):
        return ["D", "D.", "open.D", "secret.D."] if self.address == "path" else HOSTS

    def route(self):
        hosts = [self.domain, f"open.{self.domain}", f"secret.{self.domain}"]
        if self.address != "path":
            hosts = [self.domain, f"*.{self.domain}"]
        buckets = {"directory": "buckets", "address": self.address}
        upstream = f"http://127.0.0.1:{self.port}"
        return proxy.route(self.name, hosts, upstream, cors="cors.xml", buckets=buckets)

    def requests(self):
        """Hosts and paths."""
        for host, path in itertools.product(self.hosts, list(dict.fromkeys(paths()))):
            yield host.replace("D", self.domain), path.replace("D/", f"{self.domain}/")


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """Stores: SeaweedFS, nginx and Caddy with files, rclone; each in all of its ways to find buckets."""
    folder = tmp_path_factory.mktemp
    by_host = r"server_name ~^(?<bucket>.+)\.nginx\.localhost$; root DATA/$bucket;"
    with contextlib.ExitStack() as running:
        seaweed = running.enter_context(stores.readable_seaweedfs(folder("seaweedfs")))
        nginx, ports = stores.nginx(
            folder("nginx"),
            ["root DATA;"],
            ["merge_slashes off; root DATA;"],
            # Two servers on one port: the first is for hosts that the other does not match.
            ["root DATA;", by_host],
        )
        running.enter_context(nginx)
        caddy = running.enter_context(stores.caddy(folder("caddy")))
        rclone = running.enter_context(stores.rclone(folder("rclone")))
        rclone_by_host = stores.rclone(folder("rclone-hosts"), "--force-path-style=false")
        running.enter_context(rclone_by_host)
        more = []
        if binary := os.environ.get("S3CORS_S3S_FS"):
            s3s_fs = running.enter_context(stores.s3s_fs(binary, folder("s3s-fs"), "s3s.localhost"))
            more.append(Case("s3s-fs", s3s_fs.port, "both", "s3s.localhost"))
        yield [
            *more,
            Case("seaweedfs", seaweed.port, "both", seaweedfs.DOMAIN),
            Case("nginx", ports[0], "path", "files.localhost"),
            Case("nginx-slashes", ports[1], "path", "slashes.localhost"),
            Case("nginx-hosts", ports[2], "both", "nginx.localhost"),
            Case("caddy", caddy.port, "path", "caddy.localhost"),
            Case("rclone", rclone.port, "path", "rclone.localhost"),
            Case("rclone-hosts", rclone_by_host.port, "host", "localhost"),
        ]


@pytest.fixture(scope="module")
def running(cases, tmp_path_factory):
    """The proxy in front of all stores."""
    folder = tmp_path_factory.mktemp("s3cors")
    write_policies(folder)
    with proxy.S3cors(folder, *(case.route() for case in cases)) as running:
        yield running


def write_policies(folder: pathlib.Path):
    rules = {
        "buckets/open.xml": proxy.rule([FOREIGN], ["GET", "PUT"]),
        "buckets/secret.xml": proxy.rule([APP], ["GET", "PUT"]),
        "cors.xml": proxy.rule([FOREIGN], ["GET", "PUT"]),
    }
    (folder / "buckets").mkdir()
    for name, rule in rules.items():
        (folder / name).write_text(proxy.policy(rule))


def admits(client, host, path):
    """Whether the proxy's preflight response allows the foreign origin."""
    preflight = client.request(
        "OPTIONS", host, path, origin=FOREIGN, access_control_request_method="PUT"
    )
    return "access-control-allow-origin" in preflight.fields


def test_no_object_is_served_under_another_buckets_policy(cases, running, figure):
    """For every request to which a store returns an object of `secret`, the foreign origin cannot read the response."""
    asked = served = 0
    leaks = []
    for case in cases:
        with raw_client.Client(case.port) as store, raw_client.Client(running.port) as through:
            found = 0
            for host, path in case.requests():
                asked += 1
                if store.request("GET", host, path).body != stores.SECRET:
                    continue
                found += 1
                actual = through.request("GET", host, path, origin=FOREIGN)
                # The proxy changes nothing, so the store's response is the same.
                if actual.status != 421:
                    assert actual.body == stores.SECRET, (case.name, host, path, actual)
                if "access-control-allow-origin" in actual.fields or admits(through, host, path):
                    leaks.append((case.name, host, path))
            assert found > 0, f"{case.name} serves nothing"
            served += found
    assert leaks == [], f"{len(leaks)} of {served}"
    assert asked >= 5000
    figure(f"{served} of {asked} requests to {len(cases)} stores got an object of `secret`, 0 admitted")


def test_plain_requests_are_admitted(cases, running):
    for case in cases:
        with raw_client.Client(running.port) as through:
            if case.address != "host":
                for path in PLAIN:
                    assert admits(through, case.domain, path), (case.name, path)
            if case.address != "path":
                for path in PLAIN:
                    path = path.removeprefix("/open").removeprefix("/op%65n")
                    assert admits(through, f"open.{case.domain}", path), (case.name, path)
            actual = through.request("GET", *plain(case), origin=FOREIGN)
            assert actual.body == stores.OPEN, (case.name, actual)
            assert actual.fields["access-control-allow-origin"] == FOREIGN


def plain(case):
    """The host and the path of the object of `open`."""
    if case.address == "host":
        return f"open.{case.domain}", "/o.txt"
    return case.domain, "/open/o.txt"
