"""An HTTP/1.1 client that sends any host and any target unchanged, and keeps its connection as long as possible."""

import dataclasses
import socket


@dataclasses.dataclass
class Answer:
    """A response; fields by lower-case name, the last one if there are several."""

    status: int
    fields: dict
    body: bytes


class Client:
    """A connection to a local port, opened again after the server closes it."""

    def __init__(self, port, timeout=30):
        self.port, self.timeout = port, timeout
        self.socket = None
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        if self.socket:
            self.socket.close()
        self.socket, self.buffer = None, b""

    def request(self, method, host, target, **fields):
        """One exchange; `origin="…"` is the field Origin, `_` becomes `-`."""
        lines = [f"{method} {target} HTTP/1.1", f"Host: {host}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
        message = "\r\n".join([*lines, "", ""]).encode("latin-1")
        is_reused = self.socket is not None
        try:
            return self._exchange(method, message)
        except (ConnectionError, EOFError):
            self.close()
            if not is_reused:
                raise
            # The server had closed it after the last response.
            return self._exchange(method, message)

    def _exchange(self, method, message):
        if self.socket is None:
            self.socket = socket.create_connection(("127.0.0.1", self.port), self.timeout)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(message)
        while (end := self.buffer.find(b"\r\n\r\n")) < 0:
            self._receive()
        head, self.buffer = self.buffer[:end].decode("latin-1"), self.buffer[end + 4 :]
        line, *lines = head.split("\r\n")
        status = int(line.split(" ")[1])
        fields = {}
        for line in lines:
            name, _, value = line.partition(":")
            fields[name.lower()] = value.strip()
        answer = Answer(status, fields, self._body(method, status, fields))
        if fields.get("connection", "").lower() == "close":
            self.close()
        return answer

    def _body(self, method, status, fields):
        if method == "HEAD" or status in (204, 304):
            return b""
        if fields.get("transfer-encoding", "").lower() == "chunked":
            return self._chunked()
        if "content-length" in fields:
            return self._take(int(fields["content-length"]))
        body = self.buffer
        while received := self.socket.recv(65536):
            body += received
        self.close()
        return body

    def _chunked(self):
        body = b""
        while True:
            while (end := self.buffer.find(b"\r\n")) < 0:
                self._receive()
            size = int(self.buffer[:end].split(b";")[0], 16)
            self.buffer = self.buffer[end + 2 :]
            body += self._take(size + 2)[:size]
            if size == 0:
                return body

    def _take(self, count):
        while len(self.buffer) < count:
            self._receive()
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def _receive(self):
        received = self.socket.recv(65536)
        if not received:
            raise EOFError
        self.buffer += received
