"""A small HTTP/1.1 client: bytes out, status, fields and body in."""

import socket
import time


class Closed(OSError):
    """The server closed the connection."""


class Client:
    """One connection to 127.0.0.1."""

    def __init__(self, port, timeout=20):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, method, path, fields):
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
        lines += [f"{name}: {value}" for name, value in fields]
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode())

    def head(self):
        """Status, fields by lower-case name, and the part of the body that already arrived."""
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._receive()
            if len(received) > 1 << 20:
                raise OSError("a head of more than 1 MiB")
        head, rest = received.split(b"\r\n\r\n", 1)
        return *parse_head(head), rest

    def body(self, fields, rest):
        if fields.get("transfer-encoding") == "chunked":
            while not rest.endswith(b"0\r\n\r\n"):
                rest += self._receive()
            return rest
        while len(rest) < int(fields.get("content-length", 0)):
            rest += self._receive()
        return rest

    def ask(self, method, path, fields=()):
        """A request without a body and its whole response."""
        self.send(method, path, fields)
        status, answered, rest = self.head()
        return status, answered, self.body(answered, rest)

    def _receive(self):
        received = self.socket.recv(1 << 16)
        if not received:
            raise Closed("the server closed the connection")
        return received


def parse_head(head):
    """Status and fields of a response's head; values of one name are joined by commas."""
    status, *lines = head.decode("latin1").split("\r\n")
    fields = {}
    for line in lines:
        name, _, value = line.partition(":")
        name, value = name.lower(), value.strip()
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return int(status.split()[1]), fields


def wait_until_served(port, path, process, limit):
    """Waits for the first 2xx response to a GET of `path`."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"the process ended with exit code {process.returncode}")
        try:
            with Client(port, timeout=2) as client:
                client.send("GET", path, [("Connection", "close")])
                if 200 <= client.head()[0] < 300:
                    return
        except OSError:
            pass
        time.sleep(0.002)
    raise RuntimeError(f"no response within {limit} s")
