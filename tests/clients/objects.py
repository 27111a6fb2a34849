"""An upstream in its own process, so that it and its clients do not wait for each other.

`GET /SIZE` returns an object of that size; with `?FAULT`, it fails: "cut", "late", "garbage" or
"close". A PUT is answered with the hash of its body, an upgrade with an echo.
"""

import asyncio
import hashlib
import pathlib
import re
import sys

from programs import Program

LATE_SECONDS = 8


def content(size):
    """An object of that size; each begins differently."""
    block = hashlib.sha256(str(size).encode()).digest()
    return (block * (size // len(block) + 1))[:size]


class Objects(Program):
    """The running upstream."""

    def __init__(self):
        super().__init__("objects.py", [sys.executable, pathlib.Path(__file__)])
        self.port = int(self.wait_for(r"listening on (\d+)")[1])
        self.url = f"http://127.0.0.1:{self.port}"


class Connection(asyncio.Protocol):
    """A connection to it."""

    def connection_made(self, transport):
        self.transport = transport
        self.buffer = bytearray()
        self.is_echo = False

    def data_received(self, received):
        if self.is_echo:
            self.transport.write(received)
            return
        self.buffer += received
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = bytes(self.buffer[:end])
            length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self.buffer) < whole:
                return
            body = bytes(self.buffer[end + 4 : whole])
            del self.buffer[:whole]
            self.answer(head, body)

    def answer(self, head, body):
        method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
        path, _, fault = target.partition("?")
        if re.search(rb"\r\nupgrade:", head, re.IGNORECASE):
            self.is_echo = True
            self.transport.write(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n" + self.buffer
            )
        elif method == "PUT":
            self.send(hashlib.sha256(body).hexdigest().encode())
        elif fault == "late":
            asyncio.get_running_loop().call_later(LATE_SECONDS, self.transport.abort)
        elif fault == "garbage":
            self.transport.write(b"\x00\x01 this is no answer\r\n\r\n")
            self.transport.close()
        elif fault == "close":
            self.transport.close()
        else:
            self.send(content(int(path.strip("/"))), cut=fault == "cut")

    def send(self, body, cut=False):
        length = len(body) + (1000 if cut else 0)
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (length, body))
        if cut:
            self.transport.close()


async def serve():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Connection, "127.0.0.1", 0, backlog=1024)
    print("listening on", server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve())
