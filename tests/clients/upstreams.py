"""Upstreams in this process, for checks that a real S3 server does not allow."""

import contextlib
import dataclasses
import hashlib
import socket
import socketserver
import threading

MIB = 1024 * 1024
HEAD_BYTES = 64 * 1024
BLOCK = hashlib.sha256(b"s3cors").digest() * (MIB // 32)


class Connection(socketserver.StreamRequestHandler):
    """Answers HTTP/1.1 requests on one connection, one after the other."""

    rbufsize = MIB
    disable_nagle_algorithm = True

    def handle(self):
        with contextlib.suppress(ConnectionError):
            while head := self._read_head():
                method, target, fields = head
                self.server.upstream.answer(self, method, target, fields)

    def _read_head(self):
        line = self.rfile.readline(HEAD_BYTES)
        if not line:
            return None
        method, target, _ = line.decode("latin-1").split(" ")
        fields = {}
        while (line := self.rfile.readline(HEAD_BYTES).rstrip(b"\r\n")):
            name, _, value = line.decode("latin-1").partition(":")
            fields[name.lower()] = value.strip()
        return method, target, fields

    def head(self, status, **fields):
        """Sends the head of an answer."""
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
        self.wfile.write("\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode())


class Upstream:
    """A server on a port chosen by the system; subclasses define its responses."""

    def __init__(self):
        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            block_on_close = False
            request_queue_size = 1024

            def verify_request(self, *_):
                with self.upstream.connected:
                    self.upstream.connections += 1
                    self.upstream.connected.notify_all()
                return True

        self.connections = 0
        self.connected = threading.Condition()
        self._server = Server(("127.0.0.1", 0), Connection)
        self._server.upstream = self
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def answer(self, connection, method, target, fields):
        raise NotImplementedError

    def await_connections(self, count, seconds=30):
        with self.connected:
            assert self.connected.wait_for(lambda: self.connections >= count, seconds), self.connections

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


class Small(Upstream):
    """Answers everything with a short response."""

    def answer(self, connection, method, target, fields):
        connection.rfile.read(int(fields.get("content-length", 0)))
        connection.head("200 OK", Content_Length=2)
        connection.wfile.write(b"ok")


class Silent(Upstream):
    """Reads requests, but answers none."""

    def answer(self, connection, method, target, fields):
        connection.rfile.read()


class Bulk(Upstream):
    """Answers `GET /SIZE` with that many bytes, and a PUT with the hash of its body."""

    def __init__(self, block_timeout=None):
        self.sent = 0
        self.stalled = threading.Event()
        self.block_timeout = block_timeout
        super().__init__()

    def answer(self, connection, method, target, fields):
        if method == "GET":
            self._send(connection, int(target.strip("/")))
            return
        digest = hashlib.sha256()
        left = int(fields["content-length"])
        if fields.get("expect") == "100-continue":
            connection.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while left:
            block = connection.rfile.read1(min(left, MIB))
            if not block:
                return
            digest.update(block)
            left -= len(block)
        connection.head("200 OK", Content_Length=64)
        connection.wfile.write(digest.hexdigest().encode())

    def _send(self, connection, size):
        connection.head("200 OK", Content_Length=size)
        connection.connection.settimeout(self.block_timeout)
        for block in blocks(size):
            view = memoryview(block)
            while view:
                try:
                    count = connection.connection.send(view)
                except socket.timeout:
                    self.stalled.set()
                    continue
                self.sent += count
                view = view[count:]


def blocks(size):
    """`size` bytes in pieces; each piece begins with its number, so that the order is checked."""
    for number in range(-(-size // MIB)):
        left = min(MIB, size - number * MIB)
        yield (number.to_bytes(8, "big") + BLOCK[8:])[:left]


def hash_of(size):
    """The hash of `blocks`."""
    digest = hashlib.sha256()
    for block in blocks(size):
        digest.update(block)
    return digest.hexdigest()


@dataclasses.dataclass
class Recorded:
    """A recorded request; an incomplete body is `None`."""

    method: str
    target: str
    fields: dict
    body: bytes | None = None
    trailers: list = dataclasses.field(default_factory=list)


class Recorder(Upstream):
    """Answers everything and records the requests."""

    def __init__(self):
        self.requests = []
        super().__init__()

    def answer(self, connection, method, target, fields):
        request = Recorded(method, target, fields)
        self.requests.append(request)
        if fields.get("transfer-encoding") == "chunked":
            request.body = self._chunked(connection, request.trailers)
        else:
            length = int(fields.get("content-length", 0))
            body = connection.rfile.read(length)
            request.body = body if len(body) == length else None
        connection.head("200 OK", Content_Length=2)
        connection.wfile.write(b"ok")

    @staticmethod
    def _chunked(connection, trailers):
        body = b""
        while line := connection.rfile.readline():
            size = int(line, 16)
            body += connection.rfile.read(size)
            end = connection.rfile.readline()
            if size == 0:
                while end not in (b"\r\n", b""):
                    trailers.append(end)
                    end = connection.rfile.readline()
                return body if end else None
        return None
