"""SeaweedFS: a real S3 server that checks signatures."""

import http.client
import json
import pathlib
import sys
import time

from programs import Failed, Program, free_ports

ACCESS_KEY = "AKIATEST"
SECRET_KEY = "secrettest"
# `BUCKET.s3.localhost` is the bucket BUCKET: addressing by host.
DOMAIN = "s3.localhost"
READY_SECONDS = 60
# Each server has a port, and another one for gRPC.
PARTS = ["master", "volume", "filer", "s3"]
# The ports must be chosen in advance, so another program may take one; then it is tried again with
# others.
ATTEMPTS = 3


class SeaweedFS(Program):
    """A running server, and its S3 port."""

    def __init__(self, folder, ports):
        self.ports = ports
        self.port = ports[PARTS.index("s3")]
        command = [pathlib.Path(sys.executable).parent / "weed", "server", f"-dir={folder / 'data'}"]
        command += ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"]
        for part, port, grpc in zip(PARTS, ports, ports[len(PARTS) :]):
            command += [f"-{part}.port={port}", f"-{part}.port.grpc={grpc}"]
        # Each bucket takes several volumes: with the default limit, the third bucket answers 500.
        command += ["-master.volumeSizeLimitMB=64", "-volume.max=100", "-master.telemetry=false"]
        command += ["-s3.iam=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]
        command += [f"-s3.config={folder / 's3.json'}", f"-s3.domainName={DOMAIN}"]
        super().__init__("SeaweedFS", command, cwd=folder)

    def stop(self):
        """Kills it: a clean stop takes more than ten seconds, and its data is not needed."""
        self.process.kill()
        code = self.wait()
        # A clean stop would have removed these.
        for port in self.ports:
            for left in pathlib.Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                left.unlink()
        return code


def start(folder: pathlib.Path, is_readable=False):
    """Starts a server with an empty folder and waits until it answers; `is_readable`: its objects are public."""
    (folder / "data").mkdir(parents=True)
    identities = {
        "identities": [
            {
                "name": "test",
                "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
                "actions": ["Admin", "Read", "Write", "List", "Tagging"],
            },
        ],
    }
    if is_readable:
        identities["identities"].append({"name": "anonymous", "actions": ["Read"]})
    (folder / "s3.json").write_text(json.dumps(identities))
    for attempt in range(ATTEMPTS):
        server = SeaweedFS(folder, free_ports(2 * len(PARTS)))
        try:
            _wait_until_ready(server)
            return server
        except Failed:
            server.stop()
            if attempt + 1 == ATTEMPTS:
                raise
    raise AssertionError("unreachable")


def _wait_until_ready(server):
    """It is ready when it refuses unsigned requests: the S3 part starts last."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            raise Failed(f"SeaweedFS ended:\n{server.output}")
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
        try:
            connection.request("GET", "/")
            if connection.getresponse().status in (200, 403):
                return
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.05)
    raise Failed(f"SeaweedFS was not ready in {READY_SECONDS} s:\n{server.output}")
