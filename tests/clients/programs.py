"""A program that a test starts, whose output it waits for, and that it stops by its process ID."""

import os
import pathlib
import re
import signal
import socket
import subprocess
import threading
import time

STOP_SECONDS = 60


class Failed(AssertionError):
    """A program did not do what the test waits for; the message has its last output."""


class Program:
    """A running program whose output is recorded line by line."""

    def __init__(self, name, command, **options):
        self.name = name
        self.lines = []
        self._changed = threading.Condition()
        self._closed = False
        options.setdefault("stdin", subprocess.DEVNULL)
        self.process = subprocess.Popen(
            [str(word) for word in command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            **options,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def output(self):
        return "\n".join(self.lines)

    def wait_for(self, pattern, seconds=30):
        """The first match of `pattern` in a line of its output."""
        found = re.compile(pattern)
        deadline = time.monotonic() + seconds
        seen = 0
        with self._changed:
            while True:
                for line in self.lines[seen:]:
                    if match := found.search(line):
                        return match
                seen = len(self.lines)
                left = deadline - time.monotonic()
                if self._closed or left <= 0 or not self._changed.wait(left):
                    why = "ended" if self._closed else f"did not print it within {seconds} s"
                    raise Failed(f"{self.name} {why}; waited for {pattern!r}:\n{self.output}")

    def wait(self, seconds=STOP_SECONDS):
        """Waits for it to end by itself and for all of its output; returns its exit code."""
        code = self.process.wait(seconds)
        self._reader.join(seconds)
        return code

    def signal(self, number):
        self.process.send_signal(number)

    def stop(self):
        """Stops it and waits for its end; kills it if that does not help."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.wait()

    def peak_memory(self):
        """Its peak memory in bytes."""
        return self._memory("VmHWM")

    def memory(self):
        """Its current memory in bytes."""
        return self._memory("VmRSS")

    def _memory(self, field):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"^{field}:\s+(\d+) kB", status, re.MULTILINE)[1]) * 1024

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def give_way():
    """Gives this process a low priority, as if it ran on another machine.

    If the tests run under `chrt --fifo 10`, only they themselves affect response times.
    """
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    os.setpriority(os.PRIO_PROCESS, 0, 19)


def free_ports(count):
    """Ports that were free a moment ago, for programs that cannot use port 0."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
