"""An upstream that sends responses of any size and reads no bodies, as a program. It runs until its input ends.

It has a low priority, as if it ran on another machine.
"""

import select
import sys
import threading

import upstreams
from programs import give_way


class Held(upstreams.Bulk):
    """`GET /SIZE` returns this many bytes, `GET /k` a few; a PUT is never answered."""

    def __init__(self):
        self.ended = threading.Event()
        super().__init__()

    def answer(self, connection, method, target, fields):
        if method == "PUT":
            self._wait_for_close(connection.connection)
            # From here on, only a body follows.
            raise ConnectionError
        else:
            super().answer(connection, method, target.replace("/k", "/2"), fields)

    def _wait_for_close(self, connection):
        """Connections that the proxy has closed are dropped, because thousands of them would use up all descriptors."""
        closed = select.poll()
        closed.register(connection, select.POLLRDHUP)
        while not closed.poll(500) and not self.ended.is_set():
            pass

    def __exit__(self, *_):
        self.ended.set()
        super().__exit__()


if __name__ == "__main__":
    give_way()
    with Held() as upstream:
        print("listening on", upstream.url, flush=True)
        sys.stdin.read()
