"""Opens many connections, as a program: `crowds.py PORT TLS_PORT KIND COUNT`. It runs until its input ends.

"idle" sends one request and is then silent; "idle, TLS" and "idle, HTTP/2" do the same over those protocols. "slow
heads" sends a byte of a head each second until it is cut. The program prints when all are connected and, for
slow heads, when all were cut. It has a low priority, as if it ran on another machine.
"""

import asyncio
import ssl
import sys

from frames import END_STREAM, PREFACE, headers, request, settings
from programs import give_way

# The number of connections opened at a time.
AT_ONCE = 100
REQUEST = b"GET /2 HTTP/1.1\r\nHost: photos.example\r\n\r\n"
KINDS = ["idle", "idle, TLS", "idle, HTTP/2", "slow heads"]


class Client(asyncio.Protocol):
    """One of the connections, which sends `request`."""

    request = REQUEST

    def connection_made(self, transport):
        self.transport = transport
        self.received = b""
        self.answered = asyncio.get_running_loop().create_future()
        self.ended = asyncio.get_running_loop().create_future()
        transport.write(self.request)

    def data_received(self, received):
        self.received += received
        if not self.answered.done() and self.is_answered():
            self.answered.set_result(None)

    def is_answered(self):
        head, _, body = self.received.partition(b"\r\n\r\n")
        return head.startswith(b"HTTP/1.1 200 ") and len(body) == 2

    def connection_lost(self, error):
        if not self.ended.done():
            self.ended.set_result(None)
        if not self.answered.done():
            self.answered.set_exception(ConnectionError(f"no response, but {self.received}"))


class Http2(Client):
    request = PREFACE + settings() + headers(1, request("GET", "/2"))

    def is_answered(self):
        rest = self.received
        while len(rest) >= 9:
            length, stream, flags = int.from_bytes(rest[:3], "big"), int.from_bytes(rest[5:9], "big"), rest[4]
            if stream == 1 and flags & END_STREAM:
                return True
            rest = rest[9 + length :]
        return False


class Slow(Client):
    request = REQUEST[:1]

    def connection_made(self, transport):
        super().connection_made(transport)
        self.answered.set_result(None)
        self.drip(1)

    def drip(self, at):
        if self.ended.done():
            return
        if at == len(REQUEST) - 2:
            self.ended.set_exception(TimeoutError("the whole head was accepted"))
        else:
            self.transport.write(REQUEST[at : at + 1])
            asyncio.get_running_loop().call_later(1, self.drip, at + 1)


def trusting():
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def crowd(port, tls_port, kind, count):
    loop = asyncio.get_running_loop()
    protocol = {"idle, HTTP/2": Http2, "slow heads": Slow}.get(kind, Client)
    context = trusting() if kind == "idle, TLS" else None

    async def one():
        _, client = await loop.create_connection(protocol, "127.0.0.1", tls_port if context else port, ssl=context)
        await client.answered
        return client

    clients = []
    for start in range(0, count, AT_ONCE):
        clients += await asyncio.gather(*(one() for _ in range(start, min(start + AT_ONCE, count))))
    print("all are there", flush=True)
    left = loop.run_in_executor(None, sys.stdin.read)
    if protocol is Slow:
        await asyncio.gather(*(client.ended for client in clients))
        print("all were cut", flush=True)
    await left
    for client in clients:
        client.transport.abort()


def main(port, tls_port, kind, count):
    give_way()
    asyncio.run(crowd(int(port), int(tls_port), kind, int(count)))


if __name__ == "__main__":
    main(*sys.argv[1:])
