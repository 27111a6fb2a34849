"""Servers that find buckets in paths and hosts, each in its own way, with the same objects.

Each has a bucket `open` and a bucket `secret`, each with a public object.
"""

import contextlib
import os
import pathlib
import shutil
import sys
import time

import boto3
from botocore.config import Config

import raw_client
import seaweedfs
from programs import Failed, Program, free_ports

READY_SECONDS = 30
OPEN = b"an object of open"
SECRET = b"an object of secret"
OBJECTS = {"open": ("o.txt", OPEN), "secret": ("s.txt", SECRET)}


class Store(Program):
    """A file server on a given port."""

    def __init__(self, name, folder, command, port):
        self.port = port
        super().__init__(name, command, cwd=folder)
        self._wait_until_ready()

    def _wait_until_ready(self):
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError, EOFError), raw_client.Client(self.port) as client:
                for host, path in [("127.0.0.1", "/open/o.txt"), ("open.localhost", "/o.txt")]:
                    if client.request("GET", host, path).body == OPEN:
                        return
            time.sleep(0.05)
        self.stop()
        raise Failed(f"{self.name} does not serve its objects:\n{self.output}")


def nginx(folder, *servers):
    """Each of `servers` has its own port, and lists the directives of its blocks."""
    ports = free_ports(len(servers))
    blocks = [
        f"server {{ listen 127.0.0.1:{port}; {block.replace('DATA', str(_data(folder)))} }}"
        for port, blocks in zip(ports, servers)
        for block in blocks
    ]
    # As root, it would serve as a user without access to the folder.
    user = "user root;" if os.geteuid() == 0 else ""
    temporary = "".join(f"{kind}_temp_path {folder}/{kind}; " for kind in NGINX_TEMPORARY)
    configuration = "\n".join(
        [
            f"daemon off; worker_processes 1; {user} pid {folder}/nginx.pid; error_log stderr crit;",
            "events { worker_connections 64; }",
            f"http {{ access_log off; {temporary}",
            *blocks,
            "}",
        ]
    )
    (folder / "nginx.conf").write_text(configuration)
    # On Debian, it is in a folder that is only in root's path.
    binary = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    command = [binary, "-p", folder, "-e", "stderr", "-c", folder / "nginx.conf"]
    return Store("nginx", folder, command, ports[0]), ports


NGINX_TEMPORARY = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]


def caddy(folder):
    (port,) = free_ports(1)
    (folder / "Caddyfile").write_text(
        "{\n\tadmin off\n\tauto_https off\n\tpersist_config off\n}\n"
        f"http://:{port} {{\n\tbind 127.0.0.1\n\troot * {_data(folder)}\n\tfile_server\n}}\n"
    )
    command = [_packaged("caddy"), "run", "--adapter", "caddyfile", "--config", folder / "Caddyfile"]
    return Store("Caddy", folder, command, port)


def rclone(folder, *options):
    (port,) = free_ports(1)
    command = [_packaged("rclone"), "serve", "s3", f"--addr=127.0.0.1:{port}", "--config", os.devnull]
    return Store("rclone", folder, [*command, *options, _data(folder)], port)


def s3s_fs(binary, folder, domain):
    """s3s-fs finds buckets in paths, and in the hosts of its domain."""
    (port,) = free_ports(1)
    command = [binary, "--host", "127.0.0.1", "--port", port, "--domain", domain, _data(folder)]
    return Store("s3s-fs", folder, command, port)


@contextlib.contextmanager
def readable_seaweedfs(folder):
    """A SeaweedFS with public objects."""
    with seaweedfs.start(folder, is_readable=True) as server:
        s3 = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{server.port}",
            region_name="us-east-1",
            aws_access_key_id=seaweedfs.ACCESS_KEY,
            aws_secret_access_key=seaweedfs.SECRET_KEY,
            config=Config(s3={"addressing_style": "path"}),
        )
        for bucket, (key, content) in OBJECTS.items():
            s3.create_bucket(Bucket=bucket)
            s3.put_object(Bucket=bucket, Key=key, Body=content)
        yield server


def _data(folder):
    """A folder for each bucket, created once."""
    data = folder / "data"
    for bucket, (key, content) in OBJECTS.items():
        (data / bucket).mkdir(parents=True, exist_ok=True)
        (data / bucket / key).write_bytes(content)
    return data


def _packaged(name):
    """A program from this Python's packages."""
    return pathlib.Path(sys.executable).parent / name
