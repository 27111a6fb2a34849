"""HTTP/2 frame by frame: a client that sends any frames, valid or invalid (RFC 9113)."""

import socket
import ssl
import struct

import hpack

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = 0, 1, 2, 3, 4
PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 5, 6, 7, 8, 9

# Flags; the meaning of 0x1 depends on the frame.
ACK = END_STREAM = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITISED = 0x20

# Settings.
HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS = 1, 2, 3
INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = 4, 5, 6

ERRORS = (
    "NO_ERROR PROTOCOL_ERROR INTERNAL_ERROR FLOW_CONTROL_ERROR SETTINGS_TIMEOUT STREAM_CLOSED FRAME_SIZE_ERROR"
    " REFUSED_STREAM CANCEL COMPRESSION_ERROR CONNECT_ERROR ENHANCE_YOUR_CALM INADEQUATE_SECURITY HTTP_1_1_REQUIRED"
).split()

MAX_WINDOW = 2**31 - 1
FRAME_SIZE = 16384


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def settings(*pairs, flags=0):
    return frame(SETTINGS, flags, 0, b"".join(struct.pack(">HI", *pair) for pair in pairs))


def window_update(stream, increment):
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", increment))


def reset(stream, code=8):
    return frame(RST_STREAM, 0, stream, struct.pack(">I", code))


def ping(payload=b"s3cors!!", flags=0):
    return frame(PING, flags, 0, payload)


def dependency(on, weight=16):
    """The payload of PRIORITY, with which HEADERS may begin."""
    return struct.pack(">IB", on, weight - 1)


def block(fields):
    """A field block of literals without indexing: names and values may be any bytes."""
    encoded = b""
    for name, value in fields:
        encoded += b"\x00" + string(name) + string(value)
    return encoded


def string(text):
    text = text if isinstance(text, bytes) else text.encode()
    return integer(len(text), 7) + text


def integer(value, bits, first=0):
    """An integer after the first bits of a byte (RFC 7541, 5.1)."""
    most = (1 << bits) - 1
    if value < most:
        return bytes([first | value])
    encoded = bytearray([first | most])
    value -= most
    while value >= 128:
        encoded.append(value % 128 | 128)
        value //= 128
    return bytes([*encoded, value])


def request(method="GET", path="/k", authority="photos.example", *more):
    """The fields of a request; a pseudo-field that is `None` is omitted."""
    pseudo = [(":method", method), (":scheme", "http"), (":path", path), (":authority", authority)]
    return [field for field in pseudo if field[1] is not None] + list(more)


def headers(stream, fields, end=True, flags=END_HEADERS):
    return frame(HEADERS, flags | (END_STREAM if end else 0), stream, block(fields))


def large_headers(stream, fields):
    """A request whose head takes several frames."""
    fields = block(fields)
    starts = range(0, len(fields), FRAME_SIZE)
    pieces = [fields[start : start + FRAME_SIZE] for start in starts]
    frames = [frame(CONTINUATION, 0, stream, piece) for piece in pieces[1:-1]]
    last = frame(CONTINUATION, END_HEADERS, stream, pieces[-1])
    return frame(HEADERS, END_STREAM, stream, pieces[0]) + b"".join(frames) + last


def data(stream, payload=b"", end=False):
    return frame(DATA, END_STREAM if end else 0, stream, payload)


class Frame:
    def __init__(self, kind, flags, stream, payload):
        self.kind, self.flags, self.stream, self.payload = kind, flags, stream, payload

    @property
    def error(self):
        """The error of a RST_STREAM or GOAWAY."""
        start = 4 if self.kind == GOAWAY else 0
        return ERRORS[struct.unpack(">I", self.payload[start : start + 4])[0]]


class Closed(Exception):
    """The server closed the connection."""


class Connection:
    """A connection of HTTP/2: frames out, frames in."""

    def __init__(self, port, *our_settings, start=True, tls=False, timeout=30, address="127.0.0.1"):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout, source_address=(address, 0))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            context.set_alpn_protocols(["h2"])
            self.socket = context.wrap_socket(self.socket, server_hostname="photos.example")
        self.hpack = hpack.Decoder()
        self.buffer = b""
        self.seen = []
        if start:
            self.send(PREFACE, settings(*our_settings))

    def send(self, *frames):
        """Sends frames; if the server is gone, the next read notices."""
        try:
            self.socket.sendall(b"".join(frames))
        except (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
            pass
        return self

    def next(self):
        """The next frame."""
        head = self._exactly(9)
        kind, flags, stream = struct.unpack(">BBI", head[3:])
        payload = self._exactly(int.from_bytes(head[:3], "big"))
        received = Frame(kind, flags, stream, payload)
        if kind == SETTINGS and not flags & ACK:
            self.send(settings(flags=ACK))
        if kind == HEADERS:
            received.fields = self.hpack.decode(payload)
        self.seen.append(received)
        return received

    def _exactly(self, length):
        while len(self.buffer) < length:
            try:
                more = self.socket.recv(65536)
            except ConnectionResetError:
                raise Closed from None
            if not more:
                raise Closed
            self.buffer += more
        taken, self.buffer = self.buffer[:length], self.buffer[length:]
        return taken

    def until(self, kind, stream=None, flags=0):
        """The next frame of a kind."""
        while True:
            received = self.next()
            if received.kind == kind and stream in (None, received.stream) and received.flags & flags == flags:
                return received

    def outcome(self, stream=1):
        """The result of a request or of the connection: `"200"`, `"reset ERROR"`, `"goaway ERROR"`, `"closed"`."""
        status = None
        try:
            while True:
                received = self.next()
                if received.kind == GOAWAY and received.error != "NO_ERROR":
                    return f"goaway {received.error}"
                if received.stream != stream:
                    continue
                if received.kind == RST_STREAM:
                    return f"reset {received.error}"
                if received.kind == HEADERS and status is None:
                    status = dict(received.fields)[":status"]
                if received.kind in (HEADERS, DATA) and received.flags & END_STREAM:
                    return status
        except Closed:
            return "closed"

    def get(self, stream, *more):
        """Sends a request and returns its result."""
        return self.send(headers(stream, request("GET", "/k", "photos.example", *more))).outcome(stream)

    def is_closed(self):
        """Waits for the server to close the connection, whatever it sends before."""
        try:
            while True:
                self.next()
        except Closed:
            return True
        except TimeoutError:
            return False

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
