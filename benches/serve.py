"""Counts the instructions of whole requests: a client, an upstream, and s3cors under callgrind.

Counts only what the program does between the first and the last counted request, not its start, which
gathers entropy for an unpredictable time.
"""

import pathlib
import re
import signal
import socket
import subprocess
import threading
import time

WARM_UP, COUNTED = 50, 1_000
BODY = b"x" * 1024
RESPONSE = (b"HTTP/1.1 200 OK\r\nServer: store\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Type: text/plain\r\n"
            b"ETag: \"0123456789abcdef\"\r\nContent-Length: 1024\r\n\r\n" + BODY)
STORED = b"HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Length: 0\r\n\r\n"
HEAD = (b"Host: photos.example\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) Chrome/126.0\r\nAccept: */*\r\n"
        b"Accept-Encoding: gzip, br\r\nOrigin: https://app.example\r\n")
CONFIG = """
workers = 1
{root}
[[listen]]
address = "127.0.0.1:0"
[admin]
address = "{admin}"
{access_log}
[[route]]
host = "photos.example"
upstream = "http://127.0.0.1:{port}"
{cors}
{route}
"""
POLICY = """<CORSConfiguration><CORSRule><AllowedOrigin>https://app.example</AllowedOrigin>
<AllowedMethod>GET</AllowedMethod><AllowedMethod>PUT</AllowedMethod></CORSRule></CORSConfiguration>
"""
FORWARDED = {"root": 'trusted_proxies = ["127.0.0.0/8"]', "route": 'forwarded = "x-forwarded"'}
LOGGED = FORWARDED | {"access_log": '[access_log]\nformat = "json"\npath = "/dev/null"'}
NO_CONSOLE = {"admin": "off"}
PREFLIGHT = b"OPTIONS /k HTTP/1.1\r\n" + HEAD + b"Access-Control-Request-Method: PUT\r\n\r\n"
BEHIND = b"X-Forwarded-For: 192.0.2.9\r\nX-Forwarded-Proto: https\r\n"


def get(extra: bytes = b"") -> bytes:
    return b"GET /k HTTP/1.1\r\n" + HEAD + extra + b"\r\n"


def put(framing: bytes, body: bytes) -> bytes:
    return b"PUT /k HTTP/1.1\r\n" + HEAD + framing + b"\r\n" + body


# Name: the config, and the request.
SCENARIOS = {
    "get1k": ({}, get()),
    "get1k-forwarded": (FORWARDED, get(BEHIND)),
    "get1k-edge": (LOGGED, get(BEHIND)),
    # Without the console's ring; and without a policy, so that the upstream's CORS fields are
    # judged.
    "get1k-no-console": (NO_CONSOLE, get()),
    "get1k-transparent": ({"cors": ""}, get()),
    "preflight": ({}, PREFLIGHT),
    "preflight-no-console": (NO_CONSOLE, PREFLIGHT),
    "put1k": ({}, put(b"Content-Length: 1024\r\n", BODY)),
    "put1k-chunked": ({}, put(b"Transfer-Encoding: chunked\r\n", b"400\r\n" + BODY + b"\r\n0\r\n\r\n")),
}


class Upstream:
    """Answers each request on each connection, one after the other."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection: socket.socket) -> None:
        received = b""
        while piece := connection.recv(65536):
            received += piece
            head, end, body = received.partition(b"\r\n\r\n")
            is_whole = end and (b"chunked" not in head or body.endswith(b"0\r\n\r\n")) and (
                b"ontent-Length: 1024" not in head or len(body) == 1024)
            if is_whole:
                connection.sendall(RESPONSE if head.startswith(b"GET") else STORED)
                received = b""


def ask(connection: socket.socket, request: bytes, times: int) -> None:
    for _ in range(times):
        connection.sendall(request)
        received = b""
        while True:
            received += connection.recv(65536)
            head, end, body = received.partition(b"\r\n\r\n")
            length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
            if end and length and len(body) == int(length[1]):
                break
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(head.decode("latin-1"))


def instructions(program: str, scenario: str, folder: pathlib.Path, environment: dict[str, str]) -> int:
    """The instructions of one request, in user space, all threads."""
    settings, request = SCENARIOS[scenario]
    upstream = Upstream()
    (folder / "cors.xml").write_text(POLICY)
    keys = {"root": "", "access_log": "", "route": "", "admin": "127.0.0.1:0", "cors": 'cors = "cors.xml"'} | settings
    (folder / "s3cors.toml").write_text(CONFIG.format(port=upstream.port, **keys))
    out = folder / "callgrind.out"
    process = subprocess.Popen(
        ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={out}",
         program, "run", "--config", folder / "s3cors.toml"], stderr=subprocess.PIPE, text=True,
        env=environment)
    try:
        printed = []
        for line in process.stderr:
            printed.append(line)
            if ready := re.search(r"ready: http://127\.0\.0\.1:(\d+)", line):
                break
        else:
            raise SystemExit("".join(printed))
        threading.Thread(target=process.stderr.read, daemon=True).start()
        with socket.create_connection(("127.0.0.1", int(ready[1]))) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            ask(connection, request, WARM_UP)
            wait_until_quiet(process.pid)
            control("--instr=on", process.pid)
            ask(connection, request, COUNTED)
            control("--instr=off", process.pid)
        process.send_signal(signal.SIGINT)
        process.wait(60)
    finally:
        process.kill()
        upstream.listener.close()
    total = re.search(r"^totals: (\d+)", out.read_text(), re.MULTILINE)
    return round(int(total[1]) / COUNTED)


def wait_until_quiet(pid: int) -> None:
    """Waits until all threads have slept for a while: at its start, the program checks the upstreams and gathers entropy."""
    before, quiet = None, 0
    while quiet < 5:
        time.sleep(0.1)
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        used = fields[11:13]
        quiet = quiet + 1 if used == before else 0
        before = used


def control(command: str, pid: int) -> None:
    subprocess.run(["callgrind_control", command, str(pid)], check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)
