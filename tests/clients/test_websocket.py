"""WebSocket through the proxy behaves as without it: over HTTP/1.1, and over HTTP/2 (RFC 8441).

The cases follow the groups of the Autobahn test suite (https://github.com/crossbario/autobahn-testsuite): framing,
pings, reserved bits, opcodes, fragmentation, UTF-8, close handling and sizes. Each sends the same bytes to the
server directly and through the proxy, in one piece and in small ones, and expects the same frames back.
"""

import asyncio
import base64
import contextlib
import logging
import os
import socket
import struct
import threading

import pytest
import websockets
from frames import (
    DATA,
    END_STREAM,
    HEADERS,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Closed,
    Connection,
    data,
    headers,
    request,
    window_update,
)
from proxy import S3cors, route

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
MASK = b"\x5a\xa5\x0f\xf0"
MIB = 1024 * 1024


def frame(opcode, payload=b"", last=True, reserved=0, masked=True):
    """A client's frame (RFC 6455, 5.2)."""
    payload = payload if isinstance(payload, bytes) else payload.encode()
    first = (0x80 if last else 0) | reserved << 4 | opcode
    length = len(payload)
    bit = 0x80 if masked else 0
    if length < 126:
        head = struct.pack(">BB", first, bit | length)
    elif length < 65536:
        head = struct.pack(">BBH", first, bit | 126, length)
    else:
        head = struct.pack(">BBQ", first, bit | 127, length)
    if not masked:
        return head + payload
    mask = (MASK * (length // 4 + 1))[:length]
    hidden = int.from_bytes(payload, "big") ^ int.from_bytes(mask, "big")
    return head + MASK + hidden.to_bytes(length, "big")


def close(code=1000, reason=b""):
    return frame(CLOSE, struct.pack(">H", code) + reason)


# The last message of each case: once its echo has come, the echoes of all others have.
LAST = frame(TEXT, "the last message")
ECHO_OF_LAST = b"\x81\x10the last message"
END = close()
TEXTS = ["", "Hello", "κόσμε", "\x00", "\U0010ffff", "-" * 125, "é" * 63]
INVALID_UTF8 = [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"ok\xce", b"\xf8\x88\x80\x80\x80"]


def cases():
    for size in (0, 125, 126, 127, 128, 65535, 65536):
        yield f"text of {size}", frame(TEXT, b"*" * size)
        yield f"binary of {size}", frame(BINARY, bytes(size))
    for text in TEXTS:
        yield f"text {text[:5]!r}", frame(TEXT, text)
    for payload in (b"", b"ping", bytes(125), b"\x00\xff"):
        yield f"ping of {len(payload)}", frame(PING, payload)
    yield "ten pings", b"".join(frame(PING, bytes([number])) for number in range(10))
    yield "a ping that is too long", frame(PING, bytes(126))
    yield "a fragmented ping", frame(PING, b"x", last=False)
    for payload in (b"", b"unsolicited"):
        yield f"pong of {len(payload)}", frame(PONG, payload) + frame(PING, b"after")
    for bits in range(1, 8):
        yield f"reserved bits {bits}", frame(TEXT, "x", reserved=bits)
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        yield f"opcode {opcode}", frame(opcode, b"x")
    yield "no mask", frame(TEXT, "x", masked=False)
    for kind, name in ((TEXT, "text"), (BINARY, "binary")):
        pieces = [frame(kind, b"one", last=False), frame(CONTINUATION, b"two", last=False), frame(CONTINUATION, b"three")]
        yield f"fragmented {name}", b"".join(pieces)
        yield f"{name} with pings between", frame(PING, b"a").join(pieces)
        yield f"{name} in empty fragments", frame(kind, last=False) + frame(CONTINUATION, last=False) + frame(CONTINUATION)
        yield f"{name} inside a fragmented {name}", pieces[0] + frame(kind, b"x")
        many = [frame(kind if number == 0 else CONTINUATION, b"x" * 100, last=number == 199) for number in range(200)]
        yield f"{name} in 200 fragments", b"".join(many)
    yield "a continuation of nothing", frame(CONTINUATION, b"x")
    for number, text in enumerate(INVALID_UTF8):
        yield f"invalid UTF-8 {number}", frame(TEXT, text)
    half = "κ".encode()
    yield "a character in two fragments", frame(TEXT, half[:1], last=False) + frame(CONTINUATION, half[1:])
    for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999):
        yield f"close {code}", close(code, b"reason")
    for code in (0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65535):
        yield f"invalid close {code}", close(code)
    yield "close without a code", frame(CLOSE)
    yield "close with one byte", frame(CLOSE, b"x")
    yield "close with a reason that is too long", close(1000, bytes(124))
    yield "close with an invalid reason", close(1000, b"\xff")
    yield "close twice", close() + close()
    yield "data after close", close() + frame(TEXT, "late")
    for size in (64 * 1024, 256 * 1024, MIB, 4 * MIB):
        yield f"binary of {size // 1024} KiB", frame(BINARY, os.urandom(16) * (size // 16))
    yield "a thousand messages", frame(TEXT, b"x" * 100) * 1000


CASES = dict(cases())


# A start of the proxy connects once, which the library logs as an error.
QUIET = logging.getLogger("quiet")
QUIET.addHandler(logging.NullHandler())
QUIET.propagate = False


class Echo:
    """A WebSocket server that sends every message back."""

    def __enter__(self):
        self.loop = asyncio.new_event_loop()
        self.port = None
        started = threading.Event()
        self.thread = threading.Thread(target=self.loop.run_until_complete, args=(self._serve(started),))
        self.thread.start()
        assert started.wait(30)
        return self

    async def _serve(self, started):
        async def echo(connection):
            with contextlib.suppress(websockets.ConnectionClosed):
                async for message in connection:
                    await connection.send(message)

        self.end = asyncio.Event()
        async with websockets.serve(
            echo, "127.0.0.1", 0, compression=None, max_size=None, ping_interval=None, server_header=None, logger=QUIET
        ) as server:
            self.port = server.sockets[0].getsockname()[1]
            started.set()
            await self.end.wait()

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.end.set)
        self.thread.join()
        self.loop.close()


class Http1:
    """A tunnel over HTTP/1.1, or a connection to the server itself."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        key = base64.b64encode(os.urandom(16)).decode()
        lines = ["GET /echo HTTP/1.1", "Host: photos.example", "Connection: Upgrade", "Upgrade: websocket",
                 f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13", "", ""]
        self.socket.sendall("\r\n".join(lines).encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.socket.recv(1)
        assert head.startswith(b"HTTP/1.1 101 "), head

    def send(self, piece):
        self.socket.sendall(piece)

    def receive(self):
        return self.socket.recv(65536)

    def close(self):
        self.socket.close()


class Http2:
    """A tunnel over HTTP/2: an extended CONNECT."""

    def __init__(self, port):
        self.connection = Connection(port, (4, 16 * MIB), timeout=60)
        self.connection.send(window_update(0, 16 * MIB))
        offer = self.connection.until(SETTINGS).payload
        pairs = [struct.unpack(">HI", offer[at : at + 6]) for at in range(0, len(offer), 6)]
        assert (8, 1) in pairs, "the server does not offer extended CONNECT"
        fields = request("CONNECT", "/echo", "photos.example", (":protocol", "websocket"), ("sec-websocket-version", "13"))
        # Pseudo-fields come first.
        fields.sort(key=lambda field: not field[0].startswith(":"))
        self.connection.send(headers(1, fields, end=False))
        assert dict(self.connection.until(HEADERS, 1).fields)[":status"] == "200"
        self.room = {0: 65535, 1: 65535}
        for seen in self.connection.seen:
            self._note(seen)
        self.ended = False
        self.received = b""

    def _note(self, seen):
        if seen.kind == WINDOW_UPDATE:
            self.room[seen.stream] += struct.unpack(">I", seen.payload)[0]
        elif seen.kind == SETTINGS and not seen.flags & 1:
            for at in range(0, len(seen.payload), 6):
                name, value = struct.unpack(">HI", seen.payload[at : at + 6])
                if name == 4:
                    self.room[1] += value - 65535

    def send(self, piece):
        while piece:
            part = piece[: min(16384, *self.room.values())]
            if not part:
                self._next()
                continue
            piece = piece[len(part) :]
            for key in self.room:
                self.room[key] -= len(part)
            self.connection.send(data(1, part))

    def _next(self):
        seen = self.connection.next()
        self._note(seen)
        if seen.kind == DATA:
            self.received += seen.payload
            if seen.payload:
                self.connection.send(window_update(0, len(seen.payload)), window_update(1, len(seen.payload)))
        self.ended |= seen.kind == RST_STREAM or seen.kind == DATA and bool(seen.flags & END_STREAM)

    def receive(self):
        while not self.received and not self.ended:
            self._next()
        taken, self.received = self.received, b""
        return taken

    def close(self):
        self.connection.close()


def answer(way, port, sent, size):
    """The frames that the server sends until it closes, in any order: a pong may overtake an echo."""
    tunnel = way(port)
    try:
        # Echoes come back while the rest is sent. HTTP/2 frames are sent and read by one thread.
        writer = threading.Thread(target=_send, args=(tunnel, sent + LAST, size))
        writer.start()
        if way is Http2:
            writer.join()
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := tunnel.receive():
                received += piece
                if received.endswith(ECHO_OF_LAST):
                    _send(tunnel, END, size)
        writer.join()
        return sorted(frames_of(received))
    finally:
        tunnel.close()


def _send(tunnel, sent, size):
    # A server that has closed the connection is noticed by the reader.
    with contextlib.suppress(OSError, Closed):
        for at in range(0, len(sent), size):
            tunnel.send(sent[at : at + size])


def frames_of(received):
    """A server's frames, without mask (RFC 6455, 5.2)."""
    while received:
        length, start = received[1], 2
        if length == 126:
            length, start = struct.unpack(">H", received[2:4])[0], 4
        elif length == 127:
            length, start = struct.unpack(">Q", received[2:10])[0], 10
        end = start + length
        assert len(received) >= end, "a frame is cut"
        yield received[:end]
        received = received[end:]


@pytest.fixture(scope="module")
def echo():
    with Echo() as server:
        yield server


@pytest.fixture(scope="module")
def proxy(echo, tmp_path_factory):
    folder = tmp_path_factory.mktemp("websocket")
    with S3cors(folder, route("photos", ["photos.example"], f"http://127.0.0.1:{echo.port}")) as proxy:
        yield proxy


@pytest.mark.parametrize("name", CASES)
def test_a_tunnel_carries_the_bytes_of_websocket_both_ways(echo, proxy, name):
    sent = CASES[name]
    expected = answer(Http1, echo.port, sent, len(sent))
    assert expected
    for way in (Http1, Http2):
        assert answer(way, proxy.port, sent, len(sent)) == expected, way
        if len(sent) < 4096:
            assert answer(way, proxy.port, sent, 7) == expected, way
