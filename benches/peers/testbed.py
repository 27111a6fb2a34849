"""The common environment of all contenders: files, a certificate, and two upstreams on 127.0.0.1."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import install
import process
from client import wait_until_served

HERE = Path(__file__).resolve().parent
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

PAGE = "https://app.example.com"
OTHER_PAGE = "https://evil.test"


def preflight(origin):
    return [("Origin", origin), ("Access-Control-Request-Method", "PUT"),
            ("Access-Control-Request-Headers", "content-type,x-amz-date")]


def render(template, values):
    text = Path(template).read_text()
    for name, value in values.items():
        text = text.replace(f"@{name}@", str(value))
    return text


class Testbed:
    """The folder of a run, and its upstreams: nginx with files in memory, and a sink for uploads."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="s3cors-peers-"))
        memory = Path("/dev/shm")
        self.files = Path(tempfile.mkdtemp(prefix="s3cors-peers-", dir=memory if memory.is_dir() else None))
        for folder in (self.folder, self.files):
            folder.chmod(0o755)  # nginx' workers drop root
        (self.files / "1k").write_bytes(os.urandom(KIB))
        (self.files / "100k").write_bytes(os.urandom(100 * KIB))
        self._certificate()
        self.upstream_port, self.sink_port = process.free_port(), process.free_port()
        config = self.folder / "upstream.conf"
        config.write_text(render(HERE / "configs/upstream.conf", {
            "DIR": self.folder, "FILES": self.files, "UPSTREAM_PORT": self.upstream_port}))
        log = self.folder / "upstreams.log"
        self.upstream = process.start([install.path("nginx"), "-p", self.folder, "-c", config], log)
        self.sink = process.start([install.path("sink"), f"127.0.0.1:{self.sink_port}"], log)
        wait_until_served(self.upstream_port, "/1k", self.upstream, 20)
        wait_until_served(self.sink_port, "/upload", self.sink, 20)

    def _certificate(self):
        self.certificate, self.key, self.pem = (
            self.folder / name for name in ("certificate.pem", "key.pem", "both.pem"))
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                        "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30", "-subj",
                        "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
                        "-keyout", self.key, "-out", self.certificate],
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.key.chmod(0o644)
        # A client certificate, signed by that certificate.
        self.client_certificate, self.client_key = (
            self.folder / name for name in ("client.pem", "client.key"))
        subprocess.run(["openssl", "req", "-x509", "-CA", self.certificate, "-CAkey", self.key,
                        "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                        "-days", "30", "-subj", "/CN=client",
                        "-addext", "basicConstraints=critical,CA:FALSE",
                        "-addext", "extendedKeyUsage=clientAuth",
                        "-keyout", self.client_key, "-out", self.client_certificate],
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.pem.write_bytes(self.certificate.read_bytes() + self.key.read_bytes())

    def file_of(self, name, size):
        """A file that is created on first use."""
        file = self.files / name
        if not file.exists():
            block = os.urandom(8 * MIB)
            with open(file, "wb") as output:
                for _ in range(size // len(block)):
                    output.write(block)
        return file

    def wrk_script(self, name, method, fields):
        """A script that makes wrk repeat the same request."""
        script = self.folder / f"{name}.lua"
        lines = [f'wrk.method = "{method}"']
        lines += [f'wrk.headers["{field}"] = "{value}"' for field, value in fields]
        script.write_text("\n".join(lines) + "\n")
        return script

    def pids(self):
        return process.tree(self.upstream.pid) + [self.sink.pid]

    def close(self):
        process.stop_all()
        shutil.rmtree(self.files, ignore_errors=True)
        if not os.environ.get("BENCH_KEEP"):
            shutil.rmtree(self.folder, ignore_errors=True)
