"""HTTP/2 by RFC 9113, frame by frame: valid requests are served, and invalid ones end in the specified way.

Each case is one connection: what it sends, and the allowed results for stream 1 or the connection.
After a stream error, the connection serves the next request; after a connection error,
it closes. Refused requests have not reached the upstream.

The library (h2) differs from the RFC in three ways, none of which lets an invalid request through:

- for a specific connection error in the RFC, it often uses PROTOCOL_ERROR: `named`;
- invalid field names, values and methods are connection errors instead of stream errors,
  which 5.4.1 allows: `MALFORMED` has both;
- a client may begin with a frame other than SETTINGS: `LENIENT`.
"""

import struct

import pytest

import proxy
import upstreams
from frames import *

GET = request()
PUT = request("PUT")

# Connection errors, and stream errors.
GO = "goaway "
RESET = "reset "


def named(error):
    """A connection error for which the library may use another code."""
    return [GO + error, GO + "PROTOCOL_ERROR"]


PROTOCOL = [GO + "PROTOCOL_ERROR"]
FLOW_CONTROL = named("FLOW_CONTROL_ERROR")
FRAME_SIZES = named("FRAME_SIZE_ERROR")
COMPRESSION = named("COMPRESSION_ERROR")
STREAM_CLOSED = [*named("STREAM_CLOSED"), RESET + "STREAM_CLOSED"]


def half(stream=1):
    """A request whose body follows."""
    return headers(stream, PUT, end=False)


def padded(kind, pad, payload, flags=0, stream=1):
    return frame(kind, flags | PADDED, stream, bytes([pad]) + payload)


def with_field(*fields):
    """A request with additional fields."""
    return headers(1, request("GET", "/k", "photos.example", *fields))


def put(*fields):
    """A request with these fields, whose body follows."""
    return headers(1, request("PUT", "/k", "photos.example", *fields), end=False)


def length(value):
    return put(("content-length", value))


# Section of RFC 9113 and rule; frames after the client's SETTINGS.
SERVED = [
    ("4.1 an unknown type is ignored", [frame(0x2A, 0xFF, 0, b"x"), frame(0x2B, 0, 1, b""), headers(1, GET)]),
    ("4.1 an unknown flag is ignored", [headers(1, GET, flags=END_HEADERS | 0xC2 & ~PADDED)]),
    ("4.1 the reserved bit is ignored", [headers(1 | 1 << 31, GET)]),
    ("4.2 a frame of 2^14 bytes", [half(), data(1, b"x" * FRAME_SIZE, end=True)]),
    ("5.1 PRIORITY on an idle stream", [frame(PRIORITY, 0, 3, dependency(0)), headers(1, GET)]),
    (
        "5.3 HEADERS with a priority",
        [frame(HEADERS, PRIORITISED | END_HEADERS | END_STREAM, 1, dependency(0) + block(GET))],
    ),
    ("6.1 padded DATA", [half(), padded(DATA, 5, b"hello" + bytes(5), END_STREAM)]),
    ("6.1 DATA that has only padding", [half(), padded(DATA, 9, bytes(9), END_STREAM)]),
    ("6.1 empty DATA", [half(), data(1), data(1, end=True)]),
    ("6.2 padded HEADERS", [padded(HEADERS, 4, block(GET) + bytes(4), END_STREAM | END_HEADERS)]),
    ("6.5 unknown settings are ignored", [settings((0x2A, 7)), headers(1, GET)]),
    ("6.5 an empty SETTINGS", [settings(), headers(1, GET)]),
    ("6.7 an unrequested acknowledgement of a PING", [ping(flags=ACK), headers(1, GET)]),
    ("6.9 a window of the maximum size", [window_update(0, MAX_WINDOW - 65535), headers(1, GET)]),
    (
        "6.10 CONTINUATION",
        [
            frame(HEADERS, END_STREAM, 1, block(GET)[:9]),
            frame(CONTINUATION, 0, 1, block(GET)[9:20]),
            frame(CONTINUATION, END_HEADERS, 1, block(GET)[20:]),
        ],
    ),
    ("6.10 an empty CONTINUATION", [frame(HEADERS, END_STREAM, 1, block(GET)), frame(CONTINUATION, END_HEADERS, 1)]),
    ("8.1 trailers", [half(), data(1, b"x"), headers(1, [("x-sum", "1")])]),
    ("8.2.2 te may be trailers", [with_field(("te", "trailers"))]),
    ("8.2.1 a space within a value, and no value", [with_field(("x-a", "1 2"), ("x-b", ""))]),
    ("8.2.3 cookies in pieces", [with_field(("cookie", "a=1"), ("cookie", "b=2"))]),
    ("8.3.1 host without :authority", [headers(1, request("GET", "/k", None, ("host", "photos.example")))]),
    ("8.3.1 host that is :authority", [with_field(("host", "photos.example"))]),
    (
        "8.1.1 content-length that is the body's",
        [
            length("5"),
            data(1, b"he"),
            data(1, b"llo", end=True),
        ],
    ),
]

# How many requests may reach the upstream before the error, and the allowed errors.
REFUSED = [
    # 4: frames.
    (
        "4.2 DATA beyond 2^14 bytes",
        1,
        [half(), data(1, b"x" * (FRAME_SIZE + 1))],
        [*FRAME_SIZES, RESET + "FRAME_SIZE_ERROR"],
    ),
    ("4.2 HEADERS beyond 2^14 bytes", 0, [frame(HEADERS, 5, 1, bytes(FRAME_SIZE + 1))], FRAME_SIZES),
    ("4.3 a block that is not HPACK", 0, [frame(HEADERS, 5, 1, b"\xff\xff\xff\xff\xff\xff\xff")], COMPRESSION),
    ("4.3 an index that no table has", 0, [frame(HEADERS, 5, 1, b"\xbf\x7f")], COMPRESSION),
    ("4.3 a block cut short", 0, [frame(HEADERS, 5, 1, block(GET)[:-3])], COMPRESSION),
    (
        "4.3 a table size beyond the setting",
        0,
        [frame(HEADERS, 5, 1, integer(1 << 20, 5, 0x20) + block(GET))],
        COMPRESSION,
    ),
    (
        "4.3 PRIORITY within a block",
        0,
        [frame(HEADERS, 1, 1, block(GET)), frame(PRIORITY, 0, 1, dependency(0))],
        PROTOCOL,
    ),
    ("4.3 another stream's HEADERS within a block", 0, [frame(HEADERS, 1, 1, block(GET)), headers(3, GET)], PROTOCOL),
    ("4.3 an unknown frame within a block", 0, [frame(HEADERS, 1, 1, block(GET)), frame(0x2A)], PROTOCOL),
    # 5.1: states.
    ("5.1 DATA on an idle stream", 0, [data(1, b"x", end=True)], PROTOCOL),
    ("5.1 RST_STREAM on an idle stream", 0, [reset(1)], PROTOCOL),
    ("5.1 WINDOW_UPDATE on an idle stream", 0, [window_update(1, 1)], PROTOCOL),
    ("5.1 CONTINUATION on an idle stream", 0, [frame(CONTINUATION, 4, 1, block(GET))], PROTOCOL),
    ("5.1 DATA after END_STREAM", 1, [headers(1, GET), data(1, b"x")], STREAM_CLOSED),
    ("5.1 HEADERS after END_STREAM", 1, [headers(1, GET), headers(1, GET)], STREAM_CLOSED),
    ("5.1 CONTINUATION after END_STREAM", 1, [headers(1, GET), frame(CONTINUATION, 4, 1, block(GET))], PROTOCOL),
    ("5.1 DATA after RST_STREAM", 1, [half(), reset(1), data(1, b"x")], STREAM_CLOSED),
    ("5.1 HEADERS after RST_STREAM", 1, [half(), reset(1), headers(1, GET)], STREAM_CLOSED),
    ("5.1.1 a stream of an even number", 0, [headers(2, GET)], PROTOCOL),
    ("5.1.1 a stream with a lower number than the last", 1, [headers(5, GET), headers(3, GET)], PROTOCOL),
    # 6.1: DATA.
    ("6.1 DATA on stream 0", 0, [data(0, b"x")], PROTOCOL),
    ("6.1 DATA with more padding than payload", 1, [half(), padded(DATA, 6, b"hello")], PROTOCOL),
    ("6.1 padded DATA without a length", 1, [half(), frame(DATA, PADDED, 1)], FRAME_SIZES),
    # 6.2: HEADERS.
    ("6.2 HEADERS on stream 0", 0, [headers(0, GET)], PROTOCOL),
    ("6.2 HEADERS with more padding than payload", 0, [padded(HEADERS, 200, block(GET), 5)], PROTOCOL),
    ("6.2 HEADERS too short for its priority", 0, [frame(HEADERS, 5 | PRIORITISED, 1, b"abc")], FRAME_SIZES),
    # 6.3: PRIORITY.
    ("6.3 PRIORITY on stream 0", 0, [frame(PRIORITY, 0, 0, dependency(1))], PROTOCOL),
    ("6.3 PRIORITY of 4 bytes", 0, [frame(PRIORITY, 0, 1, b"abcd")], [*FRAME_SIZES, RESET + "FRAME_SIZE_ERROR"]),
    # 6.4: RST_STREAM.
    ("6.4 RST_STREAM on stream 0", 0, [reset(0)], PROTOCOL),
    ("6.4 RST_STREAM of 3 bytes", 1, [half(), frame(RST_STREAM, 0, 1, b"abc")], FRAME_SIZES),
    # 6.5: SETTINGS.
    ("6.5 SETTINGS on a stream", 0, [frame(SETTINGS, 0, 1)], PROTOCOL),
    ("6.5 SETTINGS of 5 bytes", 0, [frame(SETTINGS, 0, 0, b"abcde")], FRAME_SIZES),
    ("6.5 an acknowledgement with a payload", 0, [settings((1, 1), flags=ACK)], FRAME_SIZES),
    ("6.5.2 ENABLE_PUSH beyond 1", 0, [settings((ENABLE_PUSH, 2))], PROTOCOL),
    ("6.5.2 INITIAL_WINDOW_SIZE beyond 2^31-1", 0, [settings((INITIAL_WINDOW_SIZE, 1 << 31))], FLOW_CONTROL),
    ("6.5.2 MAX_FRAME_SIZE below 2^14", 0, [settings((MAX_FRAME_SIZE, FRAME_SIZE - 1))], PROTOCOL),
    ("6.5.2 MAX_FRAME_SIZE beyond 2^24-1", 0, [settings((MAX_FRAME_SIZE, 1 << 24))], PROTOCOL),
    # 6.6: PUSH_PROMISE.
    ("6.6 PUSH_PROMISE from a client", 0, [frame(PUSH_PROMISE, 4, 1, struct.pack(">I", 2) + block(GET))], PROTOCOL),
    # 6.7: PING.
    ("6.7 PING on a stream", 0, [frame(PING, 0, 1, bytes(8))], PROTOCOL),
    ("6.7 PING of 6 bytes", 0, [frame(PING, 0, 0, bytes(6))], FRAME_SIZES),
    # 6.8: GOAWAY.
    ("6.8 GOAWAY on a stream", 0, [frame(GOAWAY, 0, 1, bytes(8))], PROTOCOL),
    # 6.9: WINDOW_UPDATE.
    ("6.9 WINDOW_UPDATE of 3 bytes", 0, [frame(WINDOW_UPDATE, 0, 0, b"abc")], FRAME_SIZES),
    ("6.9 WINDOW_UPDATE of nothing", 0, [window_update(0, 0)], PROTOCOL),
    (
        "6.9 WINDOW_UPDATE of nothing on a stream",
        1,
        [half(), window_update(1, 0)],
        [RESET + "PROTOCOL_ERROR", GO + "PROTOCOL_ERROR"],
    ),
    ("6.9.1 the connection's window beyond 2^31-1", 0, [window_update(0, MAX_WINDOW)], FLOW_CONTROL),
    (
        "6.9.1 a stream's window beyond 2^31-1",
        1,
        [half(), window_update(1, MAX_WINDOW)],
        [RESET + "FLOW_CONTROL_ERROR"],
    ),
    (
        "6.9.2 a stream's window beyond 2^31-1 by SETTINGS",
        1,
        [half(), window_update(1, 65536), settings((INITIAL_WINDOW_SIZE, MAX_WINDOW))],
        FLOW_CONTROL,
    ),
    # 6.10: CONTINUATION.
    ("6.10 CONTINUATION on stream 0", 0, [frame(HEADERS, 1, 1, block(GET)), frame(CONTINUATION, 4, 0)], PROTOCOL),
    (
        "6.10 CONTINUATION after the block's end",
        1,
        [half(), frame(CONTINUATION, 4, 1, block([("a", "b")]))],
        PROTOCOL,
    ),
    ("6.10 CONTINUATION after DATA", 1, [half(), data(1, b"x"), frame(CONTINUATION, 4, 1)], PROTOCOL),
]

# 8: malformed requests. The stream ends, or is answered with 400.
MALFORMED = [RESET + "PROTOCOL_ERROR", GO + "PROTOCOL_ERROR", "400"]

FIELDS = [
    ("8.1 trailers that do not end the stream", [half(), headers(1, [("x-a", "1")], end=False)]),
    ("8.2 an upper-case name", [with_field(("X-Upper", "1"))]),
    ("8.2.1 a space in a name", [with_field(("x y", "1"))]),
    ("8.2.1 a colon in a name", [with_field(("x:y", "1"))]),
    ("8.2.1 NUL in a name", [with_field(("x\0y", "1"))]),
    ("8.2.1 CR and LF in a name", [with_field(("x\r\ny", "1"))]),
    ("8.2.1 an empty name", [with_field(("", "1"))]),
    ("8.2.1 a name beyond ASCII", [with_field((b"x\xff", "1"))]),
    ("8.2.1 CR and LF in a value", [with_field(("x-a", "1\r\nx-b: 2"))]),
    ("8.2.1 LF in a value", [with_field(("x-a", "1\nx-b: 2"))]),
    ("8.2.1 CR in a value", [with_field(("x-a", "1\rx-b: 2"))]),
    ("8.2.1 NUL in a value", [with_field(("x-a", "1\0"))]),
    ("8.2.1 a space before a value", [with_field(("x-a", " 1"))]),
    ("8.2.1 a tab after a value", [with_field(("x-a", "1\t"))]),
    ("8.2.1 a value that is a space", [with_field(("origin", " "))]),
    ("8.2.1 a space in the second of two values", [with_field(("x-a", "1"), ("x-a", "2 "))]),
    ("8.2.2 connection", [with_field(("connection", "keep-alive"))]),
    ("8.2.2 connection that names a field", [with_field(("connection", "origin"))]),
    ("8.2.2 keep-alive", [with_field(("keep-alive", "1"))]),
    ("8.2.2 proxy-connection", [with_field(("proxy-connection", "keep-alive"))]),
    ("8.2.2 transfer-encoding", [put(("transfer-encoding", "chunked")), data(1, b"0\r\n\r\n", end=True)]),
    ("8.2.2 upgrade", [with_field(("upgrade", "h2c"))]),
    ("8.2.2 te that is not trailers", [with_field(("te", "gzip"))]),
    ("8.2.2 te that is more than trailers", [with_field(("te", "trailers, gzip"))]),
    ("8.3 an unknown pseudo-field", [headers(1, [(":odd", "1"), *GET])]),
    ("8.3 a response's pseudo-field", [headers(1, [*GET, (":status", "200")])]),
    ("8.3 a pseudo-field after a field", [headers(1, [*GET[:3], ("x-a", "1"), GET[3]])]),
    *[(f"8.3.1 {name} twice", [headers(1, [*GET, (name, value)])]) for name, value in GET],
    *[(f"8.3.1 no {name}", [headers(1, [field for field in GET if field[0] != name])]) for name, _ in GET[:3]],
    ("8.3.1 neither :authority nor host", [headers(1, request("GET", "/k", None))]),
    ("8.3.1 an empty :path", [headers(1, request("GET", ""))]),
    ("8.3.1 a :path without its slash", [headers(1, request("GET", "k"))]),
    ("8.3.1 * for another method than OPTIONS", [headers(1, request("GET", "*"))]),
    ("8.3.1 a :path with CR and LF", [headers(1, request("GET", "/k HTTP/1.1\r\nHost: evil\r\n\r\nGET /x"))]),
    ("8.3.1 a :path with a space", [headers(1, request("GET", "/k x"))]),
    ("8.3.1 a :path with NUL", [headers(1, request("GET", "/k\0"))]),
    ("8.3.1 a :path with a tab", [headers(1, request("GET", "/k\t"))]),
    ("8.3.1 a :path that is absolute", [headers(1, request("GET", "http://evil.example/k"))]),
    ("8.3.1 a :method that is not a token", [headers(1, request("GET /x HTTP/1.1\r\nA: b", "/k"))]),
    ("8.3.1 an empty :method", [headers(1, request("", "/k"))]),
    ("8.3.1 an invalid :scheme", [headers(1, [GET[0], (":scheme", "ht tp"), *GET[2:]])]),
    ("8.3.1 a :scheme that is not served", [headers(1, [GET[0], (":scheme", "ftp"), *GET[2:]])]),
    ("8.3.1 user information in :authority", [headers(1, request("GET", "/k", "user@photos.example"))]),
    ("8.3.1 a path in :authority", [headers(1, request("GET", "/k", "photos.example/x"))]),
    ("8.3.1 CR and LF in :authority", [headers(1, request("GET", "/k", "photos.example\r\nX-A: b"))]),
    ("8.3.1 an empty :authority", [headers(1, request("GET", "/k", ""))]),
    ("8.3.1 host that is not :authority", [with_field(("host", "other.example"))]),
    (
        "8.3.1 host twice",
        [headers(1, request("GET", "/k", None, ("host", "photos.example"), ("host", "photos.example")))],
    ),
    ("8.3.1 an empty host", [headers(1, request("GET", "/k", None, ("host", "")))]),
    ("8.5 CONNECT", [headers(1, [(":method", "CONNECT"), (":authority", "photos.example:443")])]),
    ("8.5 CONNECT with a path", [headers(1, request("CONNECT", "/k"))]),
    *[
        (f"8.3.1 a :path that is {target}", [headers(1, request(method, target))])
        for target in ["?", "?x"]
        for method in ["GET", "POST", "OPTIONS"]
    ],
    ("8.3.1 a :path that is not ASCII", [headers(1, request("GET", "/\u00e9"))]),
    *[
        (f"8.1.1 content-length of {values}", [put(*(("content-length", value) for value in values)), data(1, end=True)])
        for values in [["00"], ["0000000000000000000"], [""], ["0", "0"], ["0", ""]]
    ],
    ("8.1.1 content-length that some take for octal", [length("010"), data(1, b"x" * 10, end=True)]),
    ("8.1.1 content-length without a body", [with_field(("content-length", "5"))]),
    ("8.1.1 content-length that is not a number", [with_field(("content-length", "x"))]),
    ("8.1.1 content-length with a sign", [with_field(("content-length", "+0"))]),
    ("8.1.1 content-length below zero", [with_field(("content-length", "-1"))]),
    ("8.1.1 content-length beyond 2^64", [with_field(("content-length", "18446744073709551616"))]),
    (
        "8.1.1 two content-lengths that differ",
        [put(("content-length", "1"), ("content-length", "2")), data(1, b"x", end=True)],
    ),
]

LENIENT = [
    ("3.4 the first frame is not SETTINGS", [headers(1, GET)]),
]

# The head may have been forwarded before the body turned out to be wrong.
BODIES = [
    ("8.1.1 less than content-length", [length("5"), data(1, b"abc", end=True)]),
    ("8.1.1 more than content-length", [length("2"), data(1, b"abc", end=True)]),
    ("8.1.1 more than content-length in pieces", [length("2"), data(1, b"ab"), data(1, b"c", end=True)]),
    ("8.1.1 trailers before content-length is reached", [length("5"), data(1, b"ab"), headers(1, [("x-sum", "1")])]),
]


@pytest.fixture(scope="module")
def edge(tmp_path_factory):
    """A proxy in front of a recording upstream."""
    folder = tmp_path_factory.mktemp("edge")
    (folder / "cors.xml").write_text(proxy.policy(proxy.rule(["https://app.example"], ["GET", "PUT"])))
    with upstreams.Recorder() as upstream:
        route = proxy.route("photos", ["photos.example"], upstream.url, cors="cors.xml")
        with proxy.S3cors(folder, route) as running:
            running.upstream = upstream
            yield running


@pytest.fixture
def forwarded(edge):
    """Waits until no requests are in progress; returns those that reached the upstream since the test began."""
    edge.upstream.requests.clear()

    def forwarded():
        # Everything sent to the upstream before this request has arrived when this one has.
        assert edge.request("GET", "/last", {"Host": "photos.example"})[0] == 200
        return [request for request in edge.upstream.requests if request.target not in (AFTER, "/last")]

    return forwarded


AFTER = "/after"


def survives(client):
    """Checks that the connection serves another request."""
    return client.send(headers(9, request("GET", AFTER))).outcome(9) == "200"


def cases(table, columns="name, sent"):
    return pytest.mark.parametrize(columns, table, ids=[row[0] for row in table])


@cases(SERVED)
def test_valid_frames_are_served(edge, forwarded, name, sent):
    with Connection(edge.port) as client:
        assert client.send(*sent).outcome() == "200"
        assert survives(client)
    (request,) = forwarded()
    assert request.body is not None


@pytest.mark.parametrize("target", ["#", "#x", "/#x"])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_a_fragment_is_not_part_of_the_request(edge, forwarded, method, target):
    with Connection(edge.port) as client:
        assert client.send(headers(1, request(method, target))).outcome() == "200"
    (recorded,) = forwarded()
    assert recorded.target == "/"


def test_trailers_have_no_fields_of_the_head(edge, forwarded):
    """RFC 9110 6.5.1: an upstream might merge them."""
    of_heads = ["forwarded", "x-forwarded-for", "x-s3cors-a", "origin", "cookie", "expect"]
    trailers = [(name, "1") for name in [*of_heads, "x-sum"]]
    with Connection(edge.port) as client:
        client.send(put(("trailer", ", ".join([*of_heads, "x-sum"]))), data(1, b"x"), headers(1, trailers))
        assert client.outcome() == "200"
    (recorded,) = forwarded()
    assert [line.split(b":")[0] for line in recorded.trailers] == [b"x-sum"]


@cases(REFUSED, "name, most, sent, expected")
def test_invalid_frames_end_in_the_specified_way(edge, forwarded, name, most, sent, expected):
    with Connection(edge.port) as client:
        outcome = client.send(*sent).outcome()
        assert outcome in expected
        if outcome.startswith(RESET):
            assert survives(client)
        else:
            assert client.is_closed()
    assert len(forwarded()) <= most


@cases(FIELDS)
def test_a_malformed_request_is_not_forwarded(edge, forwarded, name, sent):
    with Connection(edge.port) as client:
        outcome = client.send(*sent).outcome()
        assert outcome in MALFORMED
        if outcome.startswith(GO):
            assert client.is_closed()
        else:
            assert survives(client)
    # Errors in trailers are only detected after the head was forwarded.
    assert not any(request.body is not None for request in forwarded())


@cases(BODIES)
def test_a_body_of_the_wrong_length_is_cut_and_its_client_gets_an_error(edge, forwarded, name, sent):
    with Connection(edge.port) as client:
        assert client.send(*sent).outcome() in MALFORMED
        assert survives(client)
    for request in forwarded():
        assert request.body is None or len(request.body) == int(request.fields["content-length"])


# Trailers with a pseudo-field, in each form that HPACK has (RFC 7541, 6).
PSEUDO = [
    ("a literal", block([(":path", "/evil")])),
    ("a literal of no known name", block([(":evil", "1")])),
    ("Huffman", b"\x00\x82\xb8\x7f" + string("1")),
    ("an indexed field", b"\x84"),
    ("an indexed name", b"\x04" + string("/evil")),
    ("an indexed name that is kept", b"\x44" + string("/evil")),
    ("an indexed name that is never kept", b"\x14" + string("/evil")),
    (":status", b"\x88"),
    ("before another field", block([(":path", "/evil"), ("x-sum", "1")])),
    ("after another field", block([("x-sum", "1"), (":path", "/evil")])),
]


@pytest.mark.parametrize("split", [False, True], ids=["", "in two frames"])
@cases(PSEUDO, "name, fields")
def test_a_pseudo_field_in_trailers_is_malformed(edge, forwarded, name, fields, split):
    """8.1: the upstream never gets a complete request."""
    trailers = frame(HEADERS, END_STREAM | END_HEADERS, 1, fields)
    if split:
        trailers = frame(HEADERS, END_STREAM, 1, fields[:1]) + frame(CONTINUATION, END_HEADERS, 1, fields[1:])
    with Connection(edge.port) as client:
        assert client.send(half(), data(1, b"x"), trailers).outcome() in PROTOCOL
        assert client.is_closed()
    assert all(request.body is None for request in forwarded())


def test_trailers_may_use_the_dynamic_table(edge, forwarded):
    with Connection(edge.port) as client:
        kept = block(GET) + b"\x40" + string("x-sum") + string("1")
        client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, kept))
        assert client.outcome(1) == "200"
        client.send(half(3), data(3, b"x"), frame(HEADERS, END_STREAM | END_HEADERS, 3, b"\xbe"))
        assert client.outcome(3) == "200"
        # `:authority` is now the newest entry of the table.
        kept = block(request("GET", "/k", None)) + b"\x41" + string("photos.example")
        client.send(frame(HEADERS, END_HEADERS | END_STREAM, 5, kept))
        assert client.outcome(5) == "200"
        client.send(half(7), data(7, b"x"), frame(HEADERS, END_STREAM | END_HEADERS, 7, b"\xbe"))
        assert client.outcome(7) in PROTOCOL
    # The head of the last one may have been forwarded before its trailers arrived.
    assert [request.body for request in forwarded() if request.body is not None] == [b"", b"x", b""]


@cases(LENIENT)
def test_what_the_library_accepts_is_forwarded_as_one_clean_request(edge, forwarded, name, sent):
    with Connection(edge.port, start=False) as client:
        start = [PREFACE] if name.startswith("3.4") else [PREFACE, settings()]
        assert client.send(*start, *sent).outcome() == "200"
    (request,) = forwarded()
    assert request.target == "/k"
    assert "evil" not in str(request)


def test_a_connection_without_the_preface_is_not_http2(edge, forwarded):
    with Connection(edge.port, start=False) as client:
        assert client.send(PREFACE[:-3] + b"X\r\n", settings()).is_closed()
    assert not forwarded()


def test_settings_and_pings_are_acknowledged(edge):
    with Connection(edge.port) as client:
        assert client.until(SETTINGS, 0, ACK).payload == b""
        client.send(ping(b"abcdefgh"))
        assert client.until(PING, 0, ACK).payload == b"abcdefgh"
        client.send(ping(flags=ACK), ping(b"ABCDEFGH"))
        assert client.until(PING).payload == b"ABCDEFGH"


def test_the_windows_are_respected(edge):
    with Connection(edge.port, (INITIAL_WINDOW_SIZE, 1)) as client:
        client.send(headers(1, GET))
        assert client.until(DATA, 1).payload == b"o"
        # A window that falls below zero must be refilled first.
        client.send(settings((INITIAL_WINDOW_SIZE, 0)), window_update(1, 1), ping())
        client.until(PING, 0, ACK)
        assert [frame.payload for frame in client.seen if frame.kind == DATA] == [b"o"]
        client.send(window_update(1, 1))
        last = client.until(DATA, 1)
        while not last.flags & END_STREAM:
            last = client.until(DATA, 1)
        assert b"".join(frame.payload for frame in client.seen if frame.kind == DATA) == b"ok"


def test_the_clients_maximum_frame_size_is_respected(edge):
    with Connection(edge.port) as client:
        assert client.get(1) == "200"
        assert all(len(frame.payload) <= FRAME_SIZE for frame in client.seen)


def test_streams_beyond_the_limit_are_refused_and_can_be_retried(edge):
    with Connection(edge.port) as client:
        pairs = struct.iter_unpack(">HI", client.until(SETTINGS).payload)
        limit = dict(pairs)[MAX_CONCURRENT_STREAMS]
        numbers = range(1, 2 * limit + 3, 2)
        client.send(*(half(number) for number in numbers))
        assert client.outcome(numbers[-1]) == RESET + "REFUSED_STREAM"
        client.send(*(data(number, end=True) for number in numbers[:-1]))
        assert client.outcome(numbers[-2]) == "200"
        assert client.get(numbers[-1] + 2) == "200"


def test_requests_in_progress_finish_after_a_goaway_of_the_client(edge):
    with Connection(edge.port) as client:
        client.send(half(), frame(GOAWAY, 0, 0, bytes(8)), data(1, b"x", end=True))
        assert client.outcome() == "200"
        assert client.is_closed()


def test_too_large_a_head_is_answered_with_431_and_too_long_a_target_with_414(edge, forwarded):
    with Connection(edge.port) as client:
        assert client.get(1, *[("x-a", "1")] * 101) == "431"
        large = request("GET", "/k", "photos.example", ("x-large", "x" * 65536))
        assert client.send(large_headers(3, large)).outcome(3) == "431"
        assert client.send(large_headers(5, request("GET", "/" + "x" * 32768))).outcome(5) == "414"
        assert survives(client)
    # A PUT is from the previous test, whose last streams may still be arriving.
    assert not [request for request in forwarded() if request.method == "GET"]
