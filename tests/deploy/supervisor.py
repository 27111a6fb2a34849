"""A minimal systemd for services of Type=notify, to see their messages."""

import pathlib
import select
import socket
import time

from programs import Failed, Program
from proxy import environment

from places import binary


class Supervised(Program):
    """`s3cors run` under a supervisor that listens on NOTIFY_SOCKET and can pass sockets."""

    def __init__(
        self, folder: pathlib.Path, *arguments, command=None, variables=None, watchdog_seconds=None, sockets=None
    ):
        """`command`: a unit's ExecStart; `sockets`: a FileDescriptorName for each socket to pass."""
        address = str(folder / "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self.messages = []
        variables = environment() | {"NOTIFY_SOCKET": address} | (variables or {})
        if watchdog_seconds:
            variables["WATCHDOG_USEC"] = str(int(watchdog_seconds * 1_000_000))
        sockets = sockets or {}
        # LISTEN_PID and WATCHDOG_PID must be the service's own process ID; a shell knows its ID and
        # then becomes the service. The sockets are descriptors 3, 4, …
        script, fds = "", []
        for number, each in enumerate(sockets.values(), start=3):
            script += f" {number}<&{each.fileno()}"
            fds.append(each.fileno())
        exports = "export WATCHDOG_PID=$$; "
        if sockets:
            exports += f"export LISTEN_PID=$$ LISTEN_FDS={len(sockets)} LISTEN_FDNAMES={':'.join(sockets)}; "
        command = [*(command or [binary(), "run"]), *arguments]
        command = ["bash", "-c", f'{exports}exec "$@"{script}', "-", *command]
        super().__init__("s3cors", command, cwd=folder, env=variables, pass_fds=fds)

    def next_message(self, seconds=20):
        """Waits for the next message; returns its assignments."""
        deadline = time.monotonic() + seconds
        while True:
            readable, _, _ = select.select([self._socket], [], [], 0.2)
            if readable:
                text = self._socket.recv(65536).decode()
                message = dict(line.split("=", 1) for line in text.splitlines())
                self.messages.append(message)
                return message
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise Failed(f"it said nothing more\nso far: {self.messages}\n{self.output}")

    def until(self, key, seconds=20):
        """The next message with this key; earlier ones are in `messages`."""
        deadline = time.monotonic() + seconds
        while key not in (message := self.next_message(deadline - time.monotonic())):
            pass
        return message

    def stop(self):
        try:
            return super().stop()
        finally:
            self._socket.close()


def monotonic_microseconds():
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


def listening():
    """A socket like that of a socket unit, and its port."""
    each = socket.create_server(("127.0.0.1", 0))
    return each, each.getsockname()[1]
