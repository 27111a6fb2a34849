"""The s3cors binary as users run it: a folder with a config, a process, and its two listeners."""

import http.client
import json
import os
import pathlib
import re

from programs import Program

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = pathlib.Path(os.environ.get("S3CORS_BIN", ROOT / "target/release/s3cors"))

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


def rule(origins, methods=("GET",), headers=(), expose=(), max_age=None):
    """A CORSRule of S3's document."""
    parts = [f"<AllowedOrigin>{origin}</AllowedOrigin>" for origin in origins]
    parts += [f"<AllowedMethod>{method}</AllowedMethod>" for method in methods]
    parts += [f"<AllowedHeader>{header}</AllowedHeader>" for header in headers]
    parts += [f"<ExposeHeader>{header}</ExposeHeader>" for header in expose]
    if max_age is not None:
        parts.append(f"<MaxAgeSeconds>{max_age}</MaxAgeSeconds>")
    return f"<CORSRule>{''.join(parts)}</CORSRule>"


def policy(*rules):
    """S3's CORS document."""
    return f'<CORSConfiguration xmlns="{NAMESPACE}">{"".join(rules)}</CORSConfiguration>\n'


def route(name, hosts, upstream, **keys):
    """A `[[route]]` of the config."""
    keys = {"name": name, "host": hosts, "upstream": [upstream], **keys}
    # JSON strings, lists, numbers and booleans are also valid TOML.
    lines = [f"{key} = {_toml(value)}" for key, value in keys.items()]
    return "\n".join(["", "[[route]]", *lines, ""])


def _toml(value):
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(each)}" for key, each in value.items()) + " }"
    return json.dumps(value)


def config(*routes, listen="127.0.0.1:0", admin="127.0.0.1:0", workers=2, listener=None, limits=None):
    """A whole config file; the system chooses the ports unless the test does."""
    tables = {
        "[[listen]]": {"address": listen, **(listener or {})},
        "[admin]": {"address": admin},
        "[limits]": limits or {},
    }
    lines = [f"workers = {workers}"]
    for header, keys in tables.items():
        lines += ["", header, *(f"{key} = {_toml(value)}" for key, value in keys.items())]
    return "\n".join([*lines, ""]) + "".join(routes)


class S3cors(Program):
    """`s3cors run` in a folder, with a config of these routes or with an existing one.

    Other arguments are those of `config`.
    """

    def __init__(
        self, folder: pathlib.Path, *routes, arguments=("--config", "s3cors.toml"), ready=True, **settings
    ):
        self.config = folder / "s3cors.toml"
        if routes:
            self.config.write_text(config(*routes, **settings))
        super().__init__("s3cors", [BINARY, "run", *arguments], cwd=folder, env=environment())
        self.port = None
        self.admin_port = None
        if ready:
            try:
                self.await_ready()
            except BaseException:
                self.stop()
                raise

    def await_ready(self):
        self.admin_port = int(self.wait_for(ADMIN_SAID)[1])
        self.port = int(self.wait_for(LISTENING_SAID)[1])

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def connect(self, timeout=60):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def request(self, method, target, headers=None, body=None):
        """One exchange on a new connection: status, fields, body."""
        connection = self.connect()
        try:
            connection.request(method, target, body=body, headers=headers or {})
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def admin(self, target):
        """The admin listener's response: status and text."""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=30)
        try:
            connection.request("GET", target)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def status(self):
        code, text = self.admin("/status")
        assert code == 200, text
        return json.loads(text)

    def route_status(self, name):
        (found,) = [each for each in self.status()["routes"] if each["name"] == name]
        return found

    def series(self):
        """Every series of /metrics: its name with labels, and its value."""
        code, text = self.admin("/metrics")
        assert code == 200, text
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}

    def metric(self, name, **labels):
        """The sum of the series with this name and these labels."""
        total = 0.0
        for series, value in self.series().items():
            given = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', series))
            if series.partition("{")[0] == name and labels.items() <= given.items():
                total += value
        return total


def environment():
    """This process's environment, without variables that configure the proxy."""
    return {name: value for name, value in os.environ.items() if not name.startswith("S3CORS_")}


LISTENING_SAID = r"listening address=127\.0\.0\.1:(\d+)"
ADMIN_SAID = r"listening for the operator address=127\.0\.0\.1:(\d+)"
