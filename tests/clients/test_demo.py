"""The README's first command: the lines that it prints can be run, and do what they say."""

import email
import re
import shlex
import subprocess

import proxy
from programs import Program


def curl(line):
    """Runs a printed line: status, fields, body."""
    done = subprocess.run([*shlex.split(line), "--silent", "--show-error"], capture_output=True, check=True, timeout=30)
    head, _, body = done.stdout.decode().partition("\r\n\r\n")
    status, _, fields = head.partition("\r\n")
    return int(status.split()[1]), email.message_from_string(fields), body


def test_the_lines_that_the_demo_prints_work(folder):
    with Program("s3cors demo", [proxy.BINARY, "demo"], cwd=folder, env=proxy.environment()) as demo:
        demo.wait_for("DELETE")
        lines = [line.strip() for line in demo.lines if line.strip().startswith("curl ")]
        allowed, read, refused = map(curl, lines)

        status, fields, body = allowed
        assert (status, body) == (200, "")
        assert fields["Access-Control-Allow-Origin"] == "https://app.example.com"
        assert "PUT" in fields["Access-Control-Allow-Methods"]
        assert fields["Access-Control-Allow-Headers"] == "content-type"
        assert fields["Access-Control-Max-Age"]
        assert fields["Access-Control-Allow-Credentials"] == "true"
        assert fields["Vary"] == "Origin, Access-Control-Request-Headers, Access-Control-Request-Method"

        status, fields, body = read
        assert (status, body) == (200, "Hello from behind the proxy.\n")
        assert fields["Access-Control-Allow-Origin"] == "https://app.example.com"

        status, fields, body = refused
        assert status == 403
        assert "<Code>AccessForbidden</Code>" in body
        assert fields["Access-Control-Allow-Origin"] is None

        # The store accepts what the policy allows.
        target = re.search(r"http://\S+/photos/", lines[0])[0] + "mine.txt"
        origin = "-H 'Origin: https://app.example.com'"
        assert curl(f"curl -i -X PUT --data-binary mine {target} {origin}")[0] == 200
        assert curl(f"curl -i {target} {origin}")[2] == "mine"
        assert curl(f"curl -i -X DELETE {target} {origin}")[0] == 204
        assert curl(f"curl -i {target} {origin}")[0] == 404

        console = re.search(r"http://127\.0\.0\.1:\d+/cors", demo.output)[0]
        page = curl(f"curl -i -H 'Accept: text/html' {console}")
        assert (page[0], "<html" in page[2]) == (200, True)
        # The address of the demo's own page is the first line.
        first = next(line for line in demo.lines if " INFO " not in line).strip()
        page = curl(f"curl -i {first}")
        assert (page[0], "<html" in page[2]) == (200, True)
        demo.signal(2)
        assert demo.wait() == 0, demo.output
